package vfs

import (
	"io"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// OpKind is a kind of operation on a file system.
type OpKind uint8

const (
	OpCreate  OpKind = 1
	OpOpen    OpKind = 2
	OpRead    OpKind = 3
	OpWrite   OpKind = 4
	OpSync    OpKind = 5 // of a file, data or whole
	OpSyncDir OpKind = 6
	OpRename  OpKind = 7
	OpRemove  OpKind = 8
	OpMkdir   OpKind = 9
	OpLink    OpKind = 10
	OpLock    OpKind = 11
	OpReserve OpKind = 12 // Preallocate
)

var opNames = [...]string{"", "create", "open", "read", "write", "sync", "sync dir", "rename", "remove", "mkdir", "link", "lock", "reserve"}

func (k OpKind) String() string {
	if int(k) < len(opNames) {
		return opNames[k]
	}
	return "unknown"
}

// Mutates reports whether the operation can change what is on disk.
func (k OpKind) Mutates() bool { return k != OpOpen && k != OpRead && k != OpLock }

// Op is one operation that is about to be done.
type Op struct {
	Kind OpKind
	Path string
	// Target is the new name of a rename or link.
	Target string
	// Offset and Length of a read, write or reserve.
	Offset, Length int64
}

// Verdict is what a policy wants done with an operation. The zero value lets it
// happen.
type Verdict struct {
	// Err is returned instead of doing the operation. After a failed sync of a
	// file in a Mem its unsynced data is gone, and the pages are clean and old:
	// a later sync succeeds and means nothing.
	Err error
	// Partial, with Err, is how many bytes of a write are done all the same.
	Partial int
	// Delay is passed to the sleep function of the file system before the
	// operation is done.
	Delay time.Duration
	// Lose acknowledges a write and does not do it.
	Lose bool
	// Shift moves a write by so many bytes: a misdirected write.
	Shift int64
	// Mutate changes data that was read, as it comes from the disk.
	Mutate func(data []byte)
}

// Policy decides about each operation before it is done. It is called from the
// goroutine that does the operation, without a lock held.
type Policy interface{ Before(op Op) Verdict }

// PolicyFunc is a function as a Policy.
type PolicyFunc func(Op) Verdict

// Before implements Policy.
func (f PolicyFunc) Before(op Op) Verdict { return f(op) }

// Fault is a file system whose operations a Policy may fail, delay or falsify.
type Fault struct {
	FS
	policy Policy
	sleep  func(time.Duration)
}

// NewFault wraps fs. sleep carries out a Verdict's Delay; nil ignores delays.
func NewFault(fs FS, p Policy, sleep func(time.Duration)) *Fault {
	return &Fault{FS: fs, policy: p, sleep: sleep}
}

func (f *Fault) ask(op Op) Verdict {
	v := f.policy.Before(op)
	if v.Delay > 0 && f.sleep != nil {
		f.sleep(v.Delay)
	}
	if v.Err != nil {
		v.Err = &os.PathError{Op: op.Kind.String(), Path: op.Path, Err: v.Err}
	}
	return v
}

func (f *Fault) wrap(name string, dir bool, inner File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &faultFile{File: inner, fs: f, path: name, dir: dir}, nil
}

// Create implements FS.
func (f *Fault) Create(name string, c vfs.DiskWriteCategory) (File, error) {
	if v := f.ask(Op{Kind: OpCreate, Path: name}); v.Err != nil {
		return nil, v.Err
	}
	inner, err := f.FS.Create(name, c)
	return f.wrap(name, false, inner, err)
}

// Open implements FS.
func (f *Fault) Open(name string, opts ...vfs.OpenOption) (File, error) {
	if v := f.ask(Op{Kind: OpOpen, Path: name}); v.Err != nil {
		return nil, v.Err
	}
	inner, err := f.FS.Open(name, opts...)
	return f.wrap(name, false, inner, err)
}

// OpenReadWrite implements FS. It counts as a create if the file is missing.
func (f *Fault) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (File, error) {
	kind := OpOpen
	if _, err := f.FS.Stat(name); err != nil {
		kind = OpCreate
	}
	if v := f.ask(Op{Kind: kind, Path: name}); v.Err != nil {
		return nil, v.Err
	}
	inner, err := f.FS.OpenReadWrite(name, c, opts...)
	return f.wrap(name, false, inner, err)
}

// OpenDirect implements DirectOpener. The policy is asked as for any other file.
func (f *Fault) OpenDirect(name string) (Direct, error) {
	d, ok := f.FS.(DirectOpener)
	if !ok {
		return nil, ErrNoDirect
	}
	if v := f.ask(Op{Kind: OpOpen, Path: name}); v.Err != nil {
		return nil, v.Err
	}
	inner, err := d.OpenDirect(name)
	if err != nil {
		return nil, err
	}
	return &faultDirect{Direct: inner, fs: f, path: name}, nil
}

// OpenDir implements FS.
func (f *Fault) OpenDir(name string) (File, error) {
	if v := f.ask(Op{Kind: OpOpen, Path: name}); v.Err != nil {
		return nil, v.Err
	}
	inner, err := f.FS.OpenDir(name)
	return f.wrap(name, true, inner, err)
}

// Link implements FS.
func (f *Fault) Link(oldname, newname string) error {
	if v := f.ask(Op{Kind: OpLink, Path: oldname, Target: newname}); v.Err != nil {
		return v.Err
	}
	return f.FS.Link(oldname, newname)
}

// Remove implements FS.
func (f *Fault) Remove(name string) error {
	if v := f.ask(Op{Kind: OpRemove, Path: name}); v.Err != nil {
		return v.Err
	}
	return f.FS.Remove(name)
}

// RemoveAll implements FS.
func (f *Fault) RemoveAll(name string) error {
	if v := f.ask(Op{Kind: OpRemove, Path: name}); v.Err != nil {
		return v.Err
	}
	return f.FS.RemoveAll(name)
}

// Rename implements FS.
func (f *Fault) Rename(oldname, newname string) error {
	if v := f.ask(Op{Kind: OpRename, Path: oldname, Target: newname}); v.Err != nil {
		return v.Err
	}
	return f.FS.Rename(oldname, newname)
}

// ReuseForWrite implements FS.
func (f *Fault) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (File, error) {
	if v := f.ask(Op{Kind: OpRename, Path: oldname, Target: newname}); v.Err != nil {
		return nil, v.Err
	}
	inner, err := f.FS.ReuseForWrite(oldname, newname, c)
	return f.wrap(newname, false, inner, err)
}

// MkdirAll implements FS.
func (f *Fault) MkdirAll(name string, perm os.FileMode) error {
	if v := f.ask(Op{Kind: OpMkdir, Path: name}); v.Err != nil {
		return v.Err
	}
	return f.FS.MkdirAll(name, perm)
}

// Lock implements FS.
func (f *Fault) Lock(name string) (io.Closer, error) {
	if v := f.ask(Op{Kind: OpLock, Path: name}); v.Err != nil {
		return nil, v.Err
	}
	return f.FS.Lock(name)
}

// Unwrap implements FS.
func (f *Fault) Unwrap() FS { return f.FS }

// faultFile keeps the position of sequential reads and writes itself, so that
// the policy is told offsets.
type faultFile struct {
	File
	fs   *Fault
	path string
	dir  bool
	at   int64
}

func (f *faultFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	v := f.fs.ask(Op{Kind: OpRead, Path: f.path, Offset: off, Length: int64(len(p))})
	if v.Err != nil {
		return 0, v.Err
	}
	n, err := f.File.ReadAt(p, off)
	if v.Mutate != nil {
		v.Mutate(p[:n])
	}
	return n, err
}

func (f *faultFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.at)
	f.at += int64(n)
	return n, err
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	return f.fs.write(f.File, f.path, p, off, 1)
}

