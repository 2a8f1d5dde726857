package raft

import (
	"sort"

	"github.com/quorate/quorate/smr"
)

// log is what a replica knows of its log: where it begins, the term of every
// entry, the newest entries themselves, and how far it is on disk.
//
// Invariants:
//
//	(L1) snapshot.Index <= last; the log holds the entries (snapshot.Index, last]
//	(L2) runs cover (snapshot.Index, last]: First and Term ascend, the first
//	     one begins at snapshot.Index+1
//	(L3) the tail ends at last, and begins after snapshot.Index
//	(L4) persisted <= written <= last; written is what Output.Append has
//	     carried, persisted what has been acknowledged of it
//	(L5) what is not in the tail is on disk: tail.first <= persisted+1, or the
//	     log is empty
//	(L6) in writes, seq and last do not descend beyond what truncation did:
//	     no write's last is above written
type log struct {
	tail
	snapshot  smr.SnapshotMeta
	runs      []smr.TermRun
	last      uint64
	written   uint64
	persisted uint64
	// writes are the numbered writes that are not acknowledged yet, oldest
	// first.
	writes []write
	// seq numbers the newest write, seqPersisted the newest acknowledged one.
	seq, seqPersisted uint64
}

// write is a numbered write on its way to the disk. last is the greatest index
// that it makes durable, as far as the log has not been truncated since.
type write struct{ seq, last uint64 }

// open sets the log to what was found on disk.
func (l *log) open(s *smr.LogState) {
	l.snapshot = s.Snapshot
	l.last, l.written, l.persisted = s.Last, s.Last, s.Last
	l.runs = append(l.runs[:0], s.Terms...)
	l.tail.reset(s.Last + 1 - uint64(len(s.Tail)))
	for i := range s.Tail {
		l.tail.push(&s.Tail[i])
	}
}

// term returns the term of the entry at i, which is known for every entry and
// for the snapshot's index.
func (l *log) term(i uint64) (term uint64, ok bool) {
	if i <= l.snapshot.Index || i > l.last {
		return l.snapshot.Term, i == l.snapshot.Index
	}
	return l.runs[l.run(i)].Term, true
}

func (l *log) lastTerm() uint64 {
	if n := len(l.runs); n > 0 {
		return l.runs[n-1].Term
	}
	return l.snapshot.Term
}

// run returns which run the entry at i, in (snapshot.Index, last], belongs to.
func (l *log) run(i uint64) int {
	n := len(l.runs)
	if l.runs[n-1].First <= i {
		return n - 1
	}
	return sort.Search(n, func(k int) bool { return l.runs[k].First > i }) - 1
}

// firstOfTerm returns the first index of the log that has the term of the entry
// at i, in (snapshot.Index, last].
func (l *log) firstOfTerm(i uint64) uint64 { return l.runs[l.run(i)].First }

// lastBelow returns the greatest index up to i whose term is at most term. Zero
// if the log does not reach back to one.
func (l *log) lastBelow(i, term uint64) uint64 {
	i = min(i, l.last)
	for i > l.snapshot.Index {
		k := l.run(i)
		if l.runs[k].Term <= term {
			return i
		}
		i = l.runs[k].First - 1
	}
	if i == l.snapshot.Index && l.snapshot.Term <= term {
		return i
	}
	return 0
}

// append adds a copy of the entry e at last+1.
func (l *log) append(e *smr.Entry) {
	if e.Term != l.lastTerm() || len(l.runs) == 0 {
		l.runs = append(l.runs, smr.TermRun{First: e.Index, Term: e.Term})
	}
	l.tail.push(e)
	l.last = e.Index
}

// truncate drops the entries after last. What writes in flight say of them is
// void from here on.
func (l *log) truncate(last uint64) {
	l.last = last
	for n := len(l.runs); n > 0 && l.runs[n-1].First > last; n-- {
		l.runs = l.runs[:n-1]
	}
	l.tail.truncate(last)
	l.clampWrites(last)
}

func (l *log) clampWrites(last uint64) {
	l.written, l.persisted = min(l.written, last), min(l.persisted, last)
	for i := range l.writes {
		l.writes[i].last = min(l.writes[i].last, last)
	}
}

// compact lets the log begin after index, which it holds.
func (l *log) compact(meta smr.SnapshotMeta) {
	k := 0
	for k < len(l.runs) && (k+1 < len(l.runs) && l.runs[k+1].First <= meta.Index+1 || meta.Index == l.last) {
		k++
	}
	l.runs = append(l.runs[:0], l.runs[k:]...)
	if len(l.runs) > 0 {
		l.runs[0].First = meta.Index + 1
	}
	l.snapshot = meta
	if l.tail.first <= meta.Index {
		l.tail.drop(meta.Index + 1)
	}
}

// restore lets the log be empty and begin after a snapshot. safe is the index
// up to which what is on disk stays true.
func (l *log) restore(meta smr.SnapshotMeta, safe uint64) {
	l.clampWrites(safe)
	l.snapshot = meta
	l.runs = l.runs[:0]
	l.last, l.written = meta.Index, meta.Index
	l.tail.arena.forget() // what was handed out of it may still be in use
	l.tail.reset(meta.Index + 1)
}

// beginWrite numbers a write that carries everything up to last.
func (l *log) beginWrite() uint64 {
	l.seq++
	l.written = l.last
	l.writes = append(l.writes, write{l.seq, l.last})
	return l.seq
}

// endWrites notes that the writes up to seq are on disk.
func (l *log) endWrites(seq uint64) {
	n := 0
	for n < len(l.writes) && l.writes[n].seq <= seq {
		l.persisted = max(l.persisted, l.writes[n].last)
		n++
	}
	l.writes = append(l.writes[:0], l.writes[n:]...)
	l.seqPersisted = max(l.seqPersisted, seq)
}
