package etcdapi

import (
	"context"
	"time"

	"github.com/quorate/quorate/kv"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// commandOverhead is what a command's encoding needs beside its keys and
// values, so that one allocation does for a put.
const commandOverhead = 32

// kvService is etcd's KV service.
type kvService struct {
	pb.UnsafeKVServer
	*Server
}

// Range reads keys: linearizable unless the request says that it need not be.
func (k *kvService) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	start := time.Now()
	resp, err := k.doRange(ctx, r)
	k.metrics.ranges.observe(start, err)
	return resp, err
}

func (k *kvService) doRange(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	req := rangeOf(r)
	if err := req.Check(); err != nil {
		return nil, storeError(err)
	}
	if !r.Serializable {
		if err := k.barrier(ctx); err != nil {
			return nil, err
		}
	}
	if req.IsNewestPoint() {
		kv, revision, err := k.store.Point(req.Key)
		if err != nil {
			return nil, storeError(err)
		}
		return k.pointResponse(kv, revision), nil
	}
	got, err := k.store.Range(ctx, &req)
	if err != nil {
		return nil, storeError(err)
	}
	return rangeResponse(got, k.header(got.Revision)), nil
}

// pointResponse is the answer to a range of a single key, in one piece of memory.
func (s *Server) pointResponse(kv *kv.KeyValue, revision int64) *pb.RangeResponse {
	a := new(struct {
		response pb.RangeResponse
		header   pb.ResponseHeader
		kv       mvccpb.KeyValue
		kvs      [1]*mvccpb.KeyValue
	})
	s.setHeader(&a.header, revision)
	a.response.Header = &a.header
	if kv != nil {
		setKeyValue(&a.kv, kv)
		a.kvs[0] = &a.kv
		a.response.Kvs, a.response.Count = a.kvs[:], 1
	}
	return &a.response
}

// Put writes a key.
func (k *kvService) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	start := time.Now()
	resp, err := k.doPut(ctx, r)
	k.metrics.puts.observe(start, err)
	return resp, err
}

func (k *kvService) doPut(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	c := kv.Command{Kind: kv.CommandPut, Put: putOf(r)}
	if err := c.Put.Check(); err != nil {
		return nil, storeError(err)
	}
	var result kv.Result
	if err := k.propose(ctx, &c, len(r.Key)+len(r.Value)+commandOverhead, &result); err != nil {
		return nil, err
	}
	// The answer and its header in one piece.
	a := new(struct {
		response pb.PutResponse
		header   pb.ResponseHeader
	})
	k.setHeader(&a.header, result.Put.Revision)
	a.response.Header, a.response.PrevKv = &a.header, keyValue(result.Put.PrevKv)
	return &a.response, nil
}

// DeleteRange deletes keys.
func (k *kvService) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	start := time.Now()
	resp, err := k.doDeleteRange(ctx, r)
	k.metrics.deletes.observe(start, err)
	return resp, err
}

func (k *kvService) doDeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	c := kv.Command{Kind: kv.CommandDeleteRange, DeleteRange: deleteOf(r)}
	if err := c.DeleteRange.Check(); err != nil {
		return nil, storeError(err)
	}
	var result kv.Result
	if err := k.propose(ctx, &c, len(r.Key)+len(r.RangeEnd)+commandOverhead, &result); err != nil {
		return nil, err
	}
	return deleteResponse(&result.DeleteRange, k.header(result.DeleteRange.Revision)), nil
}

// Txn executes a transaction. One that only reads is a read.
func (k *kvService) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	start := time.Now()
	c := kv.Command{Kind: kv.CommandTxn, Txn: txnOf(r)}
	if c.Txn.ReadOnly() {
		resp, err := k.readTxn(ctx, r, &c.Txn)
		k.metrics.readTxns.observe(start, err)
		return resp, err
	}
	resp, err := k.writeTxn(ctx, &c)
	k.metrics.txns.observe(start, err)
	return resp, err
}

