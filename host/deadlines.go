package host

import "github.com/quorate/quorate/smr"

// deadlineHeap holds every group of a shard, the one with the earliest deadline
// first. Groups with equal deadlines are in order of their ids, so that the
// order of turns is a function of what came in.
//
// Invariant: h[i].g.heapPos == i.
type deadlineHeap []deadlineEntry

type deadlineEntry struct {
	at smr.Instant
	g  *group
}

func (h deadlineHeap) less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].g.id < h[j].g.id
}

func (h deadlineHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].g.heapPos, h[j].g.heapPos = i, j
}

// push adds a group.
func (h *deadlineHeap) push(g *group, at smr.Instant) {
	g.heapPos = len(*h)
	*h = append(*h, deadlineEntry{at, g})
	h.up(g.heapPos)
}

// fix sets the deadline of a group that is in the heap.
func (h deadlineHeap) fix(g *group, at smr.Instant) {
	i := g.heapPos
	if h[i].at == at {
		return
	}
	h[i].at = at
	if !h.down(i) {
		h.up(i)
	}
}

// remove takes a group out.
func (h *deadlineHeap) remove(g *group) {
	i, last := g.heapPos, len(*h)-1
	h.swap(i, last)
	*h = (*h)[:last]
	if i < last && !h.down(i) {
		h.up(i)
	}
}

func (h deadlineHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(i, parent) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h deadlineHeap) down(i int) (moved bool) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return moved
		}
		if child+1 < len(h) && h.less(child+1, child) {
			child++
		}
		if !h.less(child, i) {
			return moved
		}
		h.swap(i, child)
		i, moved = child, true
	}
}
