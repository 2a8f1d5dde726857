package kv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/quorate/quorate/smr"
)

// Store is a multi-version key-value state machine with etcd's semantics. Apply
// is called by one goroutine; everything that reads may be called by any number
// of goroutines beside it.
type Store struct {
	cfg Config

	// life guards engine, which readers hold on to; it is held for moments alone.
	life   sync.RWMutex
	engine *engine // nil: not open
	// db is the engine's, for those who hold mu; generation is that of its
	// directory, see dirRestored; retired are those that may still be read.
	db         *pebble.DB
	generation uint64
	retired    []*engine

	// mu guards w, broken and unflushed, and comes before life; it is held by Apply, CompactStep and
	// Verify's start, and is not contended on the hot path.
	mu sync.Mutex
	w  writer
	// points belongs to the readers; Apply takes out of it what it changes.
	points *pointCache
	pages  pages
	// broken is why the store cannot be used any more.
	broken error
	// unflushed bounds what a deterministic store holds in its memtable.
	unflushed int64

	views       views
	restoringMu sync.Mutex
	restoring   *restoration // guarded by restoringMu

	// What readers see; set by publish.
	revision, compact, swept atomic.Int64
	applied                  atomic.Uint64
	keys, liveBytes          atomic.Int64
}

var _ smr.Roomed = (*Store)(nil)

// New returns a store that is not open yet. The configuration is checked by
// Open.
func New(cfg Config) *Store {
	cfg.setDefaults()
	return &Store{cfg: cfg, points: newPointCache(cfg.PointCacheBytes)}
}

// formatVersion is the version of everything in the package comment.
const formatVersion = 1

// formatMagic begins the record that tells a store of ours from anything else.
const formatMagic = "quorate-kv"

// Open opens or creates the store and returns the index of the last entry whose
// effect is durable; the entries after it are applied again. The error wraps
// ErrForeignStore, ErrFormatVersion, smr.ErrCorrupt, or is pebble's.
func (s *Store) Open() (applied uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db != nil {
		return 0, fmt.Errorf("key-value store in %s is open already", s.cfg.Dir)
	}
	if err := settleDir(s.cfg.FS, s.cfg.Dir); err != nil {
		return 0, fmt.Errorf("open key-value store in %s: %w", s.cfg.Dir, err)
	}
	e, st, err := s.openEngine(s.cfg.Dir)
	if err != nil {
		return 0, err
	}
	s.life.Lock()
	defer s.life.Unlock()
	s.generation = 0
	return st.applied, s.install(e, st)
}

// appendFormat appends the record that identifies a store: magic | version byte
// | group, big-endian.
func appendFormat(dst []byte, group smr.GroupID) []byte {
	dst = append(append(dst, formatMagic...), formatVersion)
	return binary.BigEndian.AppendUint64(dst, uint64(group))
}

// load checks that db is a store of group and reads its state.
func load(db *pebble.DB, group smr.GroupID) (st state, err error) {
	format, err := get(db, keyFormat)
	if errors.Is(err, pebble.ErrNotFound) {
		return newState(), checkEmpty(db)
	}
	if err != nil {
		return st, err
	}
	want := appendFormat(nil, group)
	n := len(formatMagic)
	switch {
	case len(format) <= n || string(format[:n]) != formatMagic:
		return st, fmt.Errorf("format record %q: %w", format, ErrForeignStore)
	case format[n] > formatVersion:
		return st, fmt.Errorf("format %d, this program knows %d: %w", format[n], formatVersion, ErrFormatVersion)
	case len(format) != len(want) || format[n] != formatVersion:
		return st, fmt.Errorf("format record %q: %w", format, smr.ErrCorrupt)
	case string(format) != string(want):
		return st, fmt.Errorf("store of group %d, not %d: %w", binary.BigEndian.Uint64(format[n+1:]), group, ErrForeignStore)
	}
	b, err := get(db, keyState)
	if err != nil {
		return st, fmt.Errorf("state record: %w: %w", smr.ErrCorrupt, err)
	}
	return decodeState(b)
}

func get(db *pebble.DB, key []byte) ([]byte, error) {
	v, closer, err := db.Get(key)
	if err != nil {
		return nil, err
	}
	out := append([]byte(nil), v...)
	return out, closer.Close()
}

// checkEmpty refuses a store that holds keys but no format record.
func checkEmpty(db *pebble.DB) error {
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	if it.First() {
		err = fmt.Errorf("keys without a format record: %w", ErrForeignStore)
	}
	return errors.Join(err, it.Error(), it.Close())
}

