package kv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate/smr"
	ourvfs "github.com/quorate/quorate/vfs"
)

// filled is a store with puts, deletions, history and a compaction half done.
func filled(t testing.TB, cfg Config, n int) *Store {
	t.Helper()
	s, _ := openStore(t, cfg)
	rng := rand.New(rand.NewPCG(uint64(n), 2))
	for range n {
		switch rng.IntN(20) {
		case 0:
			do(t, s, deleteCmd(fmt.Sprintf("key-%d", rng.IntN(50)), ""))
		case 1:
			do(t, s, compactCmd(s.Revision()-int64(rng.IntN(5))))
		default:
			do(t, s, putCmd(fmt.Sprintf("key-%d", rng.IntN(50)), string(make([]byte, rng.IntN(300)))))
		}
	}
	return s
}

// bring restores the view of one store into another.
func bring(t testing.TB, from, to *Store, piece int) error {
	t.Helper()
	view, err := from.View()
	if err != nil {
		return err
	}
	defer view.Close()
	r, err := to.BeginRestore()
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{r}, struct{ io.Reader }{view}, make([]byte, piece)); err != nil {
		return err
	}
	if err := r.Finish(); err != nil {
		return err
	}
	return r.Commit()
}

func sameState(t testing.TB, a, b *Store) {
	t.Helper()
	atA, digestA := a.Digest()
	atB, digestB := b.Digest()
	if atA != atB || digestA != digestB || a.Revision() != b.Revision() || a.CompactRevision() != b.CompactRevision() {
		t.Fatalf("states differ: %d %x %d and %d %x %d", atA, digestA, a.Revision(), atB, digestB, b.Revision())
	}
	if err := b.Verify(ctx); err != nil {
		t.Fatal(err)
	}
	hashA, err := a.HashKV(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if hashB, err := b.HashKV(ctx, 0); err != nil || hashA != hashB {
		t.Fatalf("%+v and %+v, %v", hashA, hashB, err)
	}
}

// A view is the state where it was taken, whatever is applied after it; restored,
// both stores go on alike.
func TestViewRestores(t *testing.T) {
	for _, deterministic := range []bool{false, true} {
		for _, piece := range []int{1, 7, 1000, 1 << 20} {
			cfg := testConfig(ourvfs.NewMem())
			cfg.Deterministic = deterministic
			a := filled(t, cfg, 300)
			view, err := a.View()
			if err != nil {
				t.Fatal(err)
			}
			at, digest := a.Digest()
			do(t, a, putCmd("later", "x"))
			do(t, a, deleteCmd("key-", "key."))
			cfg.FS = ourvfs.NewMem()
			b := filled(t, cfg, 40)
			r, err := b.BeginRestore()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyBuffer(struct{ io.Writer }{r}, struct{ io.Reader }{view}, make([]byte, piece)); err != nil {
				t.Fatal(err)
			}
			do(t, b, putCmd("applied meanwhile", "y"))
			if err := errors.Join(r.Finish(), r.Commit(), r.Close(), view.Close()); err != nil {
				t.Fatal(err)
			}
			if gotAt, got := b.Digest(); gotAt != at || got != digest || view.Applied() != at || view.Digest() != digest {
				t.Fatalf("restored %d %x, the view was of %d %x", gotAt, got, at, digest)
			}
			do(t, b, putCmd("later", "x"))
			do(t, b, deleteCmd("key-", "key."))
			sameState(t, a, b)
			b.Close()
			if at, err := b.Open(); err != nil || at != a.Applied() {
				t.Fatalf("opens at %d, %v", at, err)
			}
			sameState(t, a, b)
		}
	}
}

// storage-and-faults.md: "Restoring keeps the old state until the new one is
// complete": a crash at any operation leaves one of the two, whole.
func TestRestoreCrashes(t *testing.T) {
	donor := filled(t, testConfig(ourvfs.NewMem()), 200)
	wantNew, digestNew := donor.Digest()
	olds, news := 0, 0
	for at := 1; ; at++ {
		mem := ourvfs.NewMem()
		var frozen *ourvfs.Mem
		n, armed := 0, false
		cfg := testConfig(ourvfs.NewFault(mem, ourvfs.PolicyFunc(func(op ourvfs.Op) ourvfs.Verdict {
			if armed && op.Kind.Mutates() {
				if n++; n == at {
					frozen = mem.Crash(rand.New(rand.NewPCG(uint64(at), 9)), 50)
				}
			}
			return ourvfs.Verdict{}
		}), nil))
		cfg.Deterministic = true
		s := filled(t, cfg, 60)
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		wantOld, digestOld := s.Digest()
		armed = true
		if err := bring(t, donor, s, 1<<16); err != nil {
			t.Fatal(err)
		}
		armed = false
		s.Close()
		if frozen == nil {
			if olds == 0 || news == 0 {
				t.Fatalf("%d crashes left the old state, %d the new one", olds, news)
			}
			return
		}
		cfg.FS = frozen
		s = New(cfg)
		if _, err := s.Open(); err != nil {
			t.Fatalf("crash at operation %d: %v", at, err)
		}
		switch applied, digest := s.Digest(); {
		case applied == wantOld && digest == digestOld:
			olds++
		case applied == wantNew && digest == digestNew:
			news++
		default:
			t.Fatalf("crash at operation %d: the state is at %d, neither %d nor %d", at, applied, wantOld, wantNew)
		}
		if err := s.Verify(ctx); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
}

// Bytes that are no state are refused, and the store stays what it was.
func TestRestoreRefuses(t *testing.T) {
	a := filled(t, testConfig(ourvfs.NewMem()), 50)
	view, err := a.View()
	if err != nil {
		t.Fatal(err)
	}
	good, err := io.ReadAll(view)
	if err != nil {
		t.Fatal(err)
	}
	view.Close()
	b := filled(t, testConfig(ourvfs.NewMem()), 20)
	at, digest := b.Digest()
	for name, bad := range map[string][]byte{
		"empty": nil, "cut": good[:len(good)-1], "version": append([]byte{9}, good[1:]...),
		"twice": append(bytes.Clone(good), good[1:]...), "no state": good[:1],
	} {
		r, err := b.BeginRestore()
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Write(bad)
		if err == nil {
			err = r.Finish()
		}
		if !errors.Is(err, smr.ErrCorrupt) && !errors.Is(err, ErrFormatVersion) && !errors.Is(err, ErrForeignStore) {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if gotAt, got := b.Digest(); gotAt != at || got != digest {
		t.Fatal("a refused state changed the store")
	}
}

// A state from which something is missing is refused when it is brought in, though
// its record of the state is whole: the digest is of the keys that came, and the
// history is held against its index.
func TestRestoreVerifies(t *testing.T) {
	a, _ := openStore(t, testConfig(ourvfs.NewMem()))
	for i := range 200 {
		do(t, a, putCmd(fmt.Sprintf("key-%d", i%20), fmt.Sprint(i)))
		if i%7 == 0 {
			do(t, a, deleteCmd(fmt.Sprintf("key-%d", i%20), ""))
		}
	}
	do(t, a, compactCmd(100))
	view, err := a.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	whole, err := io.ReadAll(view)
	if err != nil {
		t.Fatal(err)
	}
	late := func(p position) bool { return p.main > 150 }
	var prefix []byte
	for name, drop := range map[string]func(key, value []byte) bool{
		"nothing":   func(key, _ []byte) bool { return false },
		"the index": func(key, _ []byte) bool { return key[0] == tagRevision },
		"an entry of the index": func(key, _ []byte) bool {
			p, err := decodeRevisionKey(key)
			return err == nil && p.main == 150
		},
		"a live key": func(key, _ []byte) bool {
			newest := key[0] == tagVersion && bytes.HasPrefix(key, appendPrefix(nil, []byte("key-5")))
			if newest && prefix == nil {
				prefix = key
			}
			return newest && bytes.Equal(prefix, key)
		},
		"an old version": func(key, _ []byte) bool {
			_, p, kind, err := splitVersion(key)
			return err == nil && p.main == 150 && kind == kindPut
		},
		"deletions": func(key, _ []byte) bool {
			_, p, kind, err := splitVersion(key)
			return err == nil && late(p) && kind == kindDelete
		},
	} {
		bad := []byte{streamVersion}
		dropped := 0
		d := StreamDecoder{Pair: func(key, value []byte) error {
			if drop(bytes.Clone(key), value) {
				dropped++
				return nil
			}
			bad = append(binary.AppendUvarint(bad, uint64(len(key))), key...)
			bad = append(binary.AppendUvarint(bad, uint64(len(value))), value...)
			return nil
		}}
		if _, err := d.Write(whole); err != nil {
			t.Fatal(err)
		}
		b, _ := openStore(t, testConfig(ourvfs.NewMem()))
		r, err := b.BeginRestore()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Write(bad); err != nil {
			t.Fatal(err)
		}
		switch err := r.Finish(); {
		case dropped == 0 && err != nil:
			t.Errorf("without %s: %v", name, err)
		case dropped > 0 && !(errors.Is(err, ErrDigest) && errors.Is(err, smr.ErrCorrupt)):
			t.Errorf("without %s: %v", name, err)
		case dropped == 0 && name != "nothing":
			t.Errorf("%s was not there", name)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The history is verified in pieces when there are many revisions.
func TestBucketsWiden(t *testing.T) {
	var b buckets
	one := leaf{1}
	const revisions = 5 * bucketsMax
	for n := range int64(revisions) {
		b.at(n).add(&one)
	}
	if len(b.sums) > bucketsMax || b.width < 4 {
		t.Fatalf("%d pieces of %d", len(b.sums), b.width)
	}
	for n := range int64(revisions) {
		if n != 200_000 {
			b.at(n).remove(&one)
		}
	}
	if at, found := b.differs(100_000); !found || at > 200_000 || at+b.width <= 200_000 {
		t.Errorf("found %v at %d", found, at)
	}
	if at, found := b.differs(200_000); found {
		t.Errorf("what is compacted counts, at %d", at)
	}
}

func FuzzStream(f *testing.F) {
	s := filled(f, testConfig(ourvfs.NewMem()), 20)
	view, _ := s.View()
	good, _ := io.ReadAll(view)
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		d := StreamDecoder{Pair: func(k, v []byte) error { return nil }}
		if _, err := d.Write(b); err == nil {
			_ = d.Finish()
		}
	})
}
