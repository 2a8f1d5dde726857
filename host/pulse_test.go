package host

import (
	"log/slog"
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/transport"
	"github.com/quorate/quorate/vfs"
	"github.com/quorate/quorate/wire"
)

const (
	testTimeout  = 100 * time.Millisecond
	testInterval = 20 * time.Millisecond
)

// pulseSender counts the pulses and the other items for each peer.
type pulseSender struct{ pulses, others map[uint64]int }

func (p *pulseSender) Send(to uint64, b *transport.Buffer) error {
	defer b.Release()
	var r wire.Reader
	var it wire.Item
	if _, err := r.Reset(b.B); err != nil {
		return err
	}
	for {
		more, err := r.Next(&it)
		if err != nil || !more {
			return err
		}
		if it.Kind == wire.KindPulse {
			p.pulses[to]++
		} else {
			p.others[to]++
		}
	}
}

type idleMachine struct{ applied uint64 }

func (m *idleMachine) Open() (uint64, error)           { return 0, nil }
func (m *idleMachine) Close() error                    { return nil }
func (m *idleMachine) Lookup(b []byte) ([]byte, error) { return b, nil }
func (m *idleMachine) Digest() (a uint64, d [16]byte)  { return m.applied, d }
func (m *idleMachine) Apply(batch []smr.Committed) error {
	m.applied = batch[len(batch)-1].Index
	return nil
}

func pulseShard(t *testing.T, groups int) (*Shard, *pulseSender) {
	t.Helper()
	p := &pulseSender{map[uint64]int{}, map[uint64]int{}}
	rt, err := NewRuntime(Config{
		ID: 1, Cluster: 7, Dir: "d", FS: vfs.NewMem(), ElectionTimeout: testTimeout, HeartbeatInterval: testInterval,
		Logger: slog.New(slog.DiscardHandler),
	}, Env{Sender: p, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	for i := range groups {
		if _, err := rt.StartGroup(GroupConfig{ID: smr.GroupID(i + 1), Members: Voters(1, 2, 3), Machine: &idleMachine{}}, 0); err != nil {
			t.Fatal(err)
		}
	}
	return rt.shards[0], p
}

func pulseFrame(life uint64) []byte {
	return wire.AppendPulse(wire.AppendHeader(nil, 0), &wire.Pulse{Life: life})
}

// Invariant 2 of pulses: one for each peer in each interval, however many groups
// there are; and a turn's work is bounded, however many have some.
func TestPulsesAndBoundedTurns(t *testing.T) {
	s, p := pulseShard(t, 3000)
	now := smr.Instant(1)
	for range 3 {
		if next := s.Turn(now); next > now && s.HasWork() {
			t.Fatalf("with work left the shard wants its next turn at %v", next)
		}
	}
	if s.HasWork() {
		t.Error("3000 groups took more than 3 turns of 1024")
	}
	if p.pulses[2] != 1 || p.pulses[3] != 1 {
		t.Errorf("pulses at the start: %v", p.pulses)
	}
	for i := range 4 {
		now = now.Add(testInterval)
		s.Turn(now)
		if p.pulses[2] != i+2 {
			t.Errorf("%d pulses after %d intervals", p.pulses[2], i+1)
		}
	}
}

// A peer is silent after an election timeout in which nothing came, or once its
// life is another one.
func TestSilence(t *testing.T) {
	s, _ := pulseShard(t, 1)
	lost := func() uint64 { return s.metrics.pulsesLost.Load() }
	hear := func(id smr.ReplicaID, life uint64) {
		if err := s.inbox.frame(id, pulseFrame(life)); err != nil {
			t.Fatal(err)
		}
	}
	now := smr.Instant(1)
	for range 20 {
		hear(2, 5)
		hear(3, 6)
		s.Turn(now)
		now = now.Add(testInterval)
	}
	if lost() != 0 {
		t.Fatal("a peer that pulses is lost")
	}
	for range 6 {
		hear(2, 5)
		s.Turn(now)
		now = now.Add(testInterval)
	}
	if q := s.pulses.find(3); lost() != 1 || !q.silent || s.pulses.find(2).silent {
		t.Fatalf("replica 3 says nothing: %d lost, %+v", lost(), s.pulses.peers)
	}
	hear(2, 5)
	hear(3, 6)
	s.Turn(now)
	if s.metrics.pulsesBack.Load() != 1 || s.pulses.find(3).silent {
		t.Error("replica 3 is heard again")
	}
	hear(2, 55)
	s.Turn(now)
	if lost() != 2 || s.pulses.find(2).silent {
		t.Error("another life of replica 2 is a silence that is over")
	}
}

// A shard that has failed vouches for nobody.
func TestFailedShardSendsNoPulse(t *testing.T) {
	s, p := pulseShard(t, 1)
	s.fail(ErrLogFailed)
	for i := range 10 {
		s.Turn(smr.Instant(1).Add(time.Duration(i) * testInterval))
	}
	if p.pulses[2] != 0 {
		t.Errorf("%d pulses", p.pulses[2])
	}
}

// "While the shard goes through its work once, it moves on by a heartbeat interval
// at most": groupClock.
func TestGroupClock(t *testing.T) {
	c := groupClock{limit: smr.Never}
	if c.read(1000) != 1000 {
		t.Fatal("an idle clock is the host's")
	}
	c.endTurn(0, 2500, false, smr.Never, 30) // 2500 groups have work
	for i, x := range []struct{ real, want smr.Instant }{{1020, 1020}, {1100, 1030}, {1900, 1030}} {
		if now := c.read(x.real); now != x.want {
			t.Errorf("at %d it shows %d, want %d", x.real, now, x.want)
		}
		if i < 2 {
			c.endTurn(1000, 1500, false, smr.Never, 30)
		}
	}
	c.endTurn(500, 0, false, 1500, 30) // nothing is left, until 1500
	if got := c.host(1500); got != 1500+870 {
		t.Errorf("1500 is at %d of the host", got)
	}
	if now := c.read(1900 + 470); now != 1500 {
		t.Errorf("it shows %d", now)
	}
	// A host that was paused: no time has passed beyond what was awaited.
	if now := c.read(1 << 40); now != 1530 {
		t.Errorf("after a pause it shows %d", now)
	}
	if now := c.read(1 << 39); now != 1530 {
		t.Errorf("it went back to %d", now)
	}
}
