package raft

import (
	"time"

	"github.com/quorate/quorate/smr"
)

// election is what a replica needs to decide when to stand, and whom to refuse.
type election struct {
	// deadline is when this replica stands, unless it hears of a leader.
	deadline smr.Instant
	// heard is when the leader of the current term was last heard.
	heard smr.Instant
	// ownVote: the candidate's own vote is not counted yet, since it is not on
	// disk.
	ownVote bool
	// lostUntil: until then the leader is known to be lost, not only silent, or
	// this replica has just begun; so a refused or lost pre-vote is tried again
	// soon: the voter may find out, or begin, a moment later.
	lostUntil smr.Instant
}

// drawTimeout sets the deadline anew, by a timeout between one and two
// ElectionTimeouts (Raft §5.2: "election timeouts are chosen randomly from a
// fixed interval").
func (r *Raft) drawTimeout() {
	t := r.cfg.ElectionTimeout
	r.election.deadline = r.now.Add(t + r.random(t))
}

// random returns a random duration in [0, d), zero if randomisation is off.
func (r *Raft) random(d time.Duration) time.Duration {
	if r.off.has(offRandomisation) || d <= 0 {
		return 0
	}
	return time.Duration(r.rng.Uint64() % uint64(d))
}

// hearsLeader reports whether a leader has been heard within the least election
// timeout, so that no vote is to be given. A leader hears itself while it
// reaches a quorum.
func (r *Raft) hearsLeader() bool {
	if r.rest.on {
		return true // its host is vouched for
	}
	if r.role == Leader {
		return r.now < r.quorumHeard().Add(r.cfg.ElectionTimeout)
	}
	return r.leader != 0 && r.now < r.election.heard.Add(r.cfg.ElectionTimeout)
}

// Campaign makes the replica stand for election at once: it asks for pre-votes.
// It does nothing at a leader or a replica that may not stand.
func (r *Raft) Campaign(now smr.Instant) {
	r.at(now)
	if r.role != Leader && r.mayStand() {
		r.wake()
		r.campaign()
	}
	r.check()
}

// LeaderLost says that the connection to leader broke. If that is the leader of
// the current term, the replica no longer counts it as heard, and stands after
// a small random delay instead of a whole election timeout. Safety does not
// rest on it: it asks for pre-votes, and voters whose own connection to the
// leader is whole refuse.
func (r *Raft) LeaderLost(now smr.Instant, leader smr.ReplicaID) {
	r.at(now)
	if r.role == Leader || leader == 0 || r.leader != leader {
		return
	}
	var least time.Duration
	if r.rest.on {
		least = time.Duration(r.place(leader)) * r.cfg.ElectionTimeout / 2
	}
	r.wake()
	r.leader = 0
	r.election.lostUntil = r.now.Add(r.cfg.ElectionTimeout)
	r.standSoon(least)
	r.check()
}

// standSoon moves the deadline up to a small random delay after least from now,
// if it is later than that.
func (r *Raft) standSoon(least time.Duration) {
	soon := r.now.Add(least + r.random(r.cfg.ElectionTimeout/8))
	r.election.deadline = min(r.election.deadline, soon)
}

// campaign stands for election, by a pre-vote first: the term goes up only when
// a quorum would grant the vote (thesis §9.6).
func (r *Raft) campaign() {
	if r.boundItself() {
		return
	}
	if r.off.has(offPreVote) {
		r.becomeCandidate(false)
		return
	}
	r.role = PreCandidate
	r.leader = 0
	r.endCatchUp() // whoever has more offers it again
	r.drawTimeout()
	if r.now < r.election.lostUntil {
		r.standSoon(r.cfg.ElectionTimeout / 8)
	}
	r.members.resetBallots()
	if p := r.members.peer(r.cfg.ID); p != nil {
		p.ballot = granted
	}
	if r.members.won() {
		r.becomeCandidate(false)
		return
	}
	r.askBallots(Message{Type: MsgPreVote, Term: r.hard.Term + 1})
}

// becomeCandidate raises the term and votes for itself. The requests wait at
// the gate until that is on disk, and so does its own vote.
func (r *Raft) becomeCandidate(force bool) {
	r.role = Candidate
	r.leader = 0
	r.setTerm(r.hard.Term+1, r.cfg.ID)
	r.drawTimeout()
	r.members.resetBallots()
	r.askBallots(Message{Type: MsgVote, Term: r.hard.Term, Force: force})
	r.election.ownVote = true
	r.countOwnVote()
}

