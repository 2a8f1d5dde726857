package host

import (
	"slices"
	"sync/atomic"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wal"
	"github.com/quorate/quorate/wire"
)

// Shard runs many groups in one loop over one log. Everything that it owns is
// used by its turns alone: there is no lock but the inbox's.
type Shard struct {
	id      smr.ReplicaID
	number  uint32
	origin  uint64 // names this life of the host in entries
	cfg     *Config
	without Protections

	inbox   inbox
	letters letters
	log     *wal.Log
	syncer  *Syncer
	fetcher *Fetcher
	job     *Job
	out     outbox
	reader  wire.Reader
	item    wire.Item

	groups    map[smr.GroupID]*group
	starting  map[smr.GroupID]bool
	all       []*group // in the order in which they were started
	output    raft.Output
	pulses    pulses
	clock     groupClock
	real      smr.Instant        // see readClock
	now       func() smr.Instant // the host's clock; nil: Turn's argument is all there is
	waiting   []*group           // those with requests that a sweep looks at
	active    []*group           // those that have work, in the order in which it came
	frames    []frameLetter      // of which the turns have not got to the end
	memory    raft.Memory        // of the cores
	deadlines deadlineHeap
	waiters   slab
	sweepAt   smr.Instant // when deadlines of waiters are looked at again
	// jobs are to be used again; jobEntries is how many entries they have room for.
	jobs       []*applyJob
	jobEntries int
	failed     error
	relief     relief
	disk       diskRoom
	watch      diskWatch
	diskFull   atomic.Bool // disk.full(), for anyone
	imageIDs   uint64
	// blocksAhead is how many blocks of a snapshot are asked for ahead.
	blocksAhead int
	digest      func(g smr.GroupID, applied uint64, digest [16]byte)
	closed      <-chan struct{} // nil in a simulation

	metrics shardMetrics
}

// shardMetrics are counters that anyone may read.
type shardMetrics struct {
	turns, proposals, reads, leaseReads, committed, forwarded, reproposed, busy, frames, badFrames, droppedFrames atomic.Uint64
	diskFull, diskStalls, damagedReads, slowApplies                                                               atomic.Uint64

	compactions, compactionsForShard, snapshotsTaken, snapshotsInstalled                atomic.Uint64
	snapshotBlocksSent, snapshotBytesSent, snapshotBytesReceived, snapshotBlocksResumed atomic.Uint64

	groups, groupsResting, rests, pulsesLost, pulsesBack atomic.Uint64
	woken                                                [wokenCauses]atomic.Uint64
}

// sweepEvery is how often waiters are looked at for their deadlines.
const sweepEvery = 20e6 // ns

// Turn is the whole runtime: what came in goes to the groups it concerns; the
// groups that have work take a turn, all of them unless they are very many; what
// they want written goes to the log as one batch, what they want said to each peer
// as one frame. It returns when the shard wants its next turn at the latest;
// anything put into its inbox wants one at once. real is the host's time; the
// groups see their own (groupClock).
func (s *Shard) Turn(real smr.Instant) smr.Instant {
	now := s.clock.read(real)
	s.metrics.turns.Add(1)
	s.inbox.swap(&s.letters, len(s.frames) > 0)
	s.readClock(real)
	s.receive(now, &s.letters)
	s.pulse(real, now)
	s.walk(now)
	for len(s.deadlines) > 0 && s.deadlines[0].at <= now {
		g := s.deadlines[0].g
		s.deadlines.fix(g, smr.Never)
		s.activate(g)
	}
	if s.sweepAt <= real {
		s.sweep(real, now)
	}
	if s.disk.retryAt <= now {
		s.retryDisk(now)
	}
	taken := s.runGroups(now)
	s.relieve(now)
	pending := s.log.Pending()
	if pending {
		s.syncer.wake()
	}
	s.out.flush()
	s.watchDisk(now, pending)
	next := min(s.disk.retryAt, s.watch.at)
	if len(s.deadlines) > 0 {
		next = min(next, s.deadlines[0].at)
	}
	s.clock.endTurn(taken, len(s.active), len(s.frames) > 0, min(next, s.clock.groups(s.pulses.at)), s.cfg.HeartbeatInterval)
	if s.busy() {
		return real
	}
	return min(s.clock.host(next), s.pulses.at, s.sweepAt)
}

