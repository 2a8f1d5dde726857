package host_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// journal is a state machine in memory that remembers every command in order.
type journal struct {
	mu       sync.Mutex
	commands [][]byte
	seen     map[string]int
	applied  uint64
	digest   [16]byte
	fail     error         // what Apply returns from now on
	panics   bool          // whether Apply panics
	gate     chan struct{} // Apply waits for it, if set
	// full: the disk has no room. refuses: as much waits for it as there may.
	full, refuses bool
	idle          chan struct{} // Idle takes one of these a time, and wants more while there are
}

// Idle implements smr.Idler.
func (j *journal) Idle() (bool, error) {
	j.mu.Lock()
	idle := j.idle
	j.mu.Unlock()
	if idle == nil {
		return false, nil
	}
	select {
	case <-idle:
		return true, nil
	default:
		return false, nil
	}
}

// DiskFull implements smr.Roomed.
func (j *journal) DiskFull() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.full
}

// setRoom says how much room the disk has.
func (j *journal) setRoom(full, refuses bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.full, j.refuses = full, refuses
}

func (j *journal) Open() (uint64, error) { return 0, nil }
func (j *journal) Close() error          { return nil }

func (j *journal) Apply(batch []smr.Committed) error {
	j.mu.Lock()
	gate := j.gate
	j.mu.Unlock()
	if gate != nil {
		<-gate
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.panics {
		panic("a state machine's bug")
	}
	if j.fail != nil {
		return j.fail
	}
	if j.refuses {
		return fmt.Errorf("journal: %w", smr.ErrNoSpace)
	}
	if j.seen == nil {
		j.seen = map[string]int{}
	}
	for i := range batch {
		c := &batch[i]
		if c.Index != j.applied+1 {
			return fmt.Errorf("applied %d after %d", c.Index, j.applied)
		}
		j.applied = c.Index
		if c.Kind != smr.KindCommand {
			continue
		}
		command := bytes.Clone(c.Data)
		j.commands = append(j.commands, command)
		j.seen[string(c.Data)]++
		c.Result = smr.Result{Value: uint64(len(j.commands)), Data: command}
		h := sha256.New()
		h.Write(j.digest[:])
		h.Write(c.Data)
		copy(j.digest[:], h.Sum(nil))
	}
	return nil
}

func (j *journal) Lookup(query []byte) ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return binary.BigEndian.AppendUint64(nil, uint64(j.seen[string(query)])), nil
}

func (j *journal) Digest() (uint64, [16]byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.applied, j.digest
}

func (j *journal) all() [][]byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([][]byte(nil), j.commands...)
}

// cluster is hosts of this process with one group on each.
type cluster struct {
	t        *testing.T
	dir      string
	members  smr.Configuration
	peers    map[smr.ReplicaID]string
	hosts    map[smr.ReplicaID]*host.Host
	groups   map[smr.ReplicaID]*host.Group
	machines map[smr.ReplicaID]*journal
	mend     func(*host.Config)
}

func newCluster(t *testing.T, n int, mend func(*host.Config)) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), peers: map[smr.ReplicaID]string{}, hosts: map[smr.ReplicaID]*host.Host{},
		groups: map[smr.ReplicaID]*host.Group{}, machines: map[smr.ReplicaID]*journal{}, mend: mend}
	listeners := map[smr.ReplicaID]net.Listener{}
	var ids []smr.ReplicaID
	for id := smr.ReplicaID(1); id <= smr.ReplicaID(n); id++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[id], c.peers[id] = l, l.Addr().String()
		ids = append(ids, id)
	}
	c.members = host.Voters(ids...)
	for _, id := range ids {
		c.start(id, listeners[id])
	}
	t.Cleanup(func() {
		for id := range c.hosts {
			c.stop(id)
		}
	})
	return c
}

