package raft

import "github.com/quorate/quorate/smr"

// ballot is what a candidate knows of a member's vote.
type ballot uint8

const (
	unknown ballot = iota
	granted
	refused
	offered // a pre-vote refused for a longer log, by a voter that hears no leader
)

// progressState says how a leader sends to a follower.
type progressState uint8

const (
	// probing: where the logs agree is not known. One append at a time, sent
	// again with the next heartbeat.
	probing progressState = iota
	// replicating: appends follow each other without waiting, within a window.
	replicating
	// snapshotting: the follower needs a snapshot; nothing but heartbeats.
	snapshotting
)

// progress is one member of the group: its place in the configuration, its
// vote while this replica is a candidate, and what is known of its log while
// this replica leads.
//
// Invariants, while leading:
//
//	(P1) match < next <= last+1, and the follower's disk agrees with this log
//	     up to match
//	(P2) mark < next: what had been sent is before what is to be sent
//	(P3) the window is empty unless replicating; its entries are in (match, next)
type progress struct {
	id smr.ReplicaID
	// role and old as in smr.Member.
	role, old smr.Role
	ballot    ballot

	state progressState
	// paused: probing, and a probe is on its way.
	paused bool
	// match is the last index acknowledged, next the first one to send.
	match, next uint64
	// mark is what had been sent at the last heartbeat: a follower that at the
	// next one knows of less has lost something.
	mark uint64
	// told is the commit index that the follower has been sent.
	told uint64
	// round is the newest round of heartbeats that the member has answered.
	round uint64
	// promised is the newest round that the member has answered with a promise.
	promised uint64
	// rested is the newest round that it has answered at rest.
	rested uint64
	// silent: its host is known not to be reached, and nothing has come from it
	// since. A leader rests without it.
	silent bool
	// heard is when the member was last heard in this term.
	heard  smr.Instant
	window window

	// fetching: an Output.Fetches is open. fetchFailed: it came back empty, to
	// be tried again at the next heartbeat. fetched are the entries that came.
	fetching, fetchFailed bool
	fetched               []smr.Entry
}

// lead prepares for leading: everything is to be found out.
func (p *progress) lead(last uint64, now smr.Instant) {
	p.probe(0, last+1)
	p.match, p.told, p.round, p.promised, p.rested, p.heard, p.silent = 0, 0, 0, 0, 0, now, false
}

// probe falls back to sending one append at a time from next on.
func (p *progress) probe(match, next uint64) {
	p.state, p.paused = probing, false
	p.next = max(match+1, next)
	p.mark = match
	p.fetched = nil
	p.window.reset()
}

// replicate goes on to sending without waiting, from next on.
func (p *progress) replicate(next uint64) {
	p.state, p.paused = replicating, false
	p.next = max(p.next, next)
	p.mark = p.match
}

// acknowledge notes that the follower has everything up to index on disk, and
// reports whether that is news.
func (p *progress) acknowledge(index uint64) bool {
	news := index > p.match
	p.match = max(p.match, index)
	switch p.state {
	case probing:
		if index+1 >= p.next {
			p.next = index + 1
			p.replicate(index + 1)
		}
		p.next = max(p.next, p.match+1)
	case replicating:
		p.window.acknowledge(index)
		p.next = max(p.next, index+1)
	case snapshotting:
		p.next = max(p.next, index+1)
	}
	p.mark = max(p.mark, p.match)
	return news
}

// window is what has been sent to a follower and not been acknowledged: a ring
// of messages that grows as needed.
type window struct {
	ring    []flight
	head, n int
	bytes   int
}

type flight struct {
	last  uint64
	bytes int
}

func (w *window) reset() { w.head, w.n, w.bytes = 0, 0, 0 }

// open reports whether another message may be sent. The last one may go beyond
// bytesMax, so that one of any size gets through.
func (w *window) open(bytesMax, messagesMax int) bool {
	return w.n < messagesMax && w.bytes < bytesMax
}

func (w *window) add(last uint64, bytes int) {
	if w.n == len(w.ring) {
		ring := make([]flight, max(4, 2*len(w.ring)))
		for i := range w.n {
			ring[i] = w.ring[(w.head+i)%len(w.ring)]
		}
		w.ring, w.head = ring, 0
	}
	w.ring[(w.head+w.n)%len(w.ring)] = flight{last, bytes}
	w.n++
	w.bytes += bytes
}

func (w *window) acknowledge(index uint64) {
	for w.n > 0 && w.ring[w.head].last <= index {
		w.bytes -= w.ring[w.head].bytes
		w.head = (w.head + 1) % len(w.ring)
		w.n--
	}
}
