package sim

import (
	"slices"

	"github.com/anishathalye/porcupine"
)

// operation is one client call on a register, in the order of the world's
// events: begin and end number events, so that no two are equal.
type operation struct {
	client     int
	write      bool
	key        byte
	value      uint64
	begin, end int64
}

// stillOpen is the end of an operation whose outcome the client never learned.
const stillOpen = int64(1) << 62

// history is what the clients saw.
type history struct {
	clock int64
	ops   []operation
}

func (h *history) tick() int64 {
	h.clock++
	return h.clock
}

// verdict is what a check of a history came to.
type verdict uint8

const (
	inOrder verdict = iota
	outOfOrder
	undecided
)

// byCommit checks the history of a register against the order in which the
// commands took effect, which the ledger knows: place returns the index of a write
// by its value, zero if it never took effect.
//
// A write stands at its index, a read right after the write whose value it returned
// (and so before the next one). The history is linearizable in this order if no
// operation began after the end of one that stands behind it. It takes n log n
// steps for n operations, so it always decides. Of the orders that would explain a
// history it lets the one pass that happened.
func (h *history) byCommit(key byte, place func(value uint64) uint64) verdict {
	type point struct {
		begin, end int64
		at         uint64
	}
	var ps []point
	for i := range h.ops {
		op := &h.ops[i]
		if op.key != key {
			continue
		}
		p := point{op.begin, op.end, 2 * place(op.value)}
		switch {
		case op.write && p.at == 0:
			continue // it explains nothing, and nothing contradicts it
		case !op.write && op.value != 0 && p.at == 0:
			return outOfOrder // it was never written
		case !op.write:
			p.at++
		}
		ps = append(ps, p)
	}
	byEnd := slices.Clone(ps)
	slices.SortFunc(ps, func(a, b point) int { return int(a.begin - b.begin) })
	slices.SortFunc(byEnd, func(a, b point) int { return int(a.end - b.end) })
	ended, latest := 0, uint64(0)
	for i := range ps {
		for ended < len(byEnd) && byEnd[ended].end < ps[i].begin {
			latest = max(latest, byEnd[ended].at)
			ended++
		}
		if ps[i].at < latest {
			return outOfOrder
		}
	}
	return inOrder
}

// Bounds of the search for an order, which takes exponential time at worst. They
// count operations and steps, so that a verdict does not depend on the machine.
const (
	searchOpsMax   = 400
	searchStepsMax = 50_000
)

// bySearch searches an order of a register's operations without knowing any: a
// second opinion about byCommit, on histories that are small enough.
func (h *history) bySearch(key byte, place func(value uint64) uint64) verdict {
	var ops []porcupine.Operation
	for i := range h.ops {
		op := &h.ops[i]
		// What never took effect explains nothing: leaving it out keeps the
		// search small, and can only make it stricter.
		if op.key != key || op.write && op.end == stillOpen && place(op.value) == 0 {
			continue
		}
		ops = append(ops, porcupine.Operation{ClientId: op.client, Input: op, Call: op.begin, Return: op.end})
	}
	if len(ops) > searchOpsMax {
		return undecided
	}
	steps := 0
	ok := porcupine.CheckOperations(porcupine.Model{
		Init: func() any { return uint64(0) },
		Step: func(state, input, _ any) (bool, any) {
			op := input.(*operation)
			if steps++; steps > searchStepsMax {
				return false, state // the search ends soon
			}
			if op.write {
				return true, op.value
			}
			return state.(uint64) == op.value, state
		},
	}, ops)
	switch {
	case ok:
		return inOrder
	case steps > searchStepsMax:
		return undecided
	}
	return outOfOrder
}

// checkHistoryOf: the history of every register has an order, that in which its
// writes took effect.
func (w *common) checkHistoryOf(l *ledger, h *history, keys int) {
	for key := range byte(keys) {
		known := h.byCommit(key, l.place)
		if known == outOfOrder {
			l.fail(Linearizability, nil, "the history of register %d has no order", key)
			continue
		}
		switch h.bySearch(key, l.place) {
		case undecided:
			w.marks.hit(MarkSearchUndecided)
		case outOfOrder:
			l.fail(Linearizability, nil, "a search finds no order of the history of register %d, the order of the commits is one", key)
		default:
			w.marks.hit(MarkSearched)
		}
	}
}