// readClock tells the cores the host's time after the inbox was emptied: what a lease
// allows is decided by a clock that was read after the question had come in, however
// long this host was held up before.
func (s *Shard) readClock(real smr.Instant) {
	if !s.cfg.Raft.LeaderLease {
		return
	}
	s.real = real
	if s.now != nil {
		s.real = max(real, s.now())
	}
}

// Bounds of a turn, so that pulses and the first groups' messages do not wait for
// the last ones' when thousands have work: what is left is the next turn's.
const (
	turnGroups = 1024
	turnItems  = 4096
)

// runGroups lets groups that have work take a turn, and returns how many.
func (s *Shard) runGroups(now smr.Instant) (taken int) {
	n := min(len(s.active), turnGroups)
	for i := range n {
		g := s.active[i]
		g.turn(now)
		if g.again {
			s.activate(g)
		}
		s.followRest(g)
		if g.failed == nil {
			s.deadlines.fix(g, g.deadline())
		} else {
			s.deadlines.fix(g, smr.Never)
		}
	}
	s.active = slices.Delete(s.active, 0, n)
	return n
}

// deadline is when the group wants a turn although nothing comes in.
func (g *group) deadline() smr.Instant { return min(g.core.Deadline(), g.images.at) }

// HasWork reports whether a turn now would find something, whatever the time.
func (s *Shard) HasWork() bool { return s.busy() || !s.inbox.empty() }

// busy: a turn has left work for the next one.
func (s *Shard) busy() bool { return len(s.active)+len(s.pulses.walks)+len(s.frames) > 0 }

func (s *Shard) activate(g *group) {
	if !g.active {
		g.active = true
		s.active = append(s.active, g)
	}
}

// receive carries what came in to the groups that it concerns.
func (s *Shard) receive(now smr.Instant, l *letters) {
	for _, f := range l.control {
		f(now)
	}
	if l.synced {
		s.syncedWith(now, l.diskFull, l.logErr)
	}
	for _, a := range l.acks {
		if g := s.groups[a.Group]; g != nil && g.failed == nil {
			g.guard(func() {
				g.core.Persisted(a.Seq)
				g.markerWritten(a.Seq)
			})
			s.activate(g)
		}
	}
	for _, job := range l.applied {
		if g := job.group; g.failed == nil {
			g.guard(func() { g.appliedUpTo(now, job) })
			s.activate(g)
		}
		s.putJob(job)
	}
	s.takeFrames(now, l.frames)
	for _, job := range l.fetched {
		if g := job.group; g.failed == nil {
			g.fetched(now, job)
			s.activate(g)
		}
	}
	for _, w := range l.requests {
		s.request(now, w)
	}
}

// takeFrames reads frames until there is enough for one turn. New ones come only
// when all before them are read.
func (s *Shard) takeFrames(now smr.Instant, more []frameLetter) {
	s.frames = append(s.frames, more...)
	n, items := 0, 0
	for ; n < len(s.frames) && items < turnItems; n++ {
		f := &s.frames[n]
		k, kept := s.frame(now, f.from, f.B)
		if items += k; !kept {
			f.Release()
		}
	}
	s.frames = slices.Delete(s.frames, 0, n)
}

// guard runs f outside of the group's turn, under the same protection.
func (g *group) guard(f func()) {
	defer g.failOnPanic()
	f()
}

