package sim

import (
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wire"
)

// The checks of whole hosts against their ghosts: of every frame that leaves, of
// every restart, commit and apply. They are those of checks.go, where the disk is
// a list of numbered writes and the core's log is seen as it is.

// spoken is an entry of a leader's log, as its appends have told it.
type spoken struct {
	leaderTerm, term uint64
}

// frameReader decodes frames again and again into the same memory.
type frameReader struct {
	reader wire.Reader
	item   wire.Item
}

// each reads a frame, item by item, up to where it cannot be read. An item is valid
// until the next one.
func (r *frameReader) each(b []byte, do func(it *wire.Item)) (shard uint32, err error) {
	if shard, err = r.reader.Reset(b); err != nil {
		return 0, err
	}
	for {
		ok, err := r.reader.Next(&r.item)
		if err != nil || !ok {
			return shard, err
		}
		do(&r.item)
	}
}

// checkFrame looks at everything that a host says to another one.
func (w *fullWorld) checkFrame(h *simHost, b []byte) {
	_, err := w.frames.each(b, func(it *wire.Item) {
		if it.Kind == wire.KindMessage {
			w.checkHostMessage(h, &it.Message)
		}
	})
	if err != nil {
		w.fail(Contract, ids(h.id), "sends a frame that cannot be read: %v", err)
	}
}

// checkHostMessage: no message rests on a write that is not on disk, a replica
// votes once in a term, across restarts, and a leader's log only grows.
func (w *fullWorld) checkHostMessage(h *simHost, m *raft.Message) {
	if m.From != h.id || m.Group == 0 || uint64(m.Group) > uint64(len(w.groups)) {
		w.fail(Contract, ids(h.id), "sends %s", messageText(m))
		return
	}
	group, l := w.groups[m.Group-1], &h.ghost.logs[m.Group-1]
	switch m.Type {
	case raft.MsgVote:
		group.checkVote(h, l, m.Term, h.id)
	case raft.MsgVoteReply:
		if !m.Reject {
			group.checkVote(h, l, m.Term, m.To)
		}
	case raft.MsgAppendReply:
		if !m.Reject {
			group.checkAcknowledged(h, l, m)
		}
	case raft.MsgHeartbeatReply:
		if m.Index > 0 {
			group.checkAcknowledged(h, l, m)
		}
	case raft.MsgAppend:
		group.checkAppend(h, m)
		w.checkCommit(h, group, m.Term, m.Commit)
	case raft.MsgHeartbeat:
		w.checkCommit(h, group, m.Term, m.Commit)
	}
}

func (g *simGroup) checkVote(h *simHost, l *ghostLog, term uint64, candidate smr.ReplicaID) {
	if l.hs.Term < term || l.hs.Term == term && l.hs.Vote != candidate {
		g.fail(Unpersisted, ids(h.id), "speaks of its vote for %d in term %d, on its disk is %+v", candidate, term, l.hs)
	}
	for i := len(l.votes) - 1; i >= 0; i-- {
		if l.votes[i].term != term {
			continue
		}
		if l.votes[i].candidate != candidate {
			g.fail(Monotonic, ids(h.id), "votes for %d in term %d, and has voted for %d", candidate, term, l.votes[i].candidate)
		}
		return
	}
	l.votes = append(l.votes, vote{term, candidate})
}

// checkAcknowledged: what a replica acknowledges is on its disk, and is what the
// leader has there.
func (g *simGroup) checkAcknowledged(h *simHost, l *ghostLog, m *raft.Message) {
	h.w.marks.hit(MarkDurableAck)
	if l.hs.Term < m.Term {
		g.fail(Unpersisted, ids(h.id), "acknowledges in term %d, on its disk is term %d", m.Term, l.hs.Term)
	}
	if m.Index <= l.start {
		return
	}
	if m.Index > l.last() {
		g.fail(Unpersisted, ids(h.id), "acknowledges %d, on its disk the log ends at %d", m.Index, l.last())
		return
	}
	if s := g.spokenOf(m.Index); s.leaderTerm == m.Term && s.term != l.termOrZero(m.Index) {
		g.fail(Unpersisted, ids(h.id), "acknowledges %d in term %d, whose leader has an entry of term %d there; on its disk is one of term %d", m.Index, m.Term, s.term, l.termOrZero(m.Index))
	}
}

// checkAppend notes what a leader says of its log: (index, term) names one entry
// and one predecessor, a leader overwrites nothing, and it has what was committed
// before its term.
func (g *simGroup) checkAppend(h *simHost, m *raft.Message) {
	if who := g.leader(m.Term); who != 0 && who != h.id {
		g.fail(ElectionSafety, ids(who, h.id), "two leaders of term %d", m.Term)
	}
	prev := m.LogTerm
	if m.Index > 0 {
		g.speaks(h, m.Term, m.Index, prev)
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		g.appended(h.id, e, prev)
		g.speaks(h, m.Term, e.Index, e.Term)
		prev = e.Term
	}
}

func (g *simGroup) speaks(h *simHost, leaderTerm, index, term uint64) {
	for uint64(len(g.spoken)) <= index {
		g.spoken = append(g.spoken, spoken{})
	}
	s := &g.spoken[index]
	if s.leaderTerm == leaderTerm && s.term != term {
		g.fail(LeaderAppendOnly, ids(h.id), "the leader of term %d sends entry %d of term %d, and has sent one of term %d", leaderTerm, index, term, s.term)
	}
	if s.leaderTerm <= leaderTerm {
		*s = spoken{leaderTerm, term}
	}
	if index <= uint64(len(g.commits)) {
		if c := &g.commits[index-1]; c.in < leaderTerm && c.term != term {
			g.fail(LeaderCompleteness, ids(h.id), "the leader of term %d has entry %d of term %d, committed is one of term %d", leaderTerm, index, term, c.term)
		}
	}
}

