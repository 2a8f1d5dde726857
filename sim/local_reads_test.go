package sim

import "testing"

// A read that a replica answers alone: what is committed, as it once was, and
// forwards on one replica. The last case is allowed: it is merely old.
func TestLocalReadsAreChecked(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(m *registers, was machine)
		want Class
	}{
		{"dirty", func(m *registers, _ machine) { m.regs[0] = 3 }, WrongAnswer},
		{"of another register", func(m *registers, _ machine) { m.regs[1] = 1 }, WrongAnswer},
		{"a state that never was", func(m *registers, was machine) { m.regs = was.regs }, WrongAnswer},
		{"backwards", func(m *registers, was machine) { m.machine = was }, Monotonic},
		{"", func(*registers, machine) {}, ""},
	} {
		s, err := NewScript(ScriptOptions{Mode: Full, Replicas: 3})
		if err != nil {
			t.Fatal(err)
		}
		scriptTo(t, s, "start", func() bool { return viewOf(s, 3).Up })
		if err := s.Stand(1); err != nil {
			t.Fatal(err)
		}
		scriptTo(t, s, "leader 1", func() bool { return viewOf(s, 1).Commit == 1 })
		m := s.driver.(*scriptHosts).hosts[1].at[0].machine.(*registers)
		first := s.Write("ann", 1, 0, 1)
		scriptTo(t, s, "the first write", func() bool { return first.State == CallDone && viewOf(s, 2).Applied == 2 && viewOf(s, 3).Applied == 2 })
		if r := s.ReadLocal("bob", 2, 0); r.State != CallDone || r.Value != first.ID {
			t.Fatalf("%s: %+v", c.name, r)
		}
		was := m.machine
		second := s.Write("ann", 1, 0, 1)
		s.Pause(3, true, false)
		scriptTo(t, s, "the second write", func() bool { return second.State == CallDone && viewOf(s, 2).Applied == 3 })
		s.ReadLocal("bob", 2, 0)
		c.harm(m, was)
		for key := range byte(2) {
			s.ReadLocal("bob", 2, key)
			if r := s.ReadLocal("bob", 3, 0); c.want == "" && r.Value != first.ID {
				t.Errorf("the state machine of 3 stands still, and it reads %+v", r)
			}
		}
		if v := s.Violation(); (v == nil) != (c.want == "") || v != nil && v.Class != c.want {
			t.Errorf("%s: %v, want %s", c.name, v, c.want)
		}
		s.Close()
	}
}
