package wal

import (
	"slices"
	"sort"
)

// mark says where to look for the entries from first on, up to the next mark's
// first or the group's last entry: in one segment, from a record at off on.
//
// Invariants:
//
//	(1) Marks of a group ascend by first, without a gap up to last.
//	(2) From off on, the first record of the group that holds an index of the
//	    mark holds the entry that is in the log: whatever truncates begins a mark,
//	    which is cut, and never joined to the one before.
//	(3) A mark's records are in one segment, and segment.marks counts them.
//	(4) Every mark has an entry that is not compacted.
type mark struct {
	first   uint64
	segment uint64
	off     int64
	bytes   int64
	cut     bool
}

// width is how much one mark of a group spans: so many times twice as much as at
// first. Marks get wider as the log gets longer, so that a log that nobody compacts
// does not take ever more memory; reading an entry then begins further before it.
type width uint8

const (
	// markBytes is how many bytes of a group's records one mark spans at first.
	markBytes = 4 << 10
	// markSpan is how far it reaches in the file, records of others included.
	markSpan = 64 << 10
	// marksMax is how many marks of a group there are at most, beside one for each
	// segment and each truncation. With that many a mark spans at most one part in
	// a few thousand of the log.
	marksMax = 8 << 10
	// widthMax is beyond any segment.
	widthMax = 40
)

// takes reports whether a mark of this width goes on with a record at off.
func (w width) takes(m *mark, off int64) bool {
	return m.bytes < markBytes<<w && off-m.off < markSpan<<w
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
		if m.segment == s.number && g.width.takes(m, at) {
			m.bytes += size
			return
		}
	}
	l.thin(g)
	g.marks = append(g.marks, mark{first: r.first, segment: s.number, off: at, bytes: size, cut: r.first <= g.last})
	s.marks++
}

// thin makes a group's marks wider, until there are half as many as may be, if
// there are as many. Where most of them cannot be joined, it waits until there are
// twice as many: so it costs a group little for each mark.
func (l *Log) thin(g *group) {
	if len(g.marks) < max(g.thinAt, l.o.marksMax) {
		return
	}
	for l.join(g); len(g.marks) > l.o.marksMax/2 && g.width < widthMax; l.join(g) {
		g.width++
	}
	g.thinAt = 2 * len(g.marks)
}

// join joins marks to the ones before them, as far as their width allows.
func (l *Log) join(g *group) {
	n := 0
	for _, m := range g.marks[1:] {
		a := &g.marks[n]
		if m.segment == a.segment && !m.cut && m.off >= a.off && g.width.takes(a, m.off) { // (2), (3)
			a.bytes += m.bytes
			if s := l.segment(m.segment); s != nil {
				s.marks--
			}
			continue
		}
		n++
		g.marks[n] = m
	}
	g.marks = g.marks[:n+1]
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
	if len(g.marks) < l.o.marksMax/4 {
		g.width = 0 // there is room for narrow ones again
	}
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
		rest.first, rest.bytes = r.last+1, max(rest.bytes-int64(r.size), 0)
		if t := l.segment(rest.segment); t != nil {
			t.marks++
			t.live += rest.bytes
		}
		insert = append(insert, rest)
	}
	for k := i; k < j; k++ {
		l.release(&g.marks[k])
	}
	g.marks = slices.Replace(g.marks, i, j, insert...)
	l.thin(g)
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
