package wal

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/quorate/quorate/smr"
)

// Read appends to dst the synced entries of a group from first to last, at least
// one, and further ones while they are together of at most bytesMax (Size) and
// are in the log. It verifies their checksums. Their Data is theirs to keep.
//
// Errors: ErrCompacted if first is compacted, ErrUnavailable if it is not synced
// or the group is unknown, a *CorruptionError that names the entries that cannot
// be read, or what the file system returned. With an error some entries may have
// been appended; they are good.
func (l *Log) Read(id smr.GroupID, first, last uint64, bytesMax int, dst []smr.Entry) ([]smr.Entry, error) {
	if err := l.Failed(); err != nil {
		return dst, err
	}
	begin, used := len(dst), 0
	var c cursor
	var cuts uint64
	for next := first; next <= last; {
		m, spanLast, cutsNow, err := l.locate(id, next, last, &c)
		if err != nil && len(dst) > begin {
			return dst, nil // at the end: what there is will do
		}
		if err != nil {
			return dst, err
		}
		if len(dst) > begin && cutsNow != cuts {
			l.unref(c.s) // truncated meanwhile: what comes now does not follow
			return dst, nil
		}
		cuts = cutsNow
		n := len(dst)
		dst, err = c.span(id, m.off, next, min(last, spanLast), bytesMax-used, dst)
		l.unref(c.s)
		if err != nil {
			return dst, err
		}
		for i := n; i < len(dst); i++ {
			used += dst[i].Size()
			if used > bytesMax && i > begin {
				clear(dst[i:])
				return dst[:i], nil
			}
		}
		next += uint64(len(dst) - n)
		if used >= bytesMax || len(dst) == n {
			return dst, nil
		}
		dst = makeRoom(dst, begin, used, bytesMax, last+1-next)
	}
	return dst, nil
}

// makeRoom makes room for the entries that are to come, if there is none for
// another 4 KiB of them: as many as the limit allows if they are like the ones
// from begin on, which take used bytes, at most rest.
func makeRoom(dst []smr.Entry, begin, used, bytesMax int, rest uint64) []smr.Entry {
	n := len(dst) - begin
	perMark := markBytes*n/used + 1
	if cap(dst)-len(dst) > perMark {
		return dst
	}
	more := max(perMark, int(float64(bytesMax-used)/float64(used)*float64(n))+1)
	return slices.Grow(dst, int(min(uint64(min(more, roomMax)), rest)))
}

// roomMax bounds the entries that room is made for at once.
const roomMax = 16 << 10

// locate finds the segment and the mark of an entry, and sets c up to read there.
// The caller releases c.s with unref if there is no error. Entries up to until are
// wanted, so c reads ahead that far.
func (l *Log) locate(id smr.GroupID, index, until uint64, c *cursor) (m mark, last, cuts uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[id]
	if l.closed {
		return m, 0, 0, ErrClosed
	}
	if g == nil || !g.exists {
		return m, 0, 0, fmt.Errorf("%w: group %d is unknown", ErrUnavailable, id)
	}
	if index <= g.snapshot.Index {
		return m, 0, 0, fmt.Errorf("%w: entry %d of group %d, whose log begins at %d; send the snapshot", ErrCompacted, index, id, g.snapshot.Index+1)
	}
	i, last, ok := g.find(index)
	if index > g.last || !ok {
		return m, 0, 0, fmt.Errorf("%w: entry %d of group %d, whose log ends at %d", ErrUnavailable, index, id, g.last)
	}
	m = g.marks[i]
	s := l.segment(m.segment)
	s.refs++
	if c.s != s {
		*c = cursor{s: s}
	}
	c.end = s.end
	if m.off < c.from || m.off+m.bytes > c.from+int64(len(c.buf)) {
		c.until = g.extent(i, until)
	}
	return m, last, g.cuts, nil
}

// readAheadBytes is how much is read at once of what is likely to be wanted.
const readAheadBytes = 256 << 10

// extent returns the position up to which reading on from mark i brings mostly
// what is wanted: entries of the group up to until.
func (g *group) extent(i int, until uint64) int64 {
	from := g.marks[i]
	end, bytes := from.off, int64(0)
	for _, m := range g.marks[i:] {
		if m.first > until || m.segment != from.segment || m.off < end || end-from.off > readAheadBytes || m.off-from.off > 4*bytes {
			break
		}
		bytes += m.bytes
		end = m.off + m.bytes
	}
	return end + sectorBytes
}

func (l *Log) unref(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.refs--
}

