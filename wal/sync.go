package wal

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// Sync takes what was filled, writes it as one batch with one write and one
// sync, and appends to acks the newest sequence number of each group in it. With
// nothing filled it returns acks as they are.
//
// ErrNoSpace: the batch is not written; Sync keeps it and tries again when it is
// called again. Every other error wraps ErrFailed and is final: what was taken
// counts as not written.
func (l *Log) Sync(acks []Ack) ([]Ack, error) {
	l.ioMu.Lock()
	defer l.ioMu.Unlock()
	if err := l.Failed(); err != nil {
		return acks, err
	}
	b := l.take()
	if len(b.records) > 0 {
		if err := l.writeTaken(b); err != nil {
			return acks, err
		}
	}
	acks = append(acks, b.acks...)
	b.reset(0)
	// Failing here fails the next Sync: what this one wrote is on disk.
	l.maintain()
	return acks, nil
}

// take returns the batch to write: the one that found no space, or what was
// filled since, which it exchanges for the empty buffer.
func (l *Log) take() *buffer {
	l.fillMu.Lock()
	defer l.fillMu.Unlock()
	if !l.stuck {
		l.fill, l.taken = l.taken, l.fill
		l.fill.reset(l.taken.number + 1)
	}
	return l.taken
}

func (l *Log) writeTaken(b *buffer) error {
	err := l.write(b, 0)
	err = l.classify(err)
	l.fillMu.Lock()
	l.stuck = err != nil && l.Failed() == nil
	l.fillMu.Unlock()
	return err
}

// classify turns what went wrong into ErrNoSpace, or makes the log fail.
func (l *Log) classify(err error) error {
	switch {
	case err == nil:
		return nil
	case vfs.IsNoSpace(err) && !errors.As(err, new(syncError)):
		l.mu.Lock()
		l.stats.NoSpace = true
		l.mu.Unlock()
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return l.fail(err)
}

// write makes b the next batch on disk, in the current segment if it fits there,
// and then notes it.
func (l *Log) write(b *buffer, flags uint8) error {
	size := batchSize(len(b.bytes) - batchHead)
	if s := l.current(); s.end+size > s.capacity {
		if err := l.rotate(size); err != nil {
			return err
		}
	}
	s := l.current()
	return l.writeAt(s, b, flags, s.end, 0)
}

// writeAt writes b at off of s. The batch begins after prefix bytes of b, which
// are written with it.
func (l *Log) writeAt(s *segment, b *buffer, flags uint8, off int64, prefix int) error {
	l.sums = l.sums[:0]
	for i := range b.records {
		r := &b.records[i]
		sealRecord(b.bytes[r.at:r.at+r.size], s.salt)
		l.sums = append(l.sums, b.bytes[r.at+r.size-recordTail:r.at+r.size]...)
	}
	l.mu.Lock()
	first := l.firstNeeded()
	l.mu.Unlock()
	h := batchHeader{
		flags: flags, former: l.former, sequence: l.sequence, offset: off + int64(prefix),
		bodyBytes: len(b.bytes) - prefix - batchHead, records: len(b.records), first: first,
	}
	sum := h.seal(b.bytes[prefix:], s.salt, l.sums)
	body := len(b.bytes)
	total := prefix + int(h.size())
	b.bytes = slices.Grow(b.bytes, total-body)[:total]
	clear(b.bytes[body:])
	started := l.now()
	_, err := l.writeTo(s, b.bytes, off)
	b.bytes = b.bytes[:body] // as it was, for a second try
	if err != nil {
		return fmt.Errorf("write %d bytes to %s at %d: %w", total, s.name, off, err)
	}
	if !l.o.NoSync {
		if err := s.f.SyncData(); err != nil {
			return fmt.Errorf("sync %s: %w", s.name, syncError{err})
		}
	}
	l.former, l.sequence, l.lastEmpty = sum, l.sequence+1, len(b.records) == 0
	l.written(s, b, off, total, l.now()-started)
	l.dropBefore(first)
	return nil
}

// written notes a batch that is on disk.
func (l *Log) written(s *segment, b *buffer, off int64, total int, took smr.Instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segments) == 0 || l.current() != s {
		l.segments = append(l.segments, s)
	}
	s.end = off + int64(total)
	s.size = max(s.size, s.end)
	for i := range b.records {
		l.apply(&b.records[i], s, off)
	}
	d := took.Sub(0)
	l.stats.Syncs++
	l.stats.SyncedBytes += uint64(total)
	l.stats.SyncTime += d
	l.stats.SyncTimes[syncTimeBucket(d)]++
	l.stats.SyncTimeLast = d
	l.stats.SyncTimeMax = max(l.stats.SyncTimeMax, d)
}

// rotate begins the next segment: its header and the state of all groups, as one
// write and one sync. It will have room for a batch of size more bytes.
func (l *Log) rotate(size int64) error {
	if err := l.prepareNext(); err != nil {
		return err
	}
	s := l.next
	b := &buffer{bytes: make([]byte, sectorBytes+batchHead, 4<<10)}
	l.mu.Lock()
	l.checkpoint(b)
	l.mu.Unlock()
	s.capacity = max(l.o.SegmentBytes, sectorBytes+batchSize(len(b.bytes)-sectorBytes-batchHead)+size)
	h := segmentHeader{
		identity: l.o.Identity, shard: l.o.Shard, number: s.number, capacity: s.capacity,
		formerSum: l.former, sequence: l.sequence,
	}
	if len(l.segments) > 0 {
		h.formerEnd = l.current().end
	}
	copy(b.bytes, h.encode())
	if err := l.writeAt(s, b, flagCheckpoint, 0, sectorBytes); err != nil {
		return err
	}
	l.next = nil
	l.moveBytes, l.warned = l.o.SegmentBytes/2, false
	l.mu.Lock()
	l.stats.NoSpace = false
	l.mu.Unlock()
	return nil
}

// checkpoint appends a record for every group, as it is on disk. l.mu is held.
func (l *Log) checkpoint(b *buffer) {
	for _, g := range l.sorted() {
		start := b.begin(kindGroup, g.id)
		b.bytes = appendHardState(b.bytes, &g.hardState)
		b.bytes = appendUvarint(b.bytes, g.last)
		b.bytes = appendSnapshot(b.bytes, &g.snapshot)
		b.end(start, record{group: g.id})
	}
}

// sorted returns the groups that are on disk, by id. l.mu is held.
func (l *Log) sorted() []*group {
	gs := make([]*group, 0, len(l.groups))
	for _, g := range l.groups {
		if g.exists {
			gs = append(gs, g)
		}
	}
	slices.SortFunc(gs, func(a, b *group) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return gs
}

// maintain does what keeps the next batches cheap.
func (l *Log) maintain() {
	s := l.current()
	err := l.zeroAhead(s, s.end)
	if err == nil && l.next == nil && s.end > s.capacity/2 {
		err = l.prepareNext()
	}
	if err == nil {
		err = l.move()
	}
	if l.classify(err) != nil && l.Failed() == nil && !l.warned {
		l.warned = true
		l.o.Logger.Warn("no space for another segment of the log", "dir", l.dir, "error", err)
	}
}