// countOwnVote counts a candidate's own vote once it is on disk.
func (r *Raft) countOwnVote() {
	if r.role != Candidate || !r.election.ownVote || !r.gateOpen() {
		return
	}
	r.election.ownVote = false
	if p := r.members.peer(r.cfg.ID); p != nil {
		p.ballot = granted
	}
	if r.members.won() {
		r.becomeLeader()
	}
}

func (m *membership) resetBallots() {
	for i := range m.peers {
		m.peers[i].ballot = unknown
	}
}

// askBallots sends a request for votes to every voter. Learners are not asked.
func (r *Raft) askBallots(m Message) {
	m.Index, m.LogTerm = r.log.last, r.log.lastTerm()
	for i := range r.members.peers {
		p := &r.members.peers[i]
		if p.id != r.cfg.ID && (isVoter(p.role) || isVoter(p.old)) {
			m.To = p.id
			r.send(m)
		}
	}
}

// upToDate reports whether a candidate's log is at least as up-to-date as this
// one (Raft §5.4.1: "If the logs have last entries with different terms, then
// the log with the later term is more up-to-date. If the logs end with the same
// term, then whichever log is longer is more up-to-date").
func (r *Raft) upToDate(m *Message) bool {
	term := r.log.lastTerm()
	return m.LogTerm > term || m.LogTerm == term && m.Index >= r.log.last
}

// stepPreVote answers whether a vote would be granted. Nothing changes here,
// neither the term nor the vote. But a candidate whose log is behind tells that
// another replica has lost the leader too, and cannot be elected by this one: so
// this one stands soon, if it hears no leader itself, and offers its log to the
// candidate, in case that it cannot reach a quorum either.
func (r *Raft) stepPreVote(m *Message) {
	free := m.Term > r.hard.Term || r.hard.Vote == m.From || r.hard.Vote == 0 && r.leader == 0
	if free && !r.hearsLeader() && !r.bound(m.From) && r.upToDate(m) {
		r.reply(m, Message{Type: MsgPreVoteReply, Term: m.Term})
		return
	}
	r.refusePreVote(m)
}

func (r *Raft) refusePreVote(m *Message) {
	refusal := Message{Type: MsgPreVoteReply, Reject: true}
	if !r.hearsLeader() && !r.upToDate(m) {
		if (r.role == Follower || r.role == PreCandidate) && r.mayStand() {
			r.standSoon(0)
		}
		r.offer(&refusal)
	}
	r.reply(m, refusal)
}

// stepVote answers a request of the current term. A learner answers too: the
// candidate may know that it has become a voter before it knows itself (thesis
// §4.1: servers process requests "without consulting their current
// configurations"). Whether the vote counts is up to the candidate.
func (r *Raft) stepVote(m *Message) {
	free := r.hard.Vote == m.From || r.hard.Vote == 0 && r.leader == 0
	if !free || !r.upToDate(m) || !m.Force && r.bound(m.From) {
		r.reply(m, Message{Type: MsgVoteReply, Reject: true})
		return
	}
	if r.hard.Vote == 0 {
		r.hard.Vote, r.hard.dirty = m.From, true
	}
	r.drawTimeout()
	r.reply(m, Message{Type: MsgVoteReply})
}

// stepBallot counts an answer.
func (r *Raft) stepBallot(m *Message) {
	p := r.members.peer(m.From)
	switch {
	case p == nil:
		return
	case m.Type == MsgVoteReply && r.role != Candidate:
		return
	case m.Type == MsgPreVoteReply && r.role != PreCandidate:
		return
	case m.Type == MsgPreVoteReply && !m.Reject && m.Term != r.hard.Term+1:
		return // of an earlier pre-vote
	}
	if m.Reject {
		p.ballot = refused
	} else {
		p.ballot = granted
	}
	switch {
	case r.members.won() && r.role == PreCandidate:
		r.becomeCandidate(false)
	case r.members.won():
		r.becomeLeader()
	case r.members.lost():
		// The timer goes on: this replica stands again when it ends.
		r.role = Follower
	}
}
