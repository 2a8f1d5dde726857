package raft

import (
	"time"

	"github.com/quorate/quorate/smr"
)

// lease lets a leader answer reads without asking anybody (thesis §6.4.1). Each answer
// to a heartbeat is a promise: for one ElectionTimeout from now on its sender votes for
// nobody else. With the promises of a quorum nobody else can be elected, so the leader
// knows of every write that anybody was told of, until the first of them may end: by
// its own clock an ElectionTimeout after it began that round of heartbeats, less what
// two clocks may disagree on.
//
// A promise holds whatever happens to its sender: it stands for no election itself,
// the end of a connection to the leader does not release it, and as nothing of it is on
// disk, who begins gives no vote for as long as a promise of an earlier life might last.
// A transfer overrides promises, so a leader that has told anybody to stand has no lease
// for the rest of its term.
//
// Two clocks are looked at. now may be behind the host's own clock and be held up for a
// while; real is what that clock showed when everything that this turn sees had come in.
// A leader goes by real alone. A promise ends when it is over by both.
//
// Invariants:
//
//	(L1) until, of a leader, is at most the real time at which a round of its term
//	     began, and its length; and a quorum of the configuration in force, and of all
//	     that came since, has answered that round with a promise
//	(L2) begun ascends in both
type lease struct {
	real smr.Instant // zero: the host has told none, and nothing is promised or held

	// Of a follower: it votes for nobody but to until both have passed.
	to                     smr.ReplicaID // zero: for nobody at all
	promised, promisedReal smr.Instant

	// Of a leader.
	until smr.Instant
	begun []roundBegun // the newest rounds, at most leaseRounds
	over  bool         // there is no lease for the rest of the term
}

type roundBegun struct {
	round uint64
	real  smr.Instant
}

// leaseRounds bounds the rounds whose beginning is remembered. Of more than that under
// way, the later ones count as begun with the last that is.
const leaseRounds = 16

// clockDriftScale is what Config.ClockDriftMax counts in.
const clockDriftScale = 1_000_000

// Clock tells the host's own clock. With Config.LeaderLease a host calls it at the
// beginning of each turn, after it has taken out of its inbox what the turn will see.
func (r *Raft) Clock(real smr.Instant) {
	l := &r.lease
	if !r.cfg.LeaderLease {
		return
	}
	if real < l.real {
		r.voidLease() // nothing that was measured by it is worth anything
	}
	if l.real == 0 {
		l.promisedReal = real.Add(r.cfg.ElectionTimeout) // an earlier life may have promised
	}
	l.real = real
}

// HoldsLease reports whether this replica leads and no other can, at an instant of the
// host's own clock that is not before what Clock was told last.
func (r *Raft) HoldsLease(real smr.Instant) bool {
	l := &r.lease
	return r.role == Leader && real < l.until && !l.over
}

// leaseLength is for how long a round of heartbeats gives a lease. While a slow clock
// shows that, a fast one shows no more than an ElectionTimeout.
func (r *Raft) leaseLength() time.Duration {
	t, drift := r.cfg.ElectionTimeout, time.Duration(r.cfg.ClockDriftMax)
	if r.off.has(offLeaseBound) {
		return 10 * t
	}
	return t * (clockDriftScale - drift) / (clockDriftScale + drift)
}

// beginRound begins a round of heartbeats.
func (r *Raft) beginRound() {
	l := &r.lease
	r.reads.round++
	if l.real != 0 && len(l.begun) < leaseRounds {
		l.begun = append(l.begun, roundBegun{r.reads.round, l.real})
	}
}

// voidLease forgets all that was promised to a leader.
func (r *Raft) voidLease() {
	l := &r.lease
	l.until, l.begun = 0, l.begun[:0]
}

// renewLease counts the promises.
func (r *Raft) renewLease() {
	l := &r.lease
	if len(l.begun) == 0 {
		return
	}
	confirmed := r.members.reached(func(p *progress) uint64 {
		if p.id == r.cfg.ID {
			return r.reads.round
		}
		return p.promised
	})
	n := 0
	for n < len(l.begun) && l.begun[n].round <= confirmed {
		l.until = l.begun[n].real.Add(r.leaseLength())
		n++
	}
	l.begun = append(l.begun[:0], l.begun[n:]...)
}

// stepPromise counts an answer of a follower that will elect nobody else.
func (r *Raft) stepPromise(m *Message) {
	p := r.members.peer(m.From)
	if r.role != Leader || p == nil || m.Index < uint64(r.cfg.ElectionTimeout) {
		return
	}
	p.promised = max(p.promised, min(m.Round, r.reads.round))
}

// promise is made when a heartbeat comes in, and sent with the answer to it.
func (r *Raft) promise() {
	l := &r.lease
	if l.real == 0 {
		return
	}
	t := r.cfg.ElectionTimeout
	l.to = r.leader
	l.promised, l.promisedReal = r.now.Add(t), l.real.Add(t)
}

// bound reports whether a promise forbids to vote for a candidate.
func (r *Raft) bound(candidate smr.ReplicaID) bool {
	l := &r.lease
	if !r.cfg.LeaderLease || candidate == l.to || r.off.has(offLeaseBound) {
		return false
	}
	return r.now < l.promised || l.real < l.promisedReal
}

// boundItself reports whether a promise forbids this replica to stand, and puts it off.
func (r *Raft) boundItself() bool {
	if !r.bound(r.cfg.ID) {
		return false
	}
	t := r.cfg.ElectionTimeout
	r.election.deadline = max(r.lease.promised, r.now.Add(t/16)) + smr.Instant(r.random(t/8))
	return true
}
