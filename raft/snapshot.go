package raft

import (
	"fmt"

	"github.com/quorate/quorate/smr"
)

// needSnapshot stops sending to a follower that is further back than the log.
func (r *Raft) needSnapshot(out *Output, p *progress) {
	p.state, p.fetched = snapshotting, nil
	p.window.reset()
	out.Snapshots = append(out.Snapshots, p.id)
	r.emit(out, Message{Type: MsgSnapshot, To: p.id, Index: r.log.snapshot.Index, LogTerm: r.log.snapshot.Term})
}

// SnapshotDone says how the snapshot for a follower went: ok, and it holds the
// state up to index; or not, and the core will ask for one again.
func (r *Raft) SnapshotDone(to smr.ReplicaID, index uint64, ok bool) {
	p := r.members.peer(to)
	if r.role != Leader || p == nil || p.state != snapshotting {
		return
	}
	if ok && index <= r.log.last {
		p.probe(p.match, max(index, p.match)+1)
	} else {
		p.probe(p.match, p.match+1)
		p.paused = true // until the next heartbeat
	}
	r.check()
}

// SnapshotMeta returns what a snapshot of the state after index is to be
// labelled with. It returns ErrCompacted if the log does not reach back to it.
func (r *Raft) SnapshotMeta(index uint64) (smr.SnapshotMeta, error) {
	term, ok := r.log.term(index)
	if !ok {
		return smr.SnapshotMeta{}, fmt.Errorf("%w: index %d, the log holds (%d, %d]", ErrCompacted, index, r.log.snapshot.Index, r.log.last)
	}
	return smr.SnapshotMeta{Index: index, Term: term, Configuration: cloneConfiguration(r.members.at(index))}, nil
}

// Compact drops the log up to index, which a durable snapshot covers. It returns
// ErrCompacted if that is gone already, ErrNotApplied if it is beyond what is
// applied and persisted.
func (r *Raft) Compact(index uint64) error {
	if index > r.apply.applied || index > r.log.persisted {
		return fmt.Errorf("%w: index %d, applied %d, persisted %d", ErrNotApplied, index, r.apply.applied, r.log.persisted)
	}
	meta, err := r.SnapshotMeta(index)
	if err != nil {
		return err
	}
	r.log.compact(meta)
	r.members.compact(index)
	r.check()
	return nil
}

// Restored says that a snapshot from the leader has been received whole. If it
// is ahead of what is known to be committed it replaces the log: the next Output
// has it in Restore, together with the write that is to be acknowledged when
// both are on disk. Otherwise the snapshot is not needed, and Restored returns
// false.
func (r *Raft) Restored(now smr.Instant, meta smr.SnapshotMeta) bool {
	r.at(now)
	if meta.Index <= r.hard.Commit || checkConfiguration(&meta.Configuration) != nil || meta.Term > r.hard.Term || r.role == Leader {
		return false
	}
	if r.matches(meta.Index, meta.Term) {
		// Raft Figure 13: "If existing log entry has same index and term as snapshot's
		// last included entry, retain log entries following it". They are
		// applied from the log.
		r.commitTo(meta.Index)
		r.check()
		return false
	}
	if meta.Index <= r.follow.matched {
		return false // the leader's log has another entry there: no image of its group
	}
	r.wake()
	meta.Configuration = cloneConfiguration(meta.Configuration)
	r.log.restore(meta, r.hard.Commit)
	r.members.history = []configurationAt{{meta.Index, meta.Configuration}}
	r.members.rebuild(meta.Index, r.now)
	r.commitTo(meta.Index)
	r.apply = applying{handed: meta.Index, applied: meta.Index, fetching: r.apply.fetching, retryAt: smr.Never}
	r.out.restore = &meta
	r.check()
	return true
}

// Heard reports whether this replica leads and has heard from the member within
// the last election timeout: a snapshot for it would not be sent in vain.
func (r *Raft) Heard(now smr.Instant, id smr.ReplicaID) bool {
	p := r.members.peer(id)
	return r.role == Leader && p != nil && r.hears(now, p)
}

// LeastMatch returns how far the log of the furthest-back member is known to
// agree with this one's, of those that were heard within the last election
// timeout and need no snapshot; the log's end if there is none, or this replica
// does not lead.
func (r *Raft) LeastMatch(now smr.Instant) uint64 {
	least := r.log.last
	if r.role != Leader {
		return least
	}
	for i := range r.members.peers {
		p := &r.members.peers[i]
		if p.id != r.cfg.ID && p.state != snapshotting && r.hears(now, p) {
			least = min(least, p.match)
		}
	}
	return least
}