// Close makes everything applied durable, waits for the readers and closes the
// store. After an error of Apply, or if the disk is full, nothing more is written:
// what is not durable is applied again from the log.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restoringMu.Lock()
	r := s.restoring
	s.restoringMu.Unlock()
	if r != nil {
		_ = r.Close() // nobody will commit it
	}
	if err := s.views.closeAll(); err != nil {
		return err
	}
	if s.db == nil {
		return nil
	}
	err := s.closeWriter()
	if s.usable() == nil {
		if e := s.engine.disk.flush(s.db); !errors.Is(e, smr.ErrNoSpace) {
			err = errors.Join(err, e)
		}
	}
	s.life.Lock()
	last := s.engine
	s.engine, s.db = nil, nil
	s.life.Unlock()
	for _, e := range append(s.retired, last) {
		e.retire()
		<-e.closed
		err = errors.Join(err, e.err)
	}
	s.retired = nil
	return err
}

// Flush makes everything applied before the call durable. It may be called by
// any goroutine, beside Apply. The error wraps smr.ErrNoSpace if the disk is full.
func (s *Store) Flush() error {
	e, err := s.hold()
	if err != nil {
		return err
	}
	defer e.release()
	if s.cfg.Deterministic && !s.hasRoom() {
		return fmt.Errorf("flushing the key-value store in %s: %w", s.cfg.Dir, smr.ErrNoSpace)
	}
	return e.disk.flush(e.db)
}

// DiskFull implements smr.Roomed: it reports whether something waits in memory for
// room on the disk, and has that tried again.
func (s *Store) DiskFull() bool {
	s.life.RLock()
	defer s.life.RUnlock()
	switch {
	case s.engine == nil:
		return false
	case s.cfg.Deterministic:
		return !s.hasRoom()
	case !s.engine.disk.isFull.Load():
		return false
	}
	s.engine.disk.try()
	return true
}

// hasRoom says whether a deterministic store may flush: it must know beforehand,
// for nothing in it may wait.
func (s *Store) hasRoom() bool {
	u, err := s.cfg.FS.GetDiskUsage(s.cfg.Dir)
	return err != nil || u.AvailBytes >= uint64(s.cfg.MemTableBytes)
}

// Durable returns the index of the last entry whose effect would survive a
// crash now: what Open would return. The log must be kept from the next one on.
func (s *Store) Durable() (uint64, error) {
	e, err := s.hold()
	if err != nil {
		return 0, err
	}
	defer e.release()
	it, err := e.db.NewIter(&pebble.IterOptions{OnlyReadGuaranteedDurable: true, LowerBound: keyState, UpperBound: []byte{tagMeta + 1}})
	if err != nil {
		return 0, err
	}
	var st state
	if it.First() {
		v, e := it.ValueAndErr()
		if err = e; err == nil {
			st, err = decodeState(v)
		}
	}
	if err = errors.Join(err, it.Error(), it.Close()); err != nil {
		return 0, err
	}
	return st.applied, nil
}

// Lookup answers an encoded Query with what DecodeAnswer reads. Errors are as
// for Range and ReadTxn, and ErrBadCommand for a query that cannot be decoded.
func (s *Store) Lookup(query []byte) ([]byte, error) {
	q, err := DecodeQuery(query)
	if err != nil {
		return nil, err
	}
	var out OpResponse
	if q.Range != nil {
		out.Range, err = s.Range(context.Background(), q.Range)
	} else {
		out.Txn, err = s.ReadTxn(context.Background(), q.Txn)
	}
	if err != nil {
		return nil, err
	}
	return appendAnswer(nil, &out), nil
}

// Digest returns the digest of the state after the last applied entry. It covers
// the revision, the compact revision, every live key with its value, revisions,
// version and lease, and, through a chain of hashes, every change ever applied,
// in order. It does not depend on how far compacted versions have been removed,
// nor on how entries were batched.
func (s *Store) Digest() (applied uint64, digest [16]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.st.applied, s.w.st.digest()
}

// Revision is the last applied revision; 1 before the first write.
func (s *Store) Revision() int64 { return s.revision.Load() }

// CompactRevision is the revision before which history cannot be read; -1 if
// nothing was ever compacted, as in etcd.
func (s *Store) CompactRevision() int64 { return s.compact.Load() }

// SweptRevision is the last compact revision for which the removal of versions
// is complete. Physical compaction is done when it equals CompactRevision.
func (s *Store) SweptRevision() int64 { return s.swept.Load() }

// Applied is the index of the last applied entry.
func (s *Store) Applied() uint64 { return s.applied.Load() }

// isForeign says whether pebble refused a directory that it did not write with
// our comparer.
func isForeign(err error) bool {
	return strings.Contains(err.Error(), "comparer name from file")
}