// span appends the entries first to last of a group to dst, which are found from
// off on in c's segment, and stops early after bytesMax, but not before the first.
func (c *cursor) span(id smr.GroupID, off int64, first, last uint64, bytesMax int, dst []smr.Entry) ([]smr.Entry, error) {
	c.at = off
	next, used := first, 0
	for next <= last {
		kind, payload, at, err := c.record()
		if err == nil && (kind == kindEntries || kind == kindMoved) {
			d := smr.Decoder{B: payload}
			if smr.GroupID(d.Uvarint()) != id {
				continue
			}
			n := len(dst)
			dst, err = appendEntries(dst, record{group: id}, d.B, next, last, bytesMax-used)
			for i := n; i < len(dst); i++ {
				used += dst[i].Size()
			}
			next += uint64(len(dst) - n)
			c.lent = c.lent || len(dst) > n
		}
		if errors.Is(err, smr.ErrCorrupt) || errors.Is(err, io.EOF) {
			err = &CorruptionError{File: c.s.name, Offset: at, Reason: "entries that were synced here cannot be read: " + err.Error(),
				Lost: []Lost{{Group: id, First: next, Last: last}}}
		}
		if err != nil {
			return dst, err
		}
		if used >= bytesMax && next > first {
			break
		}
	}
	return dst, nil
}

// appendEntries appends the entries first to last to dst that are in b, the
// entries of record r, and stops early after bytesMax, but not before the first.
func appendEntries(dst []smr.Entry, r record, b []byte, first, last uint64, bytesMax int) ([]smr.Entry, error) {
	next, used := first, 0
	for len(b) > 0 {
		dst = append(dst, smr.Entry{})
		e := &dst[len(dst)-1]
		rest, err := smr.DecodeEntry(b, e)
		if err == nil {
			err = r.follow(e.Index)
		}
		if err == nil && e.Index == next && next <= last && (used < bytesMax || next == first) {
			used += e.Size()
			next++
		} else {
			*e = smr.Entry{}
			dst = dst[:len(dst)-1]
		}
		if err != nil {
			return dst, err
		}
		b = rest
	}
	return dst, r.whole()
}

// cursor walks over the records of a segment from any of them on.
type cursor struct {
	s     *segment
	end   int64 // of what is synced
	at    int64
	until int64 // up to here it is likely to be wanted
	buf   []byte
	from  int64 // position of buf
	// lent: entries keep buf. Else, as long as all that is read lies before what is
	// wanted, its memory is used again.
	lent bool
}

// bytes returns n bytes at c.at, until the next call, or for ever if they are lent.
func (c *cursor) bytes(n int64) ([]byte, error) {
	if c.at+n > c.end {
		return nil, io.EOF
	}
	if i := c.at - c.from; i >= 0 && i+n <= int64(len(c.buf)) {
		return c.buf[i : i+n], nil
	}
	// An entry keeps the buffer that it was read into: so read no more than is
	// likely to be wanted.
	want := min(max(c.until-c.at, markBytes+sectorBytes), readAheadBytes)
	size := min(max(n, want), c.end-c.at)
	b := c.buf[:0]
	if c.lent || int64(cap(b)) < size {
		b, c.lent = make([]byte, size), false
	}
	b = b[:size]
	c.buf = nil // until it is read whole
	if k, err := c.s.f.ReadAt(b, c.at); k < len(b) {
		return nil, fmt.Errorf("read %s at %d: %w", c.s.name, c.at, err)
	}
	c.buf, c.from = b, c.at
	return b[:n], nil
}

// record returns the next record, verified, and its position. Errors of the
// content wrap smr.ErrCorrupt; the end is io.EOF.
func (c *cursor) record() (kind recordKind, payload []byte, at int64, err error) {
	for {
		b, err := c.bytes(recordHead)
		if err != nil {
			if c.at+recordHead > c.end && c.at < c.end {
				c.at = c.end // less than a record's head of padding
				continue
			}
			return 0, nil, c.at, err
		}
		switch recordKind(b[0]) {
		case kindPadding:
			c.at = (c.at + sectorBytes) &^ (sectorBytes - 1)
			continue
		case kindBatch:
			c.at += batchHead
			continue
		}
		size := int64(recordHead) + int64(uint32(b[1])|uint32(b[2])<<8|uint32(b[3])<<16|uint32(b[4])<<24) + recordTail
		at := c.at
		if b, err = c.bytes(size); err != nil {
			return 0, nil, at, err
		}
		c.at += size
		if !checkRecord(b, c.s.salt) {
			return 0, nil, at, fmt.Errorf("checksum of a record does not match: %w", smr.ErrCorrupt)
		}
		return recordKind(b[0]), b[recordHead : size-recordTail], at, nil
	}
}
