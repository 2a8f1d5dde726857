package wal

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// recover brings the log to where it ended: it reads it all, makes sure that
// what it read is on disk, and takes the files for writing.
func (l *Log) recover() error {
	s, err := surveyDir(l.fs, l.dir, &l.o.Identity, l.o.Shard, !l.o.NoChainCheck)
	if err != nil {
		return err
	}
	defer s.close()
	if s.corrupt != nil {
		return s.corrupt
	}
	l.o.Identity = s.identity
	if s.last < 0 && l.o.MustExist {
		return ErrMissing
	}
	if s.last < 0 {
		return l.begin()
	}
	r := replay{l: l, unknown: map[*group]uint64{}}
	if err := s.walk(r.begin, r.batch); err != nil {
		return err
	}
	if err := r.finish(); err != nil {
		return err
	}
	if s.torn {
		l.o.Logger.Info("the last batch of the log was being written when the replica stopped; it was not acknowledged and is dropped",
			"file", s.files[s.last].name, "offset", s.end, "batch", s.sequence)
	}
	return l.takeOver(s)
}

// begin creates the log.
func (l *Log) begin() error {
	l.sequence = 1
	if err := l.rotate(0); err != nil {
		return fmt.Errorf("create the log: %w", err)
	}
	l.lastEmpty = true
	return nil
}

// takeOver makes the end of the log durable, and sorts the files.
func (l *Log) takeOver(s *survey) error {
	cur, f := l.current(), s.files[s.last]
	cur.end, cur.capacity = s.end, max(f.header.capacity, s.end)
	l.former, l.sequence, l.lastEmpty = s.former, s.sequence, s.empty
	// The last batch may be in the page cache only, and its pages may even be
	// clean after a failed sync. Writing it again makes them dirty.
	if _, err := cur.f.WriteAt(s.tail, s.end-tailBytes(s.tail)); err != nil {
		return fmt.Errorf("write the last batch again to %s: %w", cur.name, err)
	}
	if !l.o.NoSync {
		if err := cur.f.SyncData(); err != nil {
			return fmt.Errorf("sync %s: %w", cur.name, err)
		}
		if err := vfs.SyncDir(l.fs, l.dir); err != nil {
			return err
		}
	}
	for i, f := range s.files {
		if i >= s.first && i <= s.last {
			continue
		}
		x, err := l.openSegment(f.number)
		if err != nil {
			return err
		}
		if f.number != cur.number+1 {
			l.recycle(x)
			continue
		}
		err = l.reserve(x)
		if err != nil && !vfs.IsNoSpace(err) {
			return errors.Join(err, x.close())
		}
		if err != nil {
			err = x.close() // it is prepared again when there is space
		} else {
			l.next = x
		}
		if err != nil {
			return fmt.Errorf("close segment %s: %w", x.name, err)
		}
	}
	return nil
}

// tailBytes is what the tail takes in the file, up to the next sector.
func tailBytes(tail []byte) int64 {
	return (int64(len(tail)) + sectorBytes - 1) &^ (sectorBytes - 1)
}

// replay rebuilds the groups from the records of a log.
type replay struct {
	l *Log
	s *segment
	// unknown: entries of a group up to this index are in no segment that was
	// read, if they are still in the log at all: they may have been compacted
	// or moved since.
	unknown map[*group]uint64
}

func (r *replay) begin(f *logFile) error {
	s, err := r.l.openSegment(f.number)
	if err != nil {
		return err
	}
	s.end, s.capacity = s.size, f.header.capacity
	r.s = s
	r.l.segments = append(r.l.segments, s)
	return nil
}

func (r *replay) batch(f *logFile, h *batchHeader, raw []byte) error {
	at, groups := batchHead, 0
	for rest := raw[batchHead:]; len(rest) > 0; {
		kind, payload, size, _ := splitRecord(rest)
		if err := r.record(kind, payload, h, at, size); err != nil {
			if errors.Is(err, smr.ErrCorrupt) {
				err = &CorruptionError{File: f.name, Offset: h.offset + int64(at), Reason: err.Error()}
			}
			return err
		}
		if kind == kindGroup {
			groups++
		}
		rest, at = rest[size:], at+size
	}
	if h.flags&flagCheckpoint != 0 {
		if n := len(r.l.sorted()); n != groups {
			return &CorruptionError{File: f.name, Offset: h.offset, Reason: fmt.Sprintf("the segment begins with %d groups, the segments before it have %d", groups, n)}
		}
	}
	r.s.end = h.offset + h.size()
	return nil
}

// entries applies a record of entries to both halves of its group. Most of a log
// is these, so only their heads are decoded.
func (r *replay) entries(payload []byte, h *batchHeader, at, size int) error {
	d := smr.Decoder{B: payload}
	rec := record{kind: kindEntries, group: smr.GroupID(d.Uvarint()), at: at, size: size}
	g, err := r.begun(rec.group)
	if err != nil {
		return err
	}
	for b := d.B; len(b) > 0; {
		e, rest, err := smr.DecodeEntryHead(b)
		first := rec.first == 0
		if err == nil {
			err = rec.follow(e.Index)
		}
		if err == nil && first {
			err = r.follow(g, e.Index)
		}
		if err == nil {
			err = r.entry(g, e, b)
		}
		if err != nil {
			return err
		}
		b = rest
	}
	if err := rec.whole(); err != nil {
		return err
	}
	r.l.apply(&rec, r.s, h.offset)
	return nil
}

