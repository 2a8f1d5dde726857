package host_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
)

// book is a state machine in memory: all commands in order. Its pages are never
// changed once written, so a view is a slice.
type book struct {
	mu       sync.Mutex
	pages    [][]byte
	applied  uint64
	digest   [16]byte
	restored int
	slow     chan struct{} // a restoration waits for it before it is finished
	// fail, if set, is asked before views and restorations do something: view,
	// read, close view, begin, write, finish, close.
	fail func(what string) error
}

func (b *book) fails(what string) error {
	if b.fail == nil {
		return nil
	}
	return b.fail(what)
}

func (b *book) Open() (uint64, error) { return 0, nil }
func (b *book) Close() error          { return nil }

func chain(digest [16]byte, page []byte) [16]byte {
	h := fnv.New128a()
	h.Write(digest[:])
	h.Write(page)
	h.Sum(digest[:0])
	return digest
}

func (b *book) Apply(batch []smr.Committed) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range batch {
		c := &batch[i]
		if c.Index != b.applied+1 {
			return fmt.Errorf("applied %d after %d", c.Index, b.applied)
		}
		b.applied = c.Index
		if c.Kind == smr.KindCommand {
			b.pages = append(b.pages, bytes.Clone(c.Data))
			b.digest = chain(b.digest, c.Data)
		}
	}
	return nil
}

func (b *book) Lookup([]byte) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return binary.BigEndian.AppendUint64(nil, uint64(len(b.pages))), nil
}

func (b *book) Digest() (uint64, [16]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.applied, b.digest
}

func (b *book) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pages)
}

type bookView struct {
	b       *book
	pages   [][]byte
	applied uint64
	digest  [16]byte
	r       io.Reader
}

func (v *bookView) Applied() uint64  { return v.applied }
func (v *bookView) Digest() [16]byte { return v.digest }
func (v *bookView) Close() error     { return v.b.fails("close view") }
func (v *bookView) Read(p []byte) (int, error) {
	if err := v.b.fails("read"); err != nil {
		return 0, err
	}
	if v.r == nil {
		b := binary.AppendUvarint(nil, v.applied)
		for _, page := range v.pages {
			b = append(binary.AppendUvarint(b, uint64(len(page))), page...)
		}
		v.r = bytes.NewReader(b)
	}
	return v.r.Read(p)
}

func (b *book) View() (smr.View, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &bookView{b: b, pages: b.pages[:len(b.pages):len(b.pages)], applied: b.applied, digest: b.digest}, nil
}

type bookRestoration struct {
	bytes.Buffer
	b    *book
	next book
}

func (b *book) BeginRestore() (smr.Restoration, error) {
	return &bookRestoration{b: b}, b.fails("begin")
}

func (r *bookRestoration) Write(p []byte) (int, error) {
	if err := r.b.fails("write"); err != nil {
		return 0, err
	}
	return r.Buffer.Write(p)
}

func (r *bookRestoration) Finish() error {
	if err := r.b.fails("finish"); err != nil {
		return err
	}
	if r.b.slow != nil {
		<-r.b.slow
	}
	d := smr.Decoder{B: r.Bytes()}
	r.next.applied = d.Uvarint()
	for len(d.B) > 0 && !d.Failed {
		page := bytes.Clone(d.Bytes())
		r.next.pages = append(r.next.pages, page)
		r.next.digest = chain(r.next.digest, page)
	}
	if d.Failed {
		return smr.ErrCorrupt
	}
	return nil
}

func (r *bookRestoration) Commit() error {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.b.pages, r.b.applied, r.b.digest = r.next.pages, r.next.applied, r.next.digest
	r.b.restored++
	return nil
}

func (r *bookRestoration) Close() error { return r.b.fails("close") }

// shelf is hosts with a book each.
type shelf struct {
	t     *testing.T
	dir   string
	peers map[smr.ReplicaID]string
	hosts map[smr.ReplicaID]*host.Host
	group map[smr.ReplicaID]*host.Group
	books map[smr.ReplicaID]*book
	cfg   host.SnapshotConfig
	slow  chan struct{} // of the next book
}

func newShelf(t *testing.T, n int, cfg host.SnapshotConfig) *shelf {
	s := &shelf{t: t, dir: t.TempDir(), peers: map[smr.ReplicaID]string{}, hosts: map[smr.ReplicaID]*host.Host{},
		group: map[smr.ReplicaID]*host.Group{}, books: map[smr.ReplicaID]*book{}, cfg: cfg}
	listeners := map[smr.ReplicaID]net.Listener{}
	for id := smr.ReplicaID(1); id <= smr.ReplicaID(n); id++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[id], s.peers[id] = l, l.Addr().String()
	}
	for id, l := range listeners {
		s.start(id, l)
	}
	t.Cleanup(func() {
		for id := range s.hosts {
			s.stop(id)
		}
	})
	return s
}