func (c *cluster) start(id smr.ReplicaID, l net.Listener) {
	c.t.Helper()
	cfg := host.Config{ID: id, Cluster: 7, Dir: fmt.Sprintf("%s/%d", c.dir, id), Listener: l, Listen: c.peers[id], Peers: c.peers, Logger: quiet}
	if c.mend != nil {
		c.mend(&cfg)
	}
	h, err := host.Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	m := &journal{}
	g, err := h.StartGroup(host.GroupConfig{ID: 1, Members: c.members, Machine: m})
	if err != nil {
		c.t.Fatal(err)
	}
	c.hosts[id], c.groups[id], c.machines[id] = h, g, m
}

func (c *cluster) stop(id smr.ReplicaID) {
	c.t.Helper()
	if err := c.hosts[id].Close(); err != nil {
		c.t.Error(err)
	}
	delete(c.hosts, id)
	delete(c.groups, id)
}

// eventually waits for a condition, with a deadline that only a broken build
// reaches.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not reached: %s", what)
		}
	}
}

func (c *cluster) leader() (id smr.ReplicaID) {
	c.t.Helper()
	eventually(c.t, "a leader", func() bool {
		for i, g := range c.groups {
			if g.Status().Role == raft.Leader {
				id = i
				return true
			}
		}
		return false
	})
	return id
}

func (c *cluster) propose(id smr.ReplicaID, command string) smr.Result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := c.groups[id].Propose(ctx, []byte(command))
	if err != nil {
		c.t.Fatalf("proposing %q on %d: %v", command, id, err)
	}
	return r
}

// late is the shard's answer to a command, or a read, whose deadline is near.
func (c *cluster) late(id smr.ReplicaID, command string) error {
	c.t.Helper()
	answer := make(chan error, 1)
	done := func(_ smr.Result, err error) { answer <- err }
	deadline := c.hosts[id].Now().Add(100 * time.Millisecond)
	var err error
	if command == "" {
		err = c.groups[id].SubmitBarrier(deadline, done)
	} else {
		err = c.groups[id].Submit([]byte(command), deadline, done)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return <-answer
}

func TestProposeOnEveryReplica(t *testing.T) {
	c := newCluster(t, 3, nil)
	for i := range 30 {
		id := smr.ReplicaID(i%3 + 1)
		command := fmt.Sprintf("command %d", i)
		if r := c.propose(id, command); r.Value != uint64(i+1) || string(r.Data) != command {
			t.Fatalf("result %d %q", r.Value, r.Data)
		}
		// Whoever proposed reads its own write, there and anywhere else.
		for id, g := range c.groups {
			b, err := g.Read(context.Background(), []byte(command))
			if err != nil || binary.BigEndian.Uint64(b) != 1 {
				t.Fatalf("read on %d: %x %v", id, b, err)
			}
		}
	}
	want := c.machines[1].all()
	for id, m := range c.machines {
		if got := m.all(); !equalAll(got, want) {
			t.Fatalf("replica %d applied %q, replica 1 %q", id, got, want)
		}
	}
}

func equalAll(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// A change of leader fails no request and doubles none: proposals that the old
// leader took with it are proposed again once the term fence says that they are
// lost (package comment).
func TestLeaderStopsUnderLoad(t *testing.T) {
	c := newCluster(t, 3, nil)
	lead := c.leader()
	stop, loaded := make(chan struct{}), make(chan struct{}, 1)
	var wg sync.WaitGroup
	for id, g := range c.groups {
		if id == lead {
			continue
		}
		for n := range 8 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					command := fmt.Sprintf("%d/%d/%d", id, n, i)
					if _, err := g.Propose(context.Background(), []byte(command)); err != nil {
						t.Errorf("proposing %s on a follower while the leader changes: %v", command, err)
						return
					}
					if i == 20 {
						select {
						case loaded <- struct{}{}:
						default:
						}
					}
				}
			})
		}
	}
	<-loaded
	old := c.machines[lead]
	c.stop(lead)
	next := c.leader()
	before := len(c.machines[next].all())
	eventually(t, "a hundred commands under the new leader", func() bool { return len(c.machines[next].all()) > before+100 })
	close(stop)
	wg.Wait()
	for id, m := range c.machines {
		if m == old {
			continue
		}
		m.mu.Lock()
		for command, n := range m.seen {
			if n != 1 {
				t.Errorf("replica %d applied %q %d times", id, command, n)
			}
		}
		m.mu.Unlock()
	}
}

