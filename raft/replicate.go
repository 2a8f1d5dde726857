package raft

import "github.com/quorate/quorate/smr"

// leading is what only a leader has.
//
// Invariants, while leading:
//
//	(R1) termStart is the index of this term's empty entry, <= last
//	(R2) all entries after termStart are of this term (leader append-only)
type leading struct {
	termStart   uint64
	heartbeatAt smr.Instant
	beatDue     bool
	// quorumAt is when the leader steps down unless it hears from a quorum.
	quorumAt smr.Instant
	// transferee is who leadership is being handed to, until transferAt.
	transferee smr.ReplicaID
	transferAt smr.Instant
	toldToLead bool
}

func (l *leading) deadline(r *Raft) smr.Instant {
	d := smr.Never
	if len(r.members.peers) > 1 || r.members.peer(r.cfg.ID) == nil {
		d = l.heartbeatAt
		if !r.off.has(offCheckQuorum) {
			d = min(d, l.quorumAt)
		}
	}
	if l.transferee != 0 {
		d = min(d, l.transferAt)
	}
	return d
}

// becomeLeader begins to lead: nothing is known of the followers, and an empty
// entry of the new term commits what came before it (Raft §8).
func (r *Raft) becomeLeader() {
	r.role, r.leader = Leader, r.cfg.ID
	for i := range r.members.peers {
		r.members.peers[i].lead(r.log.last, r.now)
	}
	r.reads.begin()
	r.lease.over = false
	r.voidLease()
	r.lead = leading{
		termStart:   r.log.last + 1,
		heartbeatAt: r.now.Add(r.cfg.HeartbeatInterval),
		quorumAt:    r.now.Add(r.cfg.ElectionTimeout),
	}
	r.appendOwn(smr.Entry{Kind: smr.KindEmpty})
}

func (r *Raft) stopLeading() {
	r.reads.failAll()
	r.lead, r.rest = leading{}, rest{since: r.now}
	for i := range r.members.peers {
		r.members.peers[i].fetched = nil
	}
}

// appendOwn appends an entry that this leader has made itself.
func (r *Raft) appendOwn(e smr.Entry) {
	e.Index, e.Term = r.log.last+1, r.hard.Term
	r.log.append(&e)
}

// Propose appends commands to the leader's log: all of them or, with an error,
// none. It sets Index and Term in the caller's entries. Their Data is
// copied, and the slice may be reused.
//
// It returns ErrNotLeader; ErrBusy at UncommittedBytesMax, which a single batch
// may exceed if nothing else is uncommitted; ErrTransferring; ErrConfiguration
// for a configuration, which is ProposeConfiguration's.
func (r *Raft) Propose(now smr.Instant, entries []smr.Entry) error {
	r.at(now)
	switch {
	case r.role != Leader:
		return ErrNotLeader
	case r.lead.transferee != 0:
		return ErrTransferring
	}
	r.wake()
	bytes := 0
	for i := range entries {
		if entries[i].Kind == smr.KindConfiguration {
			return ErrConfiguration
		}
		bytes += entries[i].Size()
	}
	uncommitted := r.log.size(r.hard.Commit, r.log.last)
	if uncommitted > 0 && uncommitted+bytes > r.cfg.UncommittedBytesMax {
		return ErrBusy
	}
	for i := range entries {
		entries[i].Index, entries[i].Term = r.log.last+1, r.hard.Term
		r.log.append(&entries[i])
	}
	r.check()
	return nil
}

// tickLeader sends heartbeats when they are due, steps down without a quorum,
// and gives a transfer up that takes too long.
func (r *Raft) tickLeader() {
	l := &r.lead
	if l.transferee != 0 && r.now >= l.transferAt {
		l.transferee, l.toldToLead = 0, false
	}
	if r.now >= l.heartbeatAt {
		l.beatDue = true
		l.heartbeatAt = r.now.Add(r.cfg.HeartbeatInterval)
	}
	l.quorumAt = r.quorumHeard().Add(r.cfg.ElectionTimeout)
	if r.now >= l.quorumAt && !r.off.has(offCheckQuorum) {
		// Thesis §6.2: "a leader steps down if an election timeout elapses
		// without a successful round of heartbeats to a majority of its
		// cluster".
		r.becomeFollower(r.hard.Term, 0)
	}
}

