package host_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/transport"
	"github.com/quorate/quorate/vfs"
)

// treadmill is three runtimes in lockstep whose network and disks take no time,
// for counting what their turns allocate.
type treadmill struct {
	t       testing.TB
	now     smr.Instant
	hosts   [4]*host.Runtime
	groups  [4]*host.Group
	sent    []treadmillFrame
	taken   []treadmillFrame
	mallocs uint64 // by the shards' and the workers' turns
	before  runtime.MemStats
}

type treadmillFrame struct {
	from, to smr.ReplicaID
	b        *transport.Buffer
}

type treadmillSender struct {
	m  *treadmill
	id smr.ReplicaID
}

func (s treadmillSender) Send(to uint64, b *transport.Buffer) error {
	s.m.sent = append(s.m.sent, treadmillFrame{s.id, smr.ReplicaID(to), b})
	return nil
}

func newTreadmill(t testing.TB) *treadmill {
	m := &treadmill{t: t, now: 1}
	for id := smr.ReplicaID(1); id <= 3; id++ {
		rt, err := host.NewRuntime(host.Config{
			ID: id, Cluster: 7, Incarnation: uint64(id), Dir: "d", FS: vfs.NewMem(), Logger: quiet,
			Raft: raft.Config{TailBytesMax: 256 << 10},
		}, host.Env{Sender: treadmillSender{m, id}, Seed: uint64(id)})
		if err != nil {
			t.Fatal(err)
		}
		m.hosts[id] = rt
		if m.groups[id], err = rt.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1, 2, 3), Machine: &counter{}}, m.now); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { rt.Close() })
	}
	for m.leader() == nil {
		m.turn(10 * time.Millisecond)
	}
	return m
}

func (m *treadmill) leader() *host.Group {
	for _, g := range m.groups[1:] {
		if g.Status().Role == raft.Leader {
			return g
		}
	}
	return nil
}

// turn lets every part of every host take one, and delivers what they send.
func (m *treadmill) turn(d time.Duration) {
	m.now = m.now.Add(d)
	m.sent, m.taken = m.taken[:0], m.sent
	sent := m.taken
	for _, f := range sent {
		if err := m.hosts[f.to].Deliver(f.from, transport.Frame{B: f.b.B}); err != nil {
			m.t.Fatal(err)
		}
	}
	m.counted(func() {
		for _, rt := range m.hosts[1:] {
			rt.Shards()[0].Turn(m.now)
		}
	})
	for _, f := range sent {
		f.b.Release() // the turns have read them
	}
	for _, rt := range m.hosts[1:] {
		rt.Shards()[0].Syncer().Turn()
	}
	m.counted(func() {
		for _, rt := range m.hosts[1:] {
			rt.Workers()[0].Turn()
		}
	})
}

// counted adds what f allocates.
func (m *treadmill) counted(f func()) {
	var after runtime.MemStats
	runtime.ReadMemStats(&m.before)
	f()
	runtime.ReadMemStats(&after)
	m.mallocs += after.Mallocs - m.before.Mallocs
}

// propose takes n commands through the group.
func (m *treadmill) propose(n int, command []byte, done func(smr.Result, error)) {
	g := m.leader()
	for range n {
		if err := g.Submit(command, smr.Never, done); err != nil {
			m.t.Fatal(err)
		}
	}
}

// performance.md: "bytes allocated per command ≤ 64, none on the shard's loop".
func TestTurnsAllocateNothing(t *testing.T) {
	const rounds, batch = 200, 64
	m := newTreadmill(t)
	answered, wanted := 0, 0
	done := func(_ smr.Result, err error) {
		if err != nil {
			t.Error(err)
		}
		answered++
	}
	command := make([]byte, 128)
	round := func() {
		m.propose(batch, command, done)
		for wanted += batch; answered < wanted; {
			m.turn(100 * time.Microsecond)
		}
	}
	for range 4 * rounds {
		round()
	}
	var all uint64
	allocating := 0
	for range rounds {
		m.mallocs = 0
		round()
		if all += m.mallocs; m.mallocs > 0 {
			allocating++
		}
	}
	// What is not for a command: a slice that grows once more, a heartbeat; and the
	// counter is the whole process's, in which other tests' last goroutines may end.
	if allocating > rounds/10 {
		t.Errorf("%d allocations in the turns of %d of %d rounds of %d commands on three replicas", all, allocating, rounds, batch)
	}
	t.Logf("%d allocations in the turns of %d of %d rounds of %d commands on three replicas", all, allocating, rounds, batch)
}
