package vfs

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// SectorBytes is the unit that a disk writes whole or not at all.
	SectorBytes = 512
	pageBytes   = 4096
)

// memPage is a page of a file. Nil contents are zeros.
type memPage struct {
	cur, old *[pageBytes]byte
	// dirty has bit i set if sector i differs from what was synced; old then is
	// what was. All zero: the page is clean and old is nil.
	dirty uint8
	// reserved says that the page is counted against the space of the disk.
	reserved bool
}

// writeAt writes p at off and returns how much of it found space.
func (n *memNode) writeAt(m *Mem, p []byte, off int64) int {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		i, from := int(at/pageBytes), int(at%pageBytes)
		for i >= len(n.pages) {
			n.pages = append(n.pages, memPage{})
		}
		pg := &n.pages[i]
		if !n.reserve(m, pg) {
			break
		}
		if pg.dirty == 0 { // (1)
			pg.old = pg.cur
			pg.cur = new([pageBytes]byte)
			if pg.old != nil {
				*pg.cur = *pg.old
			}
			n.dirty = append(n.dirty, i)
		}
		k := copy(pg.cur[from:], p[done:])
		for s := from / SectorBytes; s <= (from+k-1)/SectorBytes; s++ {
			pg.dirty |= 1 << s
		}
		done += k
	}
	n.size = max(n.size, off+int64(done))
	return done
}

func (n *memNode) reserve(m *Mem, pg *memPage) bool {
	if pg.reserved {
		return true
	}
	if m.free == 0 {
		return false
	}
	if m.free > 0 {
		m.free--
	}
	pg.reserved = true
	return true
}

func (n *memNode) readAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if off >= n.size {
		return 0, io.EOF
	}
	want := len(p)
	p = p[:min(int64(want), n.size-off)]
	for done := 0; done < len(p); {
		at := off + int64(done)
		i, from := int(at/pageBytes), int(at%pageBytes)
		k := min(pageBytes-from, len(p)-done)
		if i < len(n.pages) && n.pages[i].cur != nil {
			copy(p[done:done+k], n.pages[i].cur[from:])
		} else {
			clear(p[done : done+k])
		}
		done += k
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

func (n *memNode) sync() {
	for _, i := range n.dirty {
		n.pages[i].old, n.pages[i].dirty = nil, 0
	}
	n.dirty = n.dirty[:0]
	n.syncedSize = n.size
}

// discard gives the file the contents that it had when it was last synced: what
// is left of it when a sync fails and the pages are dropped.
func (n *memNode) discard() {
	for _, i := range n.dirty {
		n.pages[i].cur, n.pages[i].old, n.pages[i].dirty = n.pages[i].old, nil, 0
	}
	n.dirty = n.dirty[:0]
	n.size = n.syncedSize
}

// memFile is an open file or directory.
type memFile struct {
	fs    *Mem
	n     *memNode
	name  string
	pos   int64
	write bool
}

var _ File = (*memFile)(nil)

func (f *memFile) use() (unlock func(), err error) {
	if f.n == nil {
		return nil, pathError("use", f.name, os.ErrClosed)
	}
	f.fs.mu.Lock()
	return f.fs.mu.Unlock, nil
}

func (f *memFile) Close() error {
	if f.n == nil {
		return pathError("close", f.name, os.ErrClosed)
	}
	f.n = nil
	return nil
}

func (f *memFile) Read(p []byte) (int, error) {
	k, err := f.ReadAt(p, f.pos)
	f.pos += int64(k)
	if k > 0 {
		err = nil
	}
	return k, err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	unlock, err := f.use()
	if err != nil {
		return 0, err
	}
	defer unlock()
	if f.n.children != nil {
		return 0, pathError("read", f.name, syscall.EISDIR)
	}
	return f.n.readAt(p, off)
}

func (f *memFile) Write(p []byte) (int, error) {
	k, err := f.WriteAt(p, f.pos)
	f.pos += int64(k)
	return k, err
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	unlock, err := f.use()
	if err != nil {
		return 0, err
	}
	defer unlock()
	if !f.write || off < 0 {
		return 0, pathError("write", f.name, syscall.EBADF)
	}
	if k := f.n.writeAt(f.fs, p, off); k < len(p) {
		return k, pathError("write", f.name, syscall.ENOSPC)
	}
	return len(p), nil
}

// Preallocate reserves space against SetFree. The size stays, and so do the
// contents.
func (f *memFile) Preallocate(off, length int64) error {
	unlock, err := f.use()
	if err != nil {
		return err
	}
	defer unlock()
	if f.fs.free < 0 {
		return nil
	}
	for i := int(off / pageBytes); int64(i)*pageBytes < off+length; i++ {
		for i >= len(f.n.pages) {
			f.n.pages = append(f.n.pages, memPage{})
		}
		if !f.n.reserve(f.fs, &f.n.pages[i]) {
			return pathError("preallocate", f.name, syscall.ENOSPC)
		}
	}
	return nil
}

func (f *memFile) Sync() error {
	unlock, err := f.use()
	if err != nil {
		return err
	}
	defer unlock()
	if f.n.children != nil {
		f.fs.syncDir(f.n)
	} else {
		f.n.sync()
	}
	return nil
}

func (f *memFile) SyncData() error { return f.Sync() }

// SyncTo promises nothing and does nothing.
func (f *memFile) SyncTo(int64) (bool, error) { return false, nil }

// discardUnsynced is what Fault calls after a failed sync.
func (f *memFile) discardUnsynced() {
	if unlock, err := f.use(); err == nil {
		defer unlock()
		f.n.discard()
	}
}

func (f *memFile) Prefetch(int64, int64) error { return nil }
func (f *memFile) Fd() uintptr                 { return vfs.InvalidFd }

func (f *memFile) Stat() (FileInfo, error) {
	unlock, err := f.use()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return memInfo{name: f.name, size: f.n.size, dir: f.n.children != nil}, nil
}

// memInfo describes a file. The time of modification is always the same: it
// must not let a clock into the simulation.
type memInfo struct {
	name string
	size int64
	dir  bool
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return time.Unix(0, 0) }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() os.FileMode {
	if i.dir {
		return os.ModeDir | 0o755
	}
	return 0o644
}
func (i memInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

// FlipBit flips one bit of what is on disk, as a failing medium does. The bit is
// counted from the start of the file.
func (m *Mem) FlipBit(name string, bit int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.lookup("flip", name)
	if err != nil {
		return err
	}
	if n == nil || n.children != nil || bit < 0 || bit/8 >= n.size {
		return pathError("flip", name, fmt.Errorf("no bit %d there", bit))
	}
	i, at := bit/8/pageBytes, bit/8%pageBytes
	pg := &n.pages[i]
	flip := func(p **[pageBytes]byte) {
		c := new([pageBytes]byte) // (1)
		if *p != nil {
			*c = **p
		}
		c[at] ^= 1 << (bit % 8)
		*p = c
	}
	flip(&pg.cur)
	if pg.dirty != 0 {
		flip(&pg.old)
	}
	return nil
}
