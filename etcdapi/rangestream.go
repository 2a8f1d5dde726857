package etcdapi

import (
	"context"
	"math"

	"github.com/quorate/quorate/kv"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// chunkBytes is about how much of a range one message of a stream carries, and
// chunkKeysMax the most keys: what is in memory for a stream, beside what gRPC
// buffers.
const (
	chunkBytes   = 256 << 10
	chunkKeysMax = 4096
)

// checkRangeStream: a stream is sent in key order without looking back, so
// what needs the whole result first is refused.
func checkRangeStream(r *pb.RangeRequest) error {
	if r.SortOrder != pb.RangeRequest_NONE &&
		!(r.SortTarget == pb.RangeRequest_KEY && r.SortOrder == pb.RangeRequest_ASCEND) {
		return status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")
	}
	if r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0 {
		return status.Error(codes.Unimplemented, "RangeStream does not support revision filters")
	}
	return nil
}

// RangeStream reads keys at one revision and sends them in pieces, with bounded
// memory. Header, More and Count are in the last piece.
func (k *kvService) RangeStream(r *pb.RangeRequest, out pb.KV_RangeStreamServer) error {
	ctx := out.Context()
	req := rangeOf(r)
	if err := req.Check(); err != nil {
		return storeError(err)
	}
	if err := checkRangeStream(r); err != nil {
		return err
	}
	if !r.Serializable {
		if err := k.barrier(ctx); err != nil {
			return err
		}
	}
	if req.CountOnly || req.SortTarget != kv.SortByKey {
		// A target without an order passes the check, as at etcd, and sorts:
		// that needs the whole range in memory, as the unary request does.
		return k.sendWhole(ctx, &req, out)
	}
	return k.sendChunks(ctx, req, out)
}

// sendWhole reads everything and then sends it in pieces.
func (k *kvService) sendWhole(ctx context.Context, req *kv.RangeRequest, out pb.KV_RangeStreamServer) error {
	got, err := k.store.Range(ctx, req)
	if err != nil {
		return storeError(err)
	}
	var c chunk
	for i := range got.Kvs {
		from := &got.Kvs[i]
		if c.full(from, chunkKeysMax) {
			if err := out.Send(&pb.RangeStreamResponse{RangeResponse: &pb.RangeResponse{Kvs: c.kvs}}); err != nil {
				return err
			}
			c = chunk{}
		}
		c.add(keyValue(from))
	}
	return out.Send(&pb.RangeStreamResponse{RangeResponse: &pb.RangeResponse{
		Header: k.header(got.Revision), Kvs: c.kvs, Count: got.Count, More: got.More}})
}

// sendChunks reads and sends one chunk after the other. The store is not held
// while a chunk is sent, however slow the client is; so a compaction may
// overtake the stream and end it with an error, as at etcd.
func (k *kvService) sendChunks(ctx context.Context, req kv.RangeRequest, out pb.KV_RangeStreamServer) error {
	left := req.Limit
	if left <= 0 {
		left = math.MaxInt64
	}
	req.Limit, req.NoCount = 0, true
	var header int64 // the store's revision when the stream began
	var sent int64
	for {
		c := chunk{keysMax: min(left-sent, chunkKeysMax)}
		got, err := k.store.RangeFunc(ctx, &req, c.take)
		if err != nil {
			return storeError(err)
		}
		if header == 0 {
			header = got.Revision
			if req.Revision <= 0 {
				req.Revision = header // all chunks are read at one revision
			}
		}
		sent += int64(len(c.kvs))
		resp := &pb.RangeResponse{Kvs: c.kvs}
		if last := c.next == nil || sent == left; last {
			resp.Header, resp.Count, resp.More = k.header(header), sent, c.next != nil
			if resp.More {
				rest, err := k.countFrom(ctx, c.next, &req)
				if err != nil {
					return err
				}
				resp.Count += rest
			}
			return out.Send(&pb.RangeStreamResponse{RangeResponse: resp})
		}
		if err := out.Send(&pb.RangeStreamResponse{RangeResponse: resp}); err != nil {
			return err
		}
		req.Key = c.next
	}
}

// countFrom counts the keys of req from key on.
func (k *kvService) countFrom(ctx context.Context, key []byte, req *kv.RangeRequest) (int64, error) {
	got, err := k.store.Range(ctx, &kv.RangeRequest{
		Key: key, RangeEnd: req.RangeEnd, Revision: req.Revision, CountOnly: true})
	if err != nil {
		return 0, storeError(err)
	}
	return got.Count, nil
}

// chunk collects key-values until there are enough for one message.
type chunk struct {
	keysMax int64
	kvs     []*mvccpb.KeyValue
	bytes   int
	next    []byte // the first key that the chunk has no room for, if any
}

// full reports whether the chunk has no room for another. At least one fits.
func (c *chunk) full(another *kv.KeyValue, keysMax int64) bool {
	size := len(another.Key) + len(another.Value)
	return len(c.kvs) > 0 && (int64(len(c.kvs)) >= keysMax || c.bytes+size > chunkBytes)
}

func (c *chunk) add(to *mvccpb.KeyValue) {
	c.kvs = append(c.kvs, to)
	c.bytes += len(to.Key) + len(to.Value)
}

// take adds one, and reports whether to go on. What it is given is valid only
// during the call.
func (c *chunk) take(from *kv.KeyValue) bool {
	if c.full(from, c.keysMax) {
		c.next = append([]byte(nil), from.Key...)
		return false
	}
	to := keyValue(from)
	to.Key, to.Value = append([]byte(nil), from.Key...), append([]byte(nil), from.Value...)
	c.add(to)
	return true
}
