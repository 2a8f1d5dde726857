package host

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/quorate/quorate/smr"
)

// applyJob is a run of committed entries of one group on its way through a
// worker and back to the shard, which reuses it.
//
// Invariant: waiters[i] waits for entries[i], nil if nobody does; the worker
// completes them.
type applyJob struct {
	group   *group
	entries []smr.Committed
	waiters []*waiter
	// act, if set, is done instead of applying, between what was handed over
	// before and after it; an error is the state machine's. last is then where
	// the state machine is afterwards, zero if that does not change.
	act func() error
	// then, if set, is called by the shard when it has heard of act, and so of all
	// that was applied before it.
	then func()
	// Set by the worker.
	last   uint64
	digest [16]byte
	err    error
}

// recycle drops what the job points to and keeps its memory.
func (j *applyJob) recycle() {
	clear(j.entries)
	clear(j.waiters)
	*j = applyJob{entries: j.entries[:0], waiters: j.waiters[:0]}
}

// Worker applies the committed entries of the groups that are assigned to it.
// Turn is called by one goroutine at a time.
type Worker struct {
	wake func()
	now  func() smr.Instant // nil: what takes long is not counted

	mu    sync.Mutex
	queue []*applyJob // at most one for each group: later entries join it
	again bool        // what waits for room is to be tried

	// Owned by Turn. full are the groups whose machineFull is set, idle those whose
	// machines may have work for the time when nothing is to be applied.
	taken []*applyJob
	full  []*group
	idle  []*group
}

// retry has what waits for room on a disk tried again.
func (w *Worker) retry() {
	w.mu.Lock()
	first := !w.again
	w.again = true
	w.mu.Unlock()
	if first {
		w.wake()
	}
}

// push queues the entries of job, joining a job of the same group that still
// waits. It reports whether the worker took the job itself: if not, job is free
// for reuse.
func (w *Worker) push(job *applyJob) bool {
	w.mu.Lock()
	if q := job.group.queued; q != nil && job.act == nil {
		q.entries = append(q.entries, job.entries...)
		q.waiters = append(q.waiters, job.waiters...)
		w.mu.Unlock()
		return false
	}
	job.group.queued = job
	if job.act != nil {
		job.group.queued = nil // nothing joins it, or what is before it
	}
	w.queue = append(w.queue, job)
	first := len(w.queue) == 1
	w.mu.Unlock()
	if first {
		w.wake()
	}
	return true
}

// HasWork reports whether Turn would do something.
func (w *Worker) HasWork() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) > 0 || w.again
}

// Turn applies everything that is queued, answers those who wait for it, and
// reports whether there was anything.
func (w *Worker) Turn() bool {
	w.mu.Lock()
	w.taken, w.queue = w.queue, w.taken[:0]
	again := w.again
	w.again = false
	for _, job := range w.taken {
		job.group.queued = nil
	}
	w.mu.Unlock()
	if again {
		w.retryFull()
	}
	for i, job := range w.taken {
		w.taken[i] = nil
		w.apply(job)
	}
	if len(w.taken) > 0 || again {
		if len(w.idle) > 0 {
			w.wake()
		}
		return true
	}
	return w.idleStep()
}

// mayIdle notes that a machine was applied to.
func (w *Worker) mayIdle(g *group) {
	if _, ok := g.machine.(smr.Idler); ok && !g.idles {
		g.idles = true
		w.idle = append(w.idle, g)
	}
}

// idleStep lets a machine work for itself, and reports whether one wants to go on.
// What comes to be applied meanwhile goes first.
func (w *Worker) idleStep() bool {
	if len(w.idle) == 0 {
		return false
	}
	g := w.idle[0]
	w.idle = append(w.idle[:0], w.idle[1:]...)
	g.idles = false
	if g.machineErr == nil {
		more, err := idle(g.machine.(smr.Idler))
		if err != nil {
			g.machineErr = err
			g.tell(func(smr.Instant) { g.fail(err) })
		} else if more {
			w.mayIdle(g)
		}
	}
	if len(w.idle) > 0 {
		w.wake()
	}
	return len(w.idle) > 0
}

