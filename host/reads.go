package host

import (
	"slices"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wire"
)

// reads are a group's linearizable reads (thesis §6.4). All reads of one turn
// share one ticket; a ticket is never given to other reads, not even by a host that
// restarts: tickets count up from a number drawn at the start, so an answer to
// an old question is never taken for one to a new question. A question that is
// asked again has its ticket still: all reads under it were there when it was asked
// first, so that every answer to it serves them, however late it comes.
//
// A read goes through three stages: fresh (no ticket yet), asked (its index is
// not known yet), ready (waits until the state machine has applied its index).
//
// Invariants: asked is ascending by ticket; count is the number of waiters in
// the three stages.
type reads struct {
	count      int
	lastTicket uint64
	fresh      []*waiter
	asked      []readBatch
	ready      []readBatch
	remote     []remoteRead
	spare      [][]*waiter
}

// readBatch is the reads under one ticket.
type readBatch struct {
	ticket  uint64
	index   uint64
	term    uint64
	at      smr.Instant
	waiters []*waiter
}

// remoteRead is a ticket that this replica, leading, took for another one.
type remoteRead struct {
	ticket uint64 // ours
	from   smr.ReplicaID
	theirs uint64
}

func (r *reads) add(w *waiter) {
	r.fresh = append(r.fresh, w)
	r.count++
}

// askReads gives the fresh reads a ticket and asks the leader for their index,
// which may be this replica.
func (g *group) askReads(now smr.Instant) {
	r := &g.reads
	if len(r.fresh) == 0 {
		return
	}
	v := g.core.State()
	r.lastTicket++
	switch {
	case v.Leader == g.shard.id && g.core.ReadIndex(now, r.lastTicket) == nil:
		if g.core.HoldsLease(g.shard.real) {
			g.shard.metrics.leaseReads.Add(uint64(len(r.fresh)))
		}
	case v.Leader != 0 && v.Leader != g.shard.id:
		g.askLeader(v, r.lastTicket)
	default:
		return // no leader: they stay fresh until there is one, or their deadline
	}
	r.asked = append(r.asked, readBatch{ticket: r.lastTicket, term: v.Term, at: now, waiters: r.fresh})
	r.fresh = r.takeSpare()
}

func (g *group) askLeader(v raft.State, ticket uint64) {
	f := g.shard.out.frame(v.Leader)
	f.B = wire.AppendReadAsk(f.B, &wire.ReadAsk{Group: g.id, Term: v.Term, Ticket: ticket})
}

// readAsked is another replica's question: this one answers it if it leads.
func (g *group) readAsked(now smr.Instant, from smr.ReplicaID, ask *wire.ReadAsk) {
	r := &g.reads
	r.lastTicket++
	if g.core.ReadIndex(now, r.lastTicket) != nil {
		g.replyRead(from, ask.Ticket, 0, false)
		return
	}
	r.remote = append(r.remote, remoteRead{ticket: r.lastTicket, from: from, theirs: ask.Ticket})
}

func (g *group) replyRead(to smr.ReplicaID, ticket, index uint64, ok bool) {
	f := g.shard.out.frame(to)
	f.B = wire.AppendReadReply(f.B, &wire.ReadReply{Group: g.id, Ticket: ticket, Index: index, OK: ok})
}

// readIndexKnown is the answer to a ticket: ok says that index is known, else
// the question must be asked again.
func (g *group) readIndexKnown(ticket, index uint64, ok bool) {
	r := &g.reads
	if i := slices.IndexFunc(r.remote, func(m remoteRead) bool { return m.ticket == ticket }); i >= 0 {
		m := r.remote[i]
		r.remote = slices.Delete(r.remote, i, i+1)
		g.replyRead(m.from, m.theirs, index, ok)
		return
	}
	i := slices.IndexFunc(r.asked, func(b readBatch) bool { return b.ticket == ticket })
	if i < 0 {
		return // answered before, or given up
	}
	b := r.asked[i]
	r.asked = slices.Delete(r.asked, i, i+1)
	if !ok {
		r.fresh = append(r.fresh, b.waiters...)
		r.putSpare(b.waiters)
		g.again = true
		return
	}
	b.index = index
	r.ready = append(r.ready, b)
	g.completeReads()
}

// completeReads answers the reads whose index has been applied.
func (g *group) completeReads() {
	r := &g.reads
	kept := r.ready[:0]
	for _, b := range r.ready {
		if b.index > g.applied && !g.shard.without.ApplyWait {
			kept = append(kept, b)
			continue
		}
		for _, w := range b.waiters {
			w.complete(smr.Result{Value: b.index}, nil)
		}
		r.count -= len(b.waiters)
		r.putSpare(b.waiters)
	}
	clear(r.ready[len(kept):])
	r.ready = kept
}

// reaskReads makes fresh again what was asked of another term's leader, and asks
// again what was asked so long ago that question or answer may have been lost. It may
// be under way still: a leader whose answers take longer than an election timeout is
// one as long as its heartbeats come. What this replica asked of itself is not lost.
func (g *group) reaskReads(now smr.Instant) {
	r := &g.reads
	v := g.core.State()
	kept := r.asked[:0]
	for _, b := range r.asked {
		switch {
		case len(b.waiters) == 0: // their deadlines have passed
			r.putSpare(b.waiters)
			continue
		case b.term != v.Term:
			r.fresh = append(r.fresh, b.waiters...)
			r.putSpare(b.waiters)
			g.again = true
			continue
		case v.Leader != 0 && v.Leader != g.shard.id && now.Sub(b.at) >= g.shard.cfg.ElectionTimeout:
			g.askLeader(v, b.ticket)
			b.at = now
		}
		kept = append(kept, b)
	}
	clear(r.asked[len(kept):])
	r.asked = kept
}

// expireReads gives up the reads whose deadline has passed.
func (g *group) expireReads(now smr.Instant) {
	r := &g.reads
	r.fresh = g.expire(now, r.fresh, (*group).noLeader)
	for i := range r.asked {
		r.asked[i].waiters = g.expire(now, r.asked[i].waiters, (*group).noLeader)
	}
	for i := range r.ready {
		r.ready[i].waiters = g.expire(now, r.ready[i].waiters, func(*group) error { return ErrApplyLag })
	}
}

// expire answers the reads among ws that are too late with what why returns, and
// returns the others.
func (g *group) expire(now smr.Instant, ws []*waiter, why func(*group) error) []*waiter {
	var err error
	return slices.DeleteFunc(ws, func(w *waiter) bool {
		if w.deadline > now {
			return false
		}
		if err == nil {
			err = why(g)
		}
		w.complete(smr.Result{}, err)
		g.reads.count--
		return true
	})
}

// failReads answers every read with err.
func (g *group) failReads(err error) {
	r := &g.reads
	fail := func(ws []*waiter) {
		for _, w := range ws {
			w.complete(smr.Result{}, err)
		}
	}
	fail(r.fresh)
	for _, b := range r.asked {
		fail(b.waiters)
	}
	for _, b := range r.ready {
		fail(b.waiters)
	}
	*r = reads{lastTicket: r.lastTicket}
}

// waiting reports whether a read waits for anything.
func (r *reads) waiting() bool { return r.count > 0 }

func (r *reads) takeSpare() []*waiter {
	n := len(r.spare)
	if n == 0 {
		return nil
	}
	s := r.spare[n-1]
	r.spare = r.spare[:n-1]
	return s
}

func (r *reads) putSpare(ws []*waiter) {
	if len(r.spare) < 16 && cap(ws) <= 4096 {
		clear(ws)
		r.spare = append(r.spare, ws[:0])
	}
}
