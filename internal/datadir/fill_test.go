package datadir

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/vfs"
)

// fillParts builds a file for each part and commits.
func fillParts(fsys vfs.FS, path string) (err error) {
	f, err := Fill(fsys, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, dir := range []string{f.KV, f.WAL} {
		if err := vfs.MkdirAll(fsys, dir); err != nil {
			return err
		}
		if err := writeSynced(fsys, fsys.PathJoin(dir, "data"), []byte("whole")); err != nil {
			return err
		}
		if err := vfs.SyncDir(fsys, dir); err != nil {
			return err
		}
	}
	id := member(1)
	id.Incarnation = 5
	return f.Commit(id)
}

// isFilled says what is missing in a directory that has an identity.
func isFilled(fsys vfs.FS, path string) error {
	for _, name := range filled {
		f, err := fsys.Open(fsys.PathJoin(path, name, "data"))
		if err != nil {
			return err
		}
		b, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil || string(b) != "whole" {
			return errors.Join(err, errors.New(name+" is "+string(b)))
		}
	}
	return nil
}

func TestFill(t *testing.T) {
	for _, before := range [][]string{nil, {"/base/d"}, {"/base/d/lost+found"}, {"/base/d/.restoring/kv", "/base/d/kv"}, {"/base/d/.restoring"}} {
		fsys := vfs.NewMem()
		for _, dir := range before {
			if err := fsys.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(fillParts(fsys, "/base/d"), isFilled(fsys, "/base/d")); err != nil {
			t.Fatalf("%v: %v", before, err)
		}
		if names, _ := fsys.List("/base/d"); slices.Contains(names, dirFilling) {
			t.Errorf("%v: it has left %v", before, names)
		}
		closeDir(t, open(t, fsys, Request{Identity: member(1)}))
	}
}

// "The directory must not exist, or be empty", and what somebody has put there
// stays.
func TestFillRefuses(t *testing.T) {
	for _, dir := range []string{"kv", "wal", "identity", "photos", ".restoring/photos"} {
		fsys := vfs.NewMem()
		if err := fsys.MkdirAll("/base/d/"+dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := fillParts(fsys, "/base/d"); !errors.Is(err, ErrNotEmpty) {
			t.Errorf("%s: %v", dir, err)
		}
		if _, err := fsys.Stat("/base/d/" + dir); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
	fsys := vfs.NewMem()
	f, err := Fill(fsys, "/base/d")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Fill(fsys, "/base/d"); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("two at once: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Stat("/base/d"); err == nil {
		t.Error("what was not committed has left the directory")
	}
}

// "A crash on the way leaves a directory that Open refuses and Fill takes, or all
// of it."
func TestFillCrashes(t *testing.T) {
	refused, whole := 0, 0
	for at := 1; ; at++ {
		mem := vfs.NewMem()
		n := 0
		var frozen *vfs.Mem
		fsys := vfs.NewFault(mem, vfs.PolicyFunc(func(op vfs.Op) vfs.Verdict {
			if op.Kind.Mutates() {
				if n++; n == at {
					frozen = mem.Crash(rand.New(rand.NewPCG(uint64(at), 1)), 50)
				}
			}
			if frozen != nil {
				return vfs.Verdict{Err: io.ErrClosedPipe}
			}
			return vfs.Verdict{}
		}), nil)
		err := fillParts(fsys, "/base/d")
		if frozen == nil {
			if err != nil || refused < 5 || whole == 0 {
				t.Fatalf("%v; %d crashes were refused, %d left all of it", err, refused, whole)
			}
			return
		}
		_, err = Read(frozen, "/base/d")
		switch {
		case err == nil:
			whole++
			if err := isFilled(frozen, "/base/d"); err != nil {
				t.Fatalf("crash at operation %d: the identity is there, and %v", at, err)
			}
			continue
		case errors.Is(err, ErrDamaged) && strings.Contains(err.Error(), "restore again"):
			refused++
		case !errors.Is(err, ErrEmpty):
			t.Fatalf("crash at operation %d: %v", at, err)
		}
		if errors.Is(err, ErrEmpty) {
			if names, _ := frozen.List("/base/d"); slices.Contains(names, "kv") || slices.Contains(names, "wal") {
				t.Fatalf("crash at operation %d: passes for empty with %v in it", at, names)
			}
		}
		if err := errors.Join(fillParts(frozen, "/base/d"), isFilled(frozen, "/base/d")); err != nil {
			t.Fatalf("again after a crash at operation %d: %v", at, err)
		}
	}
}
