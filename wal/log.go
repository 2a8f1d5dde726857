package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

const (
	segmentBytesMin = 16 << 10
	segmentBytesMax = 1 << 40
)

func appendUvarint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// Log is the write-ahead log of one shard. See the package comment for who may
// call what.
//
// Locks, in the order in which they are taken: ioMu, fillMu, mu. None but ioMu is
// held while the disk works.
type Log struct {
	fs   vfs.FS
	dir  string
	o    Options
	lock io.Closer

	failed atomic.Pointer[failure]

	// groups is written by the shard's goroutine alone, under mu.
	groups map[smr.GroupID]*group

	fillMu sync.Mutex
	fill   *buffer // being filled
	taken  *buffer // being written
	stuck  bool    // taken found no space and is to be tried again

	// ioMu is held by Sync and Close, and guards what only they use.
	ioMu     sync.Mutex
	next     *segment   // prepared for when the current one is full
	free     []*segment // not needed any more, to be written again
	former   uint32     // checksum of the last batch
	sequence uint64     // of the next batch
	sums     []byte
	// moveBytes is how much may still be moved before the next rotation.
	moveBytes int64
	unmoved   uint64 // a segment from which nothing could be moved
	warned    bool
	lastEmpty bool // the last batch is an empty one
	pageCache bool // nothing is written past the page cache

	// mu guards segments, what is synced of each group, and stats.
	mu       sync.Mutex
	segments []*segment // in use, numbers ascending by one, the last is current
	stats    Stats
	closed   bool
}

type failure struct{ err error }

// Failed returns what every call returns since the log has failed or was closed,
// and nil before.
func (l *Log) Failed() error {
	if f := l.failed.Load(); f != nil {
		return f.err
	}
	return nil
}

// fail makes the log fail for good, unless it has already, and returns the
// reason.
func (l *Log) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if l.failed.CompareAndSwap(nil, &failure{err}) {
		l.o.Logger.Error("the log has failed", "dir", l.dir, "error", cause)
	}
	return l.Failed()
}

func (l *Log) now() smr.Instant {
	if l.o.Now == nil {
		return 0
	}
	return l.o.Now()
}

// Open opens the log in dir, and creates it if dir is empty or missing. It takes
// the directory for itself until Close. Errors wrap ErrForeign if the log is
// another replica's, ErrMissing, vfs.ErrLocked if the directory is in use, and are a
// *CorruptionError if something is damaged that had been synced; nothing is
// changed then. A batch that was being written when the process or the machine
// stopped is dropped, and logged.
func Open(fs vfs.FS, dir string, o Options) (*Log, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	if err := vfs.MkdirAll(fs, dir); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	lock, err := vfs.LockDir(fs, dir)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &Log{fs: fs, dir: dir, o: o, lock: lock, groups: map[smr.GroupID]*group{}, fill: &buffer{}, taken: &buffer{}}
	l.pageCache = o.PageCache || o.Plain
	l.fill.reset(1)
	l.taken.reset(0)
	if err := l.recover(); err != nil {
		if vfs.IsNoSpace(err) {
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		l.closeFiles()
		return nil, fmt.Errorf("open log in %s: %w", dir, err)
	}
	return l, nil
}

// Identity returns whose log it is, with the incarnation that is on disk.
func (l *Log) Identity() Identity { return l.o.Identity }

// Groups returns the groups that the log holds, ascending, as filled.
func (l *Log) Groups() []smr.GroupID {
	var ids []smr.GroupID
	for id, g := range l.groups {
		if g.filled.exists {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// State returns what the log holds of a group, as recovered: call it before the
// first Append or SetSnapshot. It reads the tail from disk; if that fails, the
// tail is shorter or empty, and Read will say why.
func (l *Log) State(id smr.GroupID) (smr.LogState, bool) {
	g := l.groups[id]
	if g == nil || !g.filled.exists {
		return smr.LogState{}, false
	}
	l.mu.Lock()
	st := smr.LogState{
		HardState: g.hardState, Snapshot: g.snapshot, Last: g.last,
		Terms:          slices.Clone(g.filled.terms),
		Configurations: slices.Clone(g.filled.configurations),
	}
	st.Snapshot.Configuration = cloneConfiguration(st.Snapshot.Configuration)
	first, bytes := g.last+1, int64(0)
	for i := len(g.marks) - 1; i >= 0 && bytes < int64(l.o.TailBytesMax); i-- {
		bytes += g.marks[i].bytes
		first = max(g.marks[i].first, g.snapshot.Index+1)
	}
	l.mu.Unlock()
	for next := first; next <= st.Last; next = first + uint64(len(st.Tail)) {
		var err error
		if st.Tail, err = l.Read(id, next, st.Last, 1<<40, st.Tail); err != nil {
			l.o.Logger.Error("the tail of a log cannot be read", "dir", l.dir, "group", id, "error", err)
			st.Tail = nil // it would not end at Last
			break
		}
	}
	used, n := 0, len(st.Tail)
	for n > 0 && used+st.Tail[n-1].Size() <= l.o.TailBytesMax {
		n--
		used += st.Tail[n].Size()
	}
	st.Tail = st.Tail[n:]
	return st, true
}

// Stats returns the log's counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.stats
	st.Segments = len(l.segments)
	for _, s := range l.segments {
		st.Bytes += s.size
		st.LiveBytes += s.live
	}
	return st
}

// Close ends the log with an empty batch, which protects the one before from
// being taken for a torn one, and releases the directory. What was filled and
// not synced is lost. Every later call returns ErrClosed.
func (l *Log) Close() error {
	l.ioMu.Lock()
	defer l.ioMu.Unlock()
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	var err error
	if s := l.current(); l.Failed() == nil && !l.lastEmpty && s.end+batchSize(0) <= s.capacity {
		b := &buffer{}
		b.reset(0)
		if err = l.write(b, 0); vfs.IsNoSpace(err) {
			err = nil
		}
	}
	l.failed.CompareAndSwap(nil, &failure{ErrClosed})
	return errors.Join(err, l.closeFiles())
}

func (l *Log) closeFiles() error {
	var errs []error
	for _, s := range slices.Concat(l.segments, l.free, []*segment{l.next}) {
		if s != nil && s.f != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(append(errs, l.lock.Close())...)
}
