package host_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wal"
)

// openAlone opens a host whose groups are its own.
func openAlone(t *testing.T, dir string) *host.Host {
	t.Helper()
	h, err := host.Open(host.Config{ID: 1, Cluster: 7, Dir: dir, Listen: "127.0.0.1:0", SegmentBytes: 64 << 10, Snapshots: often, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// withImage makes a directory in which group 1 begins with an image.
func withImage(t *testing.T) (dir string) {
	dir = t.TempDir()
	h := openAlone(t, dir)
	g, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1), Machine: &book{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range 1000 {
		if _, err := g.Propose(ctx, make([]byte, 200)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "compaction", func() bool { return g.Status().First > 1 })
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A host that had logs does not begin with new ones: it "may have voted and
// acknowledged what it no longer knows".
func TestLostLogIsNoNewLog(t *testing.T) {
	cfg := host.Config{ID: 1, Cluster: 7, Dir: t.TempDir(), Listen: "127.0.0.1:0", LogsExist: true, Logger: quiet}
	open := func() error {
		h, err := host.Open(cfg)
		if err != nil {
			return err
		}
		return h.Close()
	}
	for range 2 { // an attempt that was refused leaves nothing that counts as a log
		if err := open(); !errors.Is(err, host.ErrDamaged) || !errors.Is(err, wal.ErrMissing) {
			t.Fatalf("without a log: %v", err)
		}
	}
	cfg.LogsExist = false
	if err := open(); err != nil {
		t.Fatal(err)
	}
	cfg.LogsExist = true
	if err := open(); err != nil {
		t.Fatalf("with a log in which nothing stands: %v", err)
	}
	cfg.Shards = 2
	if err := open(); !errors.Is(err, host.ErrDamaged) {
		t.Fatalf("with one log of two: %v", err)
	}
}

// entered is a book that says when it is being restored.
type entered struct {
	book
	began chan struct{}
}

func (e *entered) BeginRestore() (smr.Restoration, error) {
	close(e.began)
	return e.book.BeginRestore()
}

// docs/snapshots.md: "Restoring at the start blocks nothing": while the state of
// one group is being restored from its image, another group of the same shard
// starts and serves; and the first cannot be started twice.
func TestStartBlocksNoOtherGroup(t *testing.T) {
	h := openAlone(t, withImage(t))
	defer h.Close()
	slow := &entered{book: book{slow: make(chan struct{})}, began: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		_, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1), Machine: slow})
		started <- err
	}()
	<-slow.began
	other, err := h.StartGroup(host.GroupConfig{ID: 2, Members: host.Voters(1), Machine: &book{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := other.Propose(ctx, []byte("meanwhile")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1), Machine: &book{}}); !errors.Is(err, host.ErrGroupExists) {
		t.Errorf("a group that is being started was started again: %v", err)
	}
	select {
	case err := <-started:
		t.Fatalf("the restoration did not wait: %v", err)
	default:
	}
	close(slow.slow)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if slow.restored != 1 || slow.count() == 0 {
		t.Errorf("restored %d times, %d commands", slow.restored, slow.count())
	}
}

// closes counts how often a machine was closed.
type closes struct {
	entered
	closed int
}

func (c *closes) Close() error { c.closed++; return nil }

// A host that is closed while a group starts closes the group's machine too, once.
func TestCloseWhileAGroupStarts(t *testing.T) {
	h := openAlone(t, withImage(t))
	m := &closes{entered: entered{book: book{slow: make(chan struct{})}, began: make(chan struct{})}}
	started, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1), Machine: m})
		started <- err
	}()
	<-m.began
	go func() { closed <- h.Close() }()
	eventually(t, "the host is closing", func() bool {
		_, err := h.StartGroup(host.GroupConfig{ID: 3, Members: host.Voters(1), Machine: &book{}})
		return errors.Is(err, host.ErrStopped)
	})
	close(m.slow)
	if err := <-started; !errors.Is(err, host.ErrStopped) {
		t.Errorf("StartGroup: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if m.closed != 1 {
		t.Errorf("the machine was closed %d times", m.closed)
	}
}

// heavy is a state machine on disk that takes its time to become durable.
type heavy struct {
	ledgerFile
	flushing chan struct{}
	goOn     chan struct{}
	once     sync.Once
}

func (f *heavy) Flush() error {
	f.once.Do(func() { close(f.flushing) })
	<-f.goOn
	return f.ledgerFile.Flush()
}

// docs/snapshots.md: "A slow flush holds up nobody": while a state machine makes
// itself durable, another group of the same shard has a snapshot written and its
// log compacted.
func TestSlowFlushHoldsUpNobody(t *testing.T) {
	dir := t.TempDir()
	h := openAlone(t, dir)
	defer h.Close()
	slow := &heavy{ledgerFile: ledgerFile{path: dir + "/count"}, flushing: make(chan struct{}), goOn: make(chan struct{})}
	release := sync.OnceFunc(func() { close(slow.goOn) })
	defer release()
	var groups []*host.Group
	for i, m := range []smr.StateMachine{slow, &book{}} {
		g, err := h.StartGroup(host.GroupConfig{ID: smr.GroupID(i + 1), Members: host.Voters(1), Machine: m})
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, g)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	write := func(g *host.Group, until func() bool) {
		t.Helper()
		for !until() {
			if _, err := g.Propose(ctx, make([]byte, 200)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(groups[0], func() bool {
		select {
		case <-slow.flushing:
			return true
		default:
			return false
		}
	})
	write(groups[1], func() bool { return groups[1].Status().First > 1 })
	if first := groups[0].Status().First; first != 1 {
		t.Errorf("the log of a state that is not durable was compacted up to %d", first)
	}
	release()
	write(groups[0], func() bool { return groups[0].Status().First > 1 })
}