func TestRestartFindsTheLog(t *testing.T) {
	c := newCluster(t, 3, nil)
	for i := range 10 {
		c.propose(1, fmt.Sprint(i))
	}
	for id := smr.ReplicaID(1); id <= 3; id++ {
		c.stop(id)
	}
	for id := smr.ReplicaID(1); id <= 3; id++ {
		c.start(id, nil)
	}
	c.propose(2, "after")
	if got := c.machines[2].all(); len(got) != 11 || string(got[9]) != "9" || string(got[10]) != "after" {
		t.Fatalf("applied after the restart: %q", got)
	}
}

func TestSingleReplica(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.propose(1, "alone")
	if _, err := c.groups[1].Read(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	c.stop(1)
	c.start(1, nil)
	if _, err := c.groups[1].Read(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if got := c.machines[1].all(); len(got) != 1 || string(got[0]) != "alone" {
		t.Fatalf("after a restart: %q", got)
	}
}

// Without a majority nothing is done, and the answers say what is known.
func TestNoMajority(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.propose(1, "first")
	eventually(t, "replica 1 leads", func() bool {
		_ = c.groups[c.leader()].Transfer(t.Context(), 1) // refused while another is under way
		return c.groups[1].Status().Role == raft.Leader
	})
	last := fmt.Sprintf("the last one known is %s, of term %d,", smr.ReplicaID(1), c.groups[1].Status().Term)
	c.stop(2)
	c.stop(3)
	eventually(t, "no leader", func() bool { return c.groups[1].Status().Leader == 0 })
	if err := c.late(1, "x"); !errors.Is(err, host.ErrNoLeader) || !host.Retryable(err) || !strings.Contains(err.Error(), last) {
		t.Errorf("proposal without a leader: %v", err)
	}
	if err := c.late(1, ""); !errors.Is(err, host.ErrNoLeader) || !strings.Contains(err.Error(), last) {
		t.Errorf("read without a leader: %v", err)
	}
	if b, err := c.groups[1].ReadLocal([]byte("first")); err != nil || binary.BigEndian.Uint64(b) != 1 {
		t.Errorf("local read: %x %v", b, err)
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A state machine that fails stops its own group on its own host; others go on.
func TestFailedMachineStopsItsGroupAlone(t *testing.T) {
	for _, kind := range []string{"error", "panic"} {
		t.Run(kind, func(t *testing.T) {
			var log syncBuffer
			c := newCluster(t, 1, func(cfg *host.Config) { cfg.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			other := &journal{}
			g2, err := c.hosts[1].StartGroup(host.GroupConfig{ID: 2, Members: c.members, Machine: other})
			if err != nil {
				t.Fatal(err)
			}
			c.propose(1, "fine")
			m := c.machines[1]
			m.mu.Lock()
			m.panics, m.fail = kind == "panic", errors.New("broken store")
			m.mu.Unlock()
			_, err = c.groups[1].Propose(context.Background(), []byte("x"))
			if !errors.Is(err, host.ErrGroupFailed) || !errors.Is(err, host.ErrOutcomeUnknown) {
				t.Errorf("the proposal that failed: %v", err)
			}
			clean := func(err error) {
				if text := fmt.Sprint(err); strings.Contains(text, "goroutine") || strings.Contains(text, ".go:") {
					t.Errorf("a client is told the stack: %s", text)
				}
			}
			clean(err)
			eventually(t, "the group refuses", func() bool {
				_, err := c.groups[1].Propose(context.Background(), []byte("y"))
				clean(err)
				return errors.Is(err, host.ErrGroupFailed) && !errors.Is(err, host.ErrOutcomeUnknown)
			})
			if err := c.groups[1].Barrier(context.Background()); !errors.Is(err, host.ErrGroupFailed) {
				t.Errorf("a read of the failed group: %v", err)
			}
			if text := log.String(); kind == "panic" && !strings.Contains(text, "host_test.go:") {
				t.Errorf("an operator is not told where it panicked: %s", text)
			}
			if _, err := g2.Propose(context.Background(), []byte("z")); err != nil {
				t.Errorf("the other group: %v", err)
			}
		})
	}
}

func TestCancelledAndLate(t *testing.T) {
	c := newCluster(t, 1, nil)
	m := c.machines[1]
	c.propose(1, "first")
	gate := make(chan struct{})
	m.mu.Lock()
	m.gate = gate
	m.mu.Unlock()

	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() {
		_, err := c.groups[1].Propose(ctx, []byte("held up"))
		result <- err
	}()
	eventually(t, "it is committed", func() bool { st := c.groups[1].Status(); return st.Commit > st.Applied })
	cancel()
	if err := <-result; !errors.Is(err, host.ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := c.late(1, ""); !errors.Is(err, host.ErrApplyLag) {
		t.Errorf("a read behind a slow state machine: %v", err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	if _, err := c.groups[1].Propose(ctx, []byte("never sent")); !errors.Is(err, context.Canceled) || errors.Is(err, host.ErrOutcomeUnknown) {
		t.Errorf("cancelled before it was sent: %v", err)
	}
	close(gate)
	m.mu.Lock()
	m.gate = nil
	m.mu.Unlock()
	c.propose(1, "last")
	if got := m.all(); len(got) != 3 {
		t.Errorf("applied %q", got)
	}
}

func TestLimits(t *testing.T) {
	c := newCluster(t, 1, func(cfg *host.Config) { cfg.CommandBytesMax, cfg.InboxBytesMax, cfg.RequestsMax = 1000, 4000, 4 })
	c.propose(1, "first")
	if _, err := c.groups[1].Propose(context.Background(), make([]byte, 1001)); !errors.Is(err, host.ErrTooLarge) || !host.Retryable(err) {
		t.Errorf("too large: %v", err)
	}
	gate := make(chan struct{})
	m := c.machines[1]
	m.mu.Lock()
	m.gate = gate
	m.mu.Unlock()
	// A full system says so at once, and does what it took.
	errs := make(chan error, 64)
	busy, done := 0, 0
	for i := range cap(errs) {
		err := c.groups[1].Submit(fmt.Appendf(nil, "%0500d", i), smr.Never, func(_ smr.Result, err error) { errs <- err })
		if err != nil {
			errs <- err
		}
	}
	close(gate)
	for range cap(errs) {
		switch err := <-errs; {
		case err == nil:
			done++
		case errors.Is(err, host.ErrBusy):
			busy++
		default:
			t.Fatal(err)
		}
	}
	if done == 0 || busy == 0 {
		t.Errorf("%d done, %d busy", done, busy)
	}
	if got := len(m.all()); got != done+1 {
		t.Errorf("applied %d of %d that were acknowledged", got, done+1)
	}
}

func TestCloseAnswersEveryone(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.propose(1, "first")
	c.stop(2)
	c.stop(3)
	eventually(t, "no leader", func() bool { return c.groups[1].Status().Leader == 0 })
	errs := make(chan error, 2)
	go func() { _, err := c.groups[1].Propose(context.Background(), []byte("x")); errs <- err }()
	go func() { errs <- c.groups[1].Barrier(context.Background()) }()
	g := c.groups[1]
	c.stop(1)
	for range 2 {
		if err := <-errs; !errors.Is(err, host.ErrStopped) {
			t.Errorf("at close: %v", err)
		}
	}
	if _, err := g.Propose(context.Background(), []byte("x")); !errors.Is(err, host.ErrStopped) || !host.Retryable(err) {
		t.Errorf("after close: %v", err)
	}
}

func TestHandOver(t *testing.T) {
	c := newCluster(t, 3, nil)
	lead := c.leader()
	c.propose(lead, "first")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := c.hosts[lead].HandOver(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another leads", func() bool {
		st := c.groups[lead].Status()
		return st.Leader != 0 && st.Leader != lead
	})
	c.propose(lead, "through the new leader")
}

func TestBadConfig(t *testing.T) {
	good := host.Config{ID: 1, Cluster: 7, Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: quiet}
	for name, spoil := range map[string]func(*host.Config){
		"id":        func(c *host.Config) { c.ID = 0 },
		"cluster":   func(c *host.Config) { c.Cluster = 0 },
		"dir":       func(c *host.Config) { c.Dir = "" },
		"heartbeat": func(c *host.Config) { c.HeartbeatInterval = time.Hour },
		"election":  func(c *host.Config) { c.ElectionTimeout = time.Microsecond },
		"negative":  func(c *host.Config) { c.Shards = -1 },
		"limits":    func(c *host.Config) { c.CommandBytesMax = 1 << 30 },
		"overhead":  func(c *host.Config) { c.CommandBytesMax = 64 << 20 },
		"frames": func(c *host.Config) {
			c.CommandBytesMax, c.InboxBytesMax, c.LogBufferBytesMax = 1<<30+1, 1<<31, 1<<31
		},
	} {
		cfg := good
		spoil(&cfg)
		if h, err := host.Open(cfg); !errors.Is(err, host.ErrConfig) {
			t.Errorf("%s: %v", name, err)
			if h != nil {
				h.Close()
			}
		}
	}
	h, err := host.Open(good)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for name, cfg := range map[string]host.GroupConfig{
		"id":       {Members: host.Voters(1), Machine: &journal{}},
		"machine":  {ID: 1, Members: host.Voters(1)},
		"members":  {ID: 1, Machine: &journal{}},
		"unsorted": {ID: 1, Machine: &journal{}, Members: smr.Configuration{Members: []smr.Member{{ID: 2, Role: smr.Voter}, {ID: 1, Role: smr.Voter}}}},
	} {
		if _, err := h.StartGroup(cfg); !errors.Is(err, host.ErrConfig) {
			t.Errorf("group %s: %v", name, err)
		}
	}
	if _, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1), Machine: &journal{}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1), Machine: &journal{}}); !errors.Is(err, host.ErrGroupExists) {
		t.Errorf("second start: %v", err)
	}
}

// A leader with a lease answers reads of its own host without a round, and sees what it
// has acknowledged; followers ask it, as ever.
func TestLeaderLease(t *testing.T) {
	c := newCluster(t, 3, func(cfg *host.Config) { cfg.Raft.LeaderLease = true })
	c.propose(1, "first")
	for n := 1; ; n++ {
		leader := c.leader()
		c.propose(leader, fmt.Sprint(n))
		for id := range c.hosts {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			_, err := c.groups[id].Read(ctx, nil)
			cancel()
			if err != nil {
				t.Fatalf("host %d: %v", id, err)
			}
			if got := len(c.machines[id].all()); got < n+1 {
				t.Fatalf("host %d has applied %d commands of %d when it answers", id, got, n+1)
			}
		}
		st := c.hosts[leader].Stats()
		if st.LeaseReads > st.Reads {
			t.Fatalf("%d reads under a lease of %d", st.LeaseReads, st.Reads)
		}
		if st.LeaseReads > 10 {
			return
		}
		if n > 100_000 {
			t.Fatalf("no lease: %+v", st)
		}
	}
}
