package sim

import (
	"testing"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// What happens to a group at rest, in both worlds. failoverBound is in election
// timeouts: one until a host is found silent, one or two for an election.
const failoverBound = 4

// atRest is a group of three that rests, led by replica 1.
func atRest(t *testing.T, mode Mode) *directed {
	t.Helper()
	d := direct(t, ScriptOptions{Mode: mode, Rest: true})
	d.lead(1)
	d.done("a write", d.Write("ann", 1, 1, 1))
	d.rests(1, 2, 3)
	d.pass(5)
	if v := d.view(1); v.Role != raft.Leader || !v.Resting {
		t.Fatalf("%v: %+v", mode, v)
	}
	return d
}

func (d *directed) rests(ids ...smr.ReplicaID) {
	d.t.Helper()
	d.to("rest", func() bool {
		for _, id := range ids {
			if !d.view(id).Resting {
				return false
			}
		}
		return true
	})
}

// successor waits for another leader than replica 1, for as long as may be.
func (d *directed) successor() smr.ReplicaID {
	d.t.Helper()
	began := d.Now()
	id := d.leader(1)
	if took := float64(d.Now().Sub(began)) / float64(d.ElectionTimeout()); took > failoverBound {
		d.t.Errorf("the new leader took %.1f election timeouts", took)
	}
	return id
}

func inBoth(t *testing.T, f func(t *testing.T, d *directed)) {
	for _, mode := range []Mode{Core, Full} {
		t.Run(mode.String(), func(t *testing.T) {
			d := atRest(t, mode)
			f(t, d)
			d.finish()
		})
	}
}

// Nobody asks for anything, and nobody notices a broken connection.
func TestLeadersHostDiesAtRest(t *testing.T) {
	inBoth(t, func(t *testing.T, d *directed) {
		d.Crash(1, true)
		id := d.successor()
		d.rests(id, 5-id) // and the dead host keeps nobody awake
		d.done("a write", d.Write("ann", id, 1, 1))
	})
}

// Too quick for a silence: the pulse of another life gives it away.
func TestLeadersHostRestartsAtRest(t *testing.T) {
	inBoth(t, func(t *testing.T, d *directed) {
		d.Crash(1, true)
		d.Restart(1)
		began := d.Now()
		d.to("a leader of a newer term", func() bool {
			for id := smr.ReplicaID(1); id <= 3; id++ {
				if v := d.view(id); v.Role == raft.Leader && v.Term > 1 && v.Commit == v.Last {
					return true
				}
			}
			return false
		})
		if took := float64(d.Now().Sub(began)) / float64(d.ElectionTimeout()); took > 2 {
			t.Errorf("%.1f election timeouts: no sooner than by a timeout", took)
		}
		d.rests(1, 2, 3)
	})
}

// Thesis §6.2: "a leader … steps down if an election timeout elapses without a
// successful round of heartbeats to a majority"; at rest after one more, in which
// its host finds the others silent.
func TestLeaderIsCutOffAtRest(t *testing.T) {
	inBoth(t, func(t *testing.T, d *directed) {
		d.isolate(1, true)
		id := d.successor()
		d.pass(3)
		if v := d.view(1); v.Role == raft.Leader {
			t.Errorf("the old leader, cut off: %+v", v)
		}
		d.done("a write", d.Write("ann", id, 1, 1))
		d.rests(id, 5-id)
		d.isolate(1, false)
		d.rests(1, 2, 3) // it was caught up with
		if v := d.view(1); v.Leader == 0 || v.Log == nil || v.Last != d.view(id).Last {
			t.Errorf("healed: %+v", v)
		}
	})
}

// Nobody is deposed by a follower that begins anew, or was cut off.
func TestFollowerRestartsAtRest(t *testing.T) {
	for name, disturb := range map[string]func(d *directed){
		"restart": func(d *directed) {
			d.Crash(3, true)
			d.Restart(3)
		},
		"later": func(d *directed) {
			d.Crash(3, true)
			d.pass(5)
			if !d.view(1).Resting || !d.view(2).Resting {
				d.t.Error("a dead follower's host keeps the group awake")
			}
			d.done("a write", d.Write("ann", 1, 1, 1))
			d.rests(1, 2)
			d.Restart(3)
		},
		"cut off": func(d *directed) {
			d.isolate(3, true)
			d.pass(8)
			d.isolate(3, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(t *testing.T, d *directed) {
				disturb(d)
				d.to("it has everything and rests", func() bool {
					v, l := d.view(3), d.view(1)
					return v.Resting && l.Resting && v.Last == l.Last && v.Applied == l.Last
				})
				for id := smr.ReplicaID(1); id <= 3; id++ {
					if v := d.view(id); v.Term != 1 || v.Leader != 1 {
						t.Errorf("%+v", v)
					}
				}
			})
		})
	}
}

// A request at a follower that rests wakes it, and its leader, at once.
func TestFollowerIsAskedAtRest(t *testing.T) {
	inBoth(t, func(t *testing.T, d *directed) {
		if d.options.Mode == Core {
			t.Skip("forwarding is the hosts'")
		}
		began := d.Now()
		d.done("a write", d.Write("ann", 2, 1, 1))
		d.done("a read", d.Read("bob", 3, 1))
		if took := d.Now().Sub(began); took > d.ElectionTimeout() {
			t.Errorf("a write and a read of a group at rest took %v", took)
		}
		d.rests(1, 2, 3)
	})
}

// Without pulses nobody finds out that the leader of a group at rest has died:
// what the rests rest on.
func TestNobodyVouches(t *testing.T) {
	for _, mode := range []Mode{Core, Full} {
		d := direct(t, ScriptOptions{Mode: mode, Rest: true, Without: []string{"pulse"}})
		d.lead(1)
		d.rests(1, 2, 3)
		d.Crash(1, true)
		d.pass(40)
		if a, b := d.view(2), d.view(3); a.Role == raft.Leader || b.Role == raft.Leader {
			t.Errorf("%v: somebody found out: %+v %+v", mode, a, b)
		}
	}
}
