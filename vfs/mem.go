package vfs

import (
	"errors"
	"io"
	"os"
	"path"
	"sort"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Mem is a file system in memory that keeps apart what was synced and what was
// not, so that Crash can say what a disk may hold after a power cut:
//
//   - Of each file, every 512-byte sector that was written and not synced is on
//     its own kept or lost (old, or zero beyond the old end).
//   - Every create, link, rename and remove whose directory was not synced
//     since is on its own kept or lost. A rename is one step: it never leaves
//     neither name, nor both.
//
// Pebble's own crashable memory file system tears at 4 KiB, brings every removed
// file back, draws in the order of a map (so that one seed gives several
// crashes), and copies the whole file at each sync; hence this one. A sync here
// costs as much as was written since the last one.
//
// Invariants:
//
//	(1) A page is written in place only while it is dirty; a clean page, and
//	    the old contents of a dirty one, are shared by Crash's copies.
//	(2) size ≥ syncedSize, and bytes of a page beyond size are zero.
//	(3) journal holds, in order, the changes of names that no sync of a
//	    directory has made durable; undoing or applying any subset of them gives
//	    a possible tree.
//
// Its methods may be called from any goroutine.
type Mem struct {
	mu      sync.Mutex
	root    *memNode
	journal []nameChange
	locked  map[string]bool
	free    int64 // pages left before ENOSPC; negative: no limit
}

var _ FS = (*Mem)(nil)

// NewMem returns an empty file system.
func NewMem() *Mem {
	return &Mem{root: newMemDir(), locked: map[string]bool{}, free: -1}
}

// memNode is a file or a directory.
type memNode struct {
	children map[string]*memNode // nil: a file
	synced   map[string]*memNode // a directory's durable names

	pages            []memPage
	dirty            []int // pages with unsynced sectors, in the order of first writing
	size, syncedSize int64
}

func newMemDir() *memNode {
	return &memNode{children: map[string]*memNode{}, synced: map[string]*memNode{}}
}

// nameChange is one change of names: node disappears as oldName in oldDir and
// appears as newName in newDir. Either half may be missing.
type nameChange struct {
	node             *memNode
	oldDir, newDir   *memNode
	oldName, newName string
}

func (c *nameChange) apply(children func(*memNode) map[string]*memNode) {
	if c.oldDir != nil {
		if m := children(c.oldDir); m[c.oldName] == c.node {
			delete(m, c.oldName)
		}
	}
	if c.newDir != nil {
		children(c.newDir)[c.newName] = c.node
	}
}

func pathError(op, name string, err error) error {
	return &os.PathError{Op: op, Path: name, Err: err}
}

// lookup returns the directory that holds name, name's last element, and the
// node there, nil if there is none. The root is its own directory.
func (m *Mem) lookup(op, name string) (dir *memNode, base string, n *memNode, err error) {
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	if clean == "" {
		return m.root, "", m.root, nil
	}
	dir = m.root
	for {
		first, rest, more := strings.Cut(clean, "/")
		n = dir.children[first]
		if !more {
			return dir, first, n, nil
		}
		if n == nil {
			return nil, "", nil, pathError(op, name, os.ErrNotExist)
		}
		if n.children == nil {
			return nil, "", nil, pathError(op, name, syscall.ENOTDIR)
		}
		dir, clean = n, rest
	}
}

func (m *Mem) change(c nameChange) {
	c.apply(func(n *memNode) map[string]*memNode { return n.children })
	m.journal = append(m.journal, c)
}

// syncDir makes the names in d durable. A rename from one directory to another
// becomes durable as a whole.
func (m *Mem) syncDir(d *memNode) {
	kept := m.journal[:0]
	for _, c := range m.journal {
		if c.oldDir == d || c.newDir == d {
			c.apply(func(n *memNode) map[string]*memNode { return n.synced })
			continue
		}
		kept = append(kept, c)
	}
	clear(m.journal[len(kept):])
	m.journal = kept
}

// Create implements FS.
func (m *Mem) Create(name string, _ vfs.DiskWriteCategory) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.create(name)
}

func (m *Mem) create(name string) (File, error) {
	dir, base, n, err := m.lookup("create", name)
	if err != nil {
		return nil, err
	}
	if n != nil && n.children != nil {
		return nil, pathError("create", name, syscall.EISDIR)
	}
	if n != nil {
		m.change(nameChange{node: n, oldDir: dir, oldName: base})
	}
	n = &memNode{}
	m.change(nameChange{node: n, newDir: dir, newName: base})
	return &memFile{fs: m, n: n, name: base, write: true}, nil
}

// Link implements FS.
func (m *Mem) Link(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.lookup("link", oldname)
	if err == nil && n == nil {
		err = pathError("link", oldname, os.ErrNotExist)
	}
	if err != nil {
		return err
	}
	dir, base, there, err := m.lookup("link", newname)
	if err == nil && there != nil {
		err = pathError("link", newname, os.ErrExist)
	}
	if err != nil {
		return err
	}
	m.change(nameChange{node: n, newDir: dir, newName: base})
	return nil
}

