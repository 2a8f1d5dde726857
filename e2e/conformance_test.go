package e2e

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// conformanceCase is a sequence of requests. It must be a function of the
// script alone: the same requests go to both servers.
type conformanceCase struct {
	name string
	run  func(s *script)
}

func allCases() []conformanceCase {
	var all []conformanceCase
	for _, group := range [][]conformanceCase{putCases, rangeCases, deleteCases, txnCases, compactCases, serverCases, clientCases} {
		all = append(all, group...)
	}
	return all
}

// runConformance sends every case to both targets and compares the answers.
func runConformance(t *testing.T, want, got *target) {
	for _, c := range allCases() {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			ref, sub := newScript(t, ctx, want), newScript(t, ctx, got)
			c.run(ref)
			c.run(sub)
			if len(ref.steps) == 0 {
				t.Fatal("the case asks nothing")
			}
			compareTranscripts(t, ref, sub)
		})
	}
}

func TestReferenceConformance(t *testing.T) {
	one, two := newCluster(t, referenceFast, 1), newCluster(t, referenceFast, 1)
	runConformance(t, newTarget(t, one, one.members[0]), newTarget(t, two, two.members[0]))
}

// TestReferenceConformanceFollower shows that the suite does not depend on
// which member of a cluster answers.
func TestReferenceConformanceFollower(t *testing.T) {
	if short() {
		t.Skip("E2E_SHORT")
	}
	one, three := newCluster(t, referenceFast, 1), newCluster(t, referenceFast, 3)
	runConformance(t, newTarget(t, one, one.members[0]), newTarget(t, three, three.follower(t)))
}

func TestConformance(t *testing.T) {
	one, sub := newCluster(t, referenceFast, 1), newCluster(t, quorate, 1)
	runConformance(t, newTarget(t, one, one.members[0]), newTarget(t, sub, sub.members[0]))
}

// TestConformanceFollower sends everything to a follower of three: what is
// forwarded must be answered as if it had not been.
func TestConformanceFollower(t *testing.T) {
	if short() {
		t.Skip("E2E_SHORT")
	}
	one, sub := newCluster(t, referenceFast, 1), newCluster(t, quorate, 3)
	runConformance(t, newTarget(t, one, one.members[0]), newTarget(t, sub, sub.follower(t)))
}

func (c *cluster) follower(t testing.TB) *member {
	t.Helper()
	leader := c.leader(t)
	for _, m := range c.members {
		if m != leader {
			return m
		}
	}
	return leader
}

// TestReferenceComparisonSeesEveryField changes each field of an answer in
// turn: the comparison must report every change but those of identities.
func TestReferenceComparisonSeesEveryField(t *testing.T) {
	const base = 10
	header := &pb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: 13, RaftTerm: 4}
	kv := &mvccpb.KeyValue{Key: b("k"), Value: b("v"), CreateRevision: 11, ModRevision: 12, Version: 2, Lease: 7}
	ranged := &pb.RangeResponse{Header: header, Kvs: []*mvccpb.KeyValue{kv}, More: true, Count: 5}
	answers := []proto.Message{
		ranged,
		&pb.PutResponse{Header: header, PrevKv: kv},
		&pb.DeleteRangeResponse{Header: header, Deleted: 1, PrevKvs: []*mvccpb.KeyValue{kv}},
		&pb.TxnResponse{Header: header, Succeeded: true, Responses: []*pb.ResponseOp{
			{Response: &pb.ResponseOp_ResponseRange{ResponseRange: ranged}}}},
	}
	for _, answer := range answers {
		changed := 0
		for _, path := range leaves(answer.ProtoReflect(), nil) {
			other := proto.Clone(answer)
			field := path[len(path)-1]
			m := other.ProtoReflect()
			for _, fd := range path[:len(path)-1] {
				if fd.IsList() {
					m = m.Get(fd).List().Get(0).Message()
				} else {
					m = m.Get(fd).Message()
				}
			}
			m.Clear(field)
			want := step{resp: normalise(answer, base)}
			diff := want.difference(step{resp: normalise(other, base)})
			if seen := diff != ""; seen == isIdentity(field) {
				t.Errorf("%s: clearing %s: seen %v", answer.ProtoReflect().Descriptor().Name(), field.FullName(), seen)
			}
			changed++
		}
		if changed < 5 {
			t.Errorf("only %d fields of %T were changed", changed, answer)
		}
	}
	plain := step{resp: normalise(ranged, base)}
	for _, wrong := range []step{{code: 3, message: "x"}, {text: "x"}, {resp: normalise(ranged, base+1)}} {
		if plain.difference(wrong) == "" {
			t.Errorf("the comparison does not see %+v", wrong)
		}
	}
}

// leaves returns the path to every populated field that is no message.
func leaves(m protoreflect.Message, path []protoreflect.FieldDescriptor) [][]protoreflect.FieldDescriptor {
	var all [][]protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		here := append(append([]protoreflect.FieldDescriptor{}, path...), fd)
		switch {
		case fd.Message() == nil:
			all = append(all, here)
		case fd.IsList():
			all = append(all, leaves(v.List().Get(0).Message(), here)...)
		default:
			all = append(all, leaves(v.Message(), here)...)
		}
		return true
	})
	return all
}
