package sim

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/quorate/quorate/smr"
)

// common is what both worlds have: the ledger, the queue of what will happen,
// the phase, and the accounts of the run.
type common struct {
	*ledger
	seed    uint64
	tracer  Tracer
	queue   queue
	current occurrence // being dealt with
	history history
	nemesis source

	phase     phase
	healedAt  smr.Instant
	core      uint // bit per slot: the replicas that are healed
	concluded bool // what must hold at the end has been checked
	// commandIDs counts the commands that clients have made.
	commandIDs uint64

	digest uint64
	marks  Marks
	sent   uint64
	steps  uint64
	halves struct{ writes, reads int } // answered after the healing
	// recovered is when the first write after the healing was answered.
	recovered smr.Instant
}

// phase of a run.
type phase uint8

const (
	phaseChaos phase = iota
	phaseHealed
	phaseQuiet // clients have stopped; the core must converge
	phaseDeath // a leader has died, and nobody asks for anything
	phaseOver
)

func (p phase) String() string { return [...]string{"chaos", "healed", "quiet", "death", "over"}[p] }

func newCommon(seed uint64, o *Options) common {
	return common{ledger: newLedger(o.Skip), seed: seed, tracer: o.Tracer, nemesis: fork(seed, 2), digest: mix64(seed)}
}

// occurrencesMax ends a run that goes round in circles.
const occurrencesMax = 20_000_000

// happen deals with one occurrence after another until the run is over or a
// violation is found.
func (w *common) happen(dispatch func(*occurrence)) {
	w.guarded(func() {
		for w.found == nil && w.phase != phaseOver {
			var ok bool
			if w.current, ok = w.queue.pop(); !ok {
				w.fail(NoProgress, nil, "nothing is left to happen")
				return
			}
			w.now = w.current.at
			if w.steps++; w.steps > occurrencesMax {
				w.fail(NoProgress, nil, "still not over after %d occurrences", w.steps)
				return
			}
			dispatch(&w.current)
		}
	})
}

// writeAnswered notes a write that was answered in the healed core.
func (w *common) writeAnswered() {
	if w.phase >= phaseHealed && w.recovered == 0 {
		w.recovered = w.now
	}
}

// recovery is how many election timeouts the healed core took to answer a write.
func (w *common) recovery(timeout time.Duration) float64 {
	if w.recovered == 0 {
		return 0
	}
	return float64(w.recovered.Sub(w.healedAt)) / float64(timeout)
}

// guarded turns a panic of the code under test into a violation.
func (w *common) guarded(f func()) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		detail := fmt.Sprint(p)
		if w.tracer != nil {
			detail += "\n" + string(debug.Stack())
		}
		w.skipped = nil
		w.fail(Invariant, nil, "%s", detail)
	}()
	f()
}

// note adds to the digest of the history.
func (w *common) note(a, b, c, d uint64) {
	h := w.digest ^ a ^ b<<8 ^ uint64(w.now)<<20
	w.digest = mix64(h ^ mix64(c^d*0x9e3779b97f4a7c15))
}

func (w *common) trace(e Event) {
	if w.tracer == nil {
		return
	}
	e.At = w.now
	w.tracer.Trace(&e)
}

// clock is a replica's own: now' = offset + now · (1 + ppm/10⁶). It never goes
// back while the replica runs; a restart gives it another origin.
type clock struct {
	offset smr.Instant
	ppm    int64
}

func (c *clock) local(t smr.Instant) smr.Instant {
	return c.offset + t + smr.Instant(int64(t)/1000*c.ppm/1000)
}

// world returns the first instant at which the clock shows at least d.
func (c *clock) world(d smr.Instant) smr.Instant {
	if d == smr.Never {
		return d
	}
	t := smr.Instant(float64(d-c.offset) * 1e6 / float64(1e6+c.ppm))
	for c.local(t) >= d {
		t -= 1000
	}
	for c.local(t) < d {
		t += 100
	}
	return t
}
