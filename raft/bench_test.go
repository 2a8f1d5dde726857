package raft

import (
	"testing"

	"github.com/quorate/quorate/smr"
)

func small(c *Config, _ *Start) { c.TailBytesMax = 1 << 20 }

// proposeBatch returns a function that takes n commands through a group of
// three: Propose, Take, Step, Persisted and Applied at all replicas.
func proposeBatch(tb testing.TB, n int) func() {
	l := newLockstep(tb, 3, small)
	r := l.elect(1)
	entries := make([]smr.Entry, n)
	data := make([]byte, 128)
	return func() {
		for i := range entries {
			entries[i] = smr.Entry{Kind: smr.KindCommand, Data: data}
		}
		if err := r.Propose(l.now, entries); err != nil {
			tb.Fatal(err)
		}
		for l.turn() {
		}
	}
}

// The hot path allocates nothing in steady state.
func TestAllocations(t *testing.T) {
	for _, n := range []int{1, 64} {
		batch := proposeBatch(t, n)
		for range 2000 {
			batch()
		}
		if a := testing.AllocsPerRun(500, batch); a > 0 {
			t.Errorf("batches of %d commands: %v allocations each", n, a)
		}
	}
	l := newLockstep(t, 3, small)
	r := l.elect(1)
	read := func() {
		l.reads = l.reads[:0]
		if err := r.ReadIndex(l.now, 1); err != nil {
			t.Fatal(err)
		}
		for l.turn() {
		}
		if len(l.reads) != 1 {
			t.Fatal("the read was not answered")
		}
	}
	read()
	if a := testing.AllocsPerRun(500, read); a > 0 {
		t.Errorf("a read: %v allocations", a)
	}
}

func benchPropose(b *testing.B, n int) {
	batch := proposeBatch(b, n)
	for range 200 {
		batch()
	}
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		batch()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/command")
}

func BenchmarkPropose1(b *testing.B)    { benchPropose(b, 1) }
func BenchmarkPropose64(b *testing.B)   { benchPropose(b, 64) }
func BenchmarkPropose1024(b *testing.B) { benchPropose(b, 1024) }

func BenchmarkReadIndex(b *testing.B) {
	l := newLockstep(b, 3, small)
	r := l.elect(1)
	b.ReportAllocs()
	for b.Loop() {
		l.reads = l.reads[:0]
		_ = r.ReadIndex(l.now, 1)
		for l.turn() {
		}
	}
}

func BenchmarkHeartbeat(b *testing.B) {
	l := newLockstep(b, 3, small)
	r := l.elect(1)
	b.ReportAllocs()
	for b.Loop() {
		l.now = r.Deadline()
		r.Tick(l.now)
		for l.turn() {
		}
	}
}
