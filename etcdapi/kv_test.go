package etcdapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func pair(key, value string, create, mod, version int64) *mvccpb.KeyValue {
	kv := &mvccpb.KeyValue{Key: []byte(key), CreateRevision: create, ModRevision: mod, Version: version}
	if value != "" {
		kv.Value = []byte(value)
	}
	return kv
}

func TestPutRangeDelete(t *testing.T) {
	c, _ := single(t)
	ctx := t.Context()
	// "A put request increments the revision of the key-value store" (rpc.proto).
	wantMessage(t, c.put(t, "a", "1"), &pb.PutResponse{Header: head(2)})
	wantMessage(t, c.put(t, "b", "2"), &pb.PutResponse{Header: head(3)})

	// "if prev_kv is set in the request, the previous key-value pair will be
	// returned."
	put, err := c.Put(ctx, &pb.PutRequest{Key: []byte("a"), Value: []byte("3"), PrevKv: true})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, put, &pb.PutResponse{Header: head(4), PrevKv: pair("a", "1", 2, 2, 1)})

	all, err := c.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, all, &pb.RangeResponse{Header: head(4), Count: 2,
		Kvs: []*mvccpb.KeyValue{pair("a", "3", 2, 4, 2), pair("b", "2", 3, 3, 1)}})

	// "revision is the point-in-time of the key-value store to use for the
	// range": the header still has the present revision.
	old, err := c.Range(ctx, &pb.RangeRequest{Key: []byte("a"), Revision: 2})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, old, &pb.RangeResponse{Header: head(4), Count: 1, Kvs: []*mvccpb.KeyValue{pair("a", "1", 2, 2, 1)}})

	page, err := c.Range(ctx, &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("z"), Limit: 1, KeysOnly: true,
		SortTarget: pb.RangeRequest_MOD, SortOrder: pb.RangeRequest_DESCEND})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, page, &pb.RangeResponse{Header: head(4), Count: 2, More: true,
		Kvs: []*mvccpb.KeyValue{pair("a", "", 2, 4, 2)}})

	del, err := c.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("z"), PrevKv: true})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, del, &pb.DeleteRangeResponse{Header: head(5), Deleted: 2,
		PrevKvs: []*mvccpb.KeyValue{pair("a", "3", 2, 4, 2), pair("b", "2", 3, 3, 1)}})

	// A deletion of nothing is no event, and raises no revision.
	del, err = c.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("a")})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, del, &pb.DeleteRangeResponse{Header: head(5)})
}

func TestCompact(t *testing.T) {
	c, m := single(t)
	for i := range 4 {
		c.put(t, "a", fmt.Sprint(i))
	}
	for _, physical := range []bool{false, true} {
		rev := int64(3)
		if physical {
			rev = 4
		}
		resp, err := c.Compact(t.Context(), &pb.CompactionRequest{Revision: rev, Physical: physical})
		if err != nil {
			t.Fatal(err)
		}
		wantMessage(t, resp, &pb.CompactionResponse{Header: head(5)})
	}
	// "physical is set so the RPC will wait until the compaction is physically
	// applied to the local database".
	if swept := m.store.SweptRevision(); swept != 4 {
		t.Errorf("swept to revision %d after a physical compaction, want 4", swept)
	}
	_, err := c.Compact(t.Context(), &pb.CompactionRequest{Revision: 4})
	wantError(t, err, rpctypes.ErrGRPCCompacted)
	_, err = c.Compact(t.Context(), &pb.CompactionRequest{Revision: 6})
	wantError(t, err, rpctypes.ErrGRPCFutureRev)
	// "If the revision has been compacted, ErrCompacted is returned as a
	// response."
	_, err = c.Range(t.Context(), &pb.RangeRequest{Key: []byte("a"), Revision: 3})
	wantError(t, err, rpctypes.ErrGRPCCompacted)
	_, err = c.Range(t.Context(), &pb.RangeRequest{Key: []byte("a"), Revision: 9})
	wantError(t, err, rpctypes.ErrGRPCFutureRev)
}