func (m *Mem) open(name string, write, create bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, base, n, err := m.lookup("open", name)
	if err != nil {
		return nil, err
	}
	if n == nil && create {
		return m.create(name)
	}
	if n == nil {
		return nil, pathError("open", name, os.ErrNotExist)
	}
	return &memFile{fs: m, n: n, name: base, write: write}, nil
}

// Open implements FS.
func (m *Mem) Open(name string, opts ...vfs.OpenOption) (File, error) {
	f, err := m.open(name, false, false)
	for i := 0; err == nil && i < len(opts); i++ {
		opts[i].Apply(f)
	}
	return f, err
}

// OpenReadWrite implements FS.
func (m *Mem) OpenReadWrite(name string, _ vfs.DiskWriteCategory, opts ...vfs.OpenOption) (File, error) {
	f, err := m.open(name, true, true)
	for i := 0; err == nil && i < len(opts); i++ {
		opts[i].Apply(f)
	}
	return f, err
}

// OpenDirect implements DirectOpener. To a crash a direct write is like any other:
// sector by sector it may be lost until the file is synced.
func (m *Mem) OpenDirect(name string) (Direct, error) {
	f, err := m.open(name, true, false)
	if err != nil {
		return nil, err
	}
	return memDirect{f}, nil
}

// memDirect refuses what a disk would refuse.
type memDirect struct{ File }

func (d memDirect) WriteAt(p []byte, off int64) (int, error) {
	if (len(p)|int(off))%SectorBytes != 0 {
		return 0, &os.PathError{Op: "direct write", Path: "memory", Err: syscall.EINVAL}
	}
	return d.File.WriteAt(p, off)
}

// OpenDir implements FS.
func (m *Mem) OpenDir(name string) (File, error) { return m.open(name, false, false) }

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, n, err := m.lookup("remove", name)
	if err != nil {
		return err
	}
	if n == nil {
		return pathError("remove", name, os.ErrNotExist)
	}
	if len(n.children) > 0 || n == m.root {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	m.change(nameChange{node: n, oldDir: dir, oldName: base})
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, n, err := m.lookup("remove", name)
	if errors.Is(err, os.ErrNotExist) || err == nil && n == nil {
		return nil
	}
	if err != nil {
		return err
	}
	m.change(nameChange{node: n, oldDir: dir, oldName: base})
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldBase, n, err := m.lookup("rename", oldname)
	if err == nil && n == nil {
		err = pathError("rename", oldname, os.ErrNotExist)
	}
	if err != nil {
		return err
	}
	to, newBase, _, err := m.lookup("rename", newname)
	if err != nil {
		return err
	}
	if from == to && oldBase == newBase {
		return nil
	}
	m.change(nameChange{node: n, oldDir: from, oldName: oldBase, newDir: to, newName: newBase})
	return nil
}

// ReuseForWrite implements FS.
func (m *Mem) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (File, error) {
	if err := m.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return m.OpenReadWrite(newname, c)
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(name string, _ os.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir := m.root
	for _, part := range strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/") {
		if part == "" {
			return nil
		}
		n := dir.children[part]
		if n == nil {
			n = newMemDir()
			m.change(nameChange{node: n, newDir: dir, newName: part})
		}
		if n.children == nil {
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
		dir = n
	}
	return nil
}

// Lock implements FS. A crash releases all locks.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := path.Clean("/" + name)
	if m.locked[key] {
		return nil, pathError("lock", name, syscall.EAGAIN)
	}
	dir, base, n, err := m.lookup("lock", name)
	if err != nil {
		return nil, err
	}
	if n == nil {
		m.change(nameChange{node: &memNode{}, newDir: dir, newName: base})
	}
	m.locked[key] = true
	return &memLock{m: m, key: key}, nil
}

type memLock struct {
	m   *Mem
	key string
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locked, l.key)
	return nil
}

// List implements FS. The names are sorted.
func (m *Mem) List(name string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.lookup("list", name)
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, pathError("list", name, os.ErrNotExist)
	}
	if n.children == nil {
		return nil, pathError("list", name, syscall.ENOTDIR)
	}
	return sortedNames(n.children), nil
}

func sortedNames(m map[string]*memNode) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Stat implements FS.
func (m *Mem) Stat(name string) (FileInfo, error) {
	f, err := m.open(name, false, false)
	if err != nil {
		return nil, err
	}
	return f.Stat()
}

// PathBase implements FS.
func (*Mem) PathBase(p string) string { return path.Base(p) }

// PathJoin implements FS.
func (*Mem) PathJoin(elem ...string) string { return path.Join(elem...) }

// PathDir implements FS.
func (*Mem) PathDir(p string) string { return path.Dir(p) }

// GetDiskUsage implements FS.
func (m *Mem) GetDiskUsage(string) (DiskUsage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.free < 0 {
		return DiskUsage{}, vfs.ErrUnsupported
	}
	avail := uint64(m.free) * pageBytes
	return DiskUsage{AvailBytes: avail, TotalBytes: avail}, nil
}

// SetFree limits what can still be written to the given number of bytes, in
// pages of 4 KiB: writes that need more return ENOSPC. Negative: no limit.
// Nothing is given back when files are removed; call it again.
func (m *Mem) SetFree(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = bytes
	if bytes >= 0 {
		m.free = bytes / pageBytes
	}
}

// Unwrap implements FS.
func (*Mem) Unwrap() FS { return nil }
