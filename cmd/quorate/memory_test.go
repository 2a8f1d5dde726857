package main

import (
	"slices"
	"testing"
)

// The heap's goal is live × (1 + percent/100): at least garbageMin of garbage,
// and never more above the default than that.
func TestGCPercent(t *testing.T) {
	for _, live := range []uint64{0, 1, 1 << 20, 3 << 20, 17 << 20, garbageMin - 1, garbageMin, garbageMin + 1, 1 << 40} {
		p := gcPercent(live)
		garbage := live * uint64(p) / 100
		if p < gcPercentDefault || p > gcPercentMax {
			t.Errorf("live %d: %d %%", live, p)
		}
		if garbage > live+garbageMin {
			t.Errorf("live %d: %d bytes of garbage, more than garbageMin above the default", live, garbage)
		}
		if live >= garbageMin && p != gcPercentDefault {
			t.Errorf("live %d: %d %%, not the default", live, p)
		}
		if live >= 4<<20 && garbage < garbageMin*9/10 {
			t.Errorf("live %d: %d bytes of garbage", live, garbage)
		}
	}
}

// The percentage follows the heap, and is left alone for small changes.
func TestCollectorStep(t *testing.T) {
	var live uint64
	var got []int
	c := collector{live: func() uint64 { return live }, set: func(p int) { got = append(got, p) }}
	for _, live = range []uint64{16 << 20, 16 << 20, 17 << 20, 32 << 20, 1 << 30, 2 << 30, 16 << 20} {
		c.step()
	}
	if want := []int{400, 200, 100, 400}; !slices.Equal(got, want) {
		t.Fatalf("set to %v, want %v", got, want)
	}
}

// A process that has not collected yet still gets a percentage.
func TestLiveHeap(t *testing.T) {
	if p := gcPercent(liveHeap()); p < gcPercentDefault || p > gcPercentMax {
		t.Fatalf("%d %%", p)
	}
}
