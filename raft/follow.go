package raft

import "github.com/quorate/quorate/smr"

// following is what a follower owes its leader. It begins anew with each term,
// and a term has one leader.
//
// Invariants:
//
//	(F1) acked <= matched: entries up to matched agree with the leader's log,
//	     up to acked they have been acknowledged
//	(F2) commit <= matched, for the leader has every committed entry (leader
//	     completeness, Raft §5.4.3)
type following struct {
	term    uint64
	matched uint64
	acked   uint64
	// ackOwed: the leader waits for an answer, even if it says nothing new.
	ackOwed bool
	// rejectOwed: the append after rejected does not match.
	rejectOwed bool
	rejected   uint64
	// beatOwed: the heartbeat of round is to be answered; gap: the leader had
	// sent more before it than has come.
	beatOwed bool
	round    uint64
	gap      bool
}

func (f *following) begin(term, commit uint64) {
	*f = following{term: term, matched: commit}
}

// stepFromLeader handles what only the leader of the term sends.
func (r *Raft) stepFromLeader(m *Message) {
	if r.role == Leader {
		r.fail(1, "replica %d leads term %d too", m.From, m.Term)
	}
	if m.Type == MsgTimeoutNow {
		if r.leader == m.From && r.mayStand() {
			// Thesis §3.10: the target "starts a new election immediately",
			// without a pre-vote, for its leader is alive.
			r.becomeCandidate(true)
		}
		return
	}
	r.becomeFollower(m.Term, m.From)
	switch m.Type {
	case MsgAppend:
		r.stepAppend(m)
	case MsgHeartbeat:
		r.stepHeartbeat(m)
	case MsgSnapshot:
		// The image comes by another way. If it is not needed, the
		// acknowledgement says so.
		r.follow.ackOwed = true
	}
}

// stepAppend is Raft Figure 2's AppendEntries.
func (r *Raft) stepAppend(m *Message) {
	if !validAppend(m) {
		return
	}
	f := &r.follow
	lastNew := m.Index + uint64(len(m.Entries))
	if !r.matches(m.Index, m.LogTerm) && m.Index >= r.log.snapshot.Index {
		if m.Index <= f.matched {
			r.fail(2, "the leader's entry (%d, %d) contradicts one that it has", m.Index, m.LogTerm)
		}
		f.rejectOwed, f.rejected = true, m.Index
		return
	}
	entries := m.Entries
	for len(entries) > 0 && entries[0].Index <= r.log.last && r.has(&entries[0]) {
		entries = entries[1:]
	}
	if len(entries) > 0 {
		r.takeOver(entries)
	}
	f.matched = max(f.matched, lastNew)
	if min(f.matched, r.durable()) >= lastNew {
		// Nothing to wait for: answer even if it is a repetition.
		f.ackOwed = true
	}
	// Raft Figure 2: "set commitIndex = min(leaderCommit, index of last new
	// entry)".
	r.commitTo(min(m.Commit, lastNew))
}

// matches reports whether the entry at index is of that term.
func (r *Raft) matches(index, term uint64) bool {
	t, ok := r.log.term(index)
	return ok && t == term
}

// has reports whether the log holds e. What matches already must.
func (r *Raft) has(e *smr.Entry) bool {
	if e.Index <= r.log.snapshot.Index || r.matches(e.Index, e.Term) {
		return true
	}
	if e.Index <= r.follow.matched {
		r.fail(2, "the leader's entry (%d, %d) contradicts one that it has", e.Index, e.Term)
	}
	return false
}

// takeOver appends a leader's entries, the first of which is new or conflicts
// (Raft §5.3: "delete the existing entry and all that follow it").
func (r *Raft) takeOver(entries []smr.Entry) {
	if first := entries[0].Index; first <= r.log.last {
		r.truncateLog(first - 1)
	}
	for i := range entries {
		e := &entries[i]
		r.log.append(e)
		if e.Kind == smr.KindConfiguration {
			c, _ := decodeConfiguration(e.Data) // validAppend has seen to it
			r.configurationAppended(e.Index, c)
		}
	}
}

// validAppend reports whether a leader can have sent m: indexes without a gap,
// terms that do not descend, configurations that can be decoded.
func validAppend(m *Message) bool {
	index, term := m.Index, m.LogTerm
	if m.LogTerm > m.Term || m.Index > 1<<62 {
		return false
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		index++
		if e.Index != index || e.Term < term || e.Term > m.Term {
			return false
		}
		term = e.Term
		if e.Kind == smr.KindConfiguration {
			if _, err := decodeConfiguration(e.Data); err != nil {
				return false
			}
		}
	}
	return true
}

// stepHeartbeat takes over the leader's commit index as far as the logs are
// known to agree, and looks for a gap.
func (r *Raft) stepHeartbeat(m *Message) {
	f := &r.follow
	r.commitTo(min(m.Commit, f.matched))
	if m.Round == 0 || m.Round < f.round {
		return
	}
	f.round, f.beatOwed = m.Round, true
	f.gap = m.Index > f.matched
	r.promise()
	r.restWith(m)
}

// commitTo moves the commit index forward.
func (r *Raft) commitTo(index uint64) {
	if index > r.hard.Commit {
		r.hard.Commit = index
		r.follow.matched = max(r.follow.matched, index)
	}
}

// durable is the index up to which the log counts as on disk.
func (r *Raft) durable() uint64 {
	if r.off.has(offSync) {
		return r.log.last
	}
	return r.log.persisted
}

// takeAnswers builds what a follower owes its leader: at most one of each kind
// a turn. A rejection goes first, so that an acknowledgement which makes it
// obsolete comes last.
func (r *Raft) takeAnswers() {
	f := &r.follow
	if r.leader == 0 || r.role != Follower {
		return
	}
	if f.rejectOwed {
		m := Message{Type: MsgAppendReply, Reject: true, Index: f.rejected}
		m.ConflictIndex, m.ConflictTerm = r.hint(f.rejected)
		r.sendTo(r.leader, m)
	}
	// A leader counts what it is told as persisted.
	ack := min(f.matched, r.durable())
	if f.ackOwed || ack > f.acked {
		r.sendTo(r.leader, Message{Type: MsgAppendReply, Index: ack})
	}
	if f.beatOwed {
		m := Message{Type: MsgHeartbeatReply, Round: f.round, Index: ack, Rest: r.rest.on}
		if f.gap {
			m.Reject, m.ConflictIndex = true, f.matched+1
		}
		r.sendTo(r.leader, m)
		if r.lease.real != 0 {
			r.sendTo(r.leader, Message{Type: MsgPromise, Round: f.round, Index: uint64(r.cfg.ElectionTimeout)})
		}
	}
	f.acked = max(f.acked, ack)
	f.ackOwed, f.rejectOwed, f.beatOwed, f.gap = false, false, false, false
}

// hint says where an append that does not match after index may (Raft §5.3:
// "the follower can include the term of the conflicting entry and the first
// index it stores for that term").
func (r *Raft) hint(index uint64) (conflictIndex, conflictTerm uint64) {
	switch {
	case index <= r.follow.matched: // the gap has been filled since
		return r.follow.matched + 1, 0
	case r.off.has(offConflictHint):
		return 0, 0
	case index > r.log.last:
		return r.log.last + 1, 0
	}
	term, _ := r.log.term(index)
	return r.log.firstOfTerm(index), term
}
