package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// disk is what is known of the disk below an open pebble: whether it has room,
// and whether it has failed.
//
// Pebble tries a flush that found no room again at once, for ever, and takes it
// for fatal if its manifest does not fit. So its writers wait for room here
// (diskFS), while readers go on, and what was written lately stays in memory.
// They try again when somebody asks (try), for no clock is read in this package.
//
// What a merge of files finds no room for is given up, and its files removed: it
// may want much, where a flush and the log beside it want little. Pebble leaves
// those files alone for half a minute then.
//
// Invariants:
//
//	(1) full is closed while waits > 0, and a new channel otherwise.
//	(2) A writer that waits is woken by try, end and kill; after end and kill none
//	    begins to wait.
//	(3) As long as Apply and Flush ask before they add to pebble's memtables (admit),
//	    pebble has fewer than memTables of them, and does not make anybody wait.
type disk struct {
	log      *slog.Logger
	dir      string
	memTable int64       // Config.MemTableBytes
	failed   func(error) // Config.Failed

	// isFull: waits > 0. broken is the first failure, and ended is closed then.
	isFull atomic.Bool
	broken atomic.Pointer[error]
	ended  chan struct{}

	mu     sync.Mutex
	open   bool  // writers may wait
	killed error // every mutation fails with it
	waits  int   // writers that wait for room
	full   chan struct{}
	again  chan struct{} // closed by the next try
	// refused: a sync found no room, which cannot wait: the next file does.
	refused bool

	flushed chan struct{} // closed when the next flush ends

	// written are the bytes given to pebble since its memtables were looked at. It
	// belongs to Apply.
	written int64
}

func newDisk(cfg *Config, dir string) *disk {
	return &disk{
		log: cfg.Logger, dir: dir, memTable: cfg.MemTableBytes, failed: cfg.Failed,
		ended: make(chan struct{}), full: make(chan struct{}), again: make(chan struct{}), flushed: make(chan struct{}),
	}
}

// fail notes why the store cannot be used any more; the first reason counts.
func (d *disk) fail(err error) {
	err = fmt.Errorf("key-value store in %s: %w", d.dir, err)
	if !d.broken.CompareAndSwap(nil, &err) {
		return
	}
	if d.failed != nil {
		d.failed(err)
	}
	close(d.ended)
}

// failure returns what fail has noted.
func (d *disk) failure() error {
	if err := d.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// backgroundError is called by pebble when a flush or a merge has failed. A disk
// without room is no failure: nothing was lost, and it is tried again.
func (d *disk) backgroundError(err error) {
	if !vfs.IsNoSpace(err) && !errors.Is(err, ErrClosed) {
		d.fail(fmt.Errorf("in the background: %w", asCorrupt(err)))
	}
}

// dataCorruption is called by pebble when it has read a block that is not what was
// written. Who reads gets an error too.
func (d *disk) dataCorruption(info pebble.DataCorruptionInfo) {
	d.fail(fmt.Errorf("%s is damaged: %w: %w", info.Path, smr.ErrCorrupt, info.Details))
}

// asCorrupt says in our words that pebble has read what it did not write.
func asCorrupt(err error) error {
	if err == nil || errors.Is(err, smr.ErrCorrupt) || !pebble.IsCorruptionError(err) {
		return err
	}
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return fmt.Errorf("%s is damaged: %w: %w", info.Path, smr.ErrCorrupt, info.Details)
	}
	return fmt.Errorf("%w: %w", smr.ErrCorrupt, err)
}

// begin lets writers wait from now on, and end no more.
func (d *disk) begin() { d.setOpen(true) }
func (d *disk) end()   { d.setOpen(false) }

func (d *disk) setOpen(open bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = open
	d.wake()
}

// kill fails every mutation from now on: what pebble believes to be on disk is not
// known to be there.
func (d *disk) kill(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.killed == nil {
		d.killed = err
	}
	d.wake()
}

// try lets those who wait try again.
func (d *disk) try() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wake()
}

func (d *disk) wake() {
	close(d.again)
	d.again = make(chan struct{})
}

