package etcdapi

import (
	"github.com/quorate/quorate/kv"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// From etcd's messages to the store's requests and back. Nothing is copied but
// the headers of slices: keys and values share the memory of the message.

// enum is a number of etcd's as the store has it. What does not fit is none of
// the store's constants either.
func enum[To ~uint8, From ~int32](v From) To {
	if v < 0 || v > 254 {
		return 255
	}
	return To(v)
}

func rangeOf(r *pb.RangeRequest) kv.RangeRequest {
	return kv.RangeRequest{
		Key: r.GetKey(), RangeEnd: r.GetRangeEnd(), Limit: r.GetLimit(), Revision: r.GetRevision(),
		SortOrder: enum[kv.SortOrder](r.GetSortOrder()), SortTarget: enum[kv.SortTarget](r.GetSortTarget()),
		KeysOnly: r.GetKeysOnly(), CountOnly: r.GetCountOnly(),
		MinModRevision: r.GetMinModRevision(), MaxModRevision: r.GetMaxModRevision(),
		MinCreateRevision: r.GetMinCreateRevision(), MaxCreateRevision: r.GetMaxCreateRevision(),
	}
}

func putOf(r *pb.PutRequest) kv.PutRequest {
	return kv.PutRequest{
		Key: r.GetKey(), Value: r.GetValue(), Lease: r.GetLease(), PrevKv: r.GetPrevKv(),
		IgnoreValue: r.GetIgnoreValue(), IgnoreLease: r.GetIgnoreLease(),
	}
}

func deleteOf(r *pb.DeleteRangeRequest) kv.DeleteRangeRequest {
	return kv.DeleteRangeRequest{Key: r.GetKey(), RangeEnd: r.GetRangeEnd(), PrevKv: r.GetPrevKv()}
}

func txnOf(r *pb.TxnRequest) kv.TxnRequest {
	t := kv.TxnRequest{Success: opsOf(r.GetSuccess()), Failure: opsOf(r.GetFailure())}
	if n := len(r.GetCompare()); n > 0 {
		t.Compare = make([]kv.Compare, n)
		for i, c := range r.Compare {
			t.Compare[i] = compareOf(c)
		}
	}
	return t
}

// compareOf takes the operand of c's target; an operand of another target
// counts as none.
func compareOf(c *pb.Compare) kv.Compare {
	out := kv.Compare{
		Key: c.GetKey(), RangeEnd: c.GetRangeEnd(),
		Result: enum[kv.CompareResult](c.GetResult()), Target: enum[kv.CompareTarget](c.GetTarget()),
	}
	switch c.GetTarget() {
	case pb.Compare_VERSION:
		out.Number = c.GetVersion()
	case pb.Compare_CREATE:
		out.Number = c.GetCreateRevision()
	case pb.Compare_MOD:
		out.Number = c.GetModRevision()
	case pb.Compare_LEASE:
		out.Number = c.GetLease()
	case pb.Compare_VALUE:
		out.Value = c.GetValue()
	}
	return out
}

func opsOf(ops []*pb.RequestOp) []kv.Op {
	if len(ops) == 0 {
		return nil
	}
	out := make([]kv.Op, len(ops))
	for i, op := range ops {
		switch op := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			r := rangeOf(op.RequestRange)
			out[i].Range = &r
		case *pb.RequestOp_RequestPut:
			p := putOf(op.RequestPut)
			out[i].Put = &p
		case *pb.RequestOp_RequestDeleteRange:
			d := deleteOf(op.RequestDeleteRange)
			out[i].DeleteRange = &d
		case *pb.RequestOp_RequestTxn:
			t := txnOf(op.RequestTxn)
			out[i].Txn = &t
		}
	}
	return out
}

func setKeyValue(to *mvccpb.KeyValue, from *kv.KeyValue) {
	to.Key, to.Value = from.Key, from.Value
	to.CreateRevision, to.ModRevision = from.CreateRevision, from.ModRevision
	to.Version, to.Lease = from.Version, from.Lease
}

func keyValue(from *kv.KeyValue) *mvccpb.KeyValue {
	if from == nil {
		return nil
	}
	to := new(mvccpb.KeyValue)
	setKeyValue(to, from)
	return to
}

func keyValues(from []kv.KeyValue) []*mvccpb.KeyValue {
	if len(from) == 0 {
		return nil
	}
	all := make([]mvccpb.KeyValue, len(from))
	to := make([]*mvccpb.KeyValue, len(from))
	for i := range from {
		setKeyValue(&all[i], &from[i])
		to[i] = &all[i]
	}
	return to
}

// opHeader is the header of an answer inside a transaction: the revision alone.
func opHeader(revision int64) *pb.ResponseHeader { return &pb.ResponseHeader{Revision: revision} }

func rangeResponse(r *kv.RangeResponse, h *pb.ResponseHeader) *pb.RangeResponse {
	return &pb.RangeResponse{Header: h, Kvs: keyValues(r.Kvs), More: r.More, Count: r.Count}
}

func putResponse(r *kv.PutResponse, h *pb.ResponseHeader) *pb.PutResponse {
	return &pb.PutResponse{Header: h, PrevKv: keyValue(r.PrevKv)}
}

func deleteResponse(r *kv.DeleteRangeResponse, h *pb.ResponseHeader) *pb.DeleteRangeResponse {
	return &pb.DeleteRangeResponse{Header: h, Deleted: r.Deleted, PrevKvs: keyValues(r.PrevKvs)}
}

func txnResponse(r *kv.TxnResponse, h *pb.ResponseHeader) *pb.TxnResponse {
	out := &pb.TxnResponse{Header: h, Succeeded: r.Succeeded}
	if len(r.Responses) > 0 {
		out.Responses = make([]*pb.ResponseOp, len(r.Responses))
	}
	for i := range r.Responses {
		out.Responses[i] = opResponse(&r.Responses[i])
	}
	return out
}

func opResponse(o *kv.OpResponse) *pb.ResponseOp {
	switch {
	case o.Range != nil:
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{
			ResponseRange: rangeResponse(o.Range, opHeader(o.Range.Revision))}}
	case o.Put != nil:
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{
			ResponsePut: putResponse(o.Put, opHeader(o.Put.Revision))}}
	case o.DeleteRange != nil:
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{
			ResponseDeleteRange: deleteResponse(o.DeleteRange, opHeader(o.DeleteRange.Revision))}}
	case o.Txn != nil:
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{
			ResponseTxn: txnResponse(o.Txn, opHeader(o.Txn.Revision))}}
	}
	return &pb.ResponseOp{}
}
