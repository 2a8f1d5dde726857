// Package vfs is the seam between Quorate and file systems. FS and File are
// pebble's interfaces, so that one file system serves the log, the snapshots
// and pebble alike. There are three of them:
//
//   - OS is the operating system's file system, as pebble implements it. On
//     Linux its File.Preallocate is fallocate, which reserves space without
//     changing the file's size, File.SyncData is fdatasync, and OpenDirect writes
//     past the page cache; elsewhere they are nothing, a full sync, and refused.
//   - Mem is a file system in memory that can crash: Mem.Crash returns what a
//     disk may hold after a power cut.
//   - Fault wraps another file system and asks a policy before each operation.
//
// Mem and Fault are deterministic: they read no clock, and all randomness is an
// argument.
package vfs

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

type (
	// FS is a file system.
	FS = vfs.FS
	// File is an open file or directory.
	File = vfs.File
	// FileInfo describes a file.
	FileInfo = vfs.FileInfo
	// DiskUsage is how full the disk below a path is.
	DiskUsage = vfs.DiskUsage
)

// CategoryLog names the writes of the log to pebble's interfaces.
const CategoryLog vfs.DiskWriteCategory = "quorate-wal"

// CategorySnapshot names the writes of snapshots.
const CategorySnapshot vfs.DiskWriteCategory = "quorate-snapshot"

// ErrLocked says that another process, or another part of this one, uses the
// directory.
var ErrLocked = errors.New("directory is locked")

// OS returns the operating system's file system.
func OS() FS { return theSystem }

// LockDir takes the directory for this process alone until the closer is
// closed. The directory must exist. The lock is a file named LOCK in it, which
// nothing else may open. Errors wrap the cause, and ErrLocked if somebody else
// holds the lock.
func LockDir(fs FS, dir string) (io.Closer, error) {
	name := fs.PathJoin(dir, "LOCK")
	c, err := fs.Lock(name)
	if err != nil && isHeld(err) {
		return nil, fmt.Errorf("%w: lock %s: %w; stop the other process that uses it", ErrLocked, name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return c, nil
}

// isHeld reports whether a lock was not given because somebody has it: POSIX says
// EAGAIN or EACCES then, as the error of the lock itself and not of the file, and
// pebble has words of its own for a lock of this process.
func isHeld(err error) bool {
	if errors.Is(err, syscall.EAGAIN) || strings.Contains(err.Error(), "held by current process") {
		return true
	}
	return errors.Is(err, syscall.EACCES) && !errors.As(err, new(*iofs.PathError))
}

// SyncDir makes the names in dir durable: files created, renamed and removed.
func SyncDir(fs FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open directory %s to sync it: %w", dir, err)
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// IsNoSpace reports whether err says that the disk or the quota is full.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// MkdirAll makes dir and the directories above it that are missing, durably: when
// it has returned nil, a crash loses none of them. A directory that is there
// already may have been made by somebody who ended, or failed, before it was
// durable; so every directory above dir is synced each time.
func MkdirAll(fs FS, dir string) error {
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory %s: %w", dir, err)
	}
	for d := dir; ; {
		parent := fs.PathDir(d)
		if parent == d {
			return nil
		}
		if err := SyncDir(fs, parent); err != nil && !notOurs(err) {
			return err
		}
		d = parent
	}
}

// notOurs reports whether a directory cannot be synced because it is none that
// this process could have written to, so that nothing is lost.
func notOurs(err error) bool {
	return errors.Is(err, iofs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EINVAL)
}
