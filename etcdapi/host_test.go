package etcdapi

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/smr"
	quoratevfs "github.com/quorate/quorate/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// hosts starts three hosts, each with a store and a server, and returns their
// clients and groups.
func hosts(t *testing.T) (clients []*client, groups []*host.Group) {
	clients, groups, _ = openHosts(t, nil)
	return clients, groups
}

// openHosts is hosts, with the hosts; change may alter their configuration.
func openHosts(t *testing.T, change func(*host.Config)) (clients []*client, groups []*host.Group, opened []*host.Host) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	listeners, peers := map[smr.ReplicaID]net.Listener{}, map[smr.ReplicaID]string{}
	var members []Member
	for id := smr.ReplicaID(1); id <= 3; id++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[id], peers[id] = l, l.Addr().String()
		members = append(members, Member{ID: uint64(id), Name: fmt.Sprint(id)})
	}
	for id := smr.ReplicaID(1); id <= 3; id++ {
		cfg := host.Config{ID: id, Cluster: testCluster, Dir: t.TempDir(), Listener: listeners[id], Peers: peers, Logger: quiet}
		if change != nil {
			change(&cfg)
		}
		h, err := host.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Close() })
		store := kv.New(kv.Config{FS: vfs.NewMem(), Dir: "kv", Group: 1, Logger: quiet})
		g, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1, 2, 3), Machine: store})
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{Group: HostGroup(g), Store: store, Cluster: testCluster, Member: uint64(id),
			Members: func() []Member { return members }, RequestTimeout: time.Hour, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		clients, groups, opened = append(clients, serve(t, s)), append(groups, g), append(opened, h)
	}
	return clients, groups, opened
}

// TestOnHosts: the API over the real runtime. What a client has written through
// one member, every other reads, and all members have one state.
func TestOnHosts(t *testing.T) {
	clients, _ := hosts(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 30 {
		k := fmt.Appendf(nil, "k%d", i)
		put, err := clients[i%3].Put(ctx, &pb.PutRequest{Key: k, Value: k})
		if err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
		if want := int64(i + 2); put.Header.Revision != want || put.Header.MemberId != uint64(i%3+1) || put.Header.RaftTerm == 0 {
			t.Fatalf("put %d has header %v", i, put.Header)
		}
		got, err := clients[(i+1)%3].Range(ctx, &pb.RangeRequest{Key: k})
		if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != string(k) {
			t.Fatalf("get %d on another member: %v, %v", i, got, err)
		}
	}
	var hash uint32
	for i, c := range clients {
		if _, err := c.Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
		h, err := c.maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: 31})
		if err != nil || i > 0 && h.Hash != hash {
			t.Fatalf("member %d has hash %v, another %d: %v", i+1, h, hash, err)
		}
		hash = h.Hash
		st, err := c.maintenance.Status(ctx, &pb.StatusRequest{})
		if err != nil || st.Leader == 0 || st.RaftTerm == 0 || st.RaftIndex < 30 || st.RaftAppliedIndex < 30 || st.RaftAppliedIndex > st.RaftIndex {
			t.Errorf("member %d has status %v, %v", i+1, st, err)
		}
	}
}

// TestMoveLeaderOnHosts: the leader hands over to a member that is named, and
// requests go on.
func TestMoveLeaderOnHosts(t *testing.T) {
	clients, groups := hosts(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := clients[0].Put(ctx, key("a")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		st, err := clients[0].maintenance.Status(ctx, &pb.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		leader := int(st.Leader - 1)
		target := (leader + 1) % 3
		_, err = clients[target].maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: uint64(leader + 1)})
		if err == nil {
			t.Error("a follower has moved the leader")
		}
		_, err = clients[leader].maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: uint64(target + 1)})
		if err != nil {
			t.Fatalf("move from %d to %d: %v", leader+1, target+1, status.Convert(err).Message())
		}
		if to := groups[leader].Status().Leader; to != smr.ReplicaID(target+1) {
			t.Errorf("the leader is %d, not %d", to, target+1)
		}
		for i := range clients {
			if _, err := clients[i].Put(ctx, key("a")); err != nil {
				t.Errorf("put on %d after the move: %v", i+1, err)
			}
		}
		if _, err := clients[0].Range(ctx, &pb.RangeRequest{Key: []byte("a")}); err != nil {
			t.Error(err)
		}
	}
}

// The leader leads already: that is done at once, as at etcd. A member that is dead
// takes nothing over: the leader gives it up after an election timeout, and the
// client need not wait for its own (which here never comes).
func TestMoveLeaderToItselfAndToTheDead(t *testing.T) {
	clients, groups, opened := openHosts(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := clients[0].Put(ctx, key("a")); err != nil {
		t.Fatal(err)
	}
	st, err := clients[0].maintenance.Status(ctx, &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	leader := int(st.Leader - 1)
	move := func(to int) error {
		_, err := clients[leader].maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: uint64(to + 1)})
		return err
	}
	if err := move(leader); err != nil {
		t.Errorf("to itself: %v", err)
	}
	dead := (leader + 1) % 3
	if err := opened[dead].Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, move(dead), errTransferTimeout)
	if now := groups[leader].Status(); now.Leader != smr.ReplicaID(leader+1) || now.Term != st.RaftTerm {
		t.Errorf("the leader is %d in term %d, not still %d in term %d", now.Leader, now.Term, leader+1, st.RaftTerm)
	}
	if _, err := clients[leader].Put(ctx, key("b")); err != nil {
		t.Errorf("put after that: %v", err)
	}
}

// A member whose disk is full refuses writes with Unavailable, so that clients go to
// another one; it says so in its status, answers local reads, and takes writes again
// when there is room.
func TestDiskFullOnHosts(t *testing.T) {
	disks := map[smr.ReplicaID]*quoratevfs.Mem{}
	clients, _, _ := openHosts(t, func(cfg *host.Config) {
		disks[cfg.ID] = quoratevfs.NewMem()
		cfg.FS, cfg.SegmentBytes = disks[cfg.ID], 64<<10
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const full, other = 0, 1
	if _, err := clients[full].Put(ctx, key("before")); err != nil {
		t.Fatal(err)
	}
	disks[full+1].SetFree(0)
	big := &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 4<<10)}
	put := func() error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := clients[full].Put(ctx, big)
		return err
	}
	// What is prepared of the log takes some more; the put that finds no room is not
	// answered in time.
	unknown := []codes.Code{codes.OK, codes.DeadlineExceeded}
	err := put()
	for slices.Contains(unknown, status.Code(err)) || status.Convert(err).Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCTimeout) {
		err = put()
	}
	wantStatus(t, err, codes.Unavailable, "etcdserver: "+host.ErrDiskFull.Error())
	st, err := clients[full].maintenance.Status(ctx, &pb.StatusRequest{})
	if err != nil || !slices.Contains(st.Errors, "etcdserver: "+host.ErrDiskFull.Error()) {
		t.Errorf("the status says %q, %v", st.GetErrors(), err)
	}
	if _, err := clients[full].Range(ctx, &pb.RangeRequest{Key: []byte("before"), Serializable: true}); err != nil {
		t.Errorf("a local read: %v", err)
	}
	if _, err := clients[other].Put(ctx, key("meanwhile")); err != nil {
		t.Errorf("another member: %v", err)
	}
	disks[full+1].SetFree(-1)
	for err = put(); err != nil && ctx.Err() == nil; {
		err = put()
	}
	if err != nil {
		t.Errorf("with room again: %v", err)
	}
}