// write does a write to inner as the policy wants it, which takes whole units only.
func (f *Fault) write(inner io.WriterAt, path string, p []byte, off int64, unit int) (int, error) {
	v := f.ask(Op{Kind: OpWrite, Path: path, Offset: off, Length: int64(len(p))})
	if v.Err != nil {
		n, err := 0, error(nil)
		if part := min(v.Partial, len(p)) / unit * unit; part > 0 {
			n, err = inner.WriteAt(p[:part], off)
		}
		if err == nil {
			err = v.Err
		}
		return n, err
	}
	if v.Lose {
		return len(p), nil
	}
	return inner.WriteAt(p, max(0, off+v.Shift/int64(unit)*int64(unit)))
}

func (f *faultFile) Preallocate(off, length int64) error {
	if v := f.fs.ask(Op{Kind: OpReserve, Path: f.path, Offset: off, Length: length}); v.Err != nil {
		return v.Err
	}
	return f.File.Preallocate(off, length)
}

func (f *faultFile) sync(do func() error) error {
	kind := OpSync
	if f.dir {
		kind = OpSyncDir
	}
	v := f.fs.ask(Op{Kind: kind, Path: f.path})
	if v.Err == nil {
		return do()
	}
	if d, ok := f.File.(interface{ discardUnsynced() }); ok && !f.dir {
		d.discardUnsynced()
	}
	return v.Err
}

func (f *faultFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *faultFile) SyncData() error { return f.sync(f.File.SyncData) }

// faultDirect is a file that is open for writes past the page cache.
type faultDirect struct {
	Direct
	fs   *Fault
	path string
}

func (f *faultDirect) WriteAt(p []byte, off int64) (int, error) {
	return f.fs.write(f.Direct, f.path, p, off, SectorBytes)
}