// A physical compaction has taken effect once it is committed: the time for a
// request is up long before a large history is swept, and no time-out may follow
// then. "The RPC will wait until the compaction is physically applied".
func TestPhysicalCompactionTakesItsTime(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	c := serve(t, newTestServer(t, m, func(cfg *Config) { cfg.RequestTimeout = time.Nanosecond }))
	const versions = 3 * sweepEntries
	for range versions {
		c.put(t, "a", "")
	}
	if _, err := c.Compact(t.Context(), &pb.CompactionRequest{Revision: versions, Physical: true}); err != nil {
		t.Fatal(err)
	}
	if swept := m.store.SweptRevision(); swept != versions {
		t.Errorf("swept to revision %d, want %d", swept, versions)
	}
}

func rangeOp(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func putOp(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func deleteOp(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func txnOp(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

func key(k string) *pb.PutRequest { return &pb.PutRequest{Key: []byte(k), Value: []byte("v")} }

func repeat(op *pb.RequestOp, n int) (ops []*pb.RequestOp) {
	for range n {
		ops = append(ops, op)
	}
	return ops
}

// TestRefused: each request with a fault, and each with several: the first in
// etcd's order is reported.
func TestRefused(t *testing.T) {
	c, m := single(t)
	get := func(r *pb.RangeRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := c.Range(ctx, r); return err }
	}
	put := func(r *pb.PutRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := c.Put(ctx, r); return err }
	}
	del := func(r *pb.DeleteRangeRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := c.DeleteRange(ctx, r); return err }
	}
	txn := func(r *pb.TxnRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := c.Txn(ctx, r); return err }
	}
	k := []byte("k")
	get0 := rangeOp(&pb.RangeRequest{Key: k})
	for name, x := range map[string]struct {
		call func(context.Context) error
		want error
	}{
		"range without key":           {get(&pb.RangeRequest{SortOrder: 9}), rpctypes.ErrGRPCEmptyKey},
		"range with odd order":        {get(&pb.RangeRequest{Key: k, SortOrder: 3}), rpctypes.ErrGRPCInvalidSortOption},
		"range with huge order":       {get(&pb.RangeRequest{Key: k, SortOrder: 256}), rpctypes.ErrGRPCInvalidSortOption},
		"range with negative target":  {get(&pb.RangeRequest{Key: k, SortTarget: -1}), rpctypes.ErrGRPCInvalidSortOption},
		"range with odd target":       {get(&pb.RangeRequest{Key: k, SortTarget: 5}), rpctypes.ErrGRPCInvalidSortOption},
		"range of the future":         {get(&pb.RangeRequest{Key: k, Revision: 99}), rpctypes.ErrGRPCFutureRev},
		"put without key":             {put(&pb.PutRequest{IgnoreValue: true, Value: k}), rpctypes.ErrGRPCEmptyKey},
		"put ignoring a given value":  {put(&pb.PutRequest{Key: k, Value: k, IgnoreValue: true, IgnoreLease: true, Lease: 1}), rpctypes.ErrGRPCValueProvided},
		"put ignoring a given lease":  {put(&pb.PutRequest{Key: k, Lease: 1, IgnoreLease: true}), rpctypes.ErrGRPCLeaseProvided},
		"put ignoring what is not":    {put(&pb.PutRequest{Key: k, IgnoreValue: true}), rpctypes.ErrGRPCKeyNotFound},
		"put with unknown lease":      {put(&pb.PutRequest{Key: k, Lease: 7}), rpctypes.ErrGRPCLeaseNotFound},
		"put too large":               {put(&pb.PutRequest{Key: k, Value: make([]byte, DefaultMaxRequestBytes)}), rpctypes.ErrGRPCRequestTooLarge},
		"delete without key":          {del(&pb.DeleteRangeRequest{RangeEnd: k}), rpctypes.ErrGRPCEmptyKey},
		"txn with too many compares":  {txn(&pb.TxnRequest{Compare: make([]*pb.Compare, 129)}), rpctypes.ErrGRPCTooManyOps},
		"txn with too many successes": {txn(&pb.TxnRequest{Success: repeat(get0, 129)}), rpctypes.ErrGRPCTooManyOps},
		"txn with too many failures":  {txn(&pb.TxnRequest{Failure: repeat(get0, 129)}), rpctypes.ErrGRPCTooManyOps},
		"txn nested too deep": {txn(&pb.TxnRequest{Success: append(repeat(get0, 126),
			txnOp(&pb.TxnRequest{Success: repeat(get0, 2)}))}), rpctypes.ErrGRPCTooManyOps},
		"txn compare without key":  {txn(&pb.TxnRequest{Compare: []*pb.Compare{{}}, Success: repeat(putOp(&pb.PutRequest{}), 1)}), rpctypes.ErrGRPCEmptyKey},
		"txn with an empty op":     {txn(&pb.TxnRequest{Success: []*pb.RequestOp{{}}}), rpctypes.ErrGRPCKeyNotFound},
		"txn put without key":      {txn(&pb.TxnRequest{Failure: repeat(putOp(&pb.PutRequest{}), 1)}), rpctypes.ErrGRPCEmptyKey},
		"txn with odd order":       {txn(&pb.TxnRequest{Success: repeat(rangeOp(&pb.RangeRequest{Key: k, SortOrder: 7}), 1)}), rpctypes.ErrGRPCInvalidSortOption},
		"txn range of the future":  {txn(&pb.TxnRequest{Success: repeat(rangeOp(&pb.RangeRequest{Key: k, Revision: 99}), 1)}), rpctypes.ErrGRPCFutureRev},
		"txn write at the future":  {txn(&pb.TxnRequest{Success: []*pb.RequestOp{putOp(key("k")), rangeOp(&pb.RangeRequest{Key: k, Revision: 99})}}), rpctypes.ErrGRPCFutureRev},
		"txn puts twice":           {txn(&pb.TxnRequest{Success: repeat(putOp(key("k")), 2)}), rpctypes.ErrGRPCDuplicateKey},
		"txn puts and deletes":     {txn(&pb.TxnRequest{Success: []*pb.RequestOp{putOp(key("k")), deleteOp(&pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("z")})}}), rpctypes.ErrGRPCDuplicateKey},
		"txn puts what nested put": {txn(&pb.TxnRequest{Success: []*pb.RequestOp{putOp(key("k")), txnOp(&pb.TxnRequest{Failure: repeat(putOp(key("k")), 1)})}}), rpctypes.ErrGRPCDuplicateKey},
		"txn unknown lease":        {txn(&pb.TxnRequest{Success: repeat(putOp(&pb.PutRequest{Key: k, Lease: 7}), 1)}), rpctypes.ErrGRPCLeaseNotFound},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, x.call(t.Context()), x.want) })
	}
	if rev := m.store.Revision(); rev != 1 {
		t.Errorf("revision %d after requests that all failed, want 1", rev)
	}
}

