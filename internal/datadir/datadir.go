// Package datadir keeps a member's data directory and the identity in it.
//
//	DATA-DIR/
//	  LOCK       held while a process uses the directory
//	  identity   whose data this is; written once, replaced atomically
//	  wal/       the log of the groups (package wal)
//	  kv/        the key-value state machine (package kv)
//	  .restoring/ where a backup's parts are built; see Filling
//
// The file identity is text, for people too:
//
//	quorate data directory, format 1
//	{"cluster":"cdf818194e3a8c32","member":"8e9e05c52164694d",...,"log":true,...}
//	crc32c 1a2b3c4d
//
// The checksum is that of the two lines before it with their line feeds. The
// identity is there before anything else is, and is synced: a directory with a
// log and without an identity is damaged, and a log is never started in the
// name of another member. Once the log is there the identity says so ("log"): a
// log that is missing then was lost, and no new one takes its place.
package datadir

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

var (
	// ErrForeign: the directory holds the data of another member or cluster.
	// Name another directory, or start with the settings that it was made with.
	ErrForeign = errors.New("data directory belongs to another member")
	// ErrDamaged: the directory does not hold what it must. Restore it from a
	// backup, or remove it and add the member anew under another URL.
	ErrDamaged = errors.New("data directory is damaged")
	// ErrJoin: a member is to join an existing cluster and has no data.
	ErrJoin = errors.New("joining an existing cluster is not supported yet")
	// ErrEmpty: there is no data here.
	ErrEmpty = errors.New("no data directory of quorate's")
)

// Identity says whose data a directory holds.
type Identity struct {
	// Cluster and Member are never zero.
	Cluster uint64
	Member  smr.ReplicaID
	// Incarnation is drawn when the directory is made: a member that lost its
	// directory and made a new one can be told from its former self.
	Incarnation uint64
	// HasLog says that the log was made: without it the member has forgotten its
	// votes and what it acknowledged, and must not start.
	HasLog bool
	// Seed stands for the backup that the cluster began with; zero: it began empty.
	// It is part of Cluster, so that members that were restored from different
	// backups refuse one another. See Seeded.
	Seed uint64
	Name string
	// Members are those that the cluster began with, this one among them.
	Members []Member
}

// Member is a member of the cluster.
type Member struct {
	ID   smr.ReplicaID
	Name string
	// PeerURL is scheme://host:port.
	PeerURL string
}

func (id *Identity) String() string {
	s := fmt.Sprintf("member %x (%q) of cluster %x", uint64(id.Member), id.Name, id.Cluster)
	if id.Seed != 0 {
		s += fmt.Sprintf(", restored from backup %x", id.Seed)
	}
	return s
}

// Seeded returns id as it is in a cluster that begins with the backup that seed
// stands for. Cluster must be what the settings lead to. Zero changes nothing.
func (id Identity) Seeded(seed uint64) Identity {
	if id.Seed = seed; seed == 0 {
		return id
	}
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], id.Cluster)
	binary.LittleEndian.PutUint64(b[8:], seed)
	sum := sha256.Sum256(b[:])
	id.Cluster = max(binary.LittleEndian.Uint64(sum[:]), 1)
	return id
}

// Request is what a server wants of a directory.
type Request struct {
	// Identity that the settings lead to; Incarnation, HasLog and Seed are ignored.
	Identity Identity
	// Remembered says that nobody named the cluster's members: if the directory
	// remembers some, they count.
	Remembered bool
	// Joining says that the member is to join a cluster that exists.
	Joining bool
}

// Dir is a directory in use by this process.
type Dir struct {
	Identity Identity
	// New says that the directory was made by Open.
	New bool
	// WAL and KV are the paths of the log and of the state machine.
	WAL, KV string
	fs      vfs.FS
	path    string
	lock    io.Closer
}

// Open makes or opens the directory at path and takes it for this process.
// Errors wrap ErrForeign, ErrDamaged, ErrJoin or vfs.ErrLocked, or are the file
// system's.
func Open(fsys vfs.FS, path string, want Request) (*Dir, error) {
	if err := refused(fsys, path, want); err != nil {
		return nil, err
	}
	if err := makeDir(fsys, path); err != nil {
		return nil, fmt.Errorf("data directory %s: %w%s", path, err, advice(err))
	}
	lock, err := vfs.LockDir(fsys, path)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w%s", path, err, advice(err))
	}
	d := &Dir{fs: fsys, path: path, WAL: fsys.PathJoin(path, "wal"), KV: fsys.PathJoin(path, "kv"), lock: lock}
	if err := d.identify(fsys, path, want); err != nil {
		lock.Close()
		return nil, err
	}
	return d, nil
}

