package datadir

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/quorate/quorate/vfs"
)

// ErrNotEmpty: a directory that is to be filled holds something. Name another
// one, or move what is there away.
var ErrNotEmpty = errors.New("data directory is not empty")

// dirFilling is where a directory is filled, within it. While it is there and the
// identity is not, the directory holds nothing of worth; with the identity, all is
// there.
const dirFilling = ".restoring"

// filled are the parts, in the order in which they get their place.
var filled = [...]string{"kv", "wal"}

// Filling is a data directory that is being made of a backup. Its parts are built
// aside, within the directory, so that it may be a mount point, and get their
// place together: the identity last.
type Filling struct {
	// WAL and KV are the paths to build the parts at.
	WAL, KV string

	fsys   vfs.FS
	path   string
	aside  string
	made   bool // the directory was not there
	lock   io.Closer
	placed bool
}

// Fill makes the directory at path, or takes an empty one: one that holds nothing
// but what the system puts into a mount point, or what a Filling has left that did
// not end. The error wraps ErrNotEmpty or vfs.ErrLocked, or is the file system's.
func Fill(fsys vfs.FS, path string) (*Filling, error) {
	aside := fsys.PathJoin(path, dirFilling)
	f := &Filling{WAL: fsys.PathJoin(aside, "wal"), KV: fsys.PathJoin(aside, "kv"), fsys: fsys, path: path, aside: aside}
	if _, err := fsys.Stat(path); errors.Is(err, fs.ErrNotExist) {
		f.made = true
	}
	if err := makeDir(fsys, path); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	if err := f.checkEmpty(); err != nil {
		return nil, err
	}
	var err error
	if f.lock, err = vfs.LockDir(fsys, path); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	if err := f.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory %s: %w", path, err), f.Close())
	}
	return f, nil
}

// checkEmpty refuses a directory with anything in it that is somebody's.
func (f *Filling) checkEmpty() error {
	names, err := f.fsys.List(f.path)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", f.path, err)
	}
	ours := []string{"LOCK", "lost+found"}
	if slices.Contains(names, dirFilling) {
		// Identity has its name only when the rest is done, so that its absence
		// says that all this is of a former attempt.
		ours = append(append(ours, dirFilling, fileName+".new"), filled[:]...)
		inside, err := f.fsys.List(f.aside)
		if err != nil {
			return fmt.Errorf("data directory %s: %w", f.path, err)
		}
		for _, name := range inside {
			part, _, _ := strings.Cut(name, ".") // a store has directories beside its own
			if !slices.Contains(filled[:], part) {
				return fmt.Errorf("%w: %s has %s in it, which is of no restoration; name another --data-dir, or move what is there away", ErrNotEmpty, f.aside, name)
			}
		}
	}
	for _, name := range names {
		if !slices.Contains(ours, name) {
			return fmt.Errorf("%w: there is %s; name another --data-dir, or move what is there away", ErrNotEmpty, f.fsys.PathJoin(f.path, name))
		}
	}
	return nil
}

// begin clears what a former attempt has left, and makes the place to build at.
func (f *Filling) begin() error {
	if err := f.clear(); err != nil {
		return err
	}
	if err := f.fsys.MkdirAll(f.aside, 0o700); err != nil {
		return err
	}
	return vfs.SyncDir(f.fsys, f.path)
}

// clear removes all parts. What says that they are worthless goes last.
func (f *Filling) clear() error {
	for _, name := range append(slices.Clone(filled[:]), fileName+".new") {
		if err := removeAll(f.fsys, f.fsys.PathJoin(f.path, name)); err != nil {
			return err
		}
	}
	if err := vfs.SyncDir(f.fsys, f.path); err != nil {
		return err
	}
	return removeAll(f.fsys, f.aside)
}

func removeAll(fsys vfs.FS, path string) error {
	if err := fsys.RemoveAll(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Commit gives the parts their place, and the directory to id, which has all its
// fields. Whatever uses WAL and KV must be closed. A crash on the way leaves a directory that Open refuses
// and Fill takes, or all of it.
func (f *Filling) Commit(id Identity) error {
	for _, name := range filled {
		if err := f.fsys.Rename(f.fsys.PathJoin(f.aside, name), f.fsys.PathJoin(f.path, name)); err != nil {
			return fmt.Errorf("data directory %s: %w", f.path, err)
		}
	}
	if err := vfs.SyncDir(f.fsys, f.path); err != nil {
		return fmt.Errorf("data directory %s: %w", f.path, err)
	}
	if err := write(f.fsys, f.path, &id); err != nil {
		return err
	}
	f.placed = true
	return removeAll(f.fsys, f.aside)
}

// Close gives the directory free. What was not committed is removed.
func (f *Filling) Close() error {
	if f.lock == nil {
		return nil
	}
	lock := f.lock
	f.lock = nil
	if f.placed {
		return lock.Close()
	}
	err := errors.Join(f.clear(), lock.Close(), removeAll(f.fsys, f.fsys.PathJoin(f.path, "LOCK")))
	if f.made && err == nil {
		err = f.fsys.Remove(f.path)
	}
	return err
}

// NewIncarnation draws one.
func NewIncarnation() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}