// request takes a client's request.
func (s *Shard) request(now smr.Instant, w *waiter) {
	g := w.group
	if g.failed != nil {
		w.complete(smr.Result{}, g.failed)
		return
	}
	if s.sweepAt == smr.Never {
		s.sweepAt = s.clock.host(now).Add(sweepEvery)
	}
	g.wake(now, wokenClient)
	s.activate(g)
	if w.read {
		s.metrics.reads.Add(1)
		if g.reads.count >= s.cfg.RequestsMax {
			s.refuseBusy(w)
			return
		}
		g.reads.add(w)
		s.waitFor(g)
		return
	}
	s.metrics.proposals.Add(1)
	if s.disk.full() {
		w.complete(smr.Result{}, ErrDiskFull)
		return
	}
	if s.watch.stalled {
		w.complete(smr.Result{}, ErrDiskStalled)
		return
	}
	if s.congested() || s.waiters.bytes+w.entry.Size() > s.cfg.InboxBytesMax {
		s.refuseBusy(w)
		return
	}
	request, ok := s.waiters.add(w, s.cfg.RequestsMax)
	if !ok {
		s.refuseBusy(w)
		return
	}
	w.entry.Origin, w.entry.Request = s.origin, request
	g.pend(w)
}

func (s *Shard) refuseBusy(w *waiter) {
	s.metrics.busy.Add(1)
	w.complete(smr.Result{}, ErrBusy)
}

// congested says that the log cannot keep up: what would add to it is refused.
func (s *Shard) congested() bool { return s.log.Buffered() > s.cfg.LogBufferBytesMax }

// frame takes what a peer sent in one of its turns, and returns the number of
// items. A frame that cannot be read is dropped from the bad item on, and counted.
// kept says that somebody has kept memory of the frame: a block of a snapshot goes
// on to the job.
func (s *Shard) frame(now smr.Instant, from smr.ReplicaID, b []byte) (items int, kept bool) {
	s.metrics.frames.Add(1)
	if s.congested() {
		s.metrics.droppedFrames.Add(1)
		return 0, false
	}
	s.heard(now, from)
	if _, err := s.reader.Reset(b); err != nil {
		s.badFrame(from, err)
		return 0, false
	}
	defer s.item.Clear()
	for ; ; items++ {
		ok, err := s.reader.Next(&s.item)
		if err != nil {
			s.badFrame(from, err)
			return items, kept
		}
		if !ok {
			return items, kept
		}
		if s.item.Kind == wire.KindPulse {
			s.pulsed(now, from, s.item.Pulse.Life)
			continue
		}
		kept = kept || s.item.Kind == wire.KindSnapshotBlock
		s.deliver(now, from, &s.item)
	}
}

func (s *Shard) badFrame(from smr.ReplicaID, err error) {
	if s.metrics.badFrames.Add(1) == 1 {
		s.cfg.Logger.Warn("a peer sent a frame that cannot be read; is it of another version?", "peer", from.String(), "err", err)
	}
}

// deliver takes one item of a frame.
func (s *Shard) deliver(now smr.Instant, from smr.ReplicaID, it *wire.Item) {
	g := s.groups[groupOf(it)]
	if g == nil || g.failed != nil {
		return
	}
	s.activate(g)
	if it.Kind == wire.KindMessage {
		g.wokenBy(wokenMessage)
	} else {
		g.wake(now, wokenForward)
	}
	g.guard(func() {
		g.core.Clock(s.real)
		switch it.Kind {
		case wire.KindMessage:
			if it.Message.From == from && it.Message.To == s.id {
				g.core.Step(now, &it.Message)
			}
		case wire.KindForward:
			g.forwarded(now, from, &it.Forward)
		case wire.KindForwardReject:
			g.rejected(&it.ForwardReject)
		case wire.KindReadAsk:
			g.readAsked(now, from, &it.ReadAsk)
		case wire.KindReadReply:
			g.readIndexKnown(it.ReadReply.Ticket, it.ReadReply.Index, it.ReadReply.OK)
		case wire.KindSnapshotOffer:
			g.imageOffered(now, from, &it.SnapshotOffer)
		case wire.KindSnapshotFetch:
			g.blocksWanted(now, from, &it.SnapshotFetch)
		case wire.KindSnapshotBlock:
			g.blockCame(now, from, &it.SnapshotBlock)
		case wire.KindSnapshotStatus:
			g.imageStatus(now, from, &it.SnapshotStatus)
		}
	})
}

