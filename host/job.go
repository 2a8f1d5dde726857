package host

import (
	"sync"

	"github.com/quorate/quorate/smr"
)

// Job does what is slow about the snapshots of a shard's groups: it writes and
// verifies images, sends blocks of them, and restores state machines beside
// their present state. Turn is called by one goroutine at a time; each does one
// step of one task, and the tasks take turns.
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
}

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
	// close ends it early, or after it is over.
	close()
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
func (j *Job) aside(w worker) {
	if j.goes == nil {
		j.order(func() { j.add(w) })
		return
	}
	j.goes(func() {
		w.step(0)
		w.close()
	})
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
		at, over := t.work.step(now)
		if over {
			t.work.close()
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

// close ends all tasks. Nothing may run any more.
func (j *Job) close() {
	for _, t := range j.tasks {
		t.work.close()
	}
	j.tasks = nil
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
