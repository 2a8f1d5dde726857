package raft

import (
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate/smr"
)

// "Beyond it a core that is busy keeps no more than its share."
func TestMemoryIsShared(t *testing.T) {
	const cores, entries, size = 8, 4000, 1000
	m := &Memory{TailBytesMax: 1 << 20}
	for range cores {
		l := newLockstep(t, 1, func(c *Config, _ *Start) { c.Memory = m })
		r := l.elect(1)
		for range entries {
			l.propose(r, 1, size)
			l.settle()
		}
		share := m.TailBytesMax / m.cores
		if held := r.log.bytes(); held > max(share, tailShareMin) {
			t.Fatalf("the last of %d cores holds %d bytes, its share is %d", m.cores, held, share)
		}
		if m.held > 3*m.TailBytesMax { // the idle ones keep what was their share: 1/1 + 1/2 + ... + 1/8
			t.Fatalf("%d cores hold %d bytes", m.cores, m.held)
		}
	}
	if m.cores != cores {
		t.Errorf("%d cores are counted", m.cores)
	}
	if n := len(m.chunks); n > chunksIdleMax {
		t.Errorf("%d chunks wait to be used again", n)
	}
}

// Entries of every size come back as they were pushed, whatever is dropped at
// either end.
func TestTailAgainstASlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	var tl tail
	tl.arena.memory = new(Memory)
	tl.reset(1)
	first, model := uint64(1), []smr.Entry(nil)
	for range 20000 {
		next := first + uint64(len(model))
		switch k := rng.IntN(100); {
		case k < 94:
			n := rng.IntN(300)
			if k == 0 {
				n = []int{chunkDataMax, largeDataMax, 5 * chunkDataMax}[rng.IntN(3)] + rng.IntN(2)
			}
			e := smr.Entry{Index: next, Data: make([]byte, n)}
			for i := range e.Data {
				e.Data[i] = byte(next) + byte(i)
			}
			tl.push(&e)
			model = append(model, e)
		case k < 96:
			to := first + uint64(rng.IntN(len(model)/24+1))
			tl.drop(to)
			model, first = model[to-first:], to
		case k < 98:
			last := next - 1 - uint64(rng.IntN(len(model)/24+1))
			tl.truncate(last)
			model = model[:last+1-first]
		default:
			tl.arena.release(tl.first, rng.Uint64N(next))
		}
		if len(model) == 0 {
			first = tl.first
		}
		if tl.first != first || tl.next != first+uint64(len(model)) || tl.bytes() != sizeOf(model) {
			t.Fatalf("[%d, %d) of %d bytes, want [%d, %d) of %d", tl.first, tl.next, tl.bytes(), first, first+uint64(len(model)), sizeOf(model))
		}
	}
	if len(model) < blockEntries {
		t.Fatalf("%d entries are left: too few to show anything", len(model))
	}
	for i, e := range tl.copyTo(nil, tl.first, tl.next-1) {
		if e.Index != model[i].Index || string(e.Data) != string(model[i].Data) {
			t.Fatalf("entry %d has changed", e.Index)
		}
	}
}

// What is dropped at the front is used again, whatever the size of the commands.
func TestDataUsesMemoryAgain(t *testing.T) {
	for _, size := range []int{100, chunkDataMax, chunkDataMax + 1, chunkBytes, largeDataMax} {
		var tl tail
		tl.arena.memory = new(Memory)
		tl.reset(1)
		data := make([]byte, size)
		push := func() {
			e := smr.Entry{Index: tl.next, Data: data}
			tl.push(&e)
			tl.trim(4<<20, tl.next)
			tl.arena.release(tl.first, tl.next)
		}
		for warm := 0; warm < 32<<20; warm += size + smr.EntryOverhead {
			push()
		}
		if n := testing.AllocsPerRun(1000, push); n > 0 {
			t.Errorf("%v allocations for a command of %d bytes", n, size)
		}
		if n, m := len(tl.arena.memory.chunks), len(tl.arena.memory.largeChunks); n > chunksIdleMax || m > largeChunksIdleMax {
			t.Errorf("%d and %d chunks wait to be used again", n, m)
		}
	}
}