// groupOf is the group that an item is for.
func groupOf(it *wire.Item) smr.GroupID {
	switch it.Kind {
	case wire.KindMessage:
		return it.Message.Group
	case wire.KindForward:
		return it.Forward.Group
	case wire.KindForwardReject:
		return it.ForwardReject.Group
	case wire.KindReadAsk:
		return it.ReadAsk.Group
	case wire.KindReadReply:
		return it.ReadReply.Group
	case wire.KindSnapshotOffer:
		return it.SnapshotOffer.Group
	case wire.KindSnapshotFetch:
		return it.SnapshotFetch.Group
	case wire.KindSnapshotBlock:
		return it.SnapshotBlock.Group
	case wire.KindSnapshotStatus:
		return it.SnapshotStatus.Group
	}
	return 0
}

// sweep gives up the requests whose deadline has passed, by the host's time, and
// asks again for reads whose question or answer was lost.
func (s *Shard) sweep(real, now smr.Instant) {
	waiting := false
	for i := range s.waiters.slots {
		w := s.waiters.slots[i].w
		if w == nil {
			continue
		}
		if w.term == 0 || w.deadline > real {
			waiting = true
			continue
		}
		s.waiters.remove(w)
		w.complete(smr.Result{}, ErrOutcomeUnknown)
	}
	kept := s.waiting[:0]
	for _, g := range s.waiting {
		if g.failed == nil {
			g.reaskReads(now)
			g.expireReads(real)
			g.expirePending(real)
			if g.again || len(g.reads.fresh) > 0 || len(g.pending) > 0 {
				s.activate(g)
			}
		}
		if g.waits = g.reads.waiting() || len(g.pending) > 0; g.waits {
			kept = append(kept, g)
		}
	}
	clear(s.waiting[len(kept):])
	s.waiting = kept
	waiting = waiting || len(kept) > 0
	s.sweepAt = smr.Never
	if waiting {
		s.sweepAt = real.Add(sweepEvery)
	}
}

// waitFor has the sweeps look at a group.
func (s *Shard) waitFor(g *group) {
	if !g.waits {
		g.waits = true
		s.waiting = append(s.waiting, g)
	}
}

// expirePending gives up the proposals that no leader was asked to take in time.
func (g *group) expirePending(now smr.Instant) {
	var err error
	g.pending = slices.DeleteFunc(g.pending, func(w *waiter) bool {
		if w.deadline > now {
			return false
		}
		if err == nil {
			err = g.noLeader()
		}
		g.shard.waiters.remove(w)
		w.complete(smr.Result{}, err)
		return true
	})
}

// fail stops all groups of the shard: its log is gone.
func (s *Shard) fail(err error) {
	if s.failed != nil {
		return
	}
	s.failed = err
	s.inbox.stop(err)
	s.cfg.Logger.Error("the shard has stopped", "shard", s.number, "err", err)
	for _, e := range s.deadlines {
		e.g.fail(err)
	}
}

// jobEntriesMax bounds the entries that the jobs in s.jobs have room for, of
// about 130 bytes each.
const jobEntriesMax = 1 << 15

// takeJob returns a job with room for n entries.
func (s *Shard) takeJob(g *group, n int) *applyJob {
	var job *applyJob
	if k := len(s.jobs); k > 0 {
		job = s.jobs[k-1]
		s.jobs[k-1] = nil
		s.jobs = s.jobs[:k-1]
		s.jobEntries -= cap(job.entries)
	} else {
		job = new(applyJob)
	}
	job.group = g
	job.entries, job.waiters = slices.Grow(job.entries, n), slices.Grow(job.waiters, n)
	return job
}

func (s *Shard) putJob(job *applyJob) {
	if s.jobEntries+cap(job.entries) <= jobEntriesMax && cap(job.entries) > 0 {
		job.recycle()
		s.jobs = append(s.jobs, job)
		s.jobEntries += cap(job.entries)
	}
}
