package wal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/quorate/quorate/vfs"
)

// zeroStep is how much of a new segment is filled with zeros at a time, ahead of
// what is written to it.
const zeroStep = 1 << 20

// zeros are for all logs of the process.
var zeros = sync.OnceValue(func() []byte { return make([]byte, zeroStep) })

// segment is a file of the log.
type segment struct {
	number uint64
	name   string
	f      vfs.File
	// direct is the same file open for writes past the page cache, nil where that
	// cannot be done. The syncer's alone.
	direct   vfs.Direct
	salt     uint32
	capacity int64 // where writing stops
	// size of the file: what is beyond it has no zeros yet. end is after the last
	// synced batch. Both are changed by the syncer alone, under Log.mu.
	size, end int64

	// Guarded by Log.mu.
	marks int   // marks of groups that point here
	live  int64 // bytes of their records
	refs  int   // readers
}

func segmentName(number uint64) string { return fmt.Sprintf("%016x.wal", number) }

func parseSegmentName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, ".wal")
	if !ok || len(hex) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, err == nil && n != 0 && segmentName(n) == name
}

// segment returns the segment in use with that number, nil if there is none.
func (l *Log) segment(number uint64) *segment {
	if len(l.segments) == 0 || number < l.segments[0].number {
		return nil
	}
	if i := number - l.segments[0].number; i < uint64(len(l.segments)) {
		return l.segments[i]
	}
	return nil
}

func (l *Log) current() *segment { return l.segments[len(l.segments)-1] }

func (l *Log) path(number uint64) string { return l.fs.PathJoin(l.dir, segmentName(number)) }

// openSegment opens the file of a segment for writing.
func (l *Log) openSegment(number uint64) (*segment, error) {
	s := &segment{number: number, name: l.path(number), salt: salt(l.o.Identity, l.o.Shard, number), capacity: l.o.SegmentBytes}
	f, err := l.fs.OpenReadWrite(s.name, vfs.CategoryLog)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", s.name, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("size of segment %s: %w", s.name, err), f.Close())
	}
	s.f, s.size = f, info.Size()
	l.openDirect(s)
	return s, nil
}

// openDirect opens the segment for writes past the page cache, if they are wanted
// and can be done. A batch is written once and read by nobody, as long as all
// replicas keep up: the page cache would only be a copy and a detour, which costs
// as much processor time again as the sync itself.
func (l *Log) openDirect(s *segment) {
	if l.pageCache {
		return
	}
	d, err := vfs.OpenDirect(l.fs, s.name)
	if err != nil {
		l.leaveDirect(s, err)
		return
	}
	s.direct = d
}

// leaveDirect writes through the page cache from now on, because of err.
func (l *Log) leaveDirect(s *segment, err error) {
	if !l.pageCache {
		l.pageCache = true
		l.o.Logger.Debug("the log is written through the page cache", "dir", l.dir, "reason", err)
	}
	if s.direct != nil {
		_ = s.direct.Close() // nothing that was written to it waits for that
		s.direct = nil
	}
}

// writeTo writes p at off of s, past the page cache if that can be done: not
// everything is aligned. As with any write, a sync has to follow.
func (l *Log) writeTo(s *segment, p []byte, off int64) (int, error) {
	if s.direct != nil && vfs.DirectAligned(p, off) {
		n, err := s.direct.WriteAt(p, off)
		if n > 0 || err == nil || !vfs.IsNoDirect(err) {
			return n, err
		}
		l.leaveDirect(s, err)
	}
	return s.f.WriteAt(p, off)
}

// close closes the segment's files.
func (s *segment) close() error {
	err := s.f.Close()
	if s.direct != nil {
		err = errors.Join(err, s.direct.Close())
	}
	return err
}

// prepareNext makes the file for the segment after the current one, under its
// name: a freed one renamed, or a new one with its space reserved and its
// beginning zeroed. The name is durable before anything is written to it.
func (l *Log) prepareNext() error {
	if l.next != nil {
		return nil
	}
	number := uint64(1)
	if len(l.segments) > 0 {
		number = l.current().number + 1
	}
	if n := len(l.free); n > 0 {
		old := l.free[n-1]
		l.free = l.free[:n-1]
		l.countFree()
		if err := old.close(); err != nil {
			return fmt.Errorf("close segment %s: %w", old.name, err)
		}
		if err := l.fs.Rename(old.name, l.path(number)); err != nil {
			return fmt.Errorf("recycle segment %s: %w", old.name, err)
		}
	}
	s, err := l.openSegment(number)
	if err != nil {
		return err
	}
	if err := l.reserve(s); err != nil {
		return errors.Join(err, s.close())
	}
	if !l.o.NoSync {
		if err := vfs.SyncDir(l.fs, l.dir); err != nil {
			return errors.Join(err, s.close())
		}
	}
	l.next = s
	return nil
}

// reserve takes the space that the segment needs, and zeroes its beginning.
func (l *Log) reserve(s *segment) error {
	if s.size >= s.capacity || l.o.Plain {
		return nil
	}
	if err := s.f.Preallocate(0, s.capacity); vfs.IsNoSpace(err) {
		return fmt.Errorf("reserve %d bytes for segment %s: %w", s.capacity, s.name, err)
	} // else: not every file system can
	if err := l.zeroAhead(s, 0); err != nil {
		return err
	}
	if l.o.NoSync {
		return nil
	}
	if err := s.f.SyncData(); err != nil {
		return fmt.Errorf("sync new segment %s: %w", s.name, syncError{err})
	}
	return nil
}

// syncError is a failed sync. Even if it failed for lack of space, what it was to
// write is lost: unlike a write it cannot be tried again.
type syncError struct{ error }

func (e syncError) Unwrap() error { return e.error }

// zeroAhead keeps the file filled with zeros for a while beyond at.
func (l *Log) zeroAhead(s *segment, at int64) error {
	if s.size >= s.capacity || s.size >= at+zeroStep/2 || l.o.Plain {
		return nil
	}
	k, err := l.writeTo(s, zeros()[:min(zeroStep, s.capacity-s.size)], s.size)
	l.mu.Lock()
	s.size += int64(k)
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("fill segment %s with zeros: %w", s.name, err)
	}
	return nil
}

// firstNeeded returns the number of the oldest segment that is still needed. l.mu
// is held.
func (l *Log) firstNeeded() uint64 {
	if len(l.segments) == 0 {
		return 1
	}
	for _, s := range l.segments[:len(l.segments)-1] {
		if s.marks > 0 || s.refs > 0 {
			return s.number
		}
	}
	return l.current().number
}

// dropBefore takes the segments before first out of use. A synced batch says
// that they are not needed any more.
func (l *Log) dropBefore(first uint64) {
	if l.segments[0].number >= first {
		return
	}
	var dropped []*segment
	l.mu.Lock()
	for l.segments[0].number < first {
		dropped = append(dropped, l.segments[0])
		l.segments = l.segments[1:]
	}
	l.mu.Unlock()
	for _, s := range dropped {
		l.recycle(s)
	}
}

// recycle keeps a segment to be written again, or removes it.
func (l *Log) recycle(s *segment) {
	if len(l.free) < l.o.RecycleMax && s.size <= l.o.SegmentBytes {
		l.free = append(l.free, s)
		l.countFree()
		return
	}
	if err := errors.Join(s.close(), l.fs.Remove(s.name)); err != nil {
		l.o.Logger.Warn("a freed segment of the log could not be removed", "file", s.name, "error", err)
	}
}

func (l *Log) countFree() {
	l.mu.Lock()
	l.stats.Recycled = len(l.free)
	l.mu.Unlock()
}