func (s *shelf) start(id smr.ReplicaID, l net.Listener) {
	s.t.Helper()
	h, err := host.Open(host.Config{
		ID: id, Cluster: 7, Dir: fmt.Sprintf("%s/%d", s.dir, id), Listener: l, Listen: s.peers[id], Peers: s.peers,
		SegmentBytes: 64 << 10, Snapshots: s.cfg, Logger: quiet,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	b := &book{slow: s.slow}
	var ids []smr.ReplicaID
	for id := range s.peers {
		ids = append(ids, id)
	}
	g, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(ids...), Machine: b})
	if err != nil {
		s.t.Fatal(err)
	}
	s.hosts[id], s.group[id], s.books[id] = h, g, b
}

func (s *shelf) stop(id smr.ReplicaID) {
	s.t.Helper()
	if err := s.hosts[id].Close(); err != nil {
		s.t.Error(err)
	}
	delete(s.hosts, id)
	delete(s.group, id)
}

// write proposes n commands of size bytes on a host.
func (s *shelf) write(id smr.ReplicaID, n, size int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := range n {
		if _, err := s.group[id].Propose(ctx, bytes.Repeat([]byte{byte(i)}, size)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *shelf) equal() {
	s.t.Helper()
	eventually(s.t, "equal states", func() bool {
		var want *book
		for id := range s.hosts {
			b := s.books[id]
			if want == nil {
				want = b
			}
			at, digest := b.Digest()
			wantAt, wantDigest := want.Digest()
			if at != wantAt || digest != wantDigest {
				return false
			}
		}
		return true
	})
}

var often = host.SnapshotConfig{EveryBytes: 64 << 10, TailBytes: 8 << 10, EveryEntries: 1 << 20, BlockBytes: 4096}

// raft.md 13: the log is bounded by bytes; and a replica that was away for
// longer than the log reaches back is brought up by a snapshot.
func TestSnapshotCatchesUp(t *testing.T) {
	s := newShelf(t, 3, often)
	s.write(1, 10, 100)
	s.stop(3)
	s.write(1, 2000, 300)
	eventually(t, "compaction", func() bool {
		return s.group[1].Status().First > 100 && s.group[2].Status().First > 100
	})
	s.start(3, nil)
	s.equal()
	if st := s.hosts[3].Stats(); st.SnapshotsInstalled != 1 || s.books[3].restored != 1 {
		t.Fatalf("%d snapshots were installed: %+v", st.SnapshotsInstalled, st)
	}
	s.write(3, 10, 100)
	s.equal()
	// All of them restart from their own snapshots.
	for id := smr.ReplicaID(1); id <= 3; id++ {
		s.stop(id)
	}
	for id := smr.ReplicaID(1); id <= 3; id++ {
		s.start(id, nil)
		if s.books[id].restored != 1 {
			t.Errorf("host %d replays its whole log", id)
		}
	}
	s.write(2, 10, 100)
	s.equal()
	if n := s.books[2].count(); n != 2030 {
		t.Fatalf("%d commands", n)
	}
}

// storage-and-faults.md: "Receiving one never blocks the shard's loop. Restoring
// keeps the old state until the new one is complete": while a restoration stands
// still, the group answers from its old state, and another group of the same
// shard goes on. Two followers are served by one image.
func TestInstallBlocksNothing(t *testing.T) {
	s := newShelf(t, 5, often)
	others := map[smr.ReplicaID]*host.Group{}
	other := func(id smr.ReplicaID) {
		t.Helper()
		g, err := s.hosts[id].StartGroup(host.GroupConfig{ID: 2, Members: host.Voters(1, 2, 3, 4, 5), Machine: &book{}})
		if err != nil {
			t.Fatal(err)
		}
		others[id] = g
	}
	for id := smr.ReplicaID(1); id <= 5; id++ {
		other(id)
	}
	s.write(1, 5, 100)
	s.equal()
	s.stop(4)
	s.stop(5)
	s.write(1, 1500, 400)
	eventually(t, "compaction", func() bool { return s.group[1].Status().First > 100 && s.group[2].Status().First > 100 })

	s.start(4, nil)
	slow := make(chan struct{})
	s.start5(slow)
	other(4)
	other(5)
	eventually(t, "host 4 caught up", func() bool { return s.books[4].count() == 1505 })
	eventually(t, "the image came in on host 5", func() bool {
		st := s.hosts[5].Stats()
		return st.SnapshotBytesReceived > 0 && st.SnapshotsInstalled == 0
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for range 20 {
		if _, err := others[5].Propose(ctx, []byte("another group")); err != nil {
			t.Fatal(err)
		}
	}
	// docs/snapshots.md: "a restoration that takes long holds up no other group's
	// snapshots".
	if err := others[5].Compact(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an image of the other group", func() bool { return s.hosts[5].Stats().SnapshotsTaken > 0 })
	if n := s.books[5].count(); n > 5 || s.books[5].restored != 0 {
		t.Errorf("host 5 has %d commands and was restored %d times while its restoration stands still", n, s.books[5].restored)
	}
	close(slow)
	s.equal()
	taken := uint64(0)
	for id := smr.ReplicaID(1); id <= 3; id++ {
		if st := s.hosts[id].Stats(); st.SnapshotBlocksSent > 0 {
			taken++
		}
	}
	if taken != 1 {
		t.Errorf("%d hosts have sent blocks", taken)
	}
}

// start5 starts host 5 with a restoration that waits.
func (s *shelf) start5(slow chan struct{}) {
	s.slow = slow
	s.start(5, nil)
	s.slow = nil
}
