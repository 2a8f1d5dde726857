package raft

import (
	"sort"

	"github.com/quorate/quorate/smr"
)

// tail holds the newest entries of the log in memory: their heads in blocks,
// their Data in an arena. It copies what is pushed, and uses the memory of what
// is trimmed again.
//
// Invariants:
//
//	(T1) the entries [first, next) are held; block k holds those from
//	     origin + k*blockEntries on, and none is empty
//	(T2) end(i) - end(i-1) == Size of entry i; base is the end before first. So
//	     the bytes of a range, and how much of it fits into a limit, are known
//	     without walking it
//	(T3) the Data of a held entry lies in the arena, or in memory of its own
type tail struct {
	blocks      []*block
	origin      uint64
	first, next uint64
	base        uint64
	arena       arena
	reported    int // the bytes that Memory was told of
}

// blockEntries is how many entries a block holds. A power of two, and one that
// fills size classes of the allocator.
const blockEntries = 256

// block is a run of entries and the ends of their bytes. The first block of a
// tail grows as it fills, since most groups of a host hold few entries.
type block struct {
	entries []smr.Entry
	ends    []uint64
}

const blockEntriesMin = 8

// reset makes the tail empty, about to receive the entry at first.
func (t *tail) reset(first uint64) {
	for _, b := range t.blocks {
		t.arena.memory.putBlock(b)
	}
	clear(t.blocks)
	t.blocks = t.blocks[:0]
	t.origin, t.first, t.next, t.base = first, first, first, 0
}

// empty is reset, and gives all memory back.
func (t *tail) empty(first uint64) {
	t.reset(first)
	t.blocks = nil
	t.arena.forget()
	t.report()
}

func (t *tail) at(i uint64) *smr.Entry {
	d := i - t.origin
	return &t.blocks[d/blockEntries].entries[d%blockEntries]
}

// end returns the bytes of all entries up to i, for i in [first-1, next).
func (t *tail) end(i uint64) uint64 {
	if i < t.first {
		return t.base
	}
	d := i - t.origin
	return t.blocks[d/blockEntries].ends[d%blockEntries]
}

// size returns the bytes of the entries (after, last].
func (t *tail) size(after, last uint64) int {
	after = max(after, t.first-1)
	if last <= after {
		return 0
	}
	return int(t.end(last) - t.end(after))
}

// bytes returns the bytes of all that is held.
func (t *tail) bytes() int { return t.size(t.first-1, t.next-1) }

// report tells Memory what is held.
func (t *tail) report() {
	held := t.bytes()
	t.arena.memory.report(t.reported, held)
	t.reported = held
}

// push appends a copy of e, whose index is next.
func (t *tail) push(e *smr.Entry) {
	end := t.end(t.next-1) + uint64(e.Size())
	d := t.next - t.origin
	if d/blockEntries == uint64(len(t.blocks)) {
		t.blocks = append(t.blocks, t.arena.memory.getBlock(len(t.blocks) > 0))
	}
	b, k := t.blocks[d/blockEntries], int(d%blockEntries)
	if k == len(b.entries) {
		b.grow()
	}
	b.entries[k], b.ends[k] = *e, end
	b.entries[k].Data = t.arena.keep(e.Data, t.next)
	t.next++
}

func (b *block) grow() { b.resize(max(blockEntriesMin, 2*len(b.entries))) }

func (b *block) resize(n int) {
	entries, ends := make([]smr.Entry, n), make([]uint64, n)
	copy(entries, b.entries)
	copy(ends, b.ends)
	b.entries, b.ends = entries, ends
}

// truncate drops the entries after last.
func (t *tail) truncate(last uint64) {
	t.arena.truncate(last)
	if last < t.first {
		t.reset(last + 1)
		return
	}
	for i := last + 1; i < t.next; i++ {
		t.at(i).Data = nil
	}
	t.next = min(t.next, last+1)
	n := int((t.next - t.origin + blockEntries - 1) / blockEntries)
	for k := n; k < len(t.blocks); k++ {
		t.arena.memory.putBlock(t.blocks[k])
		t.blocks[k] = nil
	}
	t.blocks = t.blocks[:n]
}

// trim drops entries from the front while more than bytesMax are held, none
// after last.
func (t *tail) trim(bytesMax int, last uint64) {
	to, end := t.first, t.end(t.next-1)
	for to < t.next && to <= last && int(end-t.end(to-1)) > bytesMax {
		to++
	}
	t.dropHead(to)
}

// drop drops the entries before first, and begins there if it holds none.
func (t *tail) drop(first uint64) {
	if first >= t.next {
		t.reset(max(first, t.next))
		return
	}
	t.dropHead(first)
}

// dropHead drops the entries before first, which is at most next.
func (t *tail) dropHead(first uint64) {
	if first <= t.first {
		return
	}
	t.base = t.end(first - 1)
	for i := t.first; i < first; i++ {
		t.at(i).Data = nil // it may be large and of its own
	}
	t.first = first
	n := int((first - t.origin) / blockEntries)
	for _, b := range t.blocks[:n] {
		t.arena.memory.putBlock(b)
	}
	rest := append(t.blocks[:0], t.blocks[n:]...)
	clear(t.blocks[len(rest):])
	t.blocks = rest
	t.origin += uint64(n) * blockEntries
}

// fit returns the greatest index up to which the entries from first on, not
// beyond last, are at most bytesMax and entriesMax together. It is at least
// first.
func (t *tail) fit(first, last uint64, bytesMax, entriesMax int) uint64 {
	if uint64(entriesMax) < last-first+1 {
		last = first + uint64(entriesMax) - 1
	}
	from := t.end(first - 1)
	if int(t.end(last)-from) <= bytesMax {
		return last
	}
	n := sort.Search(int(last-first), func(k int) bool {
		return int(t.end(first+uint64(k))-from) > bytesMax
	})
	return first + uint64(max(n, 1)) - 1
}

// copyTo appends the entries [first, last] to dst. Their Data stays shared.
func (t *tail) copyTo(dst []smr.Entry, first, last uint64) []smr.Entry {
	for i := first; i <= last; {
		d := i - t.origin
		k := d % blockEntries
		n := min(blockEntries-k, last-i+1)
		dst = append(dst, t.blocks[d/blockEntries].entries[k:k+n]...)
		i += n
	}
	return dst
}
