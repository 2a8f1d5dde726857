package sim

import (
	"math/bits"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// checkHardState: term, vote and commit index of a write never go back.
func (w *world) checkHardState(r *replica, hs smr.HardState) {
	was := &r.hs
	if hs.Term < was.Term || hs.Term == was.Term && was.Vote != 0 && hs.Vote != was.Vote || hs.Commit < was.Commit {
		w.fail(Monotonic, ids(r.id), "hard state goes from %+v back to %+v", *was, hs)
	}
	if hs.Commit > r.log.last() && hs.Commit > r.state.Last {
		w.fail(Watermarks, ids(r.id), "commit index %d is past the log's end %d", hs.Commit, r.log.last())
	}
}

// checkState: nothing of a replica's view goes back while it runs.
func (w *world) checkState(r *replica, before *raft.State) {
	s := &r.state
	if s.Term < before.Term || s.Commit < before.Commit || s.Applied < before.Applied {
		w.fail(Monotonic, ids(r.id), "state goes from %+v back to %+v", *before, *s)
	}
	if s.Applied > s.Commit || s.Commit > s.Last {
		w.fail(Watermarks, ids(r.id), "applied %d, commit %d, last %d", s.Applied, s.Commit, s.Last)
	}
	if s.Last != r.log.last() {
		w.fail(Contract, ids(r.id), "the core's log ends at %d, what it wrote at %d", s.Last, r.log.last())
	}
}

// checkLeases: a replica that holds a lease excludes every later leader. One of an
// earlier term may still learn of its election, and can commit nothing.
func (w *world) checkLeases(elected *replica) {
	for _, r := range w.replicas {
		if r != elected && r.core != nil && r.state.Term < elected.state.Term && r.core.HoldsLease(w.local(r)) {
			w.fail(LeaseExclusion, ids(r.id, elected.id), "replica %d leads in term %d while replica %d holds the lease of term %d", elected.id, elected.state.Term, r.id, r.state.Term)
		}
	}
}

// checkQuorum: an entry that is committed for the first time is on disk on a
// quorum, in the same version.
func (w *world) checkQuorum(r *replica, index uint64) {
	if index > r.log.last() || index <= r.log.start.Index {
		if index <= r.log.start.Index {
			return // it was installed with a snapshot, and checked where it was committed
		}
		w.fail(Watermarks, ids(r.id), "commit index %d is past the log's end %d", index, r.log.last())
		return
	}
	term := r.log.term(index)
	var on uint
	for _, p := range w.replicas {
		if l := &p.disk.log; index <= l.start.Index || index <= l.last() && l.term(index) == term {
			on |= 1 << p.slot
		}
	}
	if have, need := bits.OnesCount(on&w.voters), bits.OnesCount(w.voters)/2+1; have < need {
		w.fail(CommitQuorum, ids(r.id), "entry %d of term %d is committed and on disk on %d voters of %d", index, term, have, need)
	}
}

// checkCommitted: what is handed out for applying is contiguous, committed, on
// this replica's disk, and equals the log.
func (w *world) checkCommitted(r *replica, entries []smr.Entry) {
	next := r.machine.applied + uint64(len(r.backlog)) + 1
	for i := range entries {
		e := &entries[i]
		if e.Index != next+uint64(i) {
			w.fail(Contract, ids(r.id), "is to apply entry %d, after %d", e.Index, next+uint64(i)-1)
			return
		}
		if e.Index > r.state.Commit || e.Index > r.log.last() {
			w.fail(Watermarks, ids(r.id), "is to apply entry %d, commit %d, last %d", e.Index, r.state.Commit, r.log.last())
			return
		}
		if e.Index > r.log.start.Index && r.log.term(e.Index) != e.Term {
			w.fail(Contract, ids(r.id), "is to apply entry %d of term %d, its log has one of term %d", e.Index, e.Term, r.log.term(e.Index))
			return
		}
		if r.disk.log.termOrZero(e.Index) != e.Term && e.Index > r.disk.log.start.Index {
			w.fail(Unpersisted, ids(r.id), "is to apply entry %d of term %d, which is not on its disk", e.Index, e.Term)
			return
		}
	}
}

// checkMessage: no message rests on a write that is not on disk, and a replica
// votes once in a term, across restarts.
func (w *world) checkMessage(r *replica, m *raft.Message) {
	if m.From != r.id || m.Group != 1 {
		w.fail(Contract, ids(r.id), "sends %s", messageText(m))
		return
	}
	switch m.Type {
	case raft.MsgVote:
		w.checkVote(r, m.Term, r.id)
	case raft.MsgVoteReply:
		if !m.Reject {
			w.checkVote(r, m.Term, m.To)
		}
	case raft.MsgAppendReply:
		if !m.Reject {
			w.checkAcknowledged(r, m)
		}
	case raft.MsgHeartbeatReply:
		if m.Index > 0 {
			w.checkAcknowledged(r, m)
		}
	case raft.MsgHeartbeat, raft.MsgAppend:
		if r.state.Role == raft.Leader && m.Commit > r.state.Commit {
			w.fail(Watermarks, ids(r.id), "sends commit index %d, has %d", m.Commit, r.state.Commit)
		}
	}
}

func (w *world) checkVote(r *replica, term uint64, candidate smr.ReplicaID) {
	if hs := &r.disk.hs; hs.Term < term || hs.Term == term && hs.Vote != candidate {
		w.fail(Unpersisted, ids(r.id), "speaks of its vote for %d in term %d, on its disk is %+v", candidate, term, *hs)
	}
	for i := len(r.votes) - 1; i >= 0; i-- {
		if r.votes[i].term != term {
			continue
		}
		if r.votes[i].candidate != candidate {
			w.fail(Monotonic, ids(r.id), "votes for %d in term %d, and has voted for %d", candidate, term, r.votes[i].candidate)
		}
		return
	}
	r.votes = append(r.votes, vote{term, candidate})
}

func (w *world) checkAcknowledged(r *replica, m *raft.Message) {
	d := &r.disk
	if d.hs.Term < m.Term {
		w.fail(Unpersisted, ids(r.id), "acknowledges in term %d, on its disk is term %d", m.Term, d.hs.Term)
	}
	if m.Index <= d.log.start.Index || m.Index <= r.log.start.Index {
		return
	}
	if m.Index > r.log.last() {
		// A late word about a log that a newer leader has cut since would lie.
		w.fail(Unpersisted, ids(r.id), "acknowledges %d, its log ends at %d", m.Index, r.log.last())
		return
	}
	if d.log.termOrZero(m.Index) != r.log.term(m.Index) {
		w.fail(Unpersisted, ids(r.id), "acknowledges %d of term %d, which is not on its disk", m.Index, r.log.term(m.Index))
	}
}
