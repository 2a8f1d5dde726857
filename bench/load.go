package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// load keeps a number of operations in flight: as many goroutines, each with
// one operation at a time.
type load struct {
	op       func(ctx context.Context, group int) error
	inFlight int
	groups   int
	pace     time.Duration // between a worker's operations; zero: none
	ctx      context.Context
	cancel   context.CancelFunc
	workers  sync.WaitGroup
	window   atomic.Pointer[window] // nil: not measuring
	refused  atomic.Uint64
	failed   atomic.Pointer[error]
}

// window is what is counted in one. It is striped, since its counters are
// written by everybody.
type window struct {
	stripes [16]struct {
		histogram
		_ [64]byte
	}
}

// newLoad prepares w on s. All operations carry the same command, which nobody
// writes to: so the load allocates nothing.
func newLoad(s system, w work) (*load, error) {
	l := &load{inFlight: w.InFlight, groups: w.Groups}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	command := make([]byte, w.Payload)
	_, _ = rand.Read(command)
	switch w.Work {
	case "write":
		l.op = func(ctx context.Context, group int) error { return s.Propose(ctx, group, command) }
	case "read":
		r, ok := s.(reader)
		if !ok {
			return nil, fmt.Errorf("no reads here")
		}
		if err := s.Propose(l.ctx, 0, command); err != nil {
			return nil, fmt.Errorf("write before the reads: %w", err)
		}
		l.op = r.Read
	default:
		return nil, fmt.Errorf("no work %q", w.Work)
	}
	return l, nil
}

func (l *load) run() {
	for i := range l.inFlight {
		l.workers.Go(func() { l.worker(i) })
	}
}

// failuresMax is how many operations in a row may fail before the window does.
const failuresMax = 1000

func (l *load) worker(i int) {
	group := i % l.groups
	failures := 0
	due := time.Now().Add(time.Duration(i) * l.pace / time.Duration(l.inFlight))
	for l.ctx.Err() == nil {
		if l.pace > 0 {
			due = l.awaitDue(due)
		}
		begun := time.Now()
		if err := l.op(l.ctx, group); err != nil {
			if l.ctx.Err() != nil {
				return
			}
			l.refused.Add(1)
			if failures++; failures > failuresMax {
				l.failed.CompareAndSwap(nil, &err)
				return
			}
			time.Sleep(time.Millisecond) // what a client does when told to wait
			continue
		}
		failures = 0
		if l.groups > l.inFlight { // whoever goes round serves them all
			group = (group + l.inFlight) % l.groups
		}
		if w := l.window.Load(); w != nil {
			w.stripes[i%len(w.stripes)].add(time.Since(begun))
		}
	}
}

// behindMax is how far a paced worker may fall behind and still catch up.
const behindMax = time.Second

// awaitDue waits until due and returns when the worker's next operation is.
func (l *load) awaitDue(due time.Time) time.Time {
	wait := time.Until(due)
	if wait < -behindMax {
		due = time.Now()
	}
	if wait > 0 {
		time.Sleep(wait)
	}
	return due.Add(l.pace)
}

func (l *load) begin() { l.refused.Store(0); l.window.Store(new(window)) }

// done is how many operations have been completed in the window so far.
func (l *load) done() (n uint64) {
	if w := l.window.Load(); w != nil {
		for i := range w.stripes {
			n += w.stripes[i].total()
		}
	}
	return n
}

// end ends the window and returns what was completed in it.
func (l *load) end() (ops uint64, sum *histogram) {
	sum = new(histogram)
	w := l.window.Swap(nil)
	for i := range w.stripes {
		ops += w.stripes[i].addTo(sum)
	}
	return ops, sum
}

func (l *load) stop() {
	l.cancel()
	l.workers.Wait()
}

func (l *load) failure() error {
	if err := l.failed.Load(); err != nil {
		return fmt.Errorf("%d operations in a row failed, the last with: %w", failuresMax, *err)
	}
	return nil
}

// histogram counts durations in buckets that are at most 1/16 wide.
type histogram struct {
	counts [64 * 16]atomic.Uint64
}

func (h *histogram) add(d time.Duration) { h.counts[bucket(uint64(d))].Add(1) }

func bucket(ns uint64) int {
	if ns < 16 {
		return int(ns)
	}
	exp := bits.Len64(ns) - 5
	return exp*16 + int(ns>>exp)
}

// lowest is the least duration of a bucket.
func lowest(bucket int) time.Duration {
	if bucket < 32 {
		return time.Duration(bucket)
	}
	exp := bucket/16 - 1
	return time.Duration(uint64(bucket-exp*16) << exp)
}

func (h *histogram) addTo(sum *histogram) (n uint64) {
	for i := range h.counts {
		c := h.counts[i].Load()
		sum.counts[i].Add(c)
		n += c
	}
	return n
}

func (h *histogram) total() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// quantile returns the middle of the bucket that q of all durations reach.
func (h *histogram) quantile(q float64) time.Duration {
	var total, seen uint64
	for i := range h.counts {
		total += h.counts[i].Load()
	}
	for i := range h.counts {
		if seen += h.counts[i].Load(); float64(seen) >= q*float64(total) && seen > 0 {
			return (lowest(i) + lowest(i+1)) / 2
		}
	}
	return 0
}
