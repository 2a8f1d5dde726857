package host

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wire"
)

// proposeBytesMax is how much is handed to the core at once, and put into one
// Forward. Smaller than the core's limit on what is uncommitted, so that a batch
// that does not fit is refused in part, not whole.
const proposeBytesMax = 1 << 20

// group drives one replica of one group: it carries what comes in to the core,
// and what the core wants done to the log, the network and the worker. It is
// owned by its shard; the fields that others use say so.
//
// Invariants:
//
//  1. A proposal that waits is in pending (its term is zero), or was given to
//     the leader of its term, never both.
//  2. committedTerm is the term of the newest committed entry that this replica
//     has seen; no waiter has a term below it that is not zero (the term fence).
//  3. applied never exceeds what was handed to the worker.
type group struct {
	id      smr.GroupID
	shard   *Shard
	core    *raft.Raft
	out     *raft.Output     // the shard's: each turn fills it anew
	machine smr.StateMachine // used by the worker's goroutine, and for Lookup
	worker  *Worker

	active  bool  // stands in shard.active
	again   bool  // the turn found more to do for the next one
	waits   bool  // stands in shard.waiting
	resting bool  // was at rest after its last turn
	cause   woken // of what has ended its rest since
	heapPos int   // in shard.deadlines
	failed  error // set once: the group answers everything with it

	pending []*waiter
	scratch []smr.Entry
	// refusedTerm is a term whose leader said that it leads no more: it is not
	// asked again in that term.
	refusedTerm   uint64
	committedTerm uint64
	applied       uint64
	leader        smr.ReplicaID
	// led is the last leader known, and the term that it led: zero if none was.
	led struct {
		by   smr.ReplicaID
		term uint64
	}
	reads reads

	// When an operator was told that the log is damaged, and when leadership was
	// handed over because of that. Zero: never.
	damagedAt, gaveAwayAt smr.Instant

	images images

	view view // written by shard and worker, read by anyone

	full bool // the disk of the state machine is; counted in shard.disk

	queued *applyJob // guarded by worker.mu
	// Owned by the worker: why the machine is broken; whether its disk was found
	// full, and then the jobs that wait for room, in order.
	machineErr  error
	machineFull bool
	held        []*applyJob
	idles       bool // stands in worker.idle
}

// view is what anybody may know of a group at any time, without asking its
// shard.
type view struct {
	role, term, leader, commit, applied, first, last, persisted, leaderChanges atomic.Uint64
	// Of SnapshotStatus.
	newest, receiving, blocks atomic.Uint64
	taking, restoring         atomic.Bool
}

// turn is one pass: what came in goes to the core, what the core wants done is
// done. A violated invariant of the core stops this group and no other.
func (g *group) turn(now smr.Instant) {
	g.active, g.again = false, false
	if g.failed != nil {
		g.refuseAll()
		return
	}
	defer g.failOnPanic()
	g.core.Clock(g.shard.real)
	if g.core.Deadline() <= now {
		g.core.Tick(now)
	}
	g.propose(now)
	g.askReads(now)
	g.tickImages(now)
	g.core.Take(g.out)
	g.carryOut(now)
}

// failOnPanic, deferred, stops the group alone when its core finds a violated
// invariant.
func (g *group) failOnPanic() {
	if r := recover(); r != nil {
		g.fail(newPanicError("core", r))
	}
}

// carryOut does what the core wants done.
func (g *group) carryOut(now smr.Instant) {
	o := g.out
	for i := range o.Messages {
		f := g.shard.out.frame(o.Messages[i].To)
		f.B = wire.AppendMessage(f.B, &o.Messages[i])
	}
	if o.Restore != nil {
		g.accepted(o.Restore, o.Append.Seq)
	}
	if a := &o.Append; a.Seq != 0 {
		var hs *smr.HardState
		if a.HardStateSet {
			hs = &a.HardState
		}
		g.shard.log.Append(g.id, a.Seq, hs, a.Entries)
	}
	if len(o.Committed) > 0 {
		g.commit()
	}
	for _, r := range o.Reads {
		g.readIndexKnown(r.Ticket, r.Index, true)
	}
	for _, t := range o.ReadsFailed {
		g.readIndexKnown(t, 0, false)
	}
	for _, f := range o.Fetches {
		g.shard.fetcher.push(&fetchJob{group: g, want: f})
	}
	for _, to := range o.Snapshots {
		g.needImage(now, to)
	}
	if o.Changed {
		g.changed(now)
	}
	g.again = g.again || o.More
	g.publish()
}

