package host

import (
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/smr"
)

// waiter is one request of a client on its way: a proposal, or a read that
// waits until it is linearizable.
//
// Invariants:
//
//  1. It is owned by the handler until it is pushed into an inbox, then by the
//     shard, and from the moment it is handed to a worker by that worker.
//  2. It is completed exactly once, by its owner. After that the owner must not
//     touch it.
//  3. term is zero while no leader has been asked to take the proposal: then it
//     is certainly not done. Otherwise the proposal can only be an entry of
//     that term.
type waiter struct {
	group    *group
	read     bool
	entry    smr.Entry
	deadline smr.Instant

	// Owned by the shard.
	slot uint32
	term uint64

	// state settles who sees the answer: the handler, or nobody because the
	// handler left.
	state  atomic.Uint32
	result smr.Result
	err    error
	// answered wakes the handler of a blocking request; done is called instead
	// if it is set.
	answered chan struct{}
	done     func(smr.Result, error)
}

const (
	waiterOpen uint32 = iota
	waiterAnswered
	waiterAbandoned
)

var waiterPool = sync.Pool{New: func() any { return &waiter{answered: make(chan struct{}, 1)} }}

func getWaiter() *waiter { return waiterPool.Get().(*waiter) }

// release returns the waiter to the pool. Nobody else may hold it.
func (w *waiter) release() {
	ch := w.answered
	*w = waiter{answered: ch}
	waiterPool.Put(w)
}

// complete answers the request and gives the waiter up.
func (w *waiter) complete(result smr.Result, err error) {
	if done := w.done; done != nil {
		w.release()
		done(result, err)
		return
	}
	w.result, w.err = result, err
	if w.state.CompareAndSwap(waiterOpen, waiterAnswered) {
		w.answered <- struct{}{} // capacity 1 and sent once: never blocks
		return
	}
	w.release() // the handler has left
}

// abandon is called by a handler that cannot wait any longer. It reports
// whether the waiter is gone; otherwise the answer is already there.
func (w *waiter) abandon() bool {
	return w.state.CompareAndSwap(waiterOpen, waiterAbandoned)
}

// slab holds the proposals of one shard that wait for their entry to be
// applied. A request's number is its slot and the slot's generation, so an entry
// finds its waiter without a map and a stale one finds none.
//
// Invariants: a slot is either on the free list or holds a waiter; its
// generation grows each time it is freed; bytes is the size of the entries of
// all waiters.
type slab struct {
	slots []slot
	free  []uint32
	bytes int
}

type slot struct {
	w          *waiter
	generation uint32
}

// add gives w a slot and returns the request number, never zero. It reports
// false if max slots are in use.
func (s *slab) add(w *waiter, max int) (request uint64, ok bool) {
	var at uint32
	if n := len(s.free); n > 0 {
		at = s.free[n-1]
		s.free = s.free[:n-1]
	} else {
		if len(s.slots) >= max {
			return 0, false
		}
		at = uint32(len(s.slots))
		s.slots = append(s.slots, slot{})
	}
	s.slots[at].w = w
	s.bytes += w.entry.Size()
	w.slot = at
	return uint64(s.slots[at].generation)<<32 | uint64(at+1), true
}

// get returns the waiter of a request, or nil if it waits no more.
func (s *slab) get(request uint64) *waiter {
	at := uint32(request) - 1
	if int(at) >= len(s.slots) || s.slots[at].generation != uint32(request>>32) {
		return nil
	}
	return s.slots[at].w
}

// remove frees the slot of w.
func (s *slab) remove(w *waiter) {
	sl := &s.slots[w.slot]
	if sl.w != w {
		panic("host: a waiter is removed from a slot that it does not hold")
	}
	sl.w = nil
	s.bytes -= w.entry.Size()
	sl.generation++
	s.free = append(s.free, w.slot)
}

// used is the number of waiters in the slab.
func (s *slab) used() int { return len(s.slots) - len(s.free) }
