package wal

import (
	"slices"
	"sort"

	"github.com/quorate/quorate/smr"
)

const (
	// markBytes is how many bytes of a group's records one mark spans.
	markBytes = 4 << 10
	// markSpan is how far it reaches in the file, records of others included.
	markSpan = 64 << 10
)

// mark says where to look for the entries from first on, up to the next mark's
// first or the group's last entry: in one segment, from a record at off on.
//
// Invariants:
//
//	(1) Marks of a group ascend by first, without a gap up to last.
//	(2) From off on, the first record of the group that holds an index of the
//	    mark holds the entry that is in the log: whatever truncates begins a mark.
//	(3) A mark's records are in one segment, and segment.marks counts them.
//	(4) Every mark has an entry that is not compacted.
type mark struct {
	first   uint64
	segment uint64
	off     int64
	bytes   int64
}

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
		g.exists, g.hardState, g.snapshot, g.last, g.marks = false, smr.HardState{}, smr.SnapshotMeta{}, 0, nil
	}
}

func (l *Log) release(m *mark) {
	if s := l.segment(m.segment); s != nil {
		s.marks--
		s.live -= m.bytes
	}
}

// extend notes appended entries: in the last mark if they are near enough.
func (l *Log) extend(g *group, r *record, s *segment, at int64) {
	size := int64(r.size)
	s.live += size
	if n := len(g.marks); n > 0 && r.first == g.last+1 { // (2)
		m := &g.marks[n-1]
		if m.segment == s.number && m.bytes < markBytes && at-m.off < markSpan {
			m.bytes += size
			return
		}
	}
	g.marks = append(g.marks, mark{first: r.first, segment: s.number, off: at, bytes: size})
	s.marks++
}

// cutMarks drops the marks of entries from first on.
func (l *Log) cutMarks(g *group, first uint64) {
	n := len(g.marks)
	for n > 0 && g.marks[n-1].first >= first {
		n--
		l.release(&g.marks[n])
	}
	g.marks = g.marks[:n]
}

// compactMarks drops the marks of entries that the snapshot covers (4).
func (l *Log) compactMarks(g *group) {
	n := 0
	for n < len(g.marks) && (g.last <= g.snapshot.Index || n+1 < len(g.marks) && g.marks[n+1].first <= g.snapshot.Index+1) {
		l.release(&g.marks[n])
		n++
	}
	g.marks = slices.Delete(g.marks, 0, n)
}

// replace notes that entries r.first to r.last, which stay what they were, are
// found in segment s from at on.
func (l *Log) replace(g *group, r *record, s *segment, at int64) {
	i := sort.Search(len(g.marks), func(i int) bool { return g.marks[i].first >= r.first })
	j := sort.Search(len(g.marks), func(i int) bool { return g.marks[i].first > r.last })
	insert := make([]mark, 0, 2)
	insert = append(insert, mark{first: r.first, segment: s.number, off: at, bytes: int64(r.size)})
	s.marks++
	s.live += int64(r.size)
	if r.last < g.last && j > 0 && (j == len(g.marks) || g.marks[j].first != r.last+1) {
		// The mark that covered the end of the range goes on behind it.
		rest := g.marks[j-1]
		rest.first, rest.bytes = r.last+1, 0
		if t := l.segment(rest.segment); t != nil {
			t.marks++
		}
		insert = append(insert, rest)
	}
	for k := i; k < j; k++ {
		l.release(&g.marks[k])
	}
	g.marks = slices.Replace(g.marks, i, j, insert...)
	l.compactMarks(g)
}

// find returns which mark index is found by, and the last index that is.
func (g *group) find(index uint64) (i int, last uint64, ok bool) {
	i = sort.Search(len(g.marks), func(i int) bool { return g.marks[i].first > index })
	if i == 0 {
		return 0, 0, false
	}
	last = g.last
	if i < len(g.marks) {
		last = g.marks[i].first - 1
	}
	return i - 1, last, true
}