func (k *kvService) writeTxn(ctx context.Context, c *kv.Command) (*pb.TxnResponse, error) {
	if err := c.Txn.Check(kv.Limits{MaxTxnOps: k.cfg.MaxTxnOps}); err != nil {
		return nil, storeError(err)
	}
	var result kv.Result
	if err := k.propose(ctx, c, commandOverhead, &result); err != nil {
		return nil, err
	}
	return txnResponse(&result.Txn, k.header(result.Txn.Revision)), nil
}

func (k *kvService) readTxn(ctx context.Context, r *pb.TxnRequest, req *kv.TxnRequest) (*pb.TxnResponse, error) {
	if err := req.Check(kv.Limits{MaxTxnOps: k.cfg.MaxTxnOps}); err != nil {
		return nil, storeError(err)
	}
	if !serializable(r) {
		if err := k.barrier(ctx); err != nil {
			return nil, err
		}
	}
	got, err := k.store.ReadTxn(ctx, req)
	if err != nil {
		return nil, storeError(err)
	}
	ranges := uint64(len(got.Responses)) // a transaction that only reads has none inside
	k.metrics.rangesInTxns.Add(ranges)
	if ranges > 1 {
		k.metrics.readTxnsMany.Add(1)
	}
	return txnResponse(got, k.header(got.Revision)), nil
}

// serializable reports whether a transaction that only reads asks for nothing
// but serializable ranges, and for at least one.
func serializable(t *pb.TxnRequest) bool {
	if len(t.Success)+len(t.Failure) == 0 {
		return false
	}
	for _, branch := range [2][]*pb.RequestOp{t.Success, t.Failure} {
		for _, op := range branch {
			if !op.GetRequestRange().GetSerializable() {
				return false
			}
		}
	}
	return true
}

// sweepEntries is how many versions are removed at a time while a client waits
// for a physical compaction. Nothing is applied meanwhile, so it is few.
const sweepEntries = 512

// Compact discards the history before a revision. It is unreadable on every
// member when this returns. The space is given back bit by bit; a physical
// compaction waits until it is, on this member, for as long as the client does.
func (k *kvService) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	start := time.Now()
	resp, err := k.doCompact(ctx, r)
	k.metrics.compacts.observe(start, err)
	return resp, err
}

func (k *kvService) doCompact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	c := kv.Command{Kind: kv.CommandCompact, Compact: kv.CompactRequest{Revision: r.Revision}}
	var result kv.Result
	if err := k.propose(ctx, &c, commandOverhead, &result); err != nil {
		return nil, err
	}
	if r.Physical {
		if err := k.sweep(ctx); err != nil {
			return nil, err
		}
	}
	return &pb.CompactionResponse{Header: k.header(result.Compact.Revision)}, nil
}

// sweep removes from the local store what compactions have left over. The
// compaction has taken effect and a large history takes long, so nothing but the
// client's own context ends the wait.
func (s *Server) sweep(ctx context.Context) error {
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return status.FromContextError(err).Err()
		}
		var err error
		if more, err = s.store.CompactStep(sweepEntries); err != nil {
			return storeError(err)
		}
	}
	return nil
}

// propose replicates c and decodes its result; the error is a status. sizeHint
// is the expected size of the encoding, in bytes.
func (s *Server) propose(ctx context.Context, c *kv.Command, sizeHint int, result *kv.Result) error {
	// The group keeps the command, so its memory cannot be reused.
	command := kv.AppendCommand(make([]byte, 0, sizeHint), c)
	if len(command) > s.cfg.MaxRequestBytes {
		return rpctypes.ErrGRPCRequestTooLarge
	}
	s.metrics.pending.Add(1)
	got, err := s.group.Propose(s.bounded(ctx), command)
	s.metrics.pending.Add(-1)
	if err != nil {
		s.metrics.failed.Add(1)
		return groupError(err)
	}
	if err := kv.DecodeResult(got.Data, result); err != nil {
		s.cfg.Logger.Error("result of a command cannot be decoded", "command", c.Kind, "err", err)
		return status.Errorf(codes.Internal, "quorate: the request was executed, but its result cannot be decoded: %v", err)
	}
	if result.Err != nil {
		return storeError(result.Err)
	}
	return nil
}