// TestLargestRequest: gRPC's own limit is above that of a request, so that a
// client sees etcd's error and not gRPC's.
func TestLargestRequest(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	c := serve(t, newTestServer(t, m, func(cfg *Config) { cfg.MaxRequestBytes = 1000 }))
	_, err := c.Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 900)})
	if err != nil {
		t.Errorf("put below the limit: %v", err)
	}
	_, err = c.Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1000)})
	wantError(t, err, rpctypes.ErrGRPCRequestTooLarge)
	_, err = c.Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1000+requestOverheadBytes)})
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "received message larger than max") {
		t.Errorf("put above gRPC's limit: %v", err)
	}
}

func TestTxnOpsLimit(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	c := serve(t, newTestServer(t, m, func(cfg *Config) { cfg.MaxTxnOps = 2 }))
	get := rangeOp(&pb.RangeRequest{Key: []byte("k")})
	if _, err := c.Txn(t.Context(), &pb.TxnRequest{Success: repeat(get, 2)}); err != nil {
		t.Errorf("2 operations of 2: %v", err)
	}
	_, err := c.Txn(t.Context(), &pb.TxnRequest{Success: repeat(get, 3)})
	wantError(t, err, rpctypes.ErrGRPCTooManyOps)
}

func TestTxn(t *testing.T) {
	c, _ := single(t)
	c.put(t, "a", "1")
	resp, err := c.Txn(t.Context(), &pb.TxnRequest{
		Compare: []*pb.Compare{
			{Key: []byte("a"), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("1")}},
			{Key: []byte("a"), Target: pb.Compare_MOD, Result: pb.Compare_LESS, TargetUnion: &pb.Compare_ModRevision{ModRevision: 3}},
			{Key: []byte("a"), Target: pb.Compare_CREATE, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 1}},
			{Key: []byte("a"), Target: pb.Compare_VERSION, Result: pb.Compare_NOT_EQUAL, TargetUnion: &pb.Compare_Version{Version: 2}},
			{Key: []byte("a"), Target: pb.Compare_LEASE, TargetUnion: &pb.Compare_Lease{}},
		},
		Success: []*pb.RequestOp{
			putOp(&pb.PutRequest{Key: []byte("b"), Value: []byte("2")}),
			rangeOp(&pb.RangeRequest{Key: []byte("b")}),
			txnOp(&pb.TxnRequest{
				Compare: []*pb.Compare{{Key: []byte("c"), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER}},
				Failure: []*pb.RequestOp{deleteOp(&pb.DeleteRangeRequest{Key: []byte("a"), PrevKv: true})},
			}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	// "A txn request increments the revision of the key-value store and generates
	// events with the same revision for every completed request."
	wantMessage(t, resp, &pb.TxnResponse{Header: head(3), Succeeded: true, Responses: []*pb.ResponseOp{
		{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{Header: opHeader(3)}}},
		{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{Header: opHeader(3), Count: 1,
			Kvs: []*mvccpb.KeyValue{pair("b", "2", 3, 3, 1)}}}},
		{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{Header: opHeader(0), Responses: []*pb.ResponseOp{
			{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{Header: opHeader(3), Deleted: 1,
				PrevKvs: []*mvccpb.KeyValue{pair("a", "1", 2, 2, 1)}}}},
		}}}},
	}})

	// A compare whose operand is of another target compares with nothing.
	resp, err = c.Txn(t.Context(), &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte("x"), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_ModRevision{ModRevision: 8}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, resp, &pb.TxnResponse{Header: head(3), Succeeded: true})
}

