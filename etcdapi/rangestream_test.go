package etcdapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// receive returns all pieces of a stream.
func receive(stream pb.KV_RangeStreamClient, err error) ([]*pb.RangeResponse, error) {
	var pieces []*pb.RangeResponse
	for err == nil {
		var piece *pb.RangeStreamResponse
		if piece, err = stream.Recv(); err == nil {
			pieces = append(pieces, piece.RangeResponse)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return pieces, err
}

// TestRangeStream: the pieces put together are the answer of Range.
func TestRangeStream(t *testing.T) {
	c, _ := single(t)
	value := bytes.Repeat([]byte("v"), 10<<10)
	const keys = 100
	for i := range keys {
		if _, err := c.Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "k%03d", i), Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	for name, r := range map[string]*pb.RangeRequest{
		"all":          {Key: []byte("k"), RangeEnd: []byte("l")},
		"from a key":   {Key: []byte("k050"), RangeEnd: []byte{0}},
		"one key":      {Key: []byte("k007")},
		"no key":       {Key: []byte("x")},
		"limit":        {Key: []byte("k"), RangeEnd: []byte("l"), Limit: 60},
		"limit of one": {Key: []byte("k"), RangeEnd: []byte("l"), Limit: 1},
		"limit, exact": {Key: []byte("k"), RangeEnd: []byte("l"), Limit: keys},
		"keys only":    {Key: []byte("k"), RangeEnd: []byte("l"), KeysOnly: true},
		"count only":   {Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true},
		"the past":     {Key: []byte("k"), RangeEnd: []byte("l"), Revision: 50},
		"ascending":    {Key: []byte("k"), RangeEnd: []byte("l"), SortOrder: pb.RangeRequest_ASCEND},
		"by version":   {Key: []byte("k"), RangeEnd: []byte("l"), SortTarget: pb.RangeRequest_VERSION, Limit: 50},
		"serializable": {Key: []byte("k"), RangeEnd: []byte("l"), Serializable: true},
	} {
		t.Run(name, func(t *testing.T) {
			want, err := c.Range(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			pieces, err := receive(c.RangeStream(t.Context(), r))
			if err != nil {
				t.Fatal(err)
			}
			var kvs []*mvccpb.KeyValue
			for i, p := range pieces {
				last := i == len(pieces)-1
				if (p.Header != nil) != last || p.Count != 0 && !last || p.More && !last {
					t.Errorf("piece %d of %d has header %v, count %d, more %v", i, len(pieces), p.Header, p.Count, p.More)
				}
				if size := proto.Size(p); size > chunkBytes+64<<10 {
					t.Errorf("piece of %d bytes", size)
				}
				kvs = append(kvs, p.Kvs...)
			}
			if len(pieces) == 0 {
				t.Fatal("no piece")
			}
			whole := proto.Clone(pieces[len(pieces)-1]).(*pb.RangeResponse)
			whole.Kvs = kvs
			wantMessage(t, whole, want)
			if name == "all" && len(pieces) < 2 {
				t.Errorf("a megabyte in %d piece", len(pieces))
			}
		})
	}
}

// TestRangeStreamIsOfOneRevision: "writes committed after the stream begins" are
// not in it.
func TestRangeStreamIsOfOneRevision(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	k := &kvService{Server: newTestServer(t, m, nil)}
	put := func(i int) {
		_, err := k.Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i), Value: make([]byte, chunkBytes)})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		put(i)
	}
	var out pieces
	out.ctx, out.sent = t.Context(), func() {
		for i := range 5 { // changes and adds keys while the first piece is sent
			put(i)
		}
	}
	if err := k.RangeStream(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.all) != 3 {
		t.Fatalf("%d pieces, want 3", len(out.all))
	}
	for i, p := range out.all {
		if len(p.Kvs) != 1 || string(p.Kvs[0].Key) != fmt.Sprintf("k%d", i) || p.Kvs[0].ModRevision != int64(i+2) {
			t.Errorf("piece %d has %d keys, the first of revision %d", i, len(p.Kvs), p.Kvs[0].ModRevision)
		}
	}
	if h := out.all[2].Header; h.Revision != 4 {
		t.Errorf("header %v, want the revision at the begin", h)
	}

	// A compaction that overtakes the stream ends it; it is never silently short.
	out = pieces{ctx: t.Context(), sent: func() {
		if _, err := k.Compact(t.Context(), &pb.CompactionRequest{Revision: m.store.Revision()}); err != nil {
			t.Error(err)
		}
		put(9)
	}}
	err := k.RangeStream(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: 4}, &out)
	wantError(t, err, rpctypes.ErrGRPCCompacted)
}

// pieces is a stream that is received in memory; sent is called after the first.
type pieces struct {
	pb.KV_RangeStreamServer
	ctx  context.Context
	all  []*pb.RangeResponse
	sent func()
}

func (p *pieces) Context() context.Context { return p.ctx }

func (p *pieces) Send(r *pb.RangeStreamResponse) error {
	p.all = append(p.all, r.RangeResponse)
	if len(p.all) == 1 {
		p.sent()
	}
	return nil
}

func TestRangeStreamRefused(t *testing.T) {
	c, _ := single(t)
	k := []byte("k")
	_, err := receive(c.RangeStream(t.Context(), &pb.RangeRequest{}))
	wantError(t, err, rpctypes.ErrGRPCEmptyKey)
	_, err = receive(c.RangeStream(t.Context(), &pb.RangeRequest{Key: k, Revision: 7}))
	wantError(t, err, rpctypes.ErrGRPCFutureRev)
	for _, r := range []*pb.RangeRequest{
		{Key: k, SortOrder: pb.RangeRequest_DESCEND},
		{Key: k, SortOrder: pb.RangeRequest_ASCEND, SortTarget: pb.RangeRequest_MOD},
	} {
		_, err = receive(c.RangeStream(t.Context(), r))
		wantStatus(t, err, codes.Unimplemented, "RangeStream does not support custom sort orders")
	}
	for _, r := range []*pb.RangeRequest{
		{Key: k, MinModRevision: 1}, {Key: k, MaxModRevision: 1}, {Key: k, MinCreateRevision: 1}, {Key: k, MaxCreateRevision: 1},
	} {
		_, err = receive(c.RangeStream(t.Context(), r))
		wantStatus(t, err, codes.Unimplemented, "RangeStream does not support revision filters")
	}
}