// do runs a mutation, again and again as long as there is no room for it.
func (d *disk) do(c pebblevfs.DiskWriteCategory, f func() error) error {
	if err := d.dead(); err != nil {
		return err
	}
	err := f()
	if !vfs.IsNoSpace(err) {
		return err
	}
	if isMerge(c) {
		return err
	}
	d.enter(err)
	defer d.leave()
	for vfs.IsNoSpace(err) && d.nextTry() {
		err = f()
	}
	return err
}

func (d *disk) dead() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.killed
}

// isMerge says that writes of this category may be given up.
func isMerge(c pebblevfs.DiskWriteCategory) bool {
	return c == "pebble-compaction" || c == "pebble-blob-file-rewrite"
}

// syncFailed notes that there was no room for what was to be synced. Pebble makes
// another file of the same, at once.
func (d *disk) syncFailed(c pebblevfs.DiskWriteCategory) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = d.refused || !isMerge(c)
}

// holdBack holds a file back that follows one that could not be synced, until the
// next try, and every file of a store that has failed, until it is closed: pebble
// would make them again and again.
func (d *disk) holdBack(c pebblevfs.DiskWriteCategory) {
	d.mu.Lock()
	refused := d.refused && !isMerge(c)
	if refused {
		d.refused = false
	}
	d.mu.Unlock()
	if refused {
		d.enter(syscall.ENOSPC)
		defer d.leave()
		d.nextTry()
	}
	for d.failure() != nil {
		d.mu.Lock()
		again, open := d.again, d.open
		d.mu.Unlock()
		if !open {
			return
		}
		<-again
	}
}

// nextTry waits for the next try, and reports whether there is to be one.
func (d *disk) nextTry() bool {
	d.mu.Lock()
	again, open := d.again, d.open && d.killed == nil
	d.mu.Unlock()
	if !open {
		return false
	}
	<-again
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open && d.killed == nil
}

// enter and leave count a writer that waits.
func (d *disk) enter(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waits++; d.waits > 1 || !d.open {
		return
	}
	d.isFull.Store(true)
	close(d.full)
	d.log.Error("the key-value store's disk is full; what was written lately stays in memory and in the log until there is room", "dir", d.dir, "err", err)
}

func (d *disk) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waits--; d.waits > 0 || !d.isFull.Load() {
		return
	}
	d.isFull.Store(false)
	d.full = make(chan struct{})
	if d.open && d.killed == nil {
		d.log.Info("the key-value store's disk has room again", "dir", d.dir)
	}
}

// flushEnded is called by pebble.
func (d *disk) flushEnded(pebble.FlushInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.flushed)
	d.flushed = make(chan struct{})
}

// memTables is how many memtables of full size pebble may hold before it makes
// writers wait. Nobody could end that if a flush waits for room on the disk; so
// Apply waits here before, when there are more than two, and Flush when there are
// more than three: where pebble would by default, but for a part of one.
const memTables = 5

// admit returns when Apply may write. It looks only now and then, for less than a
// memtable is written meanwhile.
func (d *disk) admit(db *pebble.DB) error {
	if d.written < d.memTable/4 && !d.isFull.Load() {
		return nil
	}
	if err := d.await(db, 2*d.memTable); err != nil {
		return fmt.Errorf("key-value store in %s: %w", d.dir, err)
	}
	d.written = 0
	return nil
}

// await waits until pebble's memtables have no more than limit bytes. They are
// being flushed if there are more than two. smr.ErrNoSpace says that the flush
// waits for room on the disk.
func (d *disk) await(db *pebble.DB, limit int64) error {
	for {
		d.mu.Lock()
		flushed, full := d.flushed, d.full
		d.mu.Unlock()
		if int64(db.Metrics().MemTable.Size) <= limit {
			return nil
		}
		select {
		case <-flushed:
		case <-full:
			return smr.ErrNoSpace
		case <-d.ended:
			return d.failure()
		}
	}
}

