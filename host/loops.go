package host

import (
	"runtime"
	"slices"
	"time"

	"github.com/quorate/quorate/smr"
)

func chans(n int) []chan struct{} {
	all := make([]chan struct{}, n)
	for i := range all {
		all[i] = make(chan struct{}, 1)
	}
	return all
}

func waker(all []chan struct{}) func(int) {
	return func(i int) { wakeUp(all[i]) }
}

func wakeUp(loop chan<- struct{}) {
	select {
	case loop <- struct{}{}:
	default: // it is awake already
	}
}

// start gives each part its goroutine.
func (h *Host) start() {
	for i, s := range h.rt.shards {
		s.closed = h.closing
		h.loop(func() { h.runShard(s, h.wakeShard[i]) })
		h.loop(func() { h.runTurns(h.wakeSyncer[i], s.syncer.Turn) })
		h.loop(func() { h.runTurns(h.wakeFetcher[i], s.fetcher.Turn) })
		h.loop(func() { h.runJob(s.job, h.wakeJob[i]) })
	}
	for i, w := range h.rt.workers {
		h.loop(func() { h.runTurns(h.wakeWorker[i], w.Turn) })
	}
}

func (h *Host) loop(f func()) {
	h.loops.Add(1)
	go func() {
		defer h.loops.Done()
		f()
	}()
}

// endLoops ends all loops and waits for them. A loop sleeps on its own channel
// alone, since a select over several costs much more than that; so each is woken
// to find that the host closes.
func (h *Host) endLoops() {
	close(h.closing)
	for _, c := range slices.Concat(h.wakeShard, h.wakeSyncer, h.wakeFetcher, h.wakeJob, h.wakeWorker) {
		wakeUp(c)
	}
	h.loops.Wait()
}

// ending reports whether the loops are to end.
func (h *Host) ending() bool {
	select {
	case <-h.closing:
		return true
	default:
		return false
	}
}

// alarm wakes a loop when its time has come. Setting the runtime's timer before
// each sleep, and taking it back after, costs more than many a turn does; so the
// alarm is left as it is while it goes off no later than it should, and a loop
// that it wakes too early sets it again. A busy loop so sets it a few times in a
// heartbeat interval, however many turns it takes.
//
// Invariant: the timer goes off at set, unless set has passed or is smr.Never.
type alarm struct {
	timer *time.Timer
	set   smr.Instant
}

func newAlarm(wake chan<- struct{}) *alarm {
	a := &alarm{timer: time.AfterFunc(time.Hour, func() { wakeUp(wake) }), set: smr.Never}
	a.timer.Stop()
	return a
}

// wakeAt has the loop woken at the instant at, or before it.
func (a *alarm) wakeAt(at, now smr.Instant) {
	if a.set <= now {
		a.set = smr.Never // it has gone off
	}
	if at < a.set {
		a.set = at
		a.timer.Reset(at.Sub(now))
	}
}

// runShard takes turns whenever something comes in or the shard's time has come.
func (h *Host) runShard(s *Shard, wake chan struct{}) {
	alarm := newAlarm(wake)
	defer alarm.timer.Stop()
	for !h.ending() {
		// Whoever is about to put something into the inbox does so first, and the
		// turn serves all of them together: measured, half the CPU time for each
		// command with 256 in flight, and twice the rate.
		runtime.Gosched()
		next := s.Turn(h.now())
		for !h.ending() && !s.HasWork() {
			now := h.now()
			if next <= now {
				break
			}
			alarm.wakeAt(next, now)
			<-wake
		}
	}
}

// runJob takes turns whenever there is an order or a task's time has come.
func (h *Host) runJob(j *Job, wake chan struct{}) {
	alarm := newAlarm(wake)
	defer alarm.timer.Stop()
	for {
		now := h.now()
		next := j.Turn(now)
		if h.ending() {
			return
		}
		if next <= now || j.HasWork() {
			continue
		}
		alarm.wakeAt(next, h.now())
		<-wake
	}
}

// runTurns takes turns while there is work, and sleeps until woken.
func (h *Host) runTurns(wake <-chan struct{}, turn func() bool) {
	for !h.ending() {
		runtime.Gosched()
		for turn() {
			runtime.Gosched()
		}
		<-wake
	}
}
