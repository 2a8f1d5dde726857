package raft

import (
	"sort"

	"github.com/quorate/quorate/smr"
)

// tail holds the newest entries of the log in memory, in a ring whose length is
// a power of two: the entry at index i lives in slot i mod len.
//
// Invariants:
//
//	(T1) the entries [first, next) are held, next-first <= len(ring)
//	(T2) ends[slot(i)] - ends[slot(i-1)] == Size of entry i; base is the end
//	     before first. So the bytes of a range, and how much of it fits into a
//	     limit, are known without walking it.
type tail struct {
	ring        []smr.Entry
	ends        []uint64
	first, next uint64
	base        uint64
}

const tailSlotsMin = 8

func (t *tail) slot(i uint64) uint64 { return i & uint64(len(t.ring)-1) }

// reset makes the tail empty, about to receive the entry at first.
func (t *tail) reset(first uint64) {
	if t.next > t.first {
		clear(t.ring)
	}
	t.first, t.next, t.base = first, first, 0
}

func (t *tail) at(i uint64) *smr.Entry { return &t.ring[t.slot(i)] }

// end returns the bytes of all entries up to i, for i in [first-1, next).
func (t *tail) end(i uint64) uint64 {
	if i < t.first {
		return t.base
	}
	return t.ends[t.slot(i)]
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

// push appends e, whose index is next.
func (t *tail) push(e *smr.Entry) {
	if t.next-t.first == uint64(len(t.ring)) {
		t.grow()
	}
	end := t.end(t.next-1) + uint64(e.Size())
	s := t.slot(t.next)
	t.ring[s], t.ends[s] = *e, end
	t.next++
}

func (t *tail) grow() {
	n := max(tailSlotsMin, 2*len(t.ring))
	ring, ends := make([]smr.Entry, n), make([]uint64, n)
	for i := t.first; i < t.next; i++ {
		s := i & uint64(n-1)
		ring[s], ends[s] = t.ring[t.slot(i)], t.ends[t.slot(i)]
	}
	t.ring, t.ends = ring, ends
}

// truncate drops the entries after last.
func (t *tail) truncate(last uint64) {
	if last+1 < t.first {
		t.reset(last + 1)
		return
	}
	for i := last + 1; i < t.next; i++ {
		t.ring[t.slot(i)] = smr.Entry{}
	}
	t.next = min(t.next, last+1)
}

// trim drops entries from the front while more than bytesMax are held, none
// after last.
func (t *tail) trim(bytesMax int, last uint64) {
	held := t.bytes()
	for held > bytesMax && t.first < t.next && t.first <= last {
		s := t.slot(t.first)
		held -= t.ring[s].Size()
		t.base = t.ends[s]
		t.ring[s] = smr.Entry{}
		t.first++
	}
}

// drop drops the entries before first, and begins there if it holds none.
func (t *tail) drop(first uint64) {
	if first >= t.next {
		t.reset(max(first, t.next))
		return
	}
	for t.first < first {
		s := t.slot(t.first)
		t.base = t.ends[s]
		t.ring[s] = smr.Entry{}
		t.first++
	}
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

// copyTo appends the entries [first, last] to dst.
func (t *tail) copyTo(dst []smr.Entry, first, last uint64) []smr.Entry {
	a, b := t.slot(first), t.slot(last)
	if a <= b {
		return append(dst, t.ring[a:b+1]...)
	}
	dst = append(dst, t.ring[a:]...)
	return append(dst, t.ring[:b+1]...)
}
