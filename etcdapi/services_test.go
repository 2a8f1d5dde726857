package etcdapi

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/quorate/quorate/host"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

func twoMembers(cfg *Config) {
	cfg.Members = func() []Member {
		return []Member{
			{ID: 1, Name: "a", PeerURLs: []string{"http://p1"}, ClientURLs: []string{"http://c1"}},
			{ID: 2, Name: "b", PeerURLs: []string{"http://p2"}, IsLearner: true},
			{ID: 3, Name: "c"},
		}
	}
}

func TestMemberList(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	c := serve(t, newTestServer(t, m, twoMembers))
	for _, linearizable := range []bool{false, true} {
		resp, err := c.cluster.MemberList(t.Context(), &pb.MemberListRequest{Linearizable: linearizable})
		if err != nil {
			t.Fatal(err)
		}
		// "revision [...] is unset (so 0) in case of calls not interacting with
		// key-value store."
		wantMessage(t, resp, &pb.MemberListResponse{Header: head(0), Members: []*pb.Member{
			{ID: 1, Name: "a", PeerURLs: []string{"http://p1"}, ClientURLs: []string{"http://c1"}},
			{ID: 2, Name: "b", PeerURLs: []string{"http://p2"}, IsLearner: true},
			{ID: 3, Name: "c"},
		}})
	}
	if m.barriers != 1 {
		t.Errorf("%d barriers for one linearizable list, want 1", m.barriers)
	}
}

// A list that is linearizable waits for what the list comes from, which need not
// be the group of the keys.
func TestLinearizableMemberListWaitsForItsSource(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	var waits int
	var answer error
	c := serve(t, newTestServer(t, m, func(cfg *Config) {
		twoMembers(cfg)
		cfg.MembersBarrier = func(ctx context.Context) error {
			if _, bounded := ctx.Deadline(); bounded {
				waits++
			}
			return answer
		}
	}))
	for _, answer = range []error{nil, host.ErrNoLeader} {
		_, err := c.cluster.MemberList(t.Context(), &pb.MemberListRequest{Linearizable: true})
		if answer == nil && err != nil {
			t.Error(err)
		}
		if answer != nil {
			wantError(t, err, rpctypes.ErrGRPCNoLeader)
		}
	}
	if _, err := c.cluster.MemberList(t.Context(), &pb.MemberListRequest{}); err != nil {
		t.Errorf("a list that need not be linearizable: %v", err)
	}
	if waits != 2 || m.barriers != 0 {
		t.Errorf("%d bounded waits for the members and %d for the keys, want 2 and 0", waits, m.barriers)
	}
}

