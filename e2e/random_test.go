package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// generator makes a stream of random requests over a few keys. Revisions in
// its requests are counted from the start of the script, so that the same
// stream fits every server: see rebase.
//
// Twelve keys: etcd's sort keeps the order of keys that compare equal up to
// twelve, and leaves it open beyond.
type generator struct {
	rng       *rand.Rand
	rev       int64 // the newest revision, as the answers told
	compacted int64
	overlaps  bool // also transactions that etcd does not survive: see defuse
}

var randomKeys = []string{"a", "a\x00", "a0", "ab", "b", "b/", "b/1", "b/2", "b0", "c", "\x00", "\xff"}

func (g *generator) oneIn(n int) bool { return g.rng.IntN(n) == 0 }

func (g *generator) key() []byte {
	if g.oneIn(150) {
		return nil
	}
	return b(randomKeys[g.rng.IntN(len(randomKeys))])
}

func (g *generator) rangeEnd() []byte {
	switch g.rng.IntN(8) {
	case 0, 1, 2:
		return nil
	case 3:
		return []byte{0}
	case 4:
		return b("b0")
	default:
		return g.key()
	}
}

// revision is mostly one that can be read.
func (g *generator) revision() int64 {
	switch g.rng.IntN(20) {
	case 0:
		return g.rev + 1 + g.rng.Int64N(3)
	case 1:
		return max(g.compacted-1-g.rng.Int64N(3), 1)
	case 2:
		return -1 - g.rng.Int64N(5)
	default:
		return max(g.compacted+g.rng.Int64N(g.rev-g.compacted+1), 1)
	}
}

func (g *generator) maybe(n int, f func() int64) int64 {
	if g.oneIn(n) {
		return f()
	}
	return 0
}

func (g *generator) value() []byte {
	return b([]string{"", "1", "2", "3", "longer value", "\x00\xff"}[g.rng.IntN(6)])
}

func (g *generator) put() *pb.PutRequest {
	req := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.oneIn(2)}
	switch g.rng.IntN(25) {
	case 0, 1:
		req.IgnoreValue, req.Value = true, nil
	case 2:
		req.IgnoreLease = true
	case 3:
		req.IgnoreLease, req.IgnoreValue = true, true // and a value, most often
	case 4:
		req.Lease = 424242
	}
	return req
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	req := &pb.RangeRequest{
		Key: g.key(), RangeEnd: g.rangeEnd(),
		Limit:        g.maybe(3, func() int64 { return g.rng.Int64N(14) - 1 }),
		Revision:     g.maybe(2, g.revision),
		KeysOnly:     g.oneIn(5),
		CountOnly:    g.oneIn(8),
		Serializable: g.oneIn(6),
	}
	if g.oneIn(2) {
		req.SortOrder = pb.RangeRequest_SortOrder(g.rng.IntN(3))
		req.SortTarget = pb.RangeRequest_SortTarget(g.rng.IntN(5))
	}
	if g.oneIn(60) {
		req.SortTarget = pb.RangeRequest_SortTarget(g.rng.IntN(8))
	}
	if g.oneIn(4) {
		req.MinModRevision, req.MaxModRevision = g.maybe(2, g.revision), g.maybe(2, g.revision)
		req.MinCreateRevision, req.MaxCreateRevision = g.maybe(3, g.revision), g.maybe(3, g.revision)
	}
	return req
}

func (g *generator) deleteRange() *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: g.key(), RangeEnd: g.rangeEnd(), PrevKv: g.oneIn(2)}
}

func (g *generator) compare() *pb.Compare {
	target := pb.Compare_CompareTarget(g.rng.IntN(5))
	var c *pb.Compare
	switch target {
	case pb.Compare_VALUE:
		c = &pb.Compare{Target: target, TargetUnion: &pb.Compare_Value{Value: g.value()}}
	case pb.Compare_CREATE, pb.Compare_MOD:
		c = compareWith(target, g.maybe(2, g.revision))
	default:
		c = compareWith(target, g.rng.Int64N(4))
	}
	c.Key, c.Result = g.key(), pb.Compare_CompareResult(g.rng.IntN(4))
	if g.oneIn(4) {
		c.RangeEnd = g.rangeEnd()
	}
	return c
}

func (g *generator) txn(depth int) *pb.TxnRequest {
	req := &pb.TxnRequest{}
	for range g.rng.IntN(3) {
		req.Compare = append(req.Compare, g.compare())
	}
	req.Success, req.Failure = g.txnOps(depth), g.txnOps(depth)
	return req
}

