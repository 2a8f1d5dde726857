package raft

import (
	"time"

	"github.com/quorate/quorate/smr"
)

// Rest: a group in which nothing happens need not prove every few milliseconds
// that nothing happens. Its leader says so in a last round of heartbeats, marked
// Rest; a follower that has everything stops its election timer; and when all
// have answered at rest, the leader stops its own. Hosts then vouch for one
// another, once for all groups that they share, and tell the cores by LeaderLost,
// Unreachable and Reachable.
//
//	leader                     follower
//	   | -- heartbeat, Rest -----> |   Index, LogTerm: where the leader's log ends
//	   | <- heartbeat-reply, Rest- |   it ends there too, persisted and committed
//	  rests                      rests
//	   | <------ pre-vote ---      |   or a proposal, a read, a lost host:
//	   | -- heartbeat -----------> |   whatever happens wakes
//
// No safety rests on heartbeats here: there are no leases by time, a read index
// asks a quorum each time, and a vote is judged by term and log alone. What rest
// can harm is liveness. docs/resting-groups.md has the argument.
//
// Invariants, while on:
//
//	(Z1) the log is whole: last == persisted == commit == applied, and the term
//	     and vote are on disk
//	(Z2) a leader's configuration is committed and not joint; no read, no
//	     transfer waits
//	(Z3) of a leader's members, those that are not silent have match == told ==
//	     last and nothing under way, and are a quorum
//	(Z4) a follower knows its leader, and its log agrees with the leader's to
//	     its end: matched == last
type rest struct {
	on bool
	// until: a leader renews its rest then; a follower no longer believes in it.
	until smr.Instant
	// since is when something happened last: a leader that has had nothing to do
	// for a heartbeat interval lets the group rest.
	since smr.Instant
	// round is the first of the rounds marked Rest since then; zero: none.
	round uint64
}

// restMissed is how many renewals a follower lets go by.
const restMissed = 3

// Resting reports whether this replica rests: it wants no Tick for long, sends
// nothing, and its host must tell it of hosts that fall silent.
func (r *Raft) Resting() bool { return r.rest.on }

// Wake ends the rest of this replica, and puts the next one off: something is
// about to happen. A follower that wakes counts its leader as heard, begins a new
// timeout, and tells the leader. It is called by every call that needs it; hosts
// call it for what the core does not see, a request that is forwarded for one.
func (r *Raft) Wake(now smr.Instant) {
	r.at(now)
	r.wake()
	r.check()
}

func (r *Raft) wake() {
	z := &r.rest
	z.since, z.round = r.now, 0
	if !z.on {
		return
	}
	z.on, z.until = false, 0
	if r.role != Leader {
		r.election.heard = r.now
		r.drawTimeout()
		r.follow.ackOwed = true
		return
	}
	r.lead.heartbeatAt = r.now.Add(r.cfg.HeartbeatInterval)
	r.lead.quorumAt = r.now.Add(r.cfg.ElectionTimeout)
	for i := range r.members.peers {
		p := &r.members.peers[i]
		if !p.silent {
			p.heard = r.now // its host was vouched for until now
		}
	}
}

// wakeAll wakes a leader that rests, and its followers by a heartbeat at once.
func (r *Raft) wakeAll() {
	resting := r.rest.on
	r.wake()
	r.lead.beatDue = r.lead.beatDue || resting && r.role == Leader
}

// disturbedBy wakes this replica for a message that has come in. What belongs to
// resting itself is no disturbance. Nor is a pre-vote of a replica that is no
// member, which nobody can need as long as nothing happens in the group: it may
// not know that it was removed, and ask for ever.
func (r *Raft) disturbedBy(m *Message) {
	p := r.members.peer(m.From)
	if p != nil && p.silent {
		p.silent = false
		r.wakeAll() // it may lack something
		return
	}
	switch {
	case m.Rest && m.Term == r.hard.Term && (m.Type == MsgHeartbeat && r.leader == m.From || m.Type == MsgHeartbeatReply):
	case m.Type == MsgHeartbeatReply && !r.rest.on:
	case m.Type == MsgPreVote && p == nil:
	case m.Type == MsgPromise:
	default:
		r.wakeAll()
	}
}

// tickRest does what is due for a replica that rests.
func (r *Raft) tickRest() {
	if !r.rest.on || r.now < r.rest.until {
		return
	}
	r.release()
	r.wake()
	if r.role == Leader {
		// Renewed by another round of the same kind, after which it rests again.
		r.rest.since = r.now.Add(-r.cfg.HeartbeatInterval)
		r.lead.heartbeatAt = r.now
	}
}

// whole reports (Z1).
func (r *Raft) whole() bool {
	last := r.log.last
	return r.log.persisted == last && r.hard.Commit == last && r.apply.applied == last && r.gateOpen()
}

// calm reports whether a leader has nothing left to do. A member whose host is
// silent does not hold the others up, if they are a quorum: a host that is gone
// must not keep all of its groups awake. The leader wakes when that host is heard
// again. One that only does not answer does hold them up: it may hear, and stand
// for nothing but the lack of heartbeats, as a follower whose disk is full.
func (r *Raft) calm() bool {
	last := r.log.last
	if !r.whole() || last < r.lead.termStart || r.lead.transferee != 0 || len(r.reads.tickets) > 0 || r.members.joint {
		return false
	}
	for i := range r.members.peers {
		p := &r.members.peers[i]
		if p.id != r.cfg.ID && !p.silent && !p.settled(last) {
			return false
		}
	}
	return r.speaking(nil)
}