// record applies one record to both halves of its group.
func (r *replay) record(kind recordKind, payload []byte, h *batchHeader, at, size int) error {
	if kind == kindEntries {
		return r.entries(payload, h, at, size)
	}
	rec, err := decodeRecord(kind, payload, nil)
	if err != nil {
		return err
	}
	rec.at, rec.size = at, size
	if kind == kindGroup {
		return r.group(&rec)
	}
	g, err := r.target(&rec)
	if err != nil {
		return err
	}
	switch kind {
	case kindHardState:
		g.filled.hardState = rec.hardState
	case kindCreate:
		g.filled.exists = true
	case kindSnapshot:
		g.fillSnapshot(rec.snapshot, rec.restart)
		if rec.restart {
			delete(r.unknown, g)
		}
	case kindRemove:
		g.filled = group{}.filled
		delete(r.unknown, g)
	case kindMoved:
		if rec.first <= g.snapshot.Index || rec.last > g.last {
			return fmt.Errorf("group %d: entries %d to %d moved in a log from %d to %d: %w", g.id, rec.first, rec.last, g.snapshot.Index+1, g.last, smr.ErrCorrupt)
		}
	}
	r.l.apply(&rec, r.s, h.offset)
	return nil
}

// target returns the group of a record, and makes it if the record creates it.
func (r *replay) target(rec *record) (*group, error) {
	if rec.kind != kindCreate {
		return r.begun(rec.group)
	}
	g := r.l.groups[rec.group]
	if g == nil {
		g = &group{id: rec.group}
		r.l.groups[rec.group] = g
	} else if g.exists {
		return nil, fmt.Errorf("group %d created twice: %w", rec.group, smr.ErrCorrupt)
	}
	return g, nil
}

func (r *replay) begun(id smr.GroupID) (*group, error) {
	g := r.l.groups[id]
	if g == nil || !g.exists {
		return nil, fmt.Errorf("record of group %d, which was not created: %w", id, smr.ErrCorrupt)
	}
	return g, nil
}

// follow makes room for the first entry of a record.
func (r *replay) follow(g *group, index uint64) error {
	if index <= g.filled.snapIndex || index > g.filled.last+1 {
		return fmt.Errorf("group %d: entry %d in a log from %d to %d: %w", g.id, index, g.filled.snapIndex+1, g.filled.last, smr.ErrCorrupt)
	}
	if index <= g.filled.last {
		g.fillTruncate(index)
		if r.unknown[g] >= index {
			r.unknown[g] = index - 1
		}
	}
	return nil
}

// entry notes the entry at the front of b, whose head is e.
func (r *replay) entry(g *group, e smr.EntryHead, b []byte) error {
	g.fillEntry(e.Index, e.Term)
	if e.Kind != smr.KindConfiguration {
		return nil
	}
	var c smr.Entry
	if _, err := smr.DecodeEntry(b, &c); err != nil {
		return err
	}
	g.configuration(c)
	return nil
}

// configuration notes a configuration that the log holds.
func (g *group) configuration(c smr.Entry) {
	c.Data = slices.Clone(c.Data)
	g.filled.configurations = append(g.filled.configurations, c)
}

// group takes over a group as it was at the beginning of the first segment, and
// compares it at the beginning of the others.
func (r *replay) group(rec *record) error {
	g := r.l.groups[rec.group]
	if g != nil && g.exists {
		if g.hardState != rec.hardState || g.last != rec.logLast || g.snapshot.Index != rec.snapshot.Index || g.snapshot.Term != rec.snapshot.Term {
			return fmt.Errorf("group %d is not what the segments before made it: %w", rec.group, smr.ErrCorrupt)
		}
		return nil
	}
	if g != nil || len(r.l.segments) > 1 || rec.logLast < rec.snapshot.Index {
		return fmt.Errorf("group %d appears from nowhere: %w", rec.group, smr.ErrCorrupt)
	}
	g = &group{id: rec.group, exists: true, hardState: rec.hardState, snapshot: *rec.snapshot, last: rec.logLast}
	f := &g.filled
	f.exists, f.hardState, f.last = true, rec.hardState, rec.logLast
	f.snapIndex, f.snapTerm = rec.snapshot.Index, rec.snapshot.Term
	if g.last > g.snapshot.Index {
		g.marks = []mark{{first: g.snapshot.Index + 1}} // of no segment
		f.terms = []smr.TermRun{{First: g.snapshot.Index + 1}}
		r.unknown[g] = g.last
	}
	r.l.groups[rec.group] = g
	return nil
}

// finish makes sure that every entry was found.
func (r *replay) finish() error {
	l := r.l
	for _, g := range l.sorted() {
		for i, m := range g.marks {
			if l.segment(m.segment) != nil {
				continue
			}
			last := g.last
			if i+1 < len(g.marks) {
				last = g.marks[i+1].first - 1
			}
			return &CorruptionError{File: l.segments[0].name, Reason: "entries are neither here nor in later segments, and not compacted",
				Lost: []Lost{{Group: g.id, First: max(m.first, g.snapshot.Index+1), Last: last}}}
		}
		if r.unknown[g] > g.snapshot.Index {
			if err := r.reread(g); err != nil {
				return err
			}
		}
	}
	return nil
}

// reread finds the terms and configurations of a group some of whose entries
// were known only by having been moved.
func (r *replay) reread(g *group) error {
	g.filled.terms, g.filled.configurations = nil, nil
	var es []smr.Entry
	for next := g.snapshot.Index + 1; next <= g.last; {
		var err error
		if es, err = r.l.Read(g.id, next, g.last, 1<<20, es[:0]); err != nil {
			return err
		}
		for i := range es {
			g.fillEntry(es[i].Index, es[i].Term)
			if es[i].Kind == smr.KindConfiguration {
				g.configuration(es[i])
			}
		}
		next += uint64(len(es))
	}
	return nil
}
