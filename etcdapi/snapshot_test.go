package etcdapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/snapshot"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// fillStore writes 3 MB to 500 keys.
func fillStore(t *testing.T, c *client) {
	t.Helper()
	for i := range 3000 {
		if _, err := pb.NewKVClient(c).Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i%500), Value: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
}

// A backup is whole, of one state, and ends with the SHA-256 by which etcd's
// clients know it: "size mod 512 = 32".
func TestSnapshot(t *testing.T) {
	c, _ := single(t)
	fillStore(t, c)
	in, err := pb.NewMaintenanceClient(c).Snapshot(t.Context(), &pb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	keys := kv.NewInspector()
	check := snapshot.Verifier{State: keys}
	var all []byte
	for {
		r, err := in.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Version == "" || r.Header.GetRevision() == 0 {
			t.Fatalf("without version or header: %v", r.Header)
		}
		all = append(all, r.Blob...)
		if _, err := check.Write(r.Blob); err != nil {
			t.Fatal(err)
		}
	}
	if err := check.Finish(); err != nil {
		t.Fatal(err)
	}
	sum, err := keys.Finish()
	if err != nil || sum.Keys != 500 || sum.Revision != 3001 || sum.Digest != check.Head().Digest {
		t.Fatalf("%+v, %v", sum, err)
	}
	n := len(all) - sha256.Size
	if len(all)%512 != sha256.Size || sha256.Sum256(all[:n]) != [32]byte(all[n:]) {
		t.Fatalf("%d bytes do not end with their SHA-256", len(all))
	}
}

// keepingStream keeps the messages, as an interceptor of a user's may.
type keepingStream struct {
	grpc.ServerStream
	ctx  context.Context
	sent []*pb.SnapshotResponse
}

func (s *keepingStream) Context() context.Context { return s.ctx }

func (s *keepingStream) Send(r *pb.SnapshotResponse) error {
	s.sent = append(s.sent, r)
	return nil
}

// "It is not safe to modify the message after calling SendMsg." (gRPC)
func TestSnapshotLeavesWhatItSent(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	s := newTestServer(t, m, nil)
	fillStore(t, serve(t, s))
	out := &keepingStream{ctx: t.Context()}
	if err := (&maintenanceService{Server: s}).Snapshot(nil, out); err != nil {
		t.Fatal(err)
	}
	var check snapshot.Verifier
	for _, r := range out.sent {
		if _, err := check.Write(r.Blob); err != nil {
			t.Fatal(err)
		}
	}
	if err := check.Finish(); err != nil || len(out.sent) < 4 {
		t.Fatalf("%d messages: %v", len(out.sent), err)
	}
}

// A member that has applied nothing gives no backup: restored, it would be a cluster
// without keys, and who verified it would take it for a damaged one.
func TestSnapshotOfABlankMember(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	out := &keepingStream{ctx: t.Context()}
	err := (&maintenanceService{Server: newTestServer(t, m, nil)}).Snapshot(nil, out)
	wantStatus(t, err, codes.Unavailable, "etcdserver: this member gives no backup: nothing is applied yet")
	if len(out.sent) > 0 {
		t.Errorf("%d messages", len(out.sent))
	}
}

// A client that takes nothing is given up, with its view; and backups are bounded
// in number.
func TestSnapshotOfASleepingClient(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	s := newTestServer(t, m, nil)
	fill := serve(t, s)
	fillStore(t, fill)
	s.backups = backups{open: make(chan struct{}, 1), stall: time.Hour}
	c := pb.NewMaintenanceClient(serve(t, s))
	ctx, cancel := context.WithCancel(t.Context())
	asleep, err := c.Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := asleep.Recv(); err != nil {
		t.Fatal(err)
	}
	another, err := c.Snapshot(t.Context(), &pb.SnapshotRequest{})
	if err == nil {
		_, err = another.Recv()
	}
	wantStatus(t, err, codes.ResourceExhausted, "etcdserver: this member gives 1 backups already; ask another one, or later")
	cancel()
	s.backups.open <- struct{}{} // the first one has ended

	s.backups = backups{open: make(chan struct{}, 1), stall: 50 * time.Millisecond}
	if asleep, err = c.Snapshot(t.Context(), &pb.SnapshotRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := asleep.Recv(); err != nil {
		t.Fatal(err)
	}
	s.backups.open <- struct{}{} // given up: nothing else ends it
	for err == nil {
		_, err = asleep.Recv()
	}
	wantStatus(t, err, codes.Aborted, "etcdserver: the backup was given up: the client has taken nothing for 50ms")
}