func TestStatus(t *testing.T) {
	c, m := single(t)
	c.put(t, "a", "1")
	resp, err := c.maintenance.Status(t.Context(), &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if resp.DbSizeInUse > resp.DbSize || resp.DbSizeInUse <= 0 {
		t.Errorf("%d bytes in use of %d", resp.DbSizeInUse, resp.DbSize)
	}
	resp.DbSize, resp.DbSizeInUse = 0, 0
	wantMessage(t, resp, &pb.StatusResponse{
		Header: head(2), Version: "3.7.3", StorageVersion: "3.7.0", Leader: 1,
		RaftIndex: 1, RaftTerm: 5, RaftAppliedIndex: 1, DbSizeQuota: math.MaxInt64, DowngradeInfo: &pb.DowngradeInfo{},
	})
	m.set(func() { m.cluster.leader = 0 })
	resp, err = c.maintenance.Status(t.Context(), &pb.StatusRequest{})
	if err != nil || resp.Leader != 0 || len(resp.Errors) != 1 || resp.Errors[0] != "etcdserver: no leader" {
		t.Errorf("without a leader: %v, %v", resp, err)
	}
	m.set(func() { m.cluster.leader, m.diskFull = 1, true })
	resp, err = c.maintenance.Status(t.Context(), &pb.StatusRequest{})
	if err != nil || len(resp.Errors) != 1 || resp.Errors[0] != "etcdserver: "+host.ErrDiskFull.Error() {
		t.Errorf("with a full disk: %v, %v", resp, err)
	}
}

// TestHashKV: "HashKV computes the hash of all MVCC keys up to a given revision"
// and is the same on every member.
func TestHashKV(t *testing.T) {
	members := newFakeCluster(t, 2)
	a, b := serve(t, newTestServer(t, members[0], nil)), serve(t, newTestServer(t, members[1], nil))
	hash := func(c *client, rev int64) *pb.HashKVResponse {
		t.Helper()
		resp, err := c.maintenance.HashKV(t.Context(), &pb.HashKVRequest{Revision: rev})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for i := range 5 {
		a.put(t, "k", fmt.Sprint(i))
	}
	b.put(t, "k", "5")
	now := hash(b, 0)
	if now.Header.Revision != 7 || now.HashRevision != 7 {
		t.Errorf("hash of now: %v", now)
	}
	at5a, at5b := hash(a, 5), hash(b, 5)
	if at5a.Hash != at5b.Hash || at5a.HashRevision != 5 || at5b.HashRevision != 5 || at5a.CompactRevision != at5b.CompactRevision {
		t.Errorf("hashes at revision 5: %v, %v", at5a, at5b)
	}
	if now.Hash == at5b.Hash {
		t.Error("hashes of two revisions are the same")
	}
	_, err := a.maintenance.HashKV(t.Context(), &pb.HashKVRequest{Revision: 99})
	wantError(t, err, rpctypes.ErrGRPCFutureRev)
	if _, err := a.Compact(t.Context(), &pb.CompactionRequest{Revision: 4}); err != nil {
		t.Fatal(err)
	}
	_, err = a.maintenance.HashKV(t.Context(), &pb.HashKVRequest{Revision: 3})
	wantError(t, err, rpctypes.ErrGRPCCompacted)
	if h := hash(a, 0); h.CompactRevision != 4 {
		t.Errorf("hash after compaction: %v", h)
	}
	whole, err := a.maintenance.Hash(t.Context(), &pb.HashRequest{})
	if err != nil || whole.Header.Revision != 7 {
		t.Errorf("hash of the store: %v, %v", whole, err)
	}
}

func TestMaintenanceWithoutWork(t *testing.T) {
	c, _ := single(t)
	defrag, err := c.maintenance.Defragment(t.Context(), &pb.DefragmentRequest{})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, defrag, &pb.DefragmentResponse{})
	for _, action := range []pb.AlarmRequest_AlarmAction{pb.AlarmRequest_GET, pb.AlarmRequest_DEACTIVATE} {
		alarms, err := c.maintenance.Alarm(t.Context(), &pb.AlarmRequest{Action: action})
		if err != nil {
			t.Fatal(err)
		}
		wantMessage(t, alarms, &pb.AlarmResponse{Header: head(1)})
	}
}

func TestMoveLeader(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	mover := fakeMover{m}
	c := serve(t, newTestServer(t, m, func(cfg *Config) {
		twoMembers(cfg)
		cfg.Group = mover
	}))
	move := func(to uint64) error {
		_, err := c.maintenance.MoveLeader(t.Context(), &pb.MoveLeaderRequest{TargetID: to})
		return err
	}
	wantError(t, move(2), rpctypes.ErrGRPCBadLeaderTransferee) // a learner
	wantError(t, move(9), rpctypes.ErrGRPCBadLeaderTransferee)
	if err := move(3); err != nil || m.moved != 3 {
		t.Errorf("moved to %d: %v", m.moved, err)
	}
	m.set(func() { m.err = context.DeadlineExceeded })
	wantError(t, move(3), rpctypes.ErrGRPCTimeout)
	m.set(func() { m.cluster.leader = 3 })
	wantError(t, move(3), rpctypes.ErrGRPCNotLeader)

	without, _ := single(t)
	_, err := without.maintenance.MoveLeader(t.Context(), &pb.MoveLeaderRequest{TargetID: 2})
	wantStatus(t, err, codes.Unimplemented, "quorate: moving the leader is not supported yet by this version")
}

func TestAuthIsOff(t *testing.T) {
	c, _ := single(t)
	resp, err := c.auth.AuthStatus(t.Context(), &pb.AuthStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	wantMessage(t, resp, &pb.AuthStatusResponse{Header: head(1), AuthRevision: 1})
	_, err = c.auth.Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "root"})
	wantError(t, err, rpctypes.ErrGRPCAuthNotEnabled)
}

