package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var backoffFast = backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}

// target is one server under comparison.
type target struct {
	name     string
	endpoint string
	conn     *grpc.ClientConn
	kv       pb.KVClient
	client   *clientv3.Client
	members  []*member // of its cluster
}

func newTarget(t testing.TB, c *cluster, m *member) *target {
	t.Helper()
	conn := dial(t, m.endpoint())
	return &target{
		name:     c.flavour.name,
		endpoint: m.endpoint(),
		conn:     conn,
		kv:       pb.NewKVClient(conn),
		client:   newClient(t, m.endpoint()),
		members:  c.members,
	}
}

// step is one request of a transcript and its answer.
type step struct {
	request string
	resp    proto.Message // normalised; nil when err is set
	text    string        // an answer that is no protobuf message
	code    codes.Code
	message string // of the error
}

// script sends requests to one target and writes down what comes back.
//
// Two targets never have the same history, so the transcript counts revisions
// from base, the revision at which the script began:
//
//	(1) a script begins with an empty key space;
//	(2) revision 0 in a message stays 0: it means "none";
//	(3) every other revision r is written as r - base.
type script struct {
	t      testing.TB
	ctx    context.Context
	target *target
	base   int64
	steps  []step
}

func newScript(t testing.TB, ctx context.Context, tg *target) *script {
	t.Helper()
	s := &script{t: t, ctx: ctx, target: tg}
	s.reset()
	return s
}

// reset empties the key space and takes the revision as the new base.
func (s *script) reset() {
	s.t.Helper()
	resp, err := s.target.kv.DeleteRange(s.ctx, &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		s.t.Fatalf("%s: emptying the key space: %v", s.target.name, err)
	}
	s.base = resp.Header.Revision
	s.steps = nil
}

// at turns a revision counted from the script's start into the server's.
func (s *script) at(rev int64) int64 { return s.base + rev }

// send makes one unary call and records it.
func send[Req, Resp proto.Message](s *script, call func(context.Context, Req, ...grpc.CallOption) (Resp, error), req Req) Resp {
	resp, err := call(s.ctx, req)
	s.record(describe(req, s.base), resp, err)
	return resp
}

func (s *script) record(request string, resp proto.Message, err error) {
	st := step{request: request}
	if err != nil {
		st.code, st.message = status.Code(err), status.Convert(err).Message()
		if st.code == codes.Unknown { // clientv3 has its own error type
			st.message = err.Error()
		}
	} else {
		st.resp = normalise(resp, s.base)
	}
	s.steps = append(s.steps, st)
}

// note records an answer that is no protobuf message.
func (s *script) note(request, format string, args ...any) {
	s.steps = append(s.steps, step{request: request, text: fmt.Sprintf(format, args...)})
}

func (s *script) put(req *pb.PutRequest) *pb.PutResponse { return send(s, s.target.kv.Put, req) }
func (s *script) get(req *pb.RangeRequest) *pb.RangeResponse {
	return send(s, s.target.kv.Range, req)
}
func (s *script) del(req *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	return send(s, s.target.kv.DeleteRange, req)
}
func (s *script) txn(req *pb.TxnRequest) *pb.TxnResponse { return send(s, s.target.kv.Txn, req) }
func (s *script) compact(req *pb.CompactionRequest) *pb.CompactionResponse {
	return send(s, s.target.kv.Compact, req)
}

// set puts key = value.
func (s *script) set(key, value string) { s.put(&pb.PutRequest{Key: b(key), Value: b(value)}) }

// all reads every key: at the end of a case it shows a change that no
// response has shown.
func (s *script) all() { s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}) }

func b(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

// normalise returns a copy of m without what must differ between two servers:
// the identities and the term, and the base of the revisions.
func normalise(m proto.Message, base int64) proto.Message {
	if m == nil || !m.ProtoReflect().IsValid() {
		return m
	}
	m = proto.Clone(m)
	normaliseMessage(m.ProtoReflect(), base)
	return m
}

func normaliseMessage(m protoreflect.Message, base int64) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				normaliseMessage(v.List().Get(i).Message(), base)
			}
		case fd.Message() != nil && !fd.IsMap():
			normaliseMessage(v.Message(), base)
		case isRevision(fd) && v.Int() != 0:
			m.Set(fd, protoreflect.ValueOfInt64(v.Int()-base))
		case isIdentity(fd):
			m.Clear(fd)
		}
		return true
	})
}

func isRevision(fd protoreflect.FieldDescriptor) bool {
	return fd.Kind() == protoreflect.Int64Kind && !fd.IsList() && strings.HasSuffix(string(fd.Name()), "revision")
}

func isIdentity(fd protoreflect.FieldDescriptor) bool {
	switch fd.Name() {
	case "cluster_id", "member_id", "raft_term":
		return true
	}
	return false
}

// describe prints a request with revisions counted from base.
func describe(m proto.Message, base int64) string {
	name := string(m.ProtoReflect().Descriptor().Name())
	text := prototext.MarshalOptions{}.Format(normalise(m, base))
	// prototext adds a random space, so that nobody relies on its output.
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 2000 {
		text = text[:2000] + "..."
	}
	return name + "{" + text + "}"
}

// difference compares two answers to the same request. It returns "" when
// they agree.
func (want step) difference(got step) string {
	if want.request != got.request {
		return "the requests differ: " + want.request + " / " + got.request
	}
	if want.code != got.code || want.message != got.message {
		return fmt.Sprintf("error -%v %q\n      +%v %q", want.code, want.message, got.code, got.message)
	}
	if d := cmp.Diff(want.text, got.text); d != "" {
		return d
	}
	return cmp.Diff(want.resp, got.resp, protocmp.Transform())
}

// compareTranscripts reports every step where got differs from want.
func compareTranscripts(t testing.TB, want, got *script) {
	t.Helper()
	const reportedMax = 8
	reported := 0
	for i := range max(len(want.steps), len(got.steps)) {
		if i >= len(want.steps) || i >= len(got.steps) {
			t.Errorf("%d steps from %s, %d from %s", len(want.steps), want.target.name, len(got.steps), got.target.name)
			return
		}
		d := want.steps[i].difference(got.steps[i])
		if d == "" {
			continue
		}
		t.Errorf("step %d: %s\n-%s +%s\n%s", i, want.steps[i].request, want.target.name, got.target.name, d)
		if reported++; reported == reportedMax {
			t.Error("more differences are not shown")
			return
		}
	}
}