// retryFull asks the machines whose disks were full, and gives them what waits.
func (w *Worker) retryFull() {
	groups := w.full
	w.full = nil
	for _, g := range groups {
		held := g.held
		g.held = nil
		g.machineFull = false
		w.noteRoom(g, roomless(g.machine))
		for _, job := range held {
			w.apply(job)
		}
		if !g.machineFull {
			g.tell(func(now smr.Instant) { g.stateFull(now, false) })
		}
	}
}

// roomless asks a machine whether its disk is full.
func roomless(m smr.StateMachine) bool {
	r, ok := m.(smr.Roomed)
	return ok && r.DiskFull()
}

// noteRoom follows whether a machine's disk is full.
func (w *Worker) noteRoom(g *group, full bool) {
	if !full || g.machineFull {
		return
	}
	g.machineFull = true
	w.full = append(w.full, g)
	g.tell(func(now smr.Instant) { g.stateFull(now, true) })
}

// hold keeps a job until there is room. Those who wait are told: it is committed,
// and takes effect sooner or later.
func (w *Worker) hold(job *applyJob) {
	job.group.held = append(job.group.held, job)
	job.answer(fmt.Errorf("%w: %w", ErrOutcomeUnknown, smr.ErrNoSpace))
}

// answer tells all who wait for the job's entries why they are not applied.
func (j *applyJob) answer(err error) {
	for i, wt := range j.waiters {
		if wt != nil {
			j.waiters[i] = nil
			wt.complete(smr.Result{}, err)
		}
	}
}

// drop ends all that is queued or held. Nothing may run any more.
func (w *Worker) drop(err error) {
	jobs := w.queue
	for _, g := range w.full {
		jobs = append(jobs, g.held...)
	}
	for _, job := range jobs {
		job.answer(err)
	}
	w.queue = nil
}

// apply runs one job and sends it back to the shard.
func (w *Worker) apply(job *applyJob) {
	g := job.group
	if len(g.held) > 0 {
		w.hold(job) // in order
		return
	}
	if job.act != nil {
		if g.machineErr == nil {
			g.machineErr = guarded(job.act)
		}
	} else {
		job.last = job.entries[len(job.entries)-1].Index
		if g.machineErr == nil {
			err := w.timed(g, job.entries)
			if errors.Is(err, smr.ErrNoSpace) {
				w.noteRoom(g, true)
				w.hold(job)
				return
			}
			g.machineErr = err
			w.noteRoom(g, err == nil && roomless(g.machine))
			w.mayIdle(g)
		}
	}
	job.err = g.machineErr
	if job.err == nil && job.last != 0 {
		_, job.digest = g.machine.Digest()
		g.view.applied.Store(job.last)
		if watch := g.shard.digest; watch != nil {
			watch(g.id, job.last, job.digest)
		}
	}
	for i, wt := range job.waiters {
		switch {
		case wt == nil:
		case job.err != nil:
			wt.complete(smr.Result{}, fmt.Errorf("%w: %w: %w", ErrOutcomeUnknown, ErrGroupFailed, job.err))
		default:
			wt.complete(job.entries[i].Result, nil)
		}
	}
	g.shard.inbox.put(func(l *letters) { l.applied = append(l.applied, job) })
}

// slowApply is etcd's limit for an entry. One of ours is a batch, of which every
// client waits for the whole.
const slowApply = 100 * time.Millisecond

// timed is applyBatch, and counts if it takes long.
func (w *Worker) timed(g *group, entries []smr.Committed) error {
	if w.now == nil {
		return applyBatch(g.machine, entries)
	}
	start := w.now()
	err := applyBatch(g.machine, entries)
	if w.now().Sub(start) > slowApply {
		g.shard.metrics.slowApplies.Add(1)
	}
	return err
}

// applyBatch applies entries and turns a panic of the state machine into an
// error: it must not take other groups down.
func applyBatch(m smr.StateMachine, entries []smr.Committed) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = newPanicError(fmt.Sprintf("state machine, applying entries %d to %d,", entries[0].Index, entries[len(entries)-1].Index), r)
		}
	}()
	return m.Apply(entries)
}

// idle is Idle, guarded.
func idle(m smr.Idler) (more bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("state machine panicked: %v\n%s", r, debug.Stack())
		}
	}()
	return m.Idle()
}

// guarded turns a panic of the state machine into an error.
func guarded(act func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = newPanicError("state machine", r)
		}
	}()
	return act()
}
