package sim

import (
	"errors"
	"testing"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// digestTracer makes a digest of everything that it is told.
type digestTracer struct{ digest uint64 }

// Trace implements Tracer.
func (d *digestTracer) Trace(e *Event) {
	d.digest = mix64(d.digest ^ uint64(e.At)<<20 ^ uint64(e.Kind)<<8 ^ uint64(e.Replica)<<4 ^ e.Index<<32 ^ e.Term<<48)
}

// scriptTo lets the world happen until cond holds.
func scriptTo(t *testing.T, s *Script, what string, cond func() bool) {
	t.Helper()
	for limit := s.Now().Add(50 * s.ElectionTimeout()); !cond(); {
		if s.Next() > limit || !s.Step() {
			t.Fatalf("%s: did not happen; violation: %v", what, s.Violation())
		}
	}
}

func viewOf(s *Script, id smr.ReplicaID) View {
	var v View
	s.View(id, &v)
	return v
}

// One script in both worlds: elect, write, lose the leader with its power, read.
func TestScriptInBothWorlds(t *testing.T) {
	for _, mode := range []Mode{Core, Full} {
		run := func() uint64 {
			tracer := &digestTracer{}
			s, err := NewScript(ScriptOptions{Mode: mode, Replicas: 3, Tracer: tracer})
			if err != nil {
				t.Fatal(err)
			}
			scriptTo(t, s, "start", func() bool { return viewOf(s, 3).Up })
			if err := s.Stand(1); err != nil {
				t.Fatal(err)
			}
			scriptTo(t, s, "leader 1", func() bool { return viewOf(s, 1).Role == raft.Leader })
			if err := s.Stand(1); !errors.Is(err, ErrScript) {
				t.Errorf("%v: a leader stands: %v", mode, err)
			}
			w := s.Write("ann", 1, 2, 1)
			scriptTo(t, s, "write", func() bool { return w.State == CallDone })
			if l := viewOf(s, 1).Log; len(l) != 2 || l[1] != (LogEntry{Term: 1, Command: w.ID}) {
				t.Errorf("%v: log %v", mode, l)
			}
			s.Crash(1, true)
			if v := viewOf(s, 1); v.Up || len(v.Log) != 2 {
				t.Errorf("%v: a crashed replica shows %+v", mode, v)
			}
			var leader smr.ReplicaID
			scriptTo(t, s, "another leader", func() bool {
				for id := smr.ReplicaID(2); id <= 3; id++ {
					if v := viewOf(s, id); v.Role == raft.Leader && v.Commit == v.Last {
						leader = id
					}
				}
				return leader != 0
			})
			r := s.Read("bob", leader, 2)
			scriptTo(t, s, "read", func() bool { return r.State == CallDone })
			if r.Value != w.ID {
				t.Errorf("%v: reads %d, wrote %d", mode, r.Value, w.ID)
			}
			if v := s.Finish(); v != nil {
				t.Errorf("%v: %v", mode, v)
			}
			return tracer.digest
		}
		if a, b := run(), run(); a != b {
			t.Errorf("%v: the same script gives two histories", mode)
		}
	}
}

// What is stripped arrives without its entry, as from a leader that sends less: the
// follower answers for what is before it. Once the rule is over it gets the rest.
func TestScriptStrips(t *testing.T) {
	for _, mode := range []Mode{Core, Full} {
		c := &stripCounter{}
		s, err := NewScript(ScriptOptions{Mode: mode, Replicas: 3, Tracer: c})
		if err != nil {
			t.Fatal(err)
		}
		scriptTo(t, s, "start", func() bool { return viewOf(s, 3).Up })
		if err := s.Stand(1); err != nil {
			t.Fatal(err)
		}
		scriptTo(t, s, "commit", func() bool { return viewOf(s, 3).Commit == 1 })
		s.Withhold(Rule{Strip: true, Kind: "append", To: 3, Entry: 3})
		w := s.Write("ann", 1, 0, 3)
		scriptTo(t, s, "write", func() bool { return w.State == CallDone })
		for end := s.Now().Add(s.ElectionTimeout()); s.Next() < end && s.Step(); {
		}
		if two, three := viewOf(s, 2), viewOf(s, 3); two.Last != 4 || three.Last != 2 || three.Commit != 2 || c.stripped == 0 {
			t.Errorf("%v: %d appends were stripped: %+v, %+v", mode, c.stripped, two, three)
		}
		s.Release(Rule{Kind: "append", To: 3, Entry: 3})
		scriptTo(t, s, "the rest", func() bool { return viewOf(s, 3).Commit == 4 })
		if v := s.Finish(); v != nil {
			t.Errorf("%v: %v", mode, v)
		}
	}
}

type stripCounter struct{ stripped int }

// Trace implements Tracer.
func (c *stripCounter) Trace(e *Event) {
	if e.Kind == EventStrip && len(e.Message.Entries) > 0 && e.Index == 3 {
		c.stripped++
	}
}

// What is held arrives when it is released; what is dropped never does.
func TestScriptWithholds(t *testing.T) {
	for _, mode := range []Mode{Core, Full} {
		s, err := NewScript(ScriptOptions{Mode: mode, Replicas: 3})
		if err != nil {
			t.Fatal(err)
		}
		scriptTo(t, s, "start", func() bool { return viewOf(s, 3).Up })
		s.Withhold(Rule{Kind: "append", To: 3})
		s.Withhold(Rule{Kind: "append", To: 2, Entry: 2, Drop: true, Times: 1})
		if err := s.Stand(1); err != nil {
			t.Fatal(err)
		}
		scriptTo(t, s, "commit", func() bool { return viewOf(s, 1).Commit == 1 })
		if n := s.Held(Rule{To: 3}); n == 0 || viewOf(s, 3).Last != 0 {
			t.Errorf("%v: %d held, log of 3: %v", mode, n, viewOf(s, 3).Log)
		}
		w := s.Write("ann", 1, 0, 1)
		scriptTo(t, s, "the lost append is sent again", func() bool { return w.State == CallDone })
		s.Release(Rule{})
		scriptTo(t, s, "3 catches up", func() bool { return viewOf(s, 3).Commit == 2 })
		if v := s.Finish(); v != nil {
			t.Errorf("%v: %v", mode, v)
		}
	}
}

// Logs that no run of Raft leads to are refused.
func TestScriptPresets(t *testing.T) {
	for name, logs := range map[string]map[smr.ReplicaID][]uint64{
		"terms go back":      {1: {2, 1}},
		"no log matching":    {1: {1, 1, 3}, 2: {1, 2, 3}},
		"an entry of term 0": {1: {0}},
	} {
		if _, err := NewScript(ScriptOptions{Mode: Core, Replicas: 3, Logs: logs}); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewScript(ScriptOptions{Mode: Full, Replicas: 3, Terms: map[smr.ReplicaID]uint64{1: 3}}); !errors.Is(err, ErrOptions) {
		t.Errorf("terms of hosts: %v", err)
	}
	if _, err := NewScript(ScriptOptions{Replicas: 9}); !errors.Is(err, ErrOptions) {
		t.Errorf("nine replicas: %v", err)
	}
}
