package kv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// restoration is a second store that takes a state in, beside the first.
type restoration struct {
	s       *Store
	decoder StreamDecoder
	db      *pebble.DB
	batch   *pebble.Batch
	last    []byte
	st      state
	// unflushed is as in Store, of a deterministic one.
	unflushed int64
	finished  bool
	committed bool
	old       *engine // what it has taken the place of
	closed    bool
}

// BeginRestore implements smr.Snapshotter.
func (s *Store) BeginRestore() (smr.Restoration, error) {
	s.restoringMu.Lock()
	defer s.restoringMu.Unlock()
	if s.restoring != nil {
		return nil, fmt.Errorf("key-value store in %s takes a state in already", s.cfg.Dir)
	}
	dir := s.cfg.Dir + dirRestoring
	if err := removeAll(s.cfg.FS, dir); err != nil {
		return nil, fmt.Errorf("restore into %s: %w", dir, err)
	}
	o := s.pebbleOptions(newDisk(&s.cfg, dir)) // which waits for no room
	o.CacheSize = 8 << 20                      // nothing is read twice
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("restore into %s: %w", dir, err)
	}
	if s.cfg.Deterministic {
		if err := growMemTable(db, s.cfg.MemTableBytes); err != nil {
			return nil, errors.Join(fmt.Errorf("restore into %s: %w", dir, err), db.Close())
		}
	}
	r := &restoration{s: s, db: db, batch: db.NewBatch()}
	r.decoder.Pair = r.pair
	s.restoring = r
	return r, nil
}

// Write implements smr.Restoration.
func (r *restoration) Write(p []byte) (int, error) { return r.decoder.Write(p) }

// loadBytes is how much is written to pebble at once.
const loadBytes = 1 << 20

func (r *restoration) pair(key, value []byte) error {
	if r.last != nil && bytes.Compare(r.last, key) >= 0 {
		return fmt.Errorf("keys of a state are not in order: %w", smr.ErrCorrupt)
	}
	r.last = append(r.last[:0], key...)
	if len(key) == 0 || string(key) == string(keyFormat) {
		return fmt.Errorf("a state holds the key %q: %w", key, smr.ErrCorrupt)
	}
	if err := r.batch.Set(key, value, nil); err != nil {
		return err
	}
	limit := int64(loadBytes)
	if r.s.cfg.Deterministic {
		limit = r.s.cfg.MemTableBytes / 16
	}
	if r.weight() < limit {
		return nil
	}
	return r.commit()
}

// weight is about what the batch takes in a memtable, or more.
func (r *restoration) weight() int64 {
	weight := int64(r.batch.Len())
	if r.s.cfg.Deterministic {
		weight += 200 * int64(r.batch.Count())
	}
	return weight
}

func (r *restoration) commit() error {
	n := r.weight()
	if err := r.batch.Commit(pebble.NoSync); err != nil {
		return err
	}
	if err := r.batch.Close(); err != nil {
		return err
	}
	r.batch = r.db.NewBatch()
	if r.unflushed += n; r.s.cfg.Deterministic && r.unflushed > r.s.cfg.MemTableBytes/4 {
		r.unflushed = 0
		return r.db.Flush()
	}
	return nil
}

// Finish implements smr.Restoration.
func (r *restoration) Finish() error {
	err := r.decoder.Finish()
	if err == nil {
		err = r.batch.Set(keyFormat, appendFormat(nil, r.s.cfg.Group), nil)
	}
	if err == nil {
		err = r.commit()
	}
	if err == nil {
		err = r.db.Flush()
	}
	if err == nil {
		r.st, err = load(r.db, r.s.cfg.Group)
	}
	err = errors.Join(err, r.closeDB())
	if err != nil {
		return fmt.Errorf("restore key-value store: %w", err)
	}
	r.finished = true
	return nil
}