func (g *generator) txnOps(depth int) []*pb.RequestOp {
	var all []*pb.RequestOp
	for range g.rng.IntN(4) {
		switch n := g.rng.IntN(12); {
		case n < 4:
			all = append(all, opPutReq(g.put()))
		case n < 7:
			all = append(all, opGet(g.rangeRequest()))
		case n < 9:
			all = append(all, opDel(g.deleteRange()))
		case n < 11 && depth > 0:
			all = append(all, opTxn(g.txn(depth-1)))
		case g.oneIn(10):
			all = append(all, &pb.RequestOp{})
		}
	}
	return all
}

func (g *generator) next() proto.Message {
	switch n := g.rng.IntN(100); {
	case n < 30:
		return g.put()
	case n < 60:
		return g.rangeRequest()
	case n < 72:
		return g.deleteRange()
	case n < 97:
		req := g.txn(2)
		if !g.overlaps {
			defuse(req)
		}
		return req
	case g.oneIn(3):
		return &pb.CompactionRequest{Revision: g.revision(), Physical: true}
	default:
		return g.rangeRequest()
	}
}

// defuse turns deletes into reads where etcd 3.7.3 accepts that a delete meets
// a put of the same transaction. It rejects that within one list of
// operations, but not when the delete is open-ended, nor in some orders of
// nested transactions; and after a compaction such a history makes it exit
// with "range failed to find revision pair". A reference that crashes says
// nothing. The cases named "txn/duplicate keys" cover what it accepts.
func defuse(req *pb.TxnRequest) {
	type putAt struct {
		key  string
		list *[]*pb.RequestOp
	}
	var puts []putAt
	var lists []*[]*pb.RequestOp
	var walk func(req *pb.TxnRequest)
	walk = func(req *pb.TxnRequest) {
		for _, list := range []*[]*pb.RequestOp{&req.Success, &req.Failure} {
			lists = append(lists, list)
			for _, op := range *list {
				if p := op.GetRequestPut(); p != nil {
					puts = append(puts, putAt{string(p.Key), list})
				} else if inner := op.GetRequestTxn(); inner != nil {
					walk(inner)
				}
			}
		}
	}
	walk(req)
	for _, list := range lists {
		for i, op := range *list {
			d := op.GetRequestDeleteRange()
			if d == nil || len(d.Key) == 0 {
				continue
			}
			openEnded := string(d.RangeEnd) == "\x00"
			for _, p := range puts {
				if covers(d, p.key) && (openEnded || p.list != list) {
					(*list)[i] = opGet(&pb.RangeRequest{Key: d.Key, RangeEnd: d.RangeEnd})
				}
			}
		}
	}
}

func covers(d *pb.DeleteRangeRequest, key string) bool {
	switch end := string(d.RangeEnd); end {
	case "":
		return key == string(d.Key)
	case "\x00":
		return key >= string(d.Key)
	default:
		return key >= string(d.Key) && key < end
	}
}

// rebase returns a copy of the request with its revisions counted as the
// server with this base counts them: normalise's inverse.
func rebase(m proto.Message, base int64) proto.Message {
	m = proto.Clone(m)
	rebaseMessage(m.ProtoReflect(), base)
	return m
}

func rebaseMessage(m protoreflect.Message, base int64) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				rebaseMessage(v.List().Get(i).Message(), base)
			}
		case fd.Message() != nil:
			rebaseMessage(v.Message(), base)
		case isRevision(fd) && v.Int() > 0: // 0 is none, below is invalid anyway
			m.Set(fd, protoreflect.ValueOfInt64(v.Int()+base))
		}
		return true
	})
}

// ask sends a request and returns the answer as a step.
func (s *script) ask(m proto.Message) step {
	s.steps = s.steps[:0]
	switch req := rebase(m, s.base).(type) {
	case *pb.PutRequest:
		s.put(req)
	case *pb.RangeRequest:
		s.get(req)
	case *pb.DeleteRangeRequest:
		s.del(req)
	case *pb.TxnRequest:
		s.txn(req)
	case *pb.CompactionRequest:
		s.compact(req)
	default:
		s.t.Fatalf("no way to send a %T", m)
	}
	st := s.steps[0]
	st.request = "" // printed from m when needed
	return st
}