// speaking reports whether the members whose hosts are not silent, but for one,
// are a quorum.
func (r *Raft) speaking(without *progress) bool {
	return r.members.reached(func(p *progress) uint64 {
		if p != without && (p.id == r.cfg.ID || !p.silent) {
			return 1
		}
		return 0
	}) == 1
}

// hears reports whether a leader has heard from the member within an election
// timeout, or its host was vouched for all along.
func (r *Raft) hears(now smr.Instant, p *progress) bool {
	if r.rest.on {
		return !p.silent
	}
	return now < p.heard.Add(r.cfg.ElectionTimeout)
}

// settled reports whether there is nothing to be sent to a member or under way.
func (p *progress) settled(last uint64) bool {
	return p.state == replicating && p.match == last && p.told == last && p.window.n == 0 && !p.fetching && p.fetched == nil
}

// markRest reports whether the timer's round of heartbeats that is about to be
// sent is to be marked Rest.
func (r *Raft) markRest() bool {
	z := &r.rest
	if !r.cfg.Rest || !r.calm() || r.now.Sub(z.since) < r.cfg.HeartbeatInterval {
		z.round = 0
		return false
	}
	if z.round == 0 {
		r.beginRound() // so that no earlier answer counts
		z.round = r.reads.round
	}
	return true
}

// takeRest lets a leader rest once every member that is not absent does. What a
// follower that woke meanwhile sends has made round zero, or comes later and wakes.
func (r *Raft) takeRest() {
	z := &r.rest
	if z.round == 0 || !r.calm() {
		return
	}
	for i := range r.members.peers {
		p := &r.members.peers[i]
		if p.id != r.cfg.ID && !p.silent && p.rested < z.round {
			return
		}
	}
	// Spread, so that what began to rest together is not renewed together.
	every := r.cfg.RestRenewal
	r.fallAsleep(every/2 + time.Duration(r.rng.Uint64()%uint64(every/2)))
}

// restWith lets a follower rest with its leader, or not.
func (r *Raft) restWith(m *Message) {
	last := r.log.last
	if m.Rest && r.cfg.Rest && m.Index == last && r.matches(last, m.LogTerm) && r.follow.matched == last && r.whole() {
		if r.rest.on {
			r.release()
		}
		r.fallAsleep(restMissed * r.cfg.RestRenewal)
	} else {
		r.wake()
	}
}

func (r *Raft) fallAsleep(d time.Duration) {
	r.rest = rest{on: true, until: r.now.Add(d)}
}

// release gives memory back that a replica at rest can do without: its log is on
// disk and applied. It is called when a rest is renewed, not when it begins, so
// that a group with pauses keeps what it needs again in a moment.
func (r *Raft) release() {
	r.log.tail.empty(r.log.last + 1)
	r.out.slab = slab{first: 1}
	for i := range r.members.peers {
		if p := &r.members.peers[i]; p.window.n == 0 {
			p.window = window{}
		}
	}
}

// place is how many voters stand before this one when a group at rest loses its
// leader. All of them learn of it at once, in thousands of groups, so chance would
// let two stand in most; and at rest every log is as good. The order is another
// one in each group.
func (r *Raft) place(lost smr.ReplicaID) (n int) {
	turn := func(id smr.ReplicaID) uint64 {
		return (uint64(r.cfg.Group) ^ uint64(id)*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	}
	for i := range r.members.peers {
		p := &r.members.peers[i]
		if p.id != r.cfg.ID && p.id != lost && isVoter(p.role) && turn(p.id) < turn(r.cfg.ID) {
			n++
		}
	}
	return n
}

// Reachable says that the host of peer is heard again. A leader that rests
// without it wakes, to see what it lacks.
func (r *Raft) Reachable(now smr.Instant, peer smr.ReplicaID) {
	r.at(now)
	if p := r.members.peer(peer); r.role == Leader && p != nil && p.silent {
		p.silent = false
		r.wakeAll()
	}
	r.check()
}

// fellSilent notes that a leader's member cannot be reached. If the others are no
// quorum a leader that rests wakes, and steps down unless it hears from one.
func (r *Raft) fellSilent(p *progress) {
	if r.rest.on && !r.speaking(p) {
		r.wakeAll()
	}
	p.silent = true
}

func (r *Raft) checkRest() {
	l := &r.log
	if !r.cfg.Rest || !r.whole() {
		r.fail(13, "it rests with last %d, persisted %d, commit %d, applied %d", l.last, l.persisted, r.hard.Commit, r.apply.applied)
	}
	if r.role != Leader {
		if r.role != Follower || r.leader == 0 || r.follow.matched != l.last {
			r.fail(13, "a %v of leader %d rests, matched %d of %d", r.role, r.leader, r.follow.matched, l.last)
		}
		return
	}
	if r.lead.transferee != 0 || len(r.reads.tickets) > 0 || r.members.joint || r.members.active().index > r.hard.Commit {
		r.fail(13, "a leader rests in the middle of something")
	}
	if !r.speaking(nil) {
		r.fail(13, "a leader rests without a quorum")
	}
	for i := range r.members.peers {
		if p := &r.members.peers[i]; p.id != r.cfg.ID && !p.silent && !p.settled(l.last) {
			r.fail(13, "a leader rests, replica %d is not settled: match %d, told %d", p.id, p.match, p.told)
		}
	}
}
