package vfs

import (
	"errors"
	"io"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrNoDirect says that a file cannot be written past the page cache: its file
// system, the disk below or the system's kernel is not made for it. Write through
// the page cache then.
var ErrNoDirect = errors.New("no writes past the page cache here")

// Direct is a file that is open for writes past the page cache: the data goes
// from the caller's memory to the disk, and WriteAt returns when the disk has taken
// it. That is not durable yet: the disk may still hold it in a cache of its own,
// and the place of a new block is the file system's to remember. File.SyncData of
// the same file sees to both, and has nothing else to do.
//
// Memory, length and offset of a write must be aligned to sectors; see DirectAligned.
// A file may be read and written through the page cache at the same time, as long as
// nobody writes the same page in both ways at once: the kernel keeps the two alike.
type Direct interface {
	io.WriterAt
	io.Closer
}

// DirectOpener is a file system that may be able to write past the page cache.
type DirectOpener interface {
	// OpenDirect opens an existing file. ErrNoDirect: it cannot be done here.
	OpenDirect(name string) (Direct, error)
}

// OpenDirect opens an existing file of fs for writes of whole sectors past the page
// cache, or returns an error that wraps ErrNoDirect if that cannot be done.
func OpenDirect(fs FS, name string) (Direct, error) {
	if d, ok := fs.(DirectOpener); ok {
		return d.OpenDirect(name)
	}
	return nil, ErrNoDirect
}

// IsNoDirect reports whether err, of a write to a Direct, says that the file system
// refuses this kind of write and has done nothing.
func IsNoDirect(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP)
}

// system is the operating system's file system.
type system struct{ FS }

func (s system) OpenDirect(name string) (Direct, error) { return openDirect(name) }

// Unwrap implements FS.
func (s system) Unwrap() FS { return nil }

var theSystem FS = system{vfs.Default}
