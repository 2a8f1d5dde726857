package raft

import "github.com/quorate/quorate/smr"

// Election catch-up: where the only replica that reaches a quorum has an old
// log, nobody can be elected by Raft's rules alone (Howard and Abraham 2020; Ng
// et al. 2023, "constrained election"). So a voter that refuses a pre-vote for
// its longer log, and hears no leader, says in the refusal where that log ends:
// an offer. The candidate asks for the entries that it lacks and stands again.
//
//	candidate             voter
//	    | ---- pre-vote ---> |   behind; the voter hears no leader
//	    | <- refusal, offer  |   Index, LogTerm: where the voter's log ends
//	    | --- suffix-ask --> |   Index, LogTerm: an entry of the candidate's log
//	    | <---- suffix ----- |   entries after one that both may have
//	    |        ...         |   one ask at a time, until the log is as long
//	    | ---- pre-vote ---> |   granted
//
// Why this keeps Raft's properties is in docs/election-catch-up.md. It rests on
// four rules, cited below by number:
//
//	(K1) what is taken over is a piece of one log, after an entry that both have
//	(K2) that log is more up-to-date than the one that it replaces the end of
//	(K3) nothing that agrees with the leader of the current term, or is
//	     committed, is replaced: no index up to following.matched (but see
//	     leaveTerm)
//	(K4) nothing is acknowledged: matched stays as it is, and so does the timer
//	     of the leader
//
// The terms of the two messages themselves do not matter. They neither raise a
// term nor are they ignored for an old one.
type catchUp struct {
	// from is the voter that entries are being taken from, zero: none. Its log
	// ends at end. round numbers the asks: only the answer to the newest counts.
	from  smr.ReplicaID
	end   position
	round uint64
	// to is the candidate that has asked this replica for the entries after
	// wanted, zero: nobody. fetched are entries that came from disk for it.
	to      smr.ReplicaID
	wanted  position
	reply   uint64 // its round
	fetched []smr.Entry
}

// position is an entry's index and term, or a log by its last entry.
type position struct{ index, term uint64 }

// after reports whether a log that ends at p is more up-to-date than one that
// ends at o (Raft §5.4.1).
func (p position) after(o position) bool {
	return p.term > o.term || p.term == o.term && p.index > o.index
}

func (r *Raft) end() position { return position{r.log.last, r.log.lastTerm()} }

// offer adds to the refusal of a pre-vote where this replica's log ends. The
// caller has seen to it that the candidate's log is behind and that no leader is
// heard.
func (r *Raft) offer(refusal *Message) {
	if r.role == Leader || r.off.has(offElectionCatchUp) {
		return
	}
	refusal.Index, refusal.LogTerm = r.log.last, r.log.lastTerm()
}

// mayCatchUp reports whether this replica takes entries from another voter: it
// would stand, and hears no leader to take them from.
func (r *Raft) mayCatchUp() bool {
	return r.role <= PreCandidate && !r.hearsLeader() && r.mayStand() && !r.off.has(offElectionCatchUp)
}

// stepOffer asks a voter that has refused a pre-vote for what its log has more.
// A better offer takes the place of another one.
func (r *Raft) stepOffer(m *Message) {
	end := position{m.Index, m.LogTerm}
	if p := r.members.peer(m.From); p != nil && m.Reject && end.term > 0 && p.ballot != granted {
		p.ballot = offered
	}
	if !m.Reject || !r.mayCatchUp() || !end.after(r.end()) || end.term > r.hard.Term {
		return
	}
	c := &r.catch
	if c.from != 0 && c.from != m.From && !end.after(c.end) {
		return
	}
	c.from, c.end = m.From, end
	r.askSuffix(r.end())
}

func (r *Raft) askSuffix(at position) {
	c := &r.catch
	c.round++
	r.sendTo(c.from, Message{Type: MsgSuffixAsk, Index: at.index, LogTerm: at.term, Round: c.round})
}

// stepSuffix takes entries over from another voter's log. Each message says all
// that its safety rests on, so one of an earlier ask is as good; but only the
// answer to the newest leads to another ask.
func (r *Raft) stepSuffix(m *Message) {
	end := position{m.ConflictIndex, m.ConflictTerm}
	// (K2) The term of this replica is at least that of every entry it gets.
	if !r.mayCatchUp() || !validSuffix(m) || !end.after(r.end()) || end.term > r.hard.Term {
		return
	}
	newest := m.From == r.catch.from && m.Round == r.catch.round
	if m.Index >= r.log.snapshot.Index && !r.matches(m.Index, m.LogTerm) {
		if newest {
			r.askBefore(m)
		}
		return
	}
	entries := m.Entries
	for len(entries) > 0 && (entries[0].Index <= r.log.snapshot.Index || r.matches(entries[0].Index, entries[0].Term)) {
		entries = entries[1:]
	}
	if len(entries) > 0 {
		if entries[0].Index <= r.follow.matched && !(newest && r.leaveTerm(entries[0].Index)) {
			return // (K3)
		}
		r.takeOver(entries) // (K1), (K4)
	}
	switch {
	case !end.after(r.end()):
		r.endCatchUp()
		// The voter may stand too, and if it can win it does so before.
		r.standSoon(r.cfg.ElectionTimeout / 4)
	case newest:
		last := &m.Entries[len(m.Entries)-1]
		r.askSuffix(position{last.Index, last.Term})
	}
}