// TestUnsupported calls every method of every service with an empty request:
// what is not served says so in words, and nothing panics.
func TestUnsupported(t *testing.T) {
	c, _ := single(t)
	served := map[string]bool{}
	for _, name := range []string{"KV/Range", "KV/Put", "KV/DeleteRange", "KV/Txn", "KV/Compact", "KV/RangeStream",
		"Cluster/MemberList", "Maintenance/Status", "Maintenance/Hash", "Maintenance/HashKV", "Maintenance/Alarm",
		"Maintenance/Defragment", "Maintenance/Snapshot", "Auth/AuthStatus", "Auth/Authenticate"} {
		served["/etcdserverpb."+name] = true
	}
	check := func(full string, err error) {
		t.Helper()
		st := status.Convert(err)
		if (st.Code() == codes.Unimplemented) == served[full] {
			t.Errorf("%s: %v", full, err)
		}
		if text := st.Message(); !served[full] && (len(text) < 20 || text[:9] != "quorate: ") {
			t.Errorf("%s says %q", full, text)
		}
	}
	for _, d := range []*grpc.ServiceDesc{&pb.KV_ServiceDesc, &pb.Watch_ServiceDesc, &pb.Lease_ServiceDesc,
		&pb.Cluster_ServiceDesc, &pb.Maintenance_ServiceDesc, &pb.Auth_ServiceDesc} {
		for _, m := range d.Methods {
			full := "/" + d.ServiceName + "/" + m.MethodName
			// An empty message is valid for every type.
			check(full, c.Invoke(t.Context(), full, &pb.StatusRequest{}, &pb.StatusRequest{}))
		}
		for _, m := range d.Streams {
			full := "/" + d.ServiceName + "/" + m.StreamName
			check(full, streamOnce(t.Context(), c, full))
		}
	}
	for full, text := range map[string]string{
		"/v3lockpb.Lock/Lock":             "quorate: v3lockpb.Lock.Lock is not supported yet by this version",
		"/v3electionpb.Election/Campaign": "quorate: v3electionpb.Election.Campaign is not supported yet by this version",
		"/etcdserverpb.KV/Nothing":        "unknown method Nothing for service etcdserverpb.KV",
		"/some.Service/Nothing":           "unknown service some.Service",
	} {
		err := c.Invoke(t.Context(), full, &pb.StatusRequest{}, &pb.StatusRequest{})
		wantStatus(t, err, codes.Unimplemented, text)
	}
}

// streamOnce sends an empty message on a stream and returns the first error.
func streamOnce(ctx context.Context, c *client, full string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, full)
	if err != nil {
		return err
	}
	_ = stream.SendMsg(&pb.StatusRequest{}) // fails if the answer is there already
	_ = stream.CloseSend()
	return stream.RecvMsg(&pb.StatusRequest{})
}

func TestHealthAndReflection(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	s := newTestServer(t, m, nil)
	c := serve(t, s)
	h := healthpb.NewHealthClient(c)
	resp, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || resp.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", resp, err)
	}
	s.Shutdown()
	resp, err = h.Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || resp.Status != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health at the end: %v, %v", resp, err)
	}

	stream, err := reflectionpb.NewServerReflectionClient(c).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "etcdserverpb.KV"}}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil || len(answer.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("reflection: %v, %v", answer, err)
	}
}

func TestConfig(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	good := Config{Group: m, Store: m.store, Cluster: 1, Member: 1}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no group":         func(c *Config) { c.Group = nil },
		"no store":         func(c *Config) { c.Store = nil },
		"no cluster":       func(c *Config) { c.Cluster = 0 },
		"no member":        func(c *Config) { c.Member = 0 },
		"negative bytes":   func(c *Config) { c.MaxRequestBytes = -1 },
		"negative ops":     func(c *Config) { c.MaxTxnOps = -1 },
		"negative timeout": func(c *Config) { c.RequestTimeout = -1 },
		"odd version":      func(c *Config) { c.Version = "3.7" },
	} {
		bad := good
		spoil(&bad)
		if _, err := New(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