// changed follows a change of term, role or leader.
func (g *group) changed(now smr.Instant) {
	v := g.core.State()
	if v.Leader != g.leader {
		g.leader = v.Leader
		if v.Leader != 0 {
			g.view.leaderChanges.Add(1)
			g.led.by, g.led.term = v.Leader, v.Term
			g.shard.cfg.Logger.Info("leader", "group", g.id, "leader", v.Leader.String(), "term", v.Term)
		} else {
			g.shard.cfg.Logger.Info("no leader", "group", g.id, "term", v.Term, "last", g.led.by.String(), "lastTerm", g.led.term)
		}
	}
	if v.Role != raft.Leader {
		g.dropSends()
	}
	g.shard.follow(now, g)
	g.reaskReads(now)
	if v.Leader != 0 && len(g.pending)+len(g.reads.fresh) > 0 {
		g.again = true
	}
}

// noLeader is ErrNoLeader with what this replica knows.
func (g *group) noLeader() error {
	term := g.core.State().Term
	if g.led.by == 0 {
		return fmt.Errorf("%w; it has known none since it started, and is in term %d", ErrNoLeader, term)
	}
	return fmt.Errorf("%w; the last one known is %s, of term %d, and it is in term %d", ErrNoLeader, g.led.by, g.led.term, term)
}

func (g *group) publish() {
	g.publishImages()
	v := g.core.State()
	g.view.role.Store(uint64(v.Role))
	g.view.term.Store(v.Term)
	g.view.leader.Store(uint64(v.Leader))
	g.view.commit.Store(v.Commit)
	g.view.first.Store(v.First)
	g.view.last.Store(v.Last)
	g.view.persisted.Store(v.Persisted)
}

// propose gives the pending proposals to the leader: this replica, or the one
// that leads the term it knows of.
func (g *group) propose(now smr.Instant) {
	if len(g.pending) == 0 {
		return
	}
	v := g.core.State()
	switch {
	case v.Role == raft.Leader:
		g.eachBatch(func(ws []*waiter) { g.proposeBatch(now, v.Term, ws) })
	case v.Leader != 0 && v.Leader != g.shard.id && v.Term != g.refusedTerm:
		g.eachBatch(func(ws []*waiter) { g.forwardBatch(v.Leader, v.Term, ws) })
	}
}

// pend lets proposals wait until it is known who leads.
func (g *group) pend(ws ...*waiter) {
	g.pending = append(g.pending, ws...)
	g.shard.waitFor(g)
}

// eachBatch takes the pending proposals in batches, their entries in g.scratch.
func (g *group) eachBatch(give func([]*waiter)) {
	all := g.pending
	g.pending = g.pending[:0]
	for from, at, size := 0, 0, 0; at < len(all); {
		w := all[at]
		g.scratch = append(g.scratch, w.entry)
		size += w.entry.Size()
		at++
		if at == len(all) || size >= proposeBytesMax {
			give(all[from:at])
			clear(g.scratch)
			g.scratch = g.scratch[:0]
			from, size = at, 0
		}
	}
	clear(all[len(g.pending):])
}

func (g *group) proposeBatch(now smr.Instant, term uint64, ws []*waiter) {
	switch err := g.core.Propose(now, g.scratch); {
	case errors.Is(err, raft.ErrBusy):
		for _, w := range ws {
			g.shard.waiters.remove(w)
			w.complete(smr.Result{}, ErrBusy)
		}
		g.shard.metrics.busy.Add(uint64(len(ws)))
		return
	case err != nil: // leadership is being handed over: held until it is known who leads
		g.pend(ws...)
		return
	}
	for _, w := range ws {
		w.term = term
	}
}

func (g *group) forwardBatch(to smr.ReplicaID, term uint64, ws []*waiter) {
	f := g.shard.out.frame(to)
	f.B = wire.AppendForward(f.B, &wire.Forward{Group: g.id, Term: term, Entries: g.scratch})
	for _, w := range ws {
		w.term = term
	}
	g.shard.metrics.forwarded.Add(uint64(len(ws)))
}

// forwarded is proposals of another replica. They are taken only in the term
// that they are meant for: the term fence rests on it.
func (g *group) forwarded(now smr.Instant, from smr.ReplicaID, f *wire.Forward) {
	reason := wire.RejectNotLeader
	if v := g.core.State(); v.Role == raft.Leader && (v.Term == f.Term || g.shard.without.FenceTerm) {
		switch err := g.core.Propose(now, f.Entries); {
		case err == nil:
			return
		case errors.Is(err, raft.ErrBusy):
			reason = wire.RejectBusy
		default:
			reason = wire.RejectTransferring
		}
	}
	reject := wire.ForwardReject{Group: g.id, Term: f.Term, Reason: reason}
	for i := range f.Entries {
		reject.Origin = f.Entries[i].Origin
		reject.Requests = append(reject.Requests, f.Entries[i].Request)
	}
	out := g.shard.out.frame(from)
	out.B = wire.AppendForwardReject(out.B, &reject)
}

