package raft

import "github.com/quorate/quorate/smr"

// reads are the linearizable reads that wait for an answer (thesis §6.4). The
// read index of a ticket is the leader's commit index when its round begins;
// the round is confirmed once a quorum has answered a heartbeat of it, and with
// it all earlier ones, for heartbeats of a round are sent only after its
// tickets came in. Rounds are numbered from 1 within a term.
//
// Invariants:
//
//	(Q1) tickets are in the order they came in; the first started of them
//	     belong to rounds, which ascend; the others wait for one
//	(Q2) no round is above round
type reads struct {
	round   uint64
	tickets []ticket
	started int
	// ready were answered under a lease when they came in.
	ready  []ReadReady
	failed []uint64
}

type ticket struct{ ticket, index, round uint64 }

func (q *reads) begin() {
	q.failAll()
	q.round = 1
}

// failAll gives up all tickets: this replica cannot answer them any more.
func (q *reads) failAll() {
	for i := range q.tickets {
		q.failed = append(q.failed, q.tickets[i].ticket)
	}
	q.tickets, q.started = q.tickets[:0], 0
}

// ReadIndex asks from which index on a read is linearizable. The answer is an
// Output.Reads or Output.ReadsFailed with the ticket; the tickets of one turn
// share one round of heartbeats, or need none under a lease. It returns ErrNotLeader, or ErrBusy at
// ReadTicketsMax.
func (r *Raft) ReadIndex(now smr.Instant, t uint64) error {
	r.at(now)
	switch {
	case r.role != Leader:
		return ErrNotLeader
	case r.HoldsLease(r.lease.real) && r.ownTermCommitted():
		r.reads.ready = append(r.reads.ready, ReadReady{t, r.hard.Commit})
		return nil
	case len(r.reads.tickets) >= r.cfg.ReadTicketsMax:
		return ErrBusy
	}
	r.wake()
	r.reads.tickets = append(r.reads.tickets, ticket{ticket: t})
	return nil
}

// startReads begins a round for the tickets that wait for one, and reports
// whether it did. Thesis §6.4: "If the leader has not yet marked an entry from
// its current term committed, it waits until it has done so."
func (r *Raft) startReads() bool {
	q := &r.reads
	if q.started == len(q.tickets) || !r.ownTermCommitted() {
		return false
	}
	r.beginRound()
	for i := q.started; i < len(q.tickets); i++ {
		q.tickets[i].index, q.tickets[i].round = r.hard.Commit, q.round
	}
	q.started = len(q.tickets)
	return true
}

// ownTermCommitted reports whether a leader knows of all that was committed before it.
func (r *Raft) ownTermCommitted() bool {
	return r.hard.Commit >= r.lead.termStart || r.off.has(offOwnTermRead)
}

// takeReads answers the tickets whose rounds a quorum has confirmed.
func (r *Raft) takeReads(out *Output) {
	q := &r.reads
	confirmed := q.round
	if q.started == 0 {
		return
	}
	if !r.off.has(offReadQuorum) {
		confirmed = r.members.reached(func(p *progress) uint64 {
			if p.id == r.cfg.ID {
				return q.round
			}
			return p.round
		})
	}
	n := 0
	for n < q.started && q.tickets[n].round <= confirmed {
		out.Reads = append(out.Reads, ReadReady{q.tickets[n].ticket, q.tickets[n].index})
		n++
	}
	q.tickets = append(q.tickets[:0], q.tickets[n:]...)
	q.started -= n
}