// TestReadsAreLinearizable: "Range requests are linearizable by default [...] a
// serializable range request is served locally without needing to reach
// consensus with other nodes in the cluster."
func TestReadsAreLinearizable(t *testing.T) {
	members := newFakeCluster(t, 2)
	leader, follower := serve(t, newTestServer(t, members[0], nil)), serve(t, newTestServer(t, members[1], nil))
	leader.put(t, "a", "1")
	get := func(serializable bool) *pb.RangeRequest {
		return &pb.RangeRequest{Key: []byte("a"), Serializable: serializable}
	}
	if resp, err := follower.Range(t.Context(), get(true)); err != nil || resp.Count != 0 || resp.Header.Revision != 1 {
		t.Errorf("serializable range on a member that is behind: %v, %v", resp, err)
	}
	compare := []*pb.Compare{{Key: []byte("a"), Target: pb.Compare_VERSION}}
	local, err := follower.Txn(t.Context(), &pb.TxnRequest{Compare: compare, Success: repeat(rangeOp(get(true)), 1)})
	if err != nil || !local.Succeeded {
		t.Errorf("serializable txn on a member that is behind: %v, %v", local, err)
	}
	if members[1].barriers != 0 {
		t.Errorf("serializable reads asked for %d barriers", members[1].barriers)
	}
	proposed := len(members[0].cluster.log)
	for name, txn := range map[string]*pb.TxnRequest{
		"compares alone":        {Compare: compare},
		"one range of two":      {Compare: compare, Success: []*pb.RequestOp{rangeOp(get(true))}, Failure: []*pb.RequestOp{rangeOp(get(false))}},
		"one linearizable read": {Compare: compare, Failure: []*pb.RequestOp{rangeOp(get(false))}},
	} {
		members[1].set(func() { members[1].barriers = 0 })
		resp, err := follower.Txn(t.Context(), txn)
		if err != nil || resp.Succeeded || members[1].barriers != 1 {
			t.Errorf("%s: %v, %v, %d barriers", name, resp, err, members[1].barriers)
		}
	}
	if n := len(members[0].cluster.log); n != proposed {
		t.Errorf("transactions that only read proposed %d entries", n-proposed)
	}
	resp, err := follower.Range(t.Context(), get(false))
	if err != nil || resp.Count != 1 || resp.Header.Revision != 2 {
		t.Errorf("linearizable range: %v, %v", resp, err)
	}
}

