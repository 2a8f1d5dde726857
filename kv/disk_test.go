package kv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/smr"
	ourvfs "github.com/quorate/quorate/vfs"
)

// fill puts values of 32 KiB until the store refuses one, and returns how many it
// took.
func fill(t *testing.T, s *Store, from, most int) int {
	t.Helper()
	value := make([]byte, 32<<10)
	rng := rand.NewChaCha8([32]byte{byte(from)})
	for i := range most {
		_, _ = rng.Read(value) // which compression makes no smaller
		c := putCmd(fmt.Sprintf("key %06d", from+i), string(value))
		err := s.Apply([]smr.Committed{{Entry: smr.Entry{Index: s.Applied() + 1, Kind: smr.KindCommand, Data: AppendCommand(nil, &c)}}})
		if errors.Is(err, smr.ErrNoSpace) {
			return i
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return most
}

// "Is full: ... stays readable, recovers by itself when there is room", whichever
// of pebble's writes meets the full disk, its manifest's too. What was applied is
// there afterwards, or is applied again from the log.
func TestDiskFull(t *testing.T) {
	const most = 1000 // 32 MiB, eight memtables
	for room := int64(0); room <= 24<<20; room += 5<<20 - 1<<14 {
		fs := ourvfs.NewMem()
		s, _ := openStore(t, testConfig(fs))
		n := fill(t, s, 0, 200)
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		fs.SetFree(room)
		n += fill(t, s, n, most)
		if n == 200+most {
			if room < 16<<20 {
				t.Fatalf("with %d bytes of room 32 MiB were taken", room)
			}
			continue
		}
		if !s.DiskFull() {
			t.Fatalf("room %d: the disk is not said to be full", room)
		}
		if err := s.Flush(); !errors.Is(err, smr.ErrNoSpace) {
			t.Fatalf("room %d: flush: %v", room, err)
		}
		for i := 0; i < n; i += 50 {
			if kv := get1(t, s, fmt.Sprintf("key %06d", i), 0); kv == nil || len(kv.Value) != 32<<10 {
				t.Fatalf("room %d: key %d cannot be read", room, i)
			}
		}
		if room%(2<<15) < 1<<15 {
			fs.SetFree(-1)
			for s.DiskFull() { // as the host asks
			}
			if more := fill(t, s, n, 300); more != 300 {
				t.Fatalf("room %d: with room again the store took %d", room, more)
			}
			if err := s.Flush(); err != nil {
				t.Fatalf("room %d: %v", room, err)
			}
			if at, err := s.Durable(); err != nil || at != s.Applied() {
				t.Fatalf("room %d: durable to %d of %d, %v", room, at, s.Applied(), err)
			}
		}
		applied := s.Applied()
		if err := s.Close(); err != nil {
			t.Fatalf("room %d: close: %v", room, err)
		}
		fs.SetFree(-1)
		again, at := openStore(t, testConfig(fs))
		if at > applied || at < 200 {
			t.Fatalf("room %d: opened at %d, applied were %d", room, at, applied)
		}
		if err := again.Verify(ctx); err != nil {
			t.Fatalf("room %d: %v", room, err)
		}
		if more := fill(t, again, int(at), 10); more != 10 {
			t.Fatalf("room %d: after opening it took %d", room, more)
		}
	}
}

// A sync that finds no room may have lost what it should have written: the file is
// given up, another is made when there is room, and pebble does not spin meanwhile.
func TestDiskFullAtSync(t *testing.T) {
	var creates, syncs atomic.Int64
	var full atomic.Bool
	full.Store(true)
	fs := ourvfs.NewFault(ourvfs.NewMem(), ourvfs.PolicyFunc(func(op ourvfs.Op) ourvfs.Verdict {
		if !strings.HasSuffix(op.Path, ".sst") {
			return ourvfs.Verdict{}
		}
		switch op.Kind {
		case ourvfs.OpCreate:
			creates.Add(1)
		case ourvfs.OpSync:
			if syncs.Add(1); full.Load() {
				return ourvfs.Verdict{Err: syscall.ENOSPC}
			}
		}
		return ourvfs.Verdict{}
	}), nil)
	s, _ := openStore(t, testConfig(fs))
	for fill(t, s, 0, 1) == 1 {
	}
	if creates, syncs := creates.Load(), syncs.Load(); creates != 1 || syncs != 1 {
		t.Errorf("%d files were made and %d synced before anybody asked for another try", creates, syncs)
	}
	if err := s.Flush(); !errors.Is(err, smr.ErrNoSpace) {
		t.Fatal(err)
	}
	full.Store(false)
	for s.DiskFull() {
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(ctx); err != nil {
		t.Fatal(err)
	}
}

// A manifest that could not be synced may be on disk or not: the store is broken,
// and nothing is written until it is opened again. It is no panic.
func TestManifestFails(t *testing.T) {
	mem := ourvfs.NewMem()
	var broken atomic.Bool
	told := make(chan error, 1)
	fs := ourvfs.NewFault(mem, ourvfs.PolicyFunc(func(op ourvfs.Op) ourvfs.Verdict {
		if broken.Load() && op.Kind == ourvfs.OpSync && strings.Contains(op.Path, "MANIFEST") {
			return ourvfs.Verdict{Err: syscall.EIO}
		}
		return ourvfs.Verdict{}
	}), nil)
	cfg := testConfig(fs)
	cfg.Failed = func(err error) { told <- err }
	s, _ := openStore(t, cfg)
	fill(t, s, 0, 20)
	broken.Store(true)
	if err := s.Flush(); !errors.Is(err, syscall.EIO) && (err == nil || !strings.Contains(err.Error(), "MANIFEST")) {
		t.Fatalf("flush: %v", err)
	}
	if err := <-told; !strings.Contains(err.Error(), "MANIFEST") {
		t.Fatalf("told of %v", err)
	}
	if err := s.Apply(nil); err == nil || !strings.Contains(err.Error(), "MANIFEST") {
		t.Fatalf("apply: %v", err)
	}
	broken.Store(false)
	if err := s.Close(); err != nil {
		t.Logf("close: %v", err)
	}
	again, at := openStore(t, testConfig(mem.Crash(nil, 0)))
	if at > 20 {
		t.Fatalf("opened at %d", at)
	}
	if err := again.Verify(ctx); err != nil {
		t.Fatal(err)
	}
}

// One bit that a disk has changed is an error of whoever reads it, and of the
// store; it is no panic, and names the file.
func TestDamagedTable(t *testing.T) {
	mem := ourvfs.NewMem()
	cfg := testConfig(mem)
	s, _ := openStore(t, cfg)
	fill(t, s, 0, 40)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	table := ""
	names, err := mem.List("kv")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			table = mem.PathJoin("kv", name)
		}
	}
	f, err := mem.OpenReadWrite(table, pebblevfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], 20<<10); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], 20<<10); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	cfg.Failed = func(err error) { told <- err }
	s, applied := openStore(t, cfg)
	if applied != 40 {
		t.Fatal(applied)
	}
	_, err = s.Range(ctx, &RangeRequest{Key: []byte("key 000000"), RangeEnd: []byte{0}})
	if !errors.Is(err, smr.ErrCorrupt) || !strings.Contains(err.Error(), table) {
		t.Errorf("the reader got %v", err)
	}
	if err := <-told; !errors.Is(err, smr.ErrCorrupt) || !strings.Contains(err.Error(), table) {
		t.Errorf("told of %v", err)
	}
	if err := s.Apply(nil); !errors.Is(err, smr.ErrCorrupt) || !strings.Contains(err.Error(), table) {
		t.Errorf("apply: %v", err)
	}
}
