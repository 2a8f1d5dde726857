package raft

import "github.com/quorate/quorate/smr"

// applying is how far the state machine is.
//
// Invariants:
//
//	(A1) snapshot.Index <= applied <= handed <= commit
//	(A2) handed <= persisted, beyond what a snapshot has brought
//	(A3) bytes is the sum of the batches, which are in (applied, handed]
type applying struct {
	// handed has been handed out by Output.Committed, applied has been applied.
	handed, applied uint64
	batches         []batch
	bytes           int
	// fetching: an Output.Fetches for this replica itself is open. fetched are
	// the entries that came. retryAt is when to try again.
	fetching bool
	fetched  []smr.Entry
	retryAt  smr.Instant
}

type batch struct {
	last  uint64
	bytes int
}

// Applied notes that the state machine has applied the entries up to index, and
// that nobody reads what Output.Committed handed out of them any more: at the
// next Take the core may use the memory of their Data again.
func (r *Raft) Applied(index uint64) {
	a := &r.apply
	if index > a.handed {
		r.fail(21, "applied up to %d, handed out up to %d", index, a.handed)
	}
	if index <= a.applied {
		return
	}
	a.applied = index
	n := 0
	for n < len(a.batches) && a.batches[n].last <= index {
		a.bytes -= a.batches[n].bytes
		n++
	}
	a.batches = append(a.batches[:0], a.batches[n:]...)
	r.trimTail()
	r.check()
}

// takeCommitted hands out committed entries that this replica has on disk, as
// many as the limits allow.
func (r *Raft) takeCommitted(out *Output) {
	a := &r.apply
	last := min(r.hard.Commit, r.durable())
	if a.handed >= last || a.bytes >= r.cfg.ApplyBacklogBytesMax {
		return
	}
	first := a.handed + 1
	if first < r.log.first {
		r.takeFetched(out, min(last, r.log.first-1))
		return
	}
	to := r.log.fit(first, last, min(r.cfg.CommittedBytesMax, r.cfg.ApplyBacklogBytesMax-a.bytes), 1<<30)
	out.Committed = r.out.slab.take(&r.log.tail, first, to)
	a.hand(to, r.log.size(first-1, to))
	out.More = to < last && a.bytes < r.cfg.ApplyBacklogBytesMax
}

func (a *applying) hand(last uint64, bytes int) {
	a.handed = last
	a.batches = append(a.batches, batch{last, bytes})
	a.bytes += bytes
}

// takeFetched hands out entries that came from disk, or asks for them.
func (r *Raft) takeFetched(out *Output, last uint64) {
	a := &r.apply
	if n := r.usable(a.fetched, a.handed+1, last); n > 0 {
		out.Committed = a.fetched[:n:n]
		bytes := sizeOf(out.Committed)
		a.hand(out.Committed[n-1].Index, bytes)
		a.fetched = nil
		out.More = a.handed < min(r.hard.Commit, r.durable()) && a.bytes < r.cfg.ApplyBacklogBytesMax
		return
	}
	a.fetched = nil
	if a.fetching || a.retryAt != smr.Never {
		return
	}
	a.fetching = true
	out.Fetches = append(out.Fetches, Fetch{To: r.cfg.ID, First: a.handed + 1, Last: last, BytesMax: min(r.cfg.CommittedBytesMax, replayBytesMax)})
}

// replayBytesMax bounds what this replica reads back for itself at once: the next
// piece is read while this one is applied, and both stay in the processor's cache.
const replayBytesMax = 1 << 20

// usable returns how many of the entries are what the log holds from first on,
// not beyond last. Entries that were fetched may have been truncated since.
func (r *Raft) usable(entries []smr.Entry, first, last uint64) int {
	n := 0
	for n < len(entries) && entries[n].Index == first+uint64(n) && entries[n].Index <= last && r.matches(entries[n].Index, entries[n].Term) {
		n++
	}
	return n
}

func sizeOf(entries []smr.Entry) int {
	bytes := 0
	for i := range entries {
		bytes += entries[i].Size()
	}
	return bytes
}

// Fetched brings the entries that an Output.Fetches has asked for, or says by
// err why not; the core then asks again after a heartbeat. The entries belong to
// the core from then on.
func (r *Raft) Fetched(to smr.ReplicaID, entries []smr.Entry, err error) {
	failed := err != nil || len(entries) == 0
	if to == r.cfg.ID {
		a := &r.apply
		a.fetching = false
		if failed {
			a.retryAt = r.now.Add(r.cfg.HeartbeatInterval)
		} else {
			a.fetched = entries
		}
	} else if p := r.members.peer(to); p != nil && p.fetching && r.role != Leader {
		r.suffixFetched(p, entries, failed)
	} else if p != nil && p.fetching {
		p.fetching = failed
		p.fetchFailed = failed
		if !failed && p.state == replicating {
			p.fetched = entries
		}
	}
	r.check()
}

// fetchBytesMax bounds what is read back for another replica at once: two appends,
// for each time is a way to the disk and back.
func (r *Raft) fetchBytesMax() int { return 2 * min(r.cfg.AppendBytesMax, 1<<29) }

// nextFetched returns entries from disk for a follower, at most an append's
// worth. If there are none at hand it asks for those of two appends.
func (r *Raft) nextFetched(out *Output, p *progress) (entries []smr.Entry, bytes int) {
	last := r.log.first - 1
	n := r.usable(p.fetched, p.next, last)
	if n == 0 {
		p.fetched = nil
		if !p.fetching {
			p.fetching = true
			out.Fetches = append(out.Fetches, Fetch{To: p.id, First: p.next, Last: last, BytesMax: r.fetchBytesMax()})
		}
		return nil, 0
	}
	n = min(n, r.cfg.AppendEntriesMax)
	k := 0
	for k < n && (k == 0 || bytes+p.fetched[k].Size() <= r.cfg.AppendBytesMax) {
		bytes += p.fetched[k].Size()
		k++
	}
	entries, p.fetched = p.fetched[:k:k], p.fetched[k:]
	return entries, bytes
}

// trimTail keeps the tail within its limits. What is applied and was sent goes
// first; if the state machine, or a follower by two windows, is so slow that this
// is not enough, it will be served from disk.
func (r *Raft) trimTail() {
	r.log.report()
	bytesMax := r.cfg.Memory.share(r.cfg.TailBytesMax)
	if r.log.bytes() <= bytesMax {
		return
	}
	done := min(r.log.persisted, r.apply.applied)
	r.log.trim(bytesMax, min(done, r.sent()))
	r.log.trim(r.cfg.Memory.share(r.cfg.TailBytesMax+2*min(r.cfg.InflightBytesMax, 1<<40)), done)
	r.log.trim(bytesMax+r.cfg.ApplyBacklogBytesMax, min(r.log.persisted, r.hard.Commit))
	r.log.report()
}

// sent is the index up to which a leader has sent everything to all followers that
// it streams to: what comes after is wanted in a moment, and reading it back from
// the disk would make a follower that is behind for a moment stay behind.
func (r *Raft) sent() uint64 {
	sent := r.log.last
	if r.role != Leader {
		return sent
	}
	for i := range r.members.peers {
		if p := &r.members.peers[i]; p.state == replicating && p.id != r.cfg.ID {
			sent = min(sent, p.next-1)
		}
	}
	return sent
}