func (r *restoration) closeDB() error {
	if r.db == nil {
		return nil
	}
	err := errors.Join(r.batch.Close(), r.db.Close())
	r.db = nil
	return err
}

// Commit implements smr.Restoration. Those who are reading go on reading the old
// state; who begins afterwards reads the new one. Commit waits for neither.
func (r *restoration) Commit() error {
	s := r.s
	if !r.finished {
		return fmt.Errorf("restore key-value store: committed before it was finished")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return ErrClosed
	}
	dir := restoredDir(s.cfg.Dir, s.generation+1)
	if err := s.cfg.FS.Rename(s.cfg.Dir+dirRestoring, dir); err != nil {
		return fmt.Errorf("restore key-value store: %w", err)
	}
	if err := vfs.SyncDir(s.cfg.FS, s.cfg.FS.PathDir(dir)); err != nil {
		return fmt.Errorf("restore key-value store: %w", err)
	}
	r.committed = true
	if err := r.exchange(dir); err != nil {
		s.broken = fmt.Errorf("key-value store in %s, restoring: %w", dir, err)
		return s.broken
	}
	return nil
}

// exchange opens the new state in dir and puts it in the place of the old one,
// which it leaves to Close. Under mu.
func (r *restoration) exchange(dir string) error {
	s := r.s
	next, st, err := s.openEngine(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(s.views.closeAll(), s.closeWriter()); err != nil {
		return errors.Join(err, next.db.Close())
	}
	s.retired = slices.DeleteFunc(s.retired, func(e *engine) bool {
		select {
		case <-e.closed:
			return true
		default:
			return false
		}
	})
	s.life.Lock()
	defer s.life.Unlock()
	r.old = s.engine
	r.old.obsolete = true
	s.retired = append(s.retired, r.old)
	s.generation++
	return s.install(next, st)
}

// The directories of a store, beside that of its name. While a store is open, its
// state is in the restored one of the highest number, if there is one: from the
// moment on that it has this name, all others are worthless.
const (
	dirRestoring = ".restoring" // being filled, worthless
	dirRestored  = ".restored-" // and its number
)

func restoredDir(dir string, generation uint64) string {
	return fmt.Sprintf("%s%s%d", dir, dirRestored, generation)
}

// settleDir gives the state of a store that is not open the store's name, and
// removes all others. A crash at any step leaves the same to do.
func settleDir(fsys vfs.FS, dir string) error {
	parent := fsys.PathDir(dir)
	names, err := fsys.List(parent)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var found []uint64
	for _, name := range names {
		text, ok := strings.CutPrefix(name, fsys.PathBase(dir)+dirRestored)
		if n, err := strconv.ParseUint(text, 10, 64); ok && err == nil {
			found = append(found, n)
		}
	}
	slices.Sort(found)
	if err := removeAll(fsys, dir+dirRestoring); err != nil || len(found) == 0 {
		return err
	}
	// An older one must not be found when the newest has lost its number.
	newest := found[len(found)-1]
	for _, n := range found[:len(found)-1] {
		if err := removeAll(fsys, restoredDir(dir, n)); err != nil {
			return err
		}
	}
	if err := removeAll(fsys, dir); err != nil {
		return err
	}
	if err := vfs.SyncDir(fsys, parent); err != nil {
		return err
	}
	if err := fsys.Rename(restoredDir(dir, newest), dir); err != nil {
		return err
	}
	return vfs.SyncDir(fsys, parent)
}

func removeAll(fsys vfs.FS, dir string) error {
	if err := fsys.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Close implements smr.Restoration.
func (r *restoration) Close() error {
	s := r.s
	s.restoringMu.Lock()
	defer s.restoringMu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	if s.restoring == r {
		s.restoring = nil
	}
	if r.committed {
		if r.old != nil {
			r.old.retire() // whoever reads it last closes and removes it
		}
		return nil
	}
	return errors.Join(r.closeDB(), removeAll(s.cfg.FS, s.cfg.Dir+dirRestoring))
}
