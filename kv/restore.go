package kv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

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
	if err := s.cfg.FS.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("restore into %s: %w", dir, err)
	}
	o := s.pebbleOptions()
	o.CacheSize = 8 << 20 // nothing is read twice
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

// Commit implements smr.Restoration. Readers see the old state or the new one;
// Commit waits for those that are at work.
func (r *restoration) Commit() error {
	s := r.s
	if !r.finished {
		return fmt.Errorf("restore key-value store: committed before it was finished")
	}
	dir := s.cfg.Dir
	if err := s.cfg.FS.Rename(dir+dirRestoring, dir+dirRestored); err != nil {
		return fmt.Errorf("restore key-value store: %w", err)
	}
	if err := vfs.SyncDir(s.cfg.FS, s.cfg.FS.PathDir(dir)); err != nil {
		return fmt.Errorf("restore key-value store: %w", err)
	}
	r.committed = true
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := r.exchange(); err != nil {
		s.broken = fmt.Errorf("key-value store in %s, restoring: %w", dir, err)
		return s.broken
	}
	return nil
}

// exchange opens the new state in the place of the old one. Under mu.
func (r *restoration) exchange() error {
	s := r.s
	if s.db == nil {
		return ErrClosed
	}
	err := errors.Join(s.views.closeAll(), s.w.closeIterator(), s.w.batch.Close())
	s.life.Lock()
	defer s.life.Unlock()
	err = errors.Join(err, s.db.Close())
	s.db = nil
	if err != nil {
		return err
	}
	if err := s.cfg.FS.Rename(s.cfg.Dir, s.cfg.Dir+dirOld); err != nil {
		return err
	}
	if err := s.settleDir(false); err != nil {
		return err
	}
	_, err = s.openDB()
	return err
}

// settleDir brings the directory of the store to its place after a restoration
// that was committed to, and removes what is left of others. old: also what the
// state before has left.
func (s *Store) settleDir(old bool) error {
	fsys, dir := s.cfg.FS, s.cfg.Dir
	if _, err := fsys.Stat(dir + dirRestored); err == nil {
		if err := fsys.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := fsys.Rename(dir+dirRestored, dir); err != nil {
			return err
		}
		if err := vfs.SyncDir(fsys, fsys.PathDir(dir)); err != nil {
			return err
		}
	}
	if !old {
		return nil
	}
	for _, suffix := range []string{dirRestoring, dirOld} {
		if err := fsys.RemoveAll(dir + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
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
	err := r.closeDB()
	suffix := dirRestoring
	if r.committed {
		suffix = dirOld
	}
	if e := s.cfg.FS.RemoveAll(s.cfg.Dir + suffix); e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}
