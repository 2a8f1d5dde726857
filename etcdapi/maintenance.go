package etcdapi

import (
	"context"
	"math"
	"slices"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/smr"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// maintenanceService is etcd's Maintenance service. All of it speaks of this
// member alone.
type maintenanceService struct {
	pb.UnsafeMaintenanceServer
	*Server
}

// Status returns this member's view of itself and of the group.
func (m *maintenanceService) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	st := m.group.Status()
	size, inUse := m.sizes(m.store.Stats())
	resp := &pb.StatusResponse{
		Header:           &pb.ResponseHeader{ClusterId: m.cfg.Cluster, MemberId: m.cfg.Member, Revision: m.store.Revision(), RaftTerm: st.Term},
		Version:          m.cfg.Version,
		StorageVersion:   minorVersion(m.cfg.Version),
		Leader:           uint64(st.Leader),
		RaftIndex:        st.Commit,
		RaftTerm:         st.Term,
		RaftAppliedIndex: st.Applied,
		DbSize:           size,
		DbSizeInUse:      inUse,
		DbSizeQuota:      quotaBytes,
		IsLearner:        st.IsLearner,
		DowngradeInfo:    &pb.DowngradeInfo{},
	}
	if st.Leader == 0 {
		resp.Errors = append(resp.Errors, rpctypes.ErrorDesc(rpctypes.ErrGRPCNoLeader))
	}
	if st.DiskFull {
		resp.Errors = append(resp.Errors, rpctypes.ErrorDesc(groupError(host.ErrDiskFull)))
	}
	return resp, nil
}

// quotaBytes is the quota that clients and dashboards are told: there is none,
// so the share of it in use is always about zero.
const quotaBytes = math.MaxInt64

// sizes are what etcd calls the size of the database and the part in use: all but
// what is given back anyway, so history is in use until it is compacted. What waits
// in memory to be flushed counts, as it will be on disk.
func (s *Server) sizes(st kv.Stats) (size, inUse int64) {
	size = st.BytesOnDisk + st.BytesInMemory
	return size, max(size-st.BytesFree, min(st.BytesInUse, size))
}

// Hash returns a hash of the whole state.
func (m *maintenanceService) Hash(ctx context.Context, _ *pb.HashRequest) (*pb.HashResponse, error) {
	hash, revision, err := m.store.Hash(ctx)
	if err != nil {
		return nil, storeError(err)
	}
	return &pb.HashResponse{Header: m.header(revision), Hash: hash}, nil
}

// HashKV returns a hash of the history up to a revision; it is the same on all
// members that have compacted to the same revision.
func (m *maintenanceService) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	h, err := m.store.HashKV(ctx, r.Revision)
	if err != nil {
		return nil, storeError(err)
	}
	return &pb.HashKVResponse{
		Header: m.header(h.Revision), Hash: h.Hash,
		CompactRevision: h.CompactRevision, HashRevision: h.HashRevision,
	}, nil
}

// Alarm: there is no alarm that could be raised, so the list is empty and there
// is nothing to disarm.
func (m *maintenanceService) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	if r.Action == pb.AlarmRequest_ACTIVATE {
		return nil, unsupported("raising an alarm")
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	return &pb.AlarmResponse{Header: m.header(m.store.Revision())}, nil
}

// Defragment returns at once: space is given back while the store runs.
func (m *maintenanceService) Defragment(context.Context, *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	return &pb.DefragmentResponse{}, nil
}

// MoveLeader makes another voter the leader; the leader itself is it already. Only
// the leader can.
func (m *maintenanceService) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	mover, ok := m.group.(LeaderMover)
	if !ok {
		return nil, unsupported("moving the leader")
	}
	if m.group.Status().Leader != smr.ReplicaID(m.cfg.Member) {
		return nil, rpctypes.ErrGRPCNotLeader
	}
	isVoter := func(x Member) bool { return x.ID == r.TargetID && !x.IsLearner }
	if !slices.ContainsFunc(m.cfg.Members(), isVoter) {
		return nil, rpctypes.ErrGRPCBadLeaderTransferee
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	if err := mover.MoveLeader(ctx, smr.ReplicaID(r.TargetID)); err != nil {
		return nil, groupError(err)
	}
	return &pb.MoveLeaderResponse{}, nil
}

func (m *maintenanceService) Downgrade(context.Context, *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	return nil, unsupported("a downgrade")
}