// askBefore asks again, for an earlier entry: the logs differ at the one that m
// follows. They can agree only on an entry before, of a term not above the one
// that the voter has there.
func (r *Raft) askBefore(m *Message) {
	if m.Index <= r.follow.matched && !r.leaveTerm(m.Index) {
		r.endCatchUp() // (K3)
		return
	}
	at := max(r.log.lastBelow(m.Index-1, m.LogTerm), r.follow.matched)
	term, _ := r.log.term(at)
	r.askSuffix(position{at, term})
}

// leaveTerm moves to the next term, so that what agrees with the leader of the
// current one is no longer bound to stay, but for what is committed, and reports
// whether that frees index. As with a pre-vote that is won, the term goes up only
// when a quorum hears no leader: nobody is deposed by it. Without this the leader
// of a term that is gone, which had begun to repair this log, could keep it from
// ever being repaired by anybody else.
func (r *Raft) leaveTerm(index uint64) bool {
	if index <= r.hard.Commit || !r.members.leaderless() {
		return false
	}
	c := r.catch
	r.becomeFollower(r.hard.Term+1, 0)
	r.catch = c
	return true
}

// validSuffix reports whether m can be a piece of a log that ends as it says.
func validSuffix(m *Message) bool {
	n := len(m.Entries)
	if n == 0 || !validAppend(m) || m.ConflictTerm > m.Term {
		return false
	}
	last := &m.Entries[n-1]
	return last.Term <= m.ConflictTerm && last.Index <= m.ConflictIndex &&
		(last.Index < m.ConflictIndex || last.Term == m.ConflictTerm)
}

// endCatchUp ends the taking over. The numbers of the asks go on.
func (r *Raft) endCatchUp() { r.catch.from, r.catch.end = 0, position{} }

// stepSuffixAsk notes what a candidate wants. The newest ask alone is answered;
// one that goes unanswered comes again with the candidate's next pre-vote.
func (r *Raft) stepSuffixAsk(m *Message) {
	if r.role == Leader || r.hearsLeader() || r.off.has(offElectionCatchUp) || r.members.peer(m.From) == nil {
		return
	}
	at := position{m.Index, m.LogTerm}
	if !r.matches(at.index, at.term) {
		// As in nextAfter: go back to an entry that the candidate may have.
		at.index = r.log.lastBelow(min(at.index, r.log.last), at.term)
		at.term, _ = r.log.term(at.index)
	}
	if at.index < r.log.snapshot.Index || at.index >= r.log.last {
		return // the log does not reach back, or there is nothing to give
	}
	c := &r.catch
	c.to, c.wanted, c.reply, c.fetched = m.From, at, m.Round, nil
}

// takeSuffix sends what a candidate has asked for, at most two appends' worth.
func (r *Raft) takeSuffix(out *Output) {
	c := &r.catch
	if c.to == 0 {
		return
	}
	p := r.members.peer(c.to)
	if p == nil || r.role == Leader || c.wanted.index >= r.log.last || !r.matches(c.wanted.index, c.wanted.term) {
		c.to, c.fetched = 0, nil
		return
	}
	var entries []smr.Entry
	if first := c.wanted.index + 1; first >= r.log.first {
		to := r.log.fit(first, r.log.last, r.fetchBytesMax(), r.cfg.AppendEntriesMax)
		entries = r.out.slab.take(&r.log.tail, first, to)
	} else if n := r.usable(c.fetched, first, r.log.last); n > 0 {
		entries = c.fetched[:min(n, r.cfg.AppendEntriesMax)]
	} else {
		r.fetchSuffix(out, p)
		return
	}
	out.Messages = append(out.Messages, Message{
		Type: MsgSuffix, Group: r.cfg.Group, From: r.cfg.ID, To: c.to, Term: r.hard.Term, Round: c.reply,
		Index: c.wanted.index, LogTerm: c.wanted.term, Entries: entries,
		ConflictIndex: r.log.last, ConflictTerm: r.log.lastTerm(),
	})
	c.to, c.fetched = 0, nil
}

// fetchSuffix asks for entries that are no longer in memory, unless a fetch for
// that replica is open.
func (r *Raft) fetchSuffix(out *Output, p *progress) {
	if p.fetching && !p.fetchFailed {
		return
	}
	p.fetching, p.fetchFailed = true, false
	out.Fetches = append(out.Fetches, Fetch{To: p.id, First: r.catch.wanted.index + 1, Last: r.log.first - 1, BytesMax: r.fetchBytesMax()})
}

// suffixFetched takes the entries of a fetch that ends while this replica does
// not lead.
func (r *Raft) suffixFetched(p *progress, entries []smr.Entry, failed bool) {
	p.fetching, p.fetchFailed = false, false
	switch c := &r.catch; {
	case c.to != p.id:
	case failed:
		c.to = 0
	default:
		c.fetched = entries
	}
}
