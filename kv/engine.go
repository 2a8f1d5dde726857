package kv

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/quorate/quorate/vfs"
)

// engine is an open pebble, which readers hold on to. When the store takes another
// state they finish reading the old one; it is closed, and its directory removed,
// when the last of them is done. So the exchange of two states waits for nobody,
// however long somebody reads, and nobody waits for it.
//
// The naive design, in which the exchange takes a lock that all readers share,
// lets one that reads the whole store hold up the worker, and through the waiting
// writer all other readers.
//
// Invariants: (1) db is open while refs > 0. (2) The store holds one ref, until
// retire. (3) Others take one under Store.life while Store.engine is this one, so
// that refs never grows from zero.
type engine struct {
	db   *pebble.DB
	dir  string
	fs   vfs.FS
	disk *disk
	refs atomic.Int64

	retired  sync.Once
	obsolete bool // the directory is to be removed; set before retire
	// closed is closed when the db is; err is valid then.
	closed chan struct{}
	err    error
}

func newEngine(db *pebble.DB, dir string, fs vfs.FS, d *disk) *engine {
	e := &engine{db: db, dir: dir, fs: fs, disk: d, closed: make(chan struct{})}
	e.refs.Store(1)
	return e
}

// release gives one ref back. The last one closes the db.
func (e *engine) release() {
	if e.refs.Add(-1) > 0 {
		return
	}
	e.disk.end()
	if e.err = e.db.Close(); vfs.IsNoSpace(e.err) {
		e.err = nil // what found no room is in the log
	}
	if e.obsolete {
		// What cannot be removed now is at the next Open.
		e.err = errors.Join(e.err, removeAll(e.fs, e.dir))
	}
	close(e.closed)
}

// retire gives the store's own ref back, once.
func (e *engine) retire() { e.retired.Do(e.release) }

// hold returns the store's engine with a ref for the caller.
func (s *Store) hold() (*engine, error) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.engine == nil {
		return nil, ErrClosed
	}
	s.engine.refs.Add(1)
	return s.engine, nil
}

// openEngine opens pebble in dir and reads what state it is in.
func (s *Store) openEngine(dir string) (*engine, state, error) {
	d := newDisk(&s.cfg, dir)
	db, err := pebble.Open(dir, s.pebbleOptions(d))
	if err != nil {
		if isForeign(err) {
			return nil, state{}, fmt.Errorf("open key-value store in %s: %w: %w", dir, ErrForeignStore, err)
		}
		return nil, state{}, fmt.Errorf("open key-value store in %s: %w", dir, err)
	}
	st, err := load(db, s.cfg.Group)
	if err == nil && s.cfg.Deterministic {
		err = growMemTable(db, s.cfg.MemTableBytes)
	}
	if err != nil {
		return nil, state{}, errors.Join(fmt.Errorf("open key-value store in %s: %w", dir, err), db.Close())
	}
	if !s.cfg.Deterministic {
		d.begin()
	}
	return newEngine(db, dir, s.cfg.FS, d), st, nil
}

// install makes the store that of e, which is in state st. Under mu and life.
func (s *Store) install(e *engine, st state) error {
	s.db, s.engine, s.broken, s.unflushed = e.db, e, nil, 0
	s.points.reset()
	s.pages.reset()
	s.w = writer{st: st, cache: newLatestCache(s.cfg.CacheBytes, st.keys), points: s.points, batch: e.db.NewBatch(), index: e.db.NewBatch()}
	if err := s.w.batch.Set(keyFormat, appendFormat(nil, s.cfg.Group), nil); err != nil {
		return err
	}
	s.publish()
	return nil
}

// closeWriter closes what Apply has open of the engine. Under mu.
func (s *Store) closeWriter() error {
	return errors.Join(s.w.closeIterator(), s.w.batch.Close(), s.w.index.Close())
}