// rejected is the leader's answer that it did not take proposals.
func (g *group) rejected(r *wire.ForwardReject) {
	if r.Origin != g.shard.origin {
		return // of an earlier life of this host
	}
	for _, request := range r.Requests {
		w := g.shard.waiters.get(request)
		if w == nil || w.group != g || w.term != r.Term {
			continue // answered, expired, or proposed again since
		}
		if r.Reason == wire.RejectBusy {
			g.shard.waiters.remove(w)
			w.complete(smr.Result{}, ErrBusy)
			continue
		}
		w.term = 0
		g.pend(w)
	}
	if r.Reason == wire.RejectNotLeader && r.Term > g.refusedTerm {
		g.refusedTerm = r.Term
	}
}

// commit hands the newly committed entries to the worker, each with its waiter.
func (g *group) commit() {
	s := g.shard
	job := s.takeJob(g, len(g.out.Committed))
	fence := false
	for i := range g.out.Committed {
		e := &g.out.Committed[i]
		if e.Term > g.committedTerm {
			g.committedTerm, fence = e.Term, true
		}
		var w *waiter
		if e.Origin == s.origin {
			if w = s.waiters.get(e.Request); w != nil && w.group == g {
				s.waiters.remove(w)
			} else {
				w = nil
			}
		}
		job.entries = append(job.entries, smr.Committed{Entry: *e, Wanted: w != nil})
		job.waiters = append(job.waiters, w)
		g.images.grown += e.Size()
		s.relief.grown += int64(e.Size())
	}
	s.metrics.committed.Add(uint64(len(g.out.Committed)))
	if !g.worker.push(job) {
		s.putJob(job)
	}
	if fence {
		g.fence()
	}
}

// fence is reached when an entry of a new term has committed: proposals given to
// an earlier term that did not come out before it never will (see the package
// comment), and are pending again.
func (g *group) fence() {
	s := g.shard
	if s.without.Fence {
		return
	}
	for i := range s.waiters.slots {
		if w := s.waiters.slots[i].w; w != nil && w.group == g && w.term != 0 && w.term < g.committedTerm {
			w.term = 0
			g.pend(w)
			s.metrics.reproposed.Add(1)
		}
	}
	g.again = g.again || len(g.pending) > 0
}

// appliedUpTo is the worker's word that the state machine has come to index.
func (g *group) appliedUpTo(now smr.Instant, job *applyJob) {
	if job.err != nil {
		g.fail(job.err)
		return
	}
	if job.then != nil {
		job.then()
	}
	if job.last == 0 {
		return // it was for something else
	}
	g.applied = job.last
	g.core.Applied(job.last)
	g.completeReads()
	g.considerCompaction(now)
}

// fail stops this replica of the group. It says nothing more to anyone, as if it
// had crashed; the others elect without it.
func (g *group) fail(err error) {
	if g.failed != nil {
		return
	}
	if !errors.Is(err, ErrStopped) && !errors.Is(err, ErrLogFailed) {
		err = fmt.Errorf("%w: %w", ErrGroupFailed, err)
		about := []any{"group", g.id, "err", err}
		if p := (*panicError)(nil); errors.As(err, &p) {
			about = append(about, "stack", string(p.stack))
		}
		g.shard.cfg.Logger.Error("this replica of the group has stopped; other groups go on", about...)
	}
	g.failed = err
	if g.full {
		g.full = false
		g.shard.disk.states-- // the next try finds out what is left
	}
	g.view.role.Store(uint64(raft.Follower))
	g.view.leader.Store(0)
	g.refuseAll()
}

// refuseAll answers everything that waits with the reason of the failure.
func (g *group) refuseAll() {
	s := g.shard
	for i := range s.waiters.slots {
		w := s.waiters.slots[i].w
		if w == nil || w.group != g {
			continue
		}
		s.waiters.remove(w)
		if w.term == 0 {
			w.complete(smr.Result{}, g.failed)
		} else {
			w.complete(smr.Result{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, g.failed))
		}
	}
	g.pending = nil
	g.failReads(g.failed)
}