// TestFollower: a request on a follower is served as on the leader, and says who
// has served it.
func TestFollower(t *testing.T) {
	members := newFakeCluster(t, 3)
	leader, follower := serve(t, newTestServer(t, members[0], nil)), serve(t, newTestServer(t, members[2], nil))
	leader.put(t, "a", "1")
	resp := follower.put(t, "b", "2")
	want := &pb.ResponseHeader{ClusterId: testCluster, MemberId: 3, RaftTerm: 5, Revision: 3}
	wantMessage(t, resp.Header, want)
	// A client reads what it has written through the same member, whatever it
	// asks for.
	local, err := follower.Range(t.Context(), &pb.RangeRequest{Key: []byte("b"), Serializable: true})
	if err != nil || len(local.Kvs) != 1 {
		t.Errorf("own write is not there: %v, %v", local, err)
	}
	txn, err := follower.Txn(t.Context(), &pb.TxnRequest{Success: repeat(putOp(key("c")), 1)})
	if err != nil || txn.Header.Revision != 4 {
		t.Errorf("txn on a follower: %v, %v", txn, err)
	}
	if _, err := follower.Compact(t.Context(), &pb.CompactionRequest{Revision: 3}); err != nil {
		t.Errorf("compact on a follower: %v", err)
	}
	all, err := leader.Range(t.Context(), &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil || all.Count != 3 {
		t.Errorf("leader has %v, %v", all, err)
	}
}

// TestGroupErrors: every outcome has its own code and text, and a write whose
// outcome is unknown never looks like one that has failed.
func TestGroupErrors(t *testing.T) {
	c, m := single(t)
	wrap := func(errs ...error) error { return fmt.Errorf("while testing: %w", errors.Join(errs...)) }
	for _, x := range []struct{ err, want error }{
		{wrap(host.ErrBusy), rpctypes.ErrGRPCRequestTooManyRequests},
		{wrap(host.ErrNoLeader), rpctypes.ErrGRPCNoLeader},
		{wrap(host.ErrTooLarge), rpctypes.ErrGRPCRequestTooLarge},
		{wrap(host.ErrStopped), rpctypes.ErrGRPCStopped},
		{wrap(host.ErrApplyLag), rpctypes.ErrGRPCTimeoutWaitAppliedIndex},
		{wrap(host.ErrOutcomeUnknown), rpctypes.ErrGRPCTimeout},
		{wrap(host.ErrStopped, host.ErrOutcomeUnknown), rpctypes.ErrGRPCTimeout},
		{wrap(host.ErrGroupFailed, host.ErrOutcomeUnknown), rpctypes.ErrGRPCTimeout},
		{wrap(host.ErrOutcomeUnknown, context.DeadlineExceeded), rpctypes.ErrGRPCTimeout},
		{context.DeadlineExceeded, rpctypes.ErrGRPCTimeout},
		{wrap(host.ErrOutcomeUnknown, context.Canceled), rpctypes.ErrGRPCCanceled},
		{host.ErrGroupFailed, status.Error(codes.Unavailable, "etcdserver: "+host.ErrGroupFailed.Error())},
		{host.ErrLogFailed, status.Error(codes.Unavailable, "etcdserver: "+host.ErrLogFailed.Error())},
		// "Unavailable" sends clients to another member; the space is this one's alone.
		{host.ErrDiskFull, status.Error(codes.Unavailable, "etcdserver: "+host.ErrDiskFull.Error())},
		{host.ErrDiskStalled, status.Error(codes.Unavailable, "etcdserver: "+host.ErrDiskStalled.Error())},
		{host.ErrTransferring, status.Error(codes.Unavailable, "etcdserver: "+host.ErrTransferring.Error())},
		{wrap(ErrNotMoved), status.Error(codes.Unavailable, "etcdserver: request timed out, leader transfer took too long")},
		{errors.New("odd"), status.Error(codes.Unknown, "odd")},
	} {
		m.set(func() { m.err = x.err })
		ctx := t.Context()
		for name, call := range map[string]func() error{
			"put":     func() error { _, err := c.Put(ctx, key("k")); return err },
			"delete":  func() error { _, err := c.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("k")}); return err },
			"txn":     func() error { _, err := c.Txn(ctx, &pb.TxnRequest{Success: repeat(putOp(key("k")), 1)}); return err },
			"compact": func() error { _, err := c.Compact(ctx, &pb.CompactionRequest{Revision: 1}); return err },
			"range":   func() error { _, err := c.Range(ctx, &pb.RangeRequest{Key: []byte("k")}); return err },
			"stream": func() error {
				stream, err := c.RangeStream(ctx, &pb.RangeRequest{Key: []byte("k")})
				if err == nil {
					_, err = stream.Recv()
				}
				return err
			},
			"read txn": func() error { _, err := c.Txn(ctx, &pb.TxnRequest{}); return err },
			"members": func() error {
				_, err := c.cluster.MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
				return err
			},
		} {
			t.Run(fmt.Sprintf("%s/%v", name, x.err), func(t *testing.T) { wantError(t, call(), x.want) })
		}
	}
	// What needs no quorum does without: a member cut off still answers these.
	if _, err := c.Range(t.Context(), &pb.RangeRequest{Key: []byte("k"), Serializable: true}); err != nil {
		t.Errorf("serializable range: %v", err)
	}
	if _, err := c.maintenance.Status(t.Context(), &pb.StatusRequest{}); err != nil {
		t.Errorf("status: %v", err)
	}
}