// quorumHeard returns the latest instant since which a quorum has been heard.
func (r *Raft) quorumHeard() smr.Instant {
	const sign = 1 << 63 // so that unsigned order is that of instants
	return smr.Instant(sign ^ r.members.reached(func(p *progress) uint64 {
		if p.id == r.cfg.ID {
			return sign ^ uint64(r.now)
		}
		return sign ^ uint64(p.heard)
	}))
}

// stepFromFollower handles answers to appends and heartbeats.
func (r *Raft) stepFromFollower(m *Message) {
	p := r.members.peer(m.From)
	if r.role != Leader || p == nil {
		return
	}
	p.heard = r.now
	if m.Type == MsgHeartbeatReply {
		p.round = max(p.round, min(m.Round, r.reads.round))
		if m.Rest {
			p.rested = max(p.rested, min(m.Round, r.reads.round))
		}
	} else if m.Reject {
		r.stepReject(p, m)
		return
	}
	if m.Index <= r.log.last {
		p.acknowledge(m.Index)
	}
	if m.Reject && p.state == replicating && m.ConflictIndex > 0 && m.ConflictIndex < p.next {
		// An append was lost: go on from where the follower's log agrees.
		p.probe(p.match, m.ConflictIndex)
	}
}

// stepReject finds where a follower's log may agree (Raft §5.3). An answer to
// an append of long ago is told by its index.
func (r *Raft) stepReject(p *progress, m *Message) {
	switch {
	case m.Index <= p.match, m.Index >= p.next, p.state == snapshotting:
		return
	case p.state == probing && m.Index != p.next-1:
		return
	}
	p.probe(p.match, r.nextAfter(m))
}

// nextAfter returns where to try next after a rejection. With the hint, a round
// trip skips a whole term of conflicting entries, the follower's or this log's:
//
//   - This log has an entry of the conflicting term in the range in which the
//     follower's log has that term: two entries of equal index and term are
//     equal (log matching), so they agree up to there for certain.
//   - Otherwise they can agree only before the follower's first entry of that
//     term, on an entry of a lower term.
func (r *Raft) nextAfter(m *Message) uint64 {
	switch {
	case r.off.has(offConflictHint) || m.ConflictIndex == 0:
		return m.Index
	case m.ConflictTerm == 0:
		return min(m.Index, m.ConflictIndex)
	}
	i := r.log.lastBelow(m.Index-1, m.ConflictTerm)
	if t, _ := r.log.term(i); t == m.ConflictTerm && i >= m.ConflictIndex {
		return i + 1
	}
	return r.log.lastBelow(min(m.Index, m.ConflictIndex)-1, m.ConflictTerm-1) + 1
}

// Unreachable says that the connection to peer broke: what was sent last may be
// lost, so a leader finds out anew where the peer's log ends. A leader that rests
// goes on without the peer if it can, until Reachable.
func (r *Raft) Unreachable(now smr.Instant, peer smr.ReplicaID) {
	r.at(now)
	if p := r.members.peer(peer); r.role == Leader && p != nil {
		r.fellSilent(p)
		if p.state == replicating {
			p.probe(p.match, p.match+1)
		}
	}
	r.check()
}

// advanceCommit commits what a quorum has on disk. Raft §5.4.2: "Only log
// entries from the leader's current term are committed by counting replicas".
func (r *Raft) advanceCommit() {
	if self := r.members.peer(r.cfg.ID); self != nil {
		self.match = r.durable()
		self.next = self.match + 1
	}
	for {
		index := r.members.reached(func(p *progress) uint64 { return p.match })
		if index <= r.hard.Commit {
			return
		}
		if t, _ := r.log.term(index); t != r.hard.Term && !r.off.has(offOwnTermCommit) {
			return
		}
		r.commitTo(index)
		if a := r.members.active(); a.index <= index {
			r.configurationCommitted()
		}
		if r.role != Leader {
			return
		}
	}
}

