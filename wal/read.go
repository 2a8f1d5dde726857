package wal

import (
	"errors"
	"fmt"
	"io"

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
	var cuts uint64
	for next := first; next <= last; {
		s, end, m, spanLast, cutsNow, err := l.locate(id, next)
		if err != nil && len(dst) > begin {
			return dst, nil // at the end: what there is will do
		}
		if err != nil {
			return dst, err
		}
		if len(dst) > begin && cutsNow != cuts {
			l.unref(s) // truncated meanwhile: what comes now does not follow
			return dst, nil
		}
		cuts = cutsNow
		n := len(dst)
		dst, err = readSpan(s, end, id, m.off, m.bytes, next, min(last, spanLast), bytesMax-used, dst)
		l.unref(s)
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
	}
	return dst, nil
}

// locate finds the segment and the mark of an entry. The caller releases the
// segment with unref if there is no error.
func (l *Log) locate(id smr.GroupID, index uint64) (s *segment, end int64, m mark, last, cuts uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[id]
	if l.closed {
		return nil, 0, m, 0, 0, ErrClosed
	}
	if g == nil || !g.exists {
		return nil, 0, m, 0, 0, fmt.Errorf("%w: group %d is unknown", ErrUnavailable, id)
	}
	if index <= g.snapshot.Index {
		return nil, 0, m, 0, 0, fmt.Errorf("%w: entry %d of group %d, whose log begins at %d; send the snapshot", ErrCompacted, index, id, g.snapshot.Index+1)
	}
	m, last, ok := g.find(index)
	if index > g.last || !ok {
		return nil, 0, m, 0, 0, fmt.Errorf("%w: entry %d of group %d, whose log ends at %d", ErrUnavailable, index, id, g.last)
	}
	s = l.segment(m.segment)
	s.refs++
	return s, s.end, m, last, g.cuts, nil
}

func (l *Log) unref(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.refs--
}

// readSpan appends the entries first to last of a group to dst, which are found
// from off on in s, whose synced part ends at end, and stops early after
// bytesMax, but not before the first. hint is about how much there is to read.
func readSpan(s *segment, end int64, id smr.GroupID, off, hint int64, first, last uint64, bytesMax int, dst []smr.Entry) ([]smr.Entry, error) {
	c := cursor{s: s, end: end, at: off, want: hint + sectorBytes}
	next, used := first, 0
	for next <= last {
		kind, payload, at, err := c.record()
		if err == nil && (kind == kindEntries || kind == kindMoved) {
			d := smr.Decoder{B: payload}
			if smr.GroupID(d.Uvarint()) != id {
				continue
			}
			_, err = decodeRecord(kind, payload, func(e *smr.Entry) {
				if e.Index == next && next <= last && (used < bytesMax || next == first) {
					dst = append(dst, *e)
					used += e.Size()
					next++
				}
			})
		}
		if errors.Is(err, smr.ErrCorrupt) || errors.Is(err, io.EOF) {
			err = &CorruptionError{File: s.name, Offset: at, Reason: "entries that were synced here cannot be read: " + err.Error(),
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

// cursor walks over the records of a segment from any of them on.
type cursor struct {
	s    *segment
	end  int64
	at   int64
	want int64 // how much to read when there is nothing left
	buf  []byte
	from int64 // position of buf
}

// bytes returns n bytes at c.at. Their memory is not used again.
func (c *cursor) bytes(n int64) ([]byte, error) {
	if c.at+n > c.end {
		return nil, io.EOF
	}
	if i := c.at - c.from; i+n <= int64(len(c.buf)) {
		return c.buf[i : i+n], nil
	}
	// An entry keeps the buffer that it was read into: so read no more than is
	// likely to be wanted.
	b := make([]byte, min(max(n, min(c.want, 256<<10)), c.end-c.at))
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