// TestDeadlines: every wait has a deadline, the client's if it is earlier.
func TestDeadlines(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	const timeout = time.Minute
	c := serve(t, newTestServer(t, m, func(cfg *Config) { cfg.RequestTimeout = timeout }))
	for _, given := range []time.Duration{0, time.Second, time.Hour} {
		ctx, cancel := t.Context(), func() {}
		want := timeout
		if given != 0 {
			ctx, cancel = context.WithTimeout(ctx, given)
			want = min(given, timeout)
		}
		m.set(func() { m.deadlines = nil })
		before := time.Now()
		if _, err := c.Put(ctx, key("k")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
		after := time.Now()
		cancel()
		if !m.bounded || len(m.deadlines) != 2 {
			t.Fatalf("waits without a deadline: %v", m.deadlines)
		}
		for _, at := range m.deadlines {
			// gRPC sends a deadline as a time left, rounded.
			if at.Before(before.Add(want-time.Second/10)) || at.After(after.Add(want+time.Second/10)) {
				t.Errorf("client gave %v: deadline %v after the request, want %v", given, at.Sub(before), want)
			}
		}
	}
}

// TestRequireLeader: a client may ask not to be served by a member that knows no
// leader.
func TestRequireLeader(t *testing.T) {
	c, m := single(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	get := &pb.RangeRequest{Key: []byte("k"), Serializable: true}
	if _, err := c.Range(ctx, get); err != nil {
		t.Errorf("with a leader: %v", err)
	}
	m.set(func() { m.cluster.leader = 0 })
	_, err := c.Range(ctx, get)
	wantError(t, err, rpctypes.ErrGRPCNoLeader)
	stream, err := c.RangeStream(ctx, get)
	if err == nil {
		_, err = stream.Recv()
	}
	wantError(t, err, rpctypes.ErrGRPCNoLeader)
	if _, err := c.Range(t.Context(), get); err != nil {
		t.Errorf("serializable, without asking for a leader: %v", err)
	}
	// What is no text could not be a label of a metric.
	bad := metadata.NewIncomingContext(t.Context(), metadata.Pairs(rpctypes.MetadataClientAPIVersionKey, "\xff"))
	s := newTestServer(t, m, nil)
	wantError(t, s.admit(bad, &s.metrics.unaryClients), rpctypes.ErrGRPCInvalidClientAPIVersion)
}

// TestCommandKeepsNoMessageMemory: a group keeps the command, and gRPC may reuse
// what a request was read into; so a command shares no memory with a request.
func TestCommandKeepsNoMessageMemory(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	s := newTestServer(t, m, nil)
	r := &pb.PutRequest{Key: []byte("key"), Value: bytes.Repeat([]byte("v"), 100)}
	if _, err := (&kvService{Server: s}).Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	kept := bytes.Clone(m.cluster.log[0].Data)
	clear(r.Key)
	clear(r.Value)
	if !bytes.Equal(kept, m.cluster.log[0].Data) {
		t.Error("the command has changed with the request")
	}
}
