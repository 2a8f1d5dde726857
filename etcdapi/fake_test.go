package etcdapi

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/smr"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
)

// A fakeCluster is a log that is agreed on by decree. A member applies it when it
// must, as late as it may: at its own proposal and at its own barrier. So a
// member that has done neither is behind.
type fakeCluster struct {
	mu     sync.Mutex
	log    []smr.Entry
	leader smr.ReplicaID
	term   uint64
}

// fakeMember is one member's Group.
type fakeMember struct {
	cluster *fakeCluster
	id      smr.ReplicaID
	store   *kv.Store

	// Guarded by cluster.mu.
	applied   uint64
	err       error // what Propose and Barrier return
	barriers  int
	deadlines []time.Time // of the contexts that were passed
	bounded   bool        // whether all had one
	moved     smr.ReplicaID
	diskFull  bool
}

func (m *fakeMember) note(ctx context.Context) error {
	at, ok := ctx.Deadline()
	m.deadlines = append(m.deadlines, at)
	m.bounded = m.bounded && ok
	return m.err
}

func (m *fakeMember) Propose(ctx context.Context, command []byte) (smr.Result, error) {
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	if err := m.note(ctx); err != nil {
		return smr.Result{}, err
	}
	index := uint64(len(m.cluster.log) + 1)
	m.cluster.log = append(m.cluster.log,
		smr.Entry{Index: index, Term: m.cluster.term, Kind: smr.KindCommand, Data: command})
	return m.catchUp()
}

func (m *fakeMember) Barrier(ctx context.Context) error {
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	m.barriers++
	if err := m.note(ctx); err != nil {
		return err
	}
	_, err := m.catchUp()
	return err
}

// catchUp applies the log to its end and returns the result of the last entry.
func (m *fakeMember) catchUp() (smr.Result, error) {
	var batch []smr.Committed
	for _, e := range m.cluster.log[m.applied:] {
		batch = append(batch, smr.Committed{Entry: e, Wanted: int(e.Index) == len(m.cluster.log)})
	}
	if len(batch) == 0 {
		return smr.Result{}, nil
	}
	if err := m.store.Apply(batch); err != nil {
		return smr.Result{}, err
	}
	m.applied = uint64(len(m.cluster.log))
	return batch[len(batch)-1].Result, nil
}

func (m *fakeMember) Status() Status {
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	return Status{Leader: m.cluster.leader, Term: m.cluster.term, Commit: uint64(len(m.cluster.log)), Applied: m.applied, LeaderChanges: 3, DiskFull: m.diskFull}
}

// set changes the member under its lock.
func (m *fakeMember) set(f func()) {
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	f()
}

// fakeMover is a member that can hand leadership over.
type fakeMover struct{ *fakeMember }

func (m fakeMover) MoveLeader(_ context.Context, to smr.ReplicaID) error {
	m.set(func() { m.moved = to })
	return m.err
}

func newFakeCluster(t testing.TB, size int) []*fakeMember {
	t.Helper()
	c := &fakeCluster{leader: 1, term: 5}
	members := make([]*fakeMember, size)
	for i := range members {
		store := kv.New(kv.Config{FS: vfs.NewMem(), Dir: "kv", Group: 1, Logger: slog.New(slog.DiscardHandler)})
		if _, err := store.Open(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		members[i] = &fakeMember{cluster: c, id: smr.ReplicaID(i + 1), store: store, bounded: true}
	}
	return members
}

const testCluster = 77

// newTestServer returns the server of m; change may alter its configuration.
func newTestServer(t testing.TB, m *fakeMember, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{
		Group: m, Store: m.store, Cluster: testCluster, Member: uint64(m.id),
		Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// client is a connection to one server, with the stubs used by the tests.
type client struct {
	*grpc.ClientConn
	pb.KVClient
	cluster     pb.ClusterClient
	maintenance pb.MaintenanceClient
	auth        pb.AuthClient
}

// serve serves s in memory and returns a client of it.
func serve(t testing.TB, s *Server) *client {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	g := s.NewGRPCServer()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(listener)
	}()
	conn, err := grpc.NewClient("passthrough:test",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		<-done
	})
	return &client{conn, pb.NewKVClient(conn), pb.NewClusterClient(conn), pb.NewMaintenanceClient(conn), pb.NewAuthClient(conn)}
}

// single returns a client of a cluster of one.
func single(t testing.TB) (*client, *fakeMember) {
	t.Helper()
	m := newFakeCluster(t, 1)[0]
	return serve(t, newTestServer(t, m, nil)), m
}

func (c *client) put(t testing.TB, key, value string) *pb.PutResponse {
	t.Helper()
	resp, err := c.Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
	return resp
}

// wantStatus checks an error's code and text, which clients compare.
func wantStatus(t testing.TB, err error, code codes.Code, text string) {
	t.Helper()
	if st := status.Convert(err); st.Code() != code || st.Message() != text {
		t.Errorf("status %v %q, want %v %q", st.Code(), st.Message(), code, text)
	}
}

// wantError checks that err is the very status want.
func wantError(t testing.TB, err, want error) {
	t.Helper()
	st := status.Convert(want)
	wantStatus(t, err, st.Code(), st.Message())
}

// wantMessage compares whole messages: a field too much fails as well.
func wantMessage(t testing.TB, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// head is the header that member 1 answers with.
func head(revision int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: testCluster, MemberId: 1, RaftTerm: 5, Revision: revision}
}