// askBoth sends the request to both servers at once and compares.
func askBoth(ref, sub *script, m proto.Message) (want step, difference string) {
	wanted := make(chan step, 1)
	go func() { wanted <- ref.ask(m) }()
	got := sub.ask(m)
	want = <-wanted
	for _, answer := range []struct {
		step
		from *script
	}{{want, ref}, {got, sub}} {
		if answer.code == codes.Unavailable || answer.code == codes.DeadlineExceeded {
			sub.t.Fatalf("%s gave no answer to %s: %v %s", answer.from.target.name, describe(m, 0), answer.code, answer.message)
		}
	}
	return want, want.difference(got)
}

// replay starts anew and sends the requests. It returns the first difference.
func replay(ref, sub *script, requests []proto.Message) string {
	ref.reset()
	sub.reset()
	for _, m := range requests {
		if _, d := askBoth(ref, sub, m); d != "" {
			return d
		}
	}
	return ""
}

// shrink clears fields of the last request, the one that was answered
// differently, and drops requests before it, as long as the answers still
// differ and the budget lasts.
func shrink(ref, sub *script, requests []proto.Message, budget time.Duration) []proto.Message {
	end := time.Now().Add(budget)
	requests = append([]proto.Message{}, requests...)
	last := len(requests) - 1
	for _, path := range leaves(requests[last].ProtoReflect(), nil) {
		if len(path) != 1 || path[0].Name() == "key" || path[0].IsList() || time.Now().After(end) {
			continue
		}
		simpler := proto.Clone(requests[last])
		simpler.ProtoReflect().Clear(path[0])
		kept := requests[last]
		if requests[last] = simpler; replay(ref, sub, requests) == "" {
			requests[last] = kept
		}
	}
	for size := len(requests) / 2; size > 0; size /= 2 {
		for from := 0; from+size < len(requests) && time.Now().Before(end); {
			fewer := append(append([]proto.Message{}, requests[:from]...), requests[from+size:]...)
			if replay(ref, sub, fewer) != "" {
				requests = fewer
			} else {
				from += size
			}
		}
	}
	return requests
}

func headerRevision(m proto.Message) int64 {
	if h, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		return h.GetHeader().GetRevision()
	}
	return 0
}

// runRandom sends count requests of the seed to both servers. At the first
// difference it stops and prints a shrunk sequence that leads there.
func runRandom(t *testing.T, want, got *target, seed uint64, count int) {
	runRandomWith(t, want, got, seed, count, nil)
}

// runRandomWith calls between, unless it is nil, before each request.
func runRandomWith(t *testing.T, want, got *target, seed uint64, count int, between func(i int)) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	ref, sub := newScript(t, ctx, want), newScript(t, ctx, got)
	g := &generator{rng: rand.New(rand.NewPCG(seed, 1))}
	var sent []proto.Message
	kinds, failed := map[string]int{}, 0
	for i := range count {
		if between != nil {
			between(i)
		}
		m := g.next()
		sent = append(sent, m)
		answer, difference := askBoth(ref, sub, m)
		if difference != "" {
			t.Errorf("seed %d, request %d: %s\n-%s +%s\n%s", seed, i, describe(m, 0), want.name, got.name, difference)
			requests := shrink(ref, sub, sent, 15*time.Second)
			t.Errorf("the same difference from an empty key space:\n%s\n%s", list(requests), replay(ref, sub, requests))
			return
		}
		kinds[string(m.ProtoReflect().Descriptor().Name())]++
		if answer.code != 0 {
			failed++
			continue
		}
		g.rev = max(g.rev, headerRevision(answer.resp))
		if c, ok := m.(*pb.CompactionRequest); ok {
			g.compacted = c.Revision
		}
	}
	t.Logf("seed %d: %v, %d of them with an error, revision %d, compacted at %d", seed, kinds, failed, g.rev, g.compacted)
	// The stream must not degenerate into errors, or it tests nothing.
	if failed > count/2 || g.rev < int64(count/10) || g.compacted == 0 && count >= 1000 {
		t.Errorf("seed %d: the requests are too one-sided", seed)
	}
}

func list(requests []proto.Message) string {
	var text strings.Builder
	for _, m := range requests {
		fmt.Fprintln(&text, "  ", describe(m, 0))
	}
	return text.String()
}

