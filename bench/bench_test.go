package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// A quantile is right to 1/16, whatever the size of the durations.
func TestHistogram(t *testing.T) {
	for _, unit := range []time.Duration{1, time.Microsecond, time.Millisecond, time.Second} {
		var h histogram
		for i := range 1000 {
			h.add(time.Duration(i+1) * unit)
		}
		for _, q := range []float64{0.01, 0.5, 0.99, 1} {
			want := float64(1000*unit) * q
			if got := float64(h.quantile(q)); got < want*15/16-1 || got > want*17/16+1 {
				t.Errorf("unit %v: quantile %v is %v, want about %v", unit, q, time.Duration(got), time.Duration(want))
			}
		}
	}
	for ns := uint64(1); ns < 1<<62; ns += ns/3 + 1 {
		b := bucket(ns)
		if lo, hi := lowest(b), lowest(b+1); time.Duration(ns) < lo || time.Duration(ns) >= hi {
			t.Fatalf("%d ns is in bucket %d of [%d, %d)", ns, b, lo, hi)
		}
	}
}

func TestMedians(t *testing.T) {
	m := medians([]measured{{OpsPerS: 3, P50Ms: 1}, {OpsPerS: 1, P50Ms: 2}, {OpsPerS: 2, P50Ms: 9}})
	if m.OpsPerS != 2 || m.P50Ms != 2 {
		t.Errorf("%+v", m)
	}
	if m := medians([]measured{{OpsPerS: 1}, {OpsPerS: 2}}); m.OpsPerS != 1.5 {
		t.Errorf("%+v", m)
	}
}

// fakeSystem fails every second operation, or all of them.
type fakeSystem struct {
	calls  atomic.Uint64
	broken bool
}

func (s *fakeSystem) Propose(context.Context, int, []byte) error {
	if n := s.calls.Add(1); s.broken || n%2 == 0 {
		return errors.New("refused")
	}
	return nil
}
func (s *fakeSystem) Close() error { return nil }

// What was refused is not counted as done, and a system that refuses everything
// fails its window.
func TestMeasure(t *testing.T) {
	o := &order{Window: 50 * time.Millisecond, Work: write(16, 4, 1)}
	s := &fakeSystem{}
	m, err := measure(o, s)
	if err != nil || m.Failed == 0 || m.OpsPerS <= 0 {
		t.Errorf("%+v, %v", m, err)
	}
	if done := m.OpsPerS * 0.05; done > float64(s.calls.Load())*0.75 {
		t.Errorf("%v operations done of %d", done, s.calls.Load())
	}
	if _, err := measure(&order{Window: time.Millisecond, Work: o.Work}, &fakeSystem{broken: true}); err == nil {
		t.Error("a broken system was measured")
	}
}

func TestSelectSystems(t *testing.T) {
	for peers, want := range map[string]int{"all": len(systems), "limits": 4, "quorate,etcdraft": 2, "quorate,limits": 5} {
		if got, err := selectSystems(peers); err != nil || len(got) != want {
			t.Errorf("%s: %v, %v", peers, got, err)
		}
	}
	if _, err := selectSystems("quorate,nobody"); err == nil {
		t.Error("nobody was found")
	}
}