// LogMade notes that the log is there and durable. Call it before the member says
// anything to others: from then on a log that is missing is a log that was lost.
func (d *Dir) LogMade() error {
	if d.Identity.HasLog {
		return nil
	}
	d.Identity.HasLog = true
	return write(d.fs, d.path, &d.Identity)
}

// advice says what to do about an error of the file system, if that is clear.
func advice(err error) string {
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return "; there is a file in its place or on the way to it: name another --data-dir, or move the file away"
	case errors.Is(err, fs.ErrPermission):
		return "; let this user write there, or name another --data-dir"
	case errors.Is(err, syscall.EROFS):
		return "; mount it for writing, or name another --data-dir"
	case vfs.IsNoSpace(err):
		return "; free some space there, or name another --data-dir"
	}
	return ""
}

// refused says what can be said of a directory before anything is changed in it: it
// must not be made, nor somebody else's be locked, only to be refused.
func refused(fsys vfs.FS, path string, want Request) error {
	_, err := Read(fsys, path)
	switch {
	case errors.Is(err, ErrEmpty) && want.Joining:
		return joinError(path)
	case errors.Is(err, ErrForeign), errors.Is(err, ErrDamaged):
		return err
	}
	return nil
}

func joinError(path string) error {
	return fmt.Errorf("%w: %s is empty and --initial-cluster-state is existing; start all members of --initial-cluster with state new", ErrJoin, path)
}

// Close gives the directory free. Whatever uses WAL and KV must be closed.
func (d *Dir) Close() error { return d.lock.Close() }

func (d *Dir) identify(fsys vfs.FS, path string, want Request) error {
	have, err := Read(fsys, path)
	switch {
	case errors.Is(err, ErrEmpty):
		return d.begin(fsys, path, want)
	case err != nil:
		return err
	}
	if want.Remembered && have.Name == want.Identity.Name {
		d.Identity = *have
		return nil
	}
	w := want.Identity.Seeded(have.Seed)
	if have.Cluster != w.Cluster || have.Member != w.Member {
		return fmt.Errorf("%w: %s holds %s, and the settings say %s; name another --data-dir, or give the --name, --initial-cluster and --initial-cluster-token that it was made with",
			ErrForeign, path, have, &w)
	}
	d.Identity = w
	d.Identity.Incarnation, d.Identity.HasLog = have.Incarnation, have.HasLog
	if have.Name == w.Name && slices.Equal(have.Members, w.Members) {
		return nil
	}
	// Names are for people and may change; ids and URLs are the same.
	return write(fsys, path, &d.Identity)
}

// begin makes the identity of a new directory.
func (d *Dir) begin(fsys vfs.FS, path string, want Request) error {
	if want.Joining {
		return joinError(path)
	}
	d.Identity, d.New = want.Identity, true
	d.Identity.Incarnation, d.Identity.HasLog = NewIncarnation(), false
	return write(fsys, path, &d.Identity)
}

// Read returns the identity of the directory at path and changes nothing.
// ErrEmpty says that the directory is missing or holds nothing.
func Read(fsys vfs.FS, path string) (*Identity, error) {
	f, err := fsys.Open(fsys.PathJoin(path, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, checkEmpty(fsys, path)
	}
	if err != nil {
		return nil, fmt.Errorf("identity of %s: %w", path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, identityBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("identity of %s: %w", path, err)
	}
	id, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, fsys.PathJoin(path, fileName), err)
	}
	return id, nil
}

// checkEmpty says why a directory without an identity is none of ours.
func checkEmpty(fsys vfs.FS, path string) error {
	names, err := fsys.List(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data directory %s: %w", path, err)
	}
	if slices.Contains(names, dirFilling) {
		return fmt.Errorf("%w: a restoration into %s is under way or did not end; run quorate snapshot restore again, or remove the directory", ErrDamaged, path)
	}
	for _, name := range names {
		switch name {
		case "wal", "kv":
			return fmt.Errorf("%w: %s has %s/ and no file %s; restore it, or remove the directory and bring the member back under another URL", ErrDamaged, path, name, fileName)
		case "member":
			return fmt.Errorf("%w: %s holds the data of an etcd member; quorate cannot read it, name another --data-dir", ErrForeign, path)
		}
	}
	return fmt.Errorf("%w at %s", ErrEmpty, path)
}
