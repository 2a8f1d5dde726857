package host

import (
	"io"
	"slices"
	"sync"

	"github.com/quorate/quorate/smr"
)

// Job does what is slow about the snapshots of a shard's groups: it writes and
// verifies images, sends blocks of them, and restores state machines beside
// their present state. Turn is called by one goroutine at a time; each does one
// step of one task, and the tasks take turns. What runs code of a state machine,
// which may take its time, is done beside it where that can be.
//
// A panic ends the task in which it happened, whose group is told, and nothing else.
type Job struct {
	shard *Shard
	wake  func()
	goes  func(f func()) // see Env.Go

	mu     sync.Mutex
	orders []func() // guarded by mu; run by Turn before anything else
	taken  []func()

	// Owned by Turn.
	now    smr.Instant
	tasks  []*task
	next   int // where to look for the next task to step
	tokens tokens
	// beside are how many slow tasks have a goroutine, waiting those that get one
	// when another has ended.
	beside  int
	waiting []slow
}

// besideMax bounds the goroutines of a shard that read views and restore: each
// holds a block or two.
const besideMax = 16

// task is something that a Job does in steps.
type task struct {
	work worker
	at   smr.Instant // when it wants its next step; Never: when it is poked
}

// worker is what a task does.
type worker interface {
	// step does a bounded piece of work and returns when it wants the next one:
	// now for at once, smr.Never when something new comes in. over ends it.
	step(now smr.Instant) (at smr.Instant, over bool)
	// failed says that a step panicked, which was the last one.
	failed(err error)
	// close ends it early, or after it is over.
	close()
}

// slow is a worker whose steps run code of a state machine.
type slow interface {
	worker
	// begin is called before the first step. After an error there is none.
	begin() error
}

// order has f run by the next Turn.
func (j *Job) order(f func()) {
	j.mu.Lock()
	j.orders = append(j.orders, f)
	first := len(j.orders) == 1
	j.mu.Unlock()
	if first {
		j.wake()
	}
}

// add begins a task. For Turn and what it runs.
func (j *Job) add(w worker) *task {
	t := &task{work: w}
	j.tasks = append(j.tasks, t)
	return t
}

// aside has a step that ends a task by itself done, beside the Job if it can be.
// Any goroutine.
func (j *Job) aside(w worker) {
	if j.goes == nil {
		j.order(func() { j.add(w) })
		return
	}
	j.goes(func() {
		j.step(w, 0)
		j.end(w)
	})
}

// run has a slow task done, on a goroutine of its own if it can have one. For Turn
// and what it runs.
func (j *Job) run(w slow) {
	switch {
	case j.goes == nil:
		if j.begin(w) {
			j.add(w)
		} else {
			j.end(w)
		}
	case j.beside >= besideMax:
		j.waiting = append(j.waiting, w)
	default:
		j.beside++
		j.goes(func() {
			for over := !j.begin(w); !over && !j.closing(); {
				_, over = j.step(w, 0)
			}
			j.end(w)
			j.order(j.ranBeside)
		})
	}
}

// ranBeside follows the end of a slow task.
func (j *Job) ranBeside() {
	if j.beside--; len(j.waiting) > 0 {
		w := j.waiting[0]
		j.waiting = slices.Delete(j.waiting, 0, 1)
		j.run(w)
	}
}

func (j *Job) closing() bool {
	select {
	case <-j.shard.closed:
		return true
	default:
		return false
	}
}

// begin, step and end call a worker, and keep its panic to its task.
func (j *Job) begin(w slow) bool {
	err := guarded(w.begin)
	if err != nil {
		w.failed(err)
	}
	return err == nil
}

func (j *Job) step(w worker, now smr.Instant) (at smr.Instant, over bool) {
	if err := guarded(func() error { at, over = w.step(now); return nil }); err != nil {
		w.failed(err)
		over = true
	}
	return at, over
}

func (j *Job) end(w worker) {
	if err := guarded(func() error { w.close(); return nil }); err != nil {
		j.notClosed(err)
	}
}

// close has a view or a restoration closed.
func (j *Job) close(c io.Closer) {
	j.order(func() {
		if err := guarded(c.Close); err != nil {
			j.notClosed(err)
		}
	})
}

func (j *Job) notClosed(err error) {
	j.shard.cfg.Logger.Error("what a snapshot has used could not be closed", "err", err)
}

// HasWork reports whether Turn would find an order.
func (j *Job) HasWork() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.orders) > 0
}

// Turn does one step of the task whose turn it is, and returns when it wants the
// next turn: now if there is more to do, smr.Never if nothing is.
func (j *Job) Turn(now smr.Instant) smr.Instant {
	j.now = now
	j.mu.Lock()
	j.taken, j.orders = j.orders, j.taken[:0]
	j.mu.Unlock()
	for i, f := range j.taken {
		j.taken[i] = nil
		f()
	}
	for range j.tasks {
		if j.next >= len(j.tasks) {
			j.next = 0
		}
		t := j.tasks[j.next]
		if t.at > now {
			j.next++
			continue
		}
		at, over := j.step(t.work, now)
		if over {
			j.end(t.work)
			j.tasks = append(j.tasks[:j.next], j.tasks[j.next+1:]...)
		} else {
			t.at = at
			j.next++
		}
		break
	}
	next := smr.Never
	for _, t := range j.tasks {
		next = min(next, max(t.at, now))
	}
	return next
}

// endAll ends all tasks. Nothing may run any more.
func (j *Job) endAll() {
	for _, t := range j.tasks {
		j.end(t.work)
	}
	for _, w := range j.waiting {
		j.end(w)
	}
	j.tasks, j.waiting = nil, nil
}

// order has the shard's job run f. A panic of it stops the group alone.
func (g *group) order(f func(j *Job)) {
	j := g.shard.job
	j.order(func() {
		if err := guarded(func() error { f(j); return nil }); err != nil {
			g.tell(func(smr.Instant) { g.fail(err) })
		}
	})
}

// tell has f run by a turn of the shard, unless the group has failed.
func (g *group) tell(f func(now smr.Instant)) {
	g.shard.inbox.put(func(l *letters) {
		l.control = append(l.control, func(now smr.Instant) {
			if g.failed != nil {
				return
			}
			g.shard.activate(g)
			g.guard(func() { f(now) })
		})
	})
}
