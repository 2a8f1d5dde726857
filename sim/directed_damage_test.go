package sim

import (
	"errors"
	"strings"
	"testing"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// Directed scenarios about disks that change or lose what was synced.

// smallTail lets the hosts keep next to nothing in memory, so that they read their
// logs back.
func smallTail(d *directed) {
	w := d.driver.(*scriptHosts).fullWorld
	w.features.valueBytes = 60 // so that a command is told from all else in the log
	w.features.tailBytes, w.features.committedBytes, w.features.backlogBytes = 1, 1, 1
	for i := range w.hosts {
		d.Crash(smr.ReplicaID(i+1), false)
		d.Restart(smr.ReplicaID(i + 1))
	}
}

// flipIn flips a bit of that command in a host's log.
func flipIn(d *directed, id smr.ReplicaID, command *Call) {
	d.t.Helper()
	for i, e := range d.view(id).Log {
		if e.Command != command.ID {
			continue
		}
		if err := d.Damage(id, uint64(i+1)); err != nil {
			d.t.Fatal(err)
		}
		return
	}
	d.t.Fatalf("the log of host %d does not hold command %d", id, command.ID)
}

// A script may damage what was synced, as a batch behind it proves, and no more.
func TestDamageNeedsAProof(t *testing.T) {
	d := direct(t, ScriptOptions{Mode: Full})
	d.lead(1)
	d.done("a write", d.Write("ann", 1, 0, 1))
	if err := d.Damage(1, 2); !errors.Is(err, ErrScript) {
		t.Errorf("the newest batch, which may not be synced: %v", err)
	}
	if err := d.Damage(1, 9); !errors.Is(err, ErrScript) {
		t.Errorf("an entry that is not there: %v", err)
	}
	d.done("another", d.Write("ann", 1, 0, 1))
	d.pass(0.5)
	d.Crash(1, true)
	if err := d.Damage(1, 2); err != nil {
		t.Error(err)
	}
	d.finish()
}

// An entry that the leader cannot read back any more, and a follower wants: others
// have it, so one of them leads on, and the follower gets it. An operator is told.
func TestLeaderCannotReadWhatAFollowerWants(t *testing.T) {
	d := direct(t, ScriptOptions{Mode: Full})
	smallTail(d)
	d.lead(1)
	d.Crash(3, true)
	early := d.done("an early write", d.Write("ann", 1, 0, 1))
	for range 20 {
		d.done("writes without it", d.Write("ann", 1, 0, 1))
	}
	flipIn(d, 1, early)
	d.Restart(3)
	d.to("another leader", func() bool { return d.view(2).Role == raft.Leader || d.view(3).Role == raft.Leader })
	d.to("the follower has caught up", func() bool { return d.view(3).Applied == d.view(2).Applied && d.view(3).Applied > 20 })
	w := d.driver.(*scriptHosts).fullWorld
	if n := d.host(1).rt.Stats().DamagedReads; n == 0 || w.marks[MarkDamageRead] == 0 {
		t.Errorf("%d damaged reads are counted, %d told", n, w.marks[MarkDamageRead])
	}
	d.finish()
}

// An entry that a replica cannot read back any more, and its state machine needs:
// the replica stops, says why, and the others go on without it.
func TestStateMachineNeedsADamagedEntry(t *testing.T) {
	said := &sayings{}
	d := direct(t, ScriptOptions{Mode: Full, Tracer: said})
	smallTail(d)
	d.lead(1)
	d.Pause(2, true, false)
	var first *Call
	for range 40 {
		c := d.done("writes", d.Write("ann", 1, 0, 1))
		if first == nil {
			first = c
		}
	}
	d.pass(1)
	flipIn(d, 2, first)
	d.Resume(2, true, false)
	d.to("it stops", func() bool { return said.has("this replica of the group has stopped") })
	if !said.has("the log is damaged") || !said.has("cannot be read: checksum") {
		t.Errorf("it says %q", said.all)
	}
	d.done("the others go on", d.Write("bob", 1, 0, 1))
	d.finish()
}

// "A bit flip in a committed entry on one replica, and the same on all (halt)": the
// replica does not start from such a disk and says why; the others go on. If it is
// all of them, nobody answers, which is the only answer that is not wrong.
func TestBitFlipInACommittedEntry(t *testing.T) {
	for _, all := range []bool{false, true} {
		d := direct(t, ScriptOptions{Mode: Full})
		d.driver.(*scriptHosts).features.valueBytes = 60
		d.lead(1)
		kept := d.done("a write that is damaged later", d.Write("ann", 1, 0, 1))
		d.done("one that proves that it was synced", d.Write("ann", 1, 1, 1))
		d.pass(0.5)
		for i := range d.Replicas() {
			if id := smr.ReplicaID(i + 1); all || id == 1 {
				d.Crash(id, true)
				flipIn(d, id, kept)
			}
		}
		for i := range d.Replicas() {
			d.Restart(smr.ReplicaID(i + 1))
		}
		d.pass(20)
		w := d.driver.(*scriptHosts).fullWorld
		want := map[bool]uint64{false: 1, true: 3}[all]
		if d.view(1).Up || w.marks[MarkDamageRefused] != want {
			t.Errorf("all %v: %d refuse to start, host 1 runs: %v", all, w.marks[MarkDamageRefused], d.view(1).Up)
		}
		if all {
			for i := range d.Replicas() {
				if d.view(smr.ReplicaID(i + 1)).Up {
					t.Errorf("host %d runs", i+1)
				}
			}
		} else {
			leader := d.leader(1)
			if r := d.done("the others answer", d.Read("carl", leader, 0)); r.Value != kept.ID {
				t.Errorf("reads %d, acknowledged was %d", r.Value, kept.ID)
			}
		}
		d.finish()
	}
}

// "A misdirected write": a batch that went elsewhere, and one that went nowhere,
// with another one after it. The disk has acknowledged both, so the replica has
// too; it does not come back from such a disk.
func TestStrayAndLostWrites(t *testing.T) {
	for name, set := range map[string]func(*damageFeatures){
		"stray": func(f *damageFeatures) { f.strayPermille = 1000 },
		"lost":  func(f *damageFeatures) { f.lostPermille = 1000 },
	} {
		t.Run(name, func(t *testing.T) {
			d := direct(t, ScriptOptions{Mode: Full})
			w := d.driver.(*scriptHosts).fullWorld
			d.lead(1)
			d.done("before", d.Write("ann", 1, 0, 1))
			d.host(2).may = true
			set(&w.full.damage)
			kept := d.Write("ann", 1, 0, 1)
			d.to("the batch of host 2", func() bool { return d.host(2).afflicted() })
			w.full.damage = damageFeatures{}
			d.done("it is acknowledged", kept)
			d.done("another batch", d.Write("ann", 1, 1, 1))
			d.pass(0.5)
			d.Crash(2, true)
			if d.host(2).gone {
				t.Fatal("the batch after it proves that it was synced")
			}
			d.Restart(2)
			if d.view(2).Up || w.marks[MarkDamageRefused] != 1 {
				t.Error("it starts from a log that lacks what it has acknowledged")
			}
			d.Crash(1, true)
			d.Restart(1)
			leader := d.leader(2)
			if r := d.done("the others go on", d.Read("carl", leader, 0)); r.Value != kept.ID {
				t.Errorf("reads %d, acknowledged was %d", r.Value, kept.ID)
			}
			d.finish()
		})
	}
}

// sayings are what hosts have logged.
type sayings struct{ all []string }

func (s *sayings) Trace(e *Event) {
	if e.Kind == EventLog {
		s.all = append(s.all, e.Text)
	}
}

func (s *sayings) has(text string) bool {
	for _, l := range s.all {
		if strings.Contains(l, text) {
			return true
		}
	}
	return false
}