// sendable is the index up to which entries may be sent to followers.
func (r *Raft) sendable() uint64 {
	if r.off.has(offParallelWrite) {
		return r.durable()
	}
	return r.log.last
}

// probeBytesMax bounds the entries of a probe, which may be sent in vain.
const probeBytesMax = 64 << 10

// takeAppends builds what the followers are to get.
func (r *Raft) takeAppends(out *Output) {
	for i := range r.members.peers {
		p := &r.members.peers[i]
		if p.id == r.cfg.ID {
			continue
		}
		if p.state != snapshotting && p.next <= r.log.snapshot.Index {
			r.needSnapshot(out, p)
		}
		switch p.state {
		case probing:
			r.takeProbe(out, p)
		case replicating:
			r.takeStream(out, p)
		}
		if told := min(r.hard.Commit, p.match); told > p.told {
			p.told = told
			r.emit(out, Message{Type: MsgHeartbeat, To: p.id, Commit: told})
		}
	}
}

// takeProbe sends one append, with entries if they are at hand.
func (r *Raft) takeProbe(out *Output, p *progress) {
	if p.paused {
		return
	}
	p.paused = true
	var entries []smr.Entry
	if last := r.sendable(); p.next >= r.log.first && p.next <= last {
		last = r.log.fit(p.next, last, min(probeBytesMax, r.cfg.AppendBytesMax), r.cfg.AppendEntriesMax)
		entries = r.out.slab.take(&r.log.tail, p.next, last)
	}
	r.emitAppend(out, p, p.next-1, entries)
}

// takeStream sends as many appends as there are entries and room in the window.
func (r *Raft) takeStream(out *Output, p *progress) {
	last := r.sendable()
	for p.next <= last && p.window.open(r.cfg.InflightBytesMax, r.cfg.InflightMessagesMax) {
		var entries []smr.Entry
		var bytes int
		if p.next >= r.log.first {
			to := r.log.fit(p.next, last, r.cfg.AppendBytesMax, r.cfg.AppendEntriesMax)
			entries = r.out.slab.take(&r.log.tail, p.next, to)
			bytes = r.log.size(p.next-1, to)
		} else if entries, bytes = r.nextFetched(out, p); len(entries) == 0 {
			return
		}
		r.emitAppend(out, p, p.next-1, entries)
		p.next += uint64(len(entries))
		p.window.add(p.next-1, bytes)
	}
}

func (r *Raft) emitAppend(out *Output, p *progress, prev uint64, entries []smr.Entry) {
	term, _ := r.log.term(prev)
	if p.match == prev || p.state == replicating {
		p.told = max(p.told, min(r.hard.Commit, prev+uint64(len(entries))))
	}
	r.emit(out, Message{Type: MsgAppend, To: p.id, Index: prev, LogTerm: term, Commit: r.hard.Commit, Entries: entries})
}

// takeHeartbeats sends a round of heartbeats, if it is time for one or a read
// waits for one. Only those of the timer wake a paused probe and look for gaps.
func (r *Raft) takeHeartbeats(out *Output, round bool) {
	due := r.lead.beatDue
	r.lead.beatDue = false
	if !due && !round {
		return
	}
	mark := due && r.markRest()
	for i := range r.members.peers {
		p := &r.members.peers[i]
		if p.id == r.cfg.ID || !due && !isVoter(p.role) && !isVoter(p.old) {
			continue
		}
		commit := min(r.hard.Commit, p.match)
		p.told = max(p.told, commit)
		m := Message{Type: MsgHeartbeat, To: p.id, Round: r.reads.round, Index: p.mark, Commit: commit}
		if mark {
			m.Rest, m.Index, m.LogTerm = true, r.log.last, r.log.lastTerm()
		}
		r.emit(out, m)
		if !due {
			continue
		}
		p.paused = false
		if p.state == replicating {
			p.mark = p.next - 1
		}
		if p.fetchFailed {
			p.fetching, p.fetchFailed = false, false
		}
	}
}