func runSeeds(t *testing.T, want, got *target) {
	seeds, count := []uint64{1, 2, 3, 4, 5, 6}, 2000
	if short() {
		seeds, count = seeds[:2], 1000
	}
	if text := os.Getenv("E2E_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("E2E_SEED: %v", err)
		}
		seeds = []uint64{seed}
	}
	if text := os.Getenv("E2E_OPS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("E2E_OPS: %v", err)
		}
		count = n
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { runRandom(t, want, got, seed, count) })
	}
}

func TestReferenceRandom(t *testing.T) {
	one, two := newCluster(t, referenceFast, 1), newCluster(t, referenceFast, 1)
	runSeeds(t, newTarget(t, one, one.members[0]), newTarget(t, two, two.members[0]))
}

func TestRandom(t *testing.T) {
	one, sub := newCluster(t, referenceFast, 1), newCluster(t, quorate, 1)
	runSeeds(t, newTarget(t, one, one.members[0]), newTarget(t, sub, sub.members[0]))
}

// TestRandomFollower sends the stream to a follower of three.
func TestRandomFollower(t *testing.T) {
	if short() {
		t.Skip("E2E_SHORT")
	}
	one, sub := newCluster(t, referenceFast, 1), newCluster(t, quorate, 3)
	runRandom(t, newTarget(t, one, one.members[0]), newTarget(t, sub, sub.follower(t)), 100, 1000)
}

// runRandomRestarts kills and restarts the subject in the middle of the
// stream: neither the present nor the past may change by it.
func runRandomRestarts(t *testing.T, f flavour) {
	one, sub := newCluster(t, referenceFast, 1), newCluster(t, f, 1)
	m := sub.members[0]
	const every = 250
	runRandomWith(t, newTarget(t, one, one.members[0]), newTarget(t, sub, m), 200, 2000, func(i int) {
		if i > 0 && i%every == 0 {
			m.proc.kill()
			m.start(t)
			sub.awaitReady(t, m, 20*time.Second)
		}
	})
}

func TestReferenceRandomRestarts(t *testing.T) { runRandomRestarts(t, reference) }
func TestRandomRestarts(t *testing.T)          { runRandomRestarts(t, quorate) }

// TestReferenceRandomShrinks proves that a difference is found, and that
// shrinking leaves what it takes: one server gets a key behind the test's back.
func TestReferenceRandomShrinks(t *testing.T) {
	one, two := newCluster(t, referenceFast, 1), newCluster(t, referenceFast, 1)
	want, got := newTarget(t, one, one.members[0]), newTarget(t, two, two.members[0])
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ref, sub := newScript(t, ctx, want), newScript(t, ctx, got)
	// The request that one of the two sees changed stands for a defect.
	sub.target.kv = faultyKV{sub.target.kv}
	g := &generator{rng: rand.New(rand.NewPCG(7, 1))}
	var sent []proto.Message
	for range 2000 {
		sent = append(sent, g.next())
		if _, d := askBoth(ref, sub, sent[len(sent)-1]); d != "" {
			fewer := shrink(ref, sub, sent, 20*time.Second)
			if len(fewer) > 2 || replay(ref, sub, fewer) == "" {
				t.Errorf("%d requests shrunk to %d:\n%s", len(sent), len(fewer), list(fewer))
			}
			return
		}
	}
	t.Error("the defect was not found")
}

// faultyKV is a server that forgets prev_kv of deletes.
type faultyKV struct{ pb.KVClient }

func (f faultyKV) DeleteRange(ctx context.Context, req *pb.DeleteRangeRequest, opts ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	req.PrevKv = false
	return f.KVClient.DeleteRange(ctx, req, opts...)
}

// TestRandomOverlaps sends Quorate alone the streams that etcd does not
// survive (see defuse): it must answer every request and keep serving.
func TestRandomOverlaps(t *testing.T) {
	c := newCluster(t, quorate, 1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := newScript(t, ctx, newTarget(t, c, c.members[0]))
	g := &generator{rng: rand.New(rand.NewPCG(991, 1)), overlaps: true}
	for i := range 3000 {
		m := g.next()
		answer := s.ask(m)
		switch answer.code {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Unknown:
			t.Fatalf("request %d: %s: %v %s", i, describe(m, 0), answer.code, answer.message)
		case codes.OK:
			g.rev = max(g.rev, headerRevision(answer.resp))
			if c, ok := m.(*pb.CompactionRequest); ok {
				g.compacted = c.Revision
			}
		}
	}
}
