package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// restoration is a second store that takes a state in, beside the first. The keys
// come in order, so they are written into tables as they come, each byte once, and
// the tables are handed to an empty pebble at the end.
type restoration struct {
	s       *Store
	dir     string
	options *pebble.Options
	decoder StreamDecoder
	// inspector recomputes the digest of what comes.
	inspector *Inspector
	tables    []string // written, or being written
	table     *sstable.Writer
	formatted bool // the format record is written
	last      []byte
	st        state
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
	if err := s.cfg.FS.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("restore into %s: %w", dir, err)
	}
	o := s.pebbleOptions(newDisk(&s.cfg, dir)) // which waits for no room
	o.CacheSize, o.MemTableSize = 8<<20, 256<<10
	o.EnsureDefaults()
	r := &restoration{s: s, dir: dir, options: o, inspector: NewInspector()}
	r.decoder.Pair = r.pair
	s.restoring = r
	return r, nil
}

// Write implements smr.Restoration.
func (r *restoration) Write(p []byte) (int, error) { return r.decoder.Write(p) }

// tableBytes is when the next table of a restored state is begun.
const tableBytes = 64 << 20

func (r *restoration) pair(key, value []byte) error {
	if r.last != nil && bytes.Compare(r.last, key) >= 0 {
		return fmt.Errorf("keys of a state are not in order: %w", smr.ErrCorrupt)
	}
	r.last = append(r.last[:0], key...)
	if len(key) == 0 || string(key) == string(keyFormat) {
		return fmt.Errorf("a state holds the key %q: %w", key, smr.ErrCorrupt)
	}
	if err := r.inspector.pair(key, value); err != nil {
		return err
	}
	if !r.formatted && bytes.Compare(key, keyFormat) > 0 {
		if err := r.writeFormat(); err != nil {
			return err
		}
	}
	return r.set(key, value)
}

func (r *restoration) writeFormat() error {
	r.formatted = true
	return r.set(keyFormat, appendFormat(nil, r.s.cfg.Group))
}

// set writes the next pair.
func (r *restoration) set(key, value []byte) error {
	if r.table != nil && r.table.Raw().EstimatedSize() >= tableBytes {
		if err := r.endTable(); err != nil {
			return err
		}
	}
	if r.table == nil {
		// A name that is none of pebble's own.
		name := r.s.cfg.FS.PathJoin(r.dir, fmt.Sprintf("table-%06d", len(r.tables)))
		f, err := r.s.cfg.FS.Create(name, categoryRestore)
		if err != nil {
			return err
		}
		f = pebblevfs.NewSyncingFile(f, pebblevfs.SyncingFileOptions{BytesPerSync: 1 << 20}) // not all at the end, beside a log
		r.tables = append(r.tables, name)
		r.table = sstable.NewWriter(objstorageprovider.NewFileWritable(f), r.options.MakeWriterOptions(6, r.options.FormatMajorVersion.MaxTableFormat()))
	}
	return r.table.Set(key, value)
}

const categoryRestore pebblevfs.DiskWriteCategory = "quorate-restore"

// endTable syncs the table at hand.
func (r *restoration) endTable() error {
	if r.table == nil {
		return nil
	}
	err := r.table.Close()
	r.table = nil
	return err
}

// Finish implements smr.Restoration. An error that wraps ErrDigest says that the
// keys or the history are not those that were applied.
func (r *restoration) Finish() error {
	err := r.decoder.Finish()
	if err == nil {
		if _, err = r.inspector.summary(); errors.Is(err, ErrDigest) {
			err = fmt.Errorf("%w: %w", smr.ErrCorrupt, err)
		}
	}
	if err == nil && !r.formatted {
		err = r.writeFormat()
	}
	if err = errors.Join(err, r.endTable()); err == nil {
		err = r.ingest()
	}
	if err != nil {
		return fmt.Errorf("restore key-value store: %w", err)
	}
	r.finished = true
	return nil
}

// ingest makes a store of the tables.
func (r *restoration) ingest() error {
	db, err := pebble.Open(r.dir, r.options)
	if err != nil {
		return err
	}
	if err = db.Ingest(context.Background(), r.tables); err == nil {
		r.st, err = load(db, r.s.cfg.Group)
	}
	return errors.Join(err, db.Close())
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
	return errors.Join(r.endTable(), removeAll(s.cfg.FS, r.dir))
}
