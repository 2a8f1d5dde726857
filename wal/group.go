package wal

import (
	"slices"
	"sort"

	"github.com/quorate/quorate/smr"
)

// group is what the log knows of one group: filled by the shard, and synced.
type group struct {
	id smr.GroupID

	// filled is the group as the shard has written it, synced or not. It belongs
	// to the shard's goroutine.
	filled struct {
		exists    bool
		hardState smr.HardState
		snapIndex uint64
		snapTerm  uint64
		last      uint64
		terms     []smr.TermRun
		// configurations as recovered, until the first Append.
		configurations []smr.Entry
		// ack is the group's place in the acks of the buffer numbered buffer.
		buffer uint64
		ack    int
	}

	// What is synced, guarded by Log.mu and changed by the syncer alone.
	exists    bool
	hardState smr.HardState
	snapshot  smr.SnapshotMeta
	last      uint64
	marks     []mark
	width     width
	// thinAt is how many marks are made fewer. Zero: Log.marksMax.
	thinAt int
	// cuts counts truncations, so that a reader notices one.
	cuts uint64
}

// The fill side: what the shard's goroutine keeps.

// termAt returns the term of the entry at index, zero if it is not in the log.
func (g *group) termAt(index uint64) uint64 {
	f := &g.filled
	if index == f.snapIndex {
		return f.snapTerm
	}
	if index < f.snapIndex || index > f.last {
		return 0
	}
	i := sort.Search(len(f.terms), func(i int) bool { return f.terms[i].First > index })
	if i == 0 {
		return 0
	}
	return f.terms[i-1].Term
}

func (g *group) fillTruncate(first uint64) {
	f := &g.filled
	for n := len(f.terms); n > 0 && f.terms[n-1].First >= first; n-- {
		f.terms = f.terms[:n-1]
	}
	for n := len(f.configurations); n > 0 && f.configurations[n-1].Index >= first; n-- {
		f.configurations = f.configurations[:n-1]
	}
	f.last = first - 1
}

func (g *group) fillEntry(index, term uint64) {
	f := &g.filled
	if n := len(f.terms); n == 0 || f.terms[n-1].Term != term {
		f.terms = append(f.terms, smr.TermRun{First: index, Term: term})
	}
	f.last = index
}

func (g *group) fillSnapshot(m *smr.SnapshotMeta, restart bool) {
	f := &g.filled
	f.snapIndex, f.snapTerm = m.Index, m.Term
	if restart {
		f.terms, f.configurations, f.last = f.terms[:0], nil, m.Index
		return
	}
	drop := 0
	for drop < len(f.terms) && (drop+1 < len(f.terms) && f.terms[drop+1].First <= m.Index+1 || f.last <= m.Index) {
		drop++
	}
	f.terms = slices.Delete(f.terms, 0, drop)
	if len(f.terms) > 0 {
		f.terms[0].First = max(f.terms[0].First, m.Index+1)
	}
	for len(f.configurations) > 0 && f.configurations[0].Index <= m.Index {
		f.configurations = f.configurations[1:]
	}
}

// The synced side.

// apply notes a record that is on disk, in a batch at off of segment s. l.mu is
// held.
func (l *Log) apply(r *record, s *segment, off int64) {
	g := l.groups[r.group]
	at := off + int64(r.at)
	switch r.kind {
	case kindEntries:
		truncates := r.first <= g.last
		if truncates {
			l.cutMarks(g, r.first)
			g.cuts++
		}
		l.extend(g, r, s, at)
		g.last = r.last
		if truncates {
			l.compactMarks(g)
		}
	case kindMoved:
		l.replace(g, r, s, at)
	case kindHardState:
		g.hardState = r.hardState
	case kindCreate:
		g.exists, g.snapshot, g.last = true, *r.snapshot, 0
	case kindSnapshot:
		g.snapshot = *r.snapshot
		if r.restart {
			l.cutMarks(g, 0)
			g.cuts++
			g.last = r.snapshot.Index
		} else {
			l.compactMarks(g)
		}
	case kindRemove:
		l.cutMarks(g, 0)
		g.cuts++
		g.exists, g.hardState, g.snapshot, g.last = false, smr.HardState{}, smr.SnapshotMeta{}, 0
		g.marks, g.width, g.thinAt = nil, 0, 0
	}
}