func (g *simGroup) spokenOf(index uint64) spoken {
	if index >= uint64(len(g.spoken)) {
		return spoken{}
	}
	return g.spoken[index]
}

// checkCommit: what a replica takes for committed is on disk, synced, on a quorum,
// and there in the version of the leader of that term as far as it is known.
func (w *fullWorld) checkCommit(h *simHost, g *simGroup, term, commit uint64) {
	for i := g.maxCommit + 1; i <= commit; i++ {
		w.marks.hit(MarkDurableCommit)
		if s := g.spokenOf(i); s.leaderTerm == term {
			w.checkQuorum(h, g, i, s.term)
			continue
		}
		most := 0
		for _, p := range w.hosts {
			most = max(most, w.onDisk(g, i, p.ghost.logs[g.id-1].termOrZero(i)))
		}
		if need := len(w.hosts)/2 + 1; most < need {
			g.fail(CommitQuorum, ids(h.id), "entry %d is committed, and on disk in the same version on %d hosts of %d at most", i, most, need)
		}
	}
	g.maxCommit = max(g.maxCommit, commit)
}

// onDisk counts the hosts that have the entry of that term on disk, or a snapshot
// that contains it.
func (w *fullWorld) onDisk(g *simGroup, index, term uint64) (n int) {
	for _, p := range w.hosts {
		if l := &p.ghost.logs[g.id-1]; index <= l.start || term > 0 && l.termOrZero(index) == term {
			n++
		}
	}
	return n
}

func (w *fullWorld) checkQuorum(h *simHost, g *simGroup, index, term uint64) {
	if have, need := w.onDisk(g, index, term), len(w.hosts)/2+1; have < need {
		g.fail(CommitQuorum, ids(h.id), "entry %d of term %d is committed and on disk on %d hosts of %d", index, term, have, need)
	}
}

// checkApply: what is applied is on this host's disk, and what is applied first on
// those of a quorum.
func (w *fullWorld) checkApply(h *simHost, g *simGroup, e *smr.Entry) {
	if l := &h.ghost.logs[g.id-1]; e.Index > l.start && l.termOrZero(e.Index) != e.Term {
		g.fail(Unpersisted, ids(h.id), "applies entry %d of term %d, which is not on its disk", e.Index, e.Term)
	}
	if e.Index > uint64(len(g.commits)) {
		w.checkQuorum(h, g, e.Index, e.Term)
	}
}

// checkReturn: a host comes back with what was on its disk.
func (w *fullWorld) checkReturn(h *simHost) {
	if h.afflicted() || h.dead {
		return
	}
	for i, st := range h.at {
		l, core := &h.ghost.logs[i], st.handle.Core()
		commit := core.HardState.Commit // a durable state machine may know of more than the log
		core.HardState.Commit = l.hs.Commit
		if commit < l.hs.Commit || commit > max(st.group.maxCommit, l.hs.Commit) || core.HardState != l.hs || core.First != l.start+1 || core.Last != l.last() || core.LastTerm != l.termOrZero(l.last()) {
			st.group.fail(Contract, ids(h.id), "comes back with %+v, commit index %d and a log from %d to %d of term %d; on its disk were %+v and entries from %d to %d of term %d",
				core.HardState, commit, core.First, core.Last, core.LastTerm, l.hs, l.start+1, l.last(), l.termOrZero(l.last()))
			return
		}
		if len(l.terms) == 0 {
			continue
		}
		w.marks.hit(MarkDurableReturn)
		w.checkRead(h, st, l)
	}
}

// checkRead reads a stretch of the log back, somewhere.
func (w *fullWorld) checkRead(h *simHost, st *seat, l *ghostLog) {
	const stretch = 8
	first := l.start + 1 + mix64(w.seed^uint64(h.life)<<16^uint64(h.slot))%uint64(len(l.terms))
	entries, err := st.handle.ReadLog(first, min(first+stretch, l.last()))
	if err != nil || len(entries) == 0 {
		st.group.fail(Contract, ids(h.id), "entry %d cannot be read back: %v", first, err)
		return
	}
	for i := range entries {
		e := &entries[i]
		if e.Index != first+uint64(i) || e.Term != l.termOrZero(e.Index) {
			st.group.fail(Contract, ids(h.id), "entry %d of term %d is read back at %d, synced was one of term %d", e.Index, e.Term, first+uint64(i), l.termOrZero(e.Index))
			return
		}
		if e.Index > l.start+1 {
			st.group.appended(h.id, e, l.termOrZero(e.Index-1))
		}
	}
}

// checkLeases: a replica that holds a lease excludes every later leader. One of an
// earlier term may still learn of its election, and can commit nothing.
func (w *fullWorld) checkLeases(elected *simHost, g *simGroup, term uint64) {
	if !w.features.lease {
		return
	}
	for _, h := range w.hosts {
		if h == elected || h.rt == nil {
			continue
		}
		if s := h.at[g.id-1].handle.Core(); s.HardState.Term < term && h.local() < s.LeaseUntil {
			g.fail(LeaseExclusion, ids(h.id, elected.id), "group %d: replica %d leads in term %d while replica %d holds the lease of term %d", g.id, elected.id, term, h.id, s.HardState.Term)
		}
	}
}
