package etcdapi

import (
	"context"
	"reflect"
	"testing"

	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/smr"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

// FuzzTxn: whatever a client sends as a transaction is refused, or is a command
// that every replica decodes to what was meant.
func FuzzTxn(f *testing.F) {
	k := []byte("k")
	for _, r := range []*pb.TxnRequest{
		{},
		{Success: []*pb.RequestOp{{}}},
		{Compare: []*pb.Compare{{Key: k, Target: 77, Result: -3, TargetUnion: &pb.Compare_Lease{Lease: 4}}}},
		{Success: []*pb.RequestOp{putOp(key("k")), rangeOp(&pb.RangeRequest{Key: k, SortOrder: -1, Limit: -7})},
			Failure: []*pb.RequestOp{deleteOp(&pb.DeleteRangeRequest{Key: k, RangeEnd: []byte{0}, PrevKv: true}),
				txnOp(&pb.TxnRequest{Success: repeat(txnOp(&pb.TxnRequest{}), 2)})}},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r pb.TxnRequest
		if proto.Unmarshal(b, &r) != nil {
			return
		}
		c := kv.Command{Kind: kv.CommandTxn, Txn: txnOf(&r)}
		if err := c.Txn.Check(kv.Limits{}); err != nil {
			return
		}
		_ = serializable(&r)
		var back kv.Command
		encoded := kv.AppendCommand(nil, &c)
		if err := kv.DecodeCommand(encoded, &back); err != nil {
			t.Fatalf("the command cannot be decoded: %v\n%v", err, &r)
		}
		if again := kv.AppendCommand(nil, &back); !reflect.DeepEqual(again, encoded) {
			t.Fatalf("the command has changed\n%v", &r)
		}
	})
}

// instantGroup answers every proposal at once with the same result.
type instantGroup struct{ data []byte }

func (g *instantGroup) Propose(context.Context, []byte) (smr.Result, error) {
	return smr.Result{Data: g.data}, nil
}
func (g *instantGroup) Barrier(context.Context) error { return nil }
func (g *instantGroup) Status() Status                { return Status{Leader: 1, Term: 1} }

// instant is a service on an instantGroup, and a request for it.
func instant(tb testing.TB) (*kvService, *pb.PutRequest) {
	m := newFakeCluster(tb, 1)[0]
	data := kv.AppendResult(nil, &kv.Result{Kind: kv.CommandPut, Put: kv.PutResponse{Revision: 2}})
	s := newTestServer(tb, m, func(cfg *Config) { cfg.Group = &instantGroup{data} })
	return &kvService{Server: s}, &pb.PutRequest{Key: []byte("0123456789abcdef"), Value: []byte("0123456789abcdef")}
}

// TestPutAllocations: what a put costs here beside gRPC: the command, its
// deadline, and the answer with its header. The rest is the test's own.
func TestPutAllocations(t *testing.T) {
	k, r := instant(t)
	ctx := t.Context()
	got := testing.AllocsPerRun(1000, func() {
		if _, err := k.Put(ctx, r); err != nil {
			t.Fatal(err)
		}
	})
	if got > 4 {
		t.Errorf("%v allocations for a put, want at most 4", got)
	}
}

// BenchmarkPut is a put without gRPC, with it, and, to compare, the emptiest
// request that gRPC can carry. The group answers at once.
func BenchmarkPut(b *testing.B) {
	k, r := instant(b)
	b.Run("handler", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.Put(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		}
	})
	c := serve(b, k.Server)
	b.Run("grpc", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := c.Put(b.Context(), r); err != nil {
					b.Error(err)
				}
			}
		})
	})
	health := healthpb.NewHealthClient(c)
	b.Run("grpc-health", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := health.Check(b.Context(), &healthpb.HealthCheckRequest{}); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkRange is a linearizable read of one key without gRPC.
func BenchmarkRange(b *testing.B) {
	k, _ := instant(b)
	r := &pb.RangeRequest{Key: []byte("0123456789abcdef")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Range(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}