// flush flushes db. The error is as of await.
func (d *disk) flush(db *pebble.DB) error {
	err := d.tryFlush(db)
	if err != nil {
		err = fmt.Errorf("flushing the key-value store in %s: %w", d.dir, err)
	}
	return err
}

func (d *disk) tryFlush(db *pebble.DB) error {
	d.mu.Lock()
	full := d.full
	d.mu.Unlock()
	switch {
	case d.failure() != nil:
		return d.failure()
	case d.isFull.Load():
		return smr.ErrNoSpace // each flush asked for would cost a memtable
	}
	if err := d.await(db, 3*d.memTable); err != nil {
		return err
	}
	done, err := db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-full:
		return smr.ErrNoSpace
	case <-d.ended:
		return d.failure()
	}
}

// diskFS is the file system that pebble works on.
type diskFS struct {
	vfs.FS
	d *disk
}

func (f diskFS) wrap(c pebblevfs.DiskWriteCategory, open func() (vfs.File, error)) (file vfs.File, err error) {
	f.d.holdBack(c)
	err = f.d.do(c, func() (err error) {
		file, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &diskFile{File: file, d: f.d, category: c}, nil
}

// order makes the names before this one durable. Pebble makes a manifest, makes the
// marker that names it, removes the marker before, and syncs all three names at
// once. A disk that keeps the second alone leaves a store that cannot be opened, and
// one that keeps the third alone leaves an empty one.
func (f diskFS) order(name string) error {
	if !strings.HasPrefix(f.PathBase(name), "marker.manifest.") {
		return nil
	}
	return f.d.do("", func() error { return vfs.SyncDir(f.FS, f.PathDir(name)) })
}

// Remove implements vfs.FS.
func (f diskFS) Remove(name string) error {
	if err := f.order(name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// Create implements vfs.FS.
func (f diskFS) Create(name string, c pebblevfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.order(name); err != nil {
		return nil, err
	}
	return f.wrap(c, func() (vfs.File, error) { return f.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (f diskFS) OpenReadWrite(name string, c pebblevfs.DiskWriteCategory, opts ...pebblevfs.OpenOption) (vfs.File, error) {
	return f.wrap(c, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (f diskFS) ReuseForWrite(oldname, newname string, c pebblevfs.DiskWriteCategory) (vfs.File, error) {
	return f.wrap(c, func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, c) })
}

// Link implements vfs.FS.
func (f diskFS) Link(oldname, newname string) error {
	return f.d.do("", func() error { return f.FS.Link(oldname, newname) })
}

// Rename implements vfs.FS.
func (f diskFS) Rename(oldname, newname string) error {
	return f.d.do("", func() error { return f.FS.Rename(oldname, newname) })
}

// MkdirAll implements vfs.FS.
func (f diskFS) MkdirAll(dir string, perm fs.FileMode) error {
	return f.d.do("", func() error { return f.FS.MkdirAll(dir, perm) })
}

// Unwrap implements vfs.FS.
func (f diskFS) Unwrap() vfs.FS { return f.FS }

// diskFile is a file that is written to. A sync that finds no room is not tried
// again: what it should have written may be gone with it.
type diskFile struct {
	vfs.File
	d        *disk
	category pebblevfs.DiskWriteCategory
}

func (f *diskFile) Write(p []byte) (n int, err error) {
	err = f.d.do(f.category, func() error {
		k, err := f.File.Write(p[n:])
		n += k
		return err
	})
	return n, err
}

func (f *diskFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.d.do(f.category, func() error {
		k, err := f.File.WriteAt(p[n:], off+int64(n))
		n += k
		return err
	})
	return n, err
}

func (f *diskFile) sync(do func() error) error {
	err := f.d.dead()
	if err == nil {
		err = do()
	}
	if vfs.IsNoSpace(err) {
		f.d.syncFailed(f.category)
	}
	return err
}

func (f *diskFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *diskFile) SyncData() error { return f.sync(f.File.SyncData) }
func (f *diskFile) SyncTo(length int64) (full bool, err error) {
	err = f.sync(func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}
