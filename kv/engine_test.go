package kv

import (
	"fmt"
	"math/rand/v2"
	"testing"

	ourvfs "github.com/quorate/quorate/vfs"
)

// dirs are the directories of states beside the store.
func dirs(t testing.TB, cfg *Config) (names []string) {
	t.Helper()
	names, err := cfg.FS.List(cfg.FS.PathDir(cfg.Dir))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// "Commit waits for neither": somebody who reads the old state goes on reading it
// over two exchanges, who begins later reads the new one, and the old directory
// goes with its last reader.
func TestExchangeWaitsForNoReader(t *testing.T) {
	donor, _ := openStore(t, testConfig(ourvfs.NewMem()))
	cfg := testConfig(ourvfs.NewMem())
	s, _ := openStore(t, cfg)
	do(t, s, putCmd("key", "old"))
	old, err := s.acquire(versionsStart, versionsEnd)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		for range 3 {
			do(t, donor, putCmd("key", fmt.Sprint("new ", n)))
		}
		if err := bring(t, donor, s, 1<<10); err != nil {
			t.Fatal(err)
		}
		if kv, err := old.get([]byte("key")); err != nil || string(kv.Value) != "old" {
			t.Fatalf("exchange %d: who was reading reads %v, %v", n, kv, err)
		}
		if kv, rev, err := s.Point([]byte("key")); err != nil || string(kv.Value) != fmt.Sprint("new ", n) || rev != donor.Revision() {
			t.Fatalf("exchange %d: the new state has %v at %d, %v", n, kv, rev, err)
		}
		sameState(t, donor, s)
	}
	// What is read is there, and what nobody reads is not.
	if names := dirs(t, &cfg); len(names) != 2 {
		t.Errorf("while the first state is read, there are %v", names)
	}
	if err := old.close(); err != nil {
		t.Fatal(err)
	}
	if names := dirs(t, &cfg); len(names) != 1 {
		t.Errorf("when nobody reads it any more, there are %v", names)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(); err != nil {
		t.Fatal(err)
	}
	sameState(t, donor, s)
	if names := dirs(t, &cfg); len(names) != 1 || names[0] != cfg.FS.PathBase(cfg.Dir) {
		t.Errorf("after the next start there are %v", names)
	}
}

// Close waits for those who read a state that is not the store's any more.
func TestCloseWaitsForReadersOfAnOldState(t *testing.T) {
	donor := filled(t, testConfig(ourvfs.NewMem()), 100)
	s := filled(t, testConfig(ourvfs.NewMem()), 10)
	old, err := s.acquire(versionsStart, versionsEnd)
	if err != nil {
		t.Fatal(err)
	}
	if err := bring(t, donor, s, 1<<10); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	for s.isOpen() { // until Close has come to the engines
		select {
		case err := <-closed:
			t.Fatalf("closed while a state was read: %v", err)
		default:
		}
	}
	select {
	case err := <-closed:
		t.Fatalf("closed while a state was read: %v", err)
	default:
	}
	if err := old.close(); err != nil {
		t.Fatal(err)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
}

func (s *Store) isOpen() bool {
	s.life.RLock()
	defer s.life.RUnlock()
	return s.engine != nil
}

// A crash at any operation of the start that gives the newest of several states
// its name leaves that state, however often it happens.
func TestSettleCrashes(t *testing.T) {
	donor := filled(t, testConfig(ourvfs.NewMem()), 100)
	base := testConfig(ourvfs.NewMem())
	base.Deterministic = true
	mem := base.FS.(*ourvfs.Mem)
	s := filled(t, base, 60)
	var held []view // what is read stays
	for range 2 {
		v, err := s.acquire(versionsStart, versionsEnd)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, v)
		do(t, donor, putCmd("one", "more"))
		if err := bring(t, donor, s, 1<<16); err != nil {
			t.Fatal(err)
		}
	}
	disk := mem.Crash(nil, 100)
	for i := range held {
		if err := held[i].close(); err != nil {
			t.Fatal(err)
		}
	}
	want, digest := donor.Digest()
	crashes := 0
	for at := 1; ; at++ {
		mem := disk.Crash(nil, 100)
		var frozen *ourvfs.Mem
		n := 0
		cfg := base
		cfg.FS = ourvfs.NewFault(mem, ourvfs.PolicyFunc(func(op ourvfs.Op) ourvfs.Verdict {
			if op.Kind.Mutates() {
				if n++; n == at {
					frozen = mem.Crash(rand.New(rand.NewPCG(uint64(at), 3)), 50)
				}
			}
			return ourvfs.Verdict{}
		}), nil)
		if err := settleDir(cfg.FS, cfg.Dir); err != nil {
			t.Fatal(err)
		}
		if frozen == nil {
			break
		}
		crashes++
		cfg.FS = frozen
		s := New(cfg)
		if _, err := s.Open(); err != nil {
			t.Fatalf("crash at operation %d: %v", at, err)
		}
		if applied, got := s.Digest(); applied != want || got != digest {
			t.Fatalf("crash at operation %d: the state is at %d, not at %d", at, applied, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if crashes < 5 {
		t.Fatalf("only %d crashes", crashes)
	}
}
