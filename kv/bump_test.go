package kv

import (
	"errors"
	"fmt"
	"math"
	"testing"

	ourvfs "github.com/quorate/quorate/vfs"
)

// "Bump raises the revision by as much as by, without a change, and discards the
// history before it, as compacting to it would."
func TestBump(t *testing.T) {
	cfg := testConfig(ourvfs.NewMem())
	a := filled(t, cfg, 300)
	before, err := a.Range(ctx, &RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	was, applied := a.Revision(), a.Applied()
	for _, by := range []int64{0, -1, math.MinInt64, math.MaxInt64, math.MaxInt64 - was} {
		if err := a.Bump(by); !errors.Is(err, ErrBump) || a.Revision() != was {
			t.Fatalf("by %d: %v, revision %d", by, err, a.Revision())
		}
	}
	if err := a.Bump(1000); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as it is, and opened again
		_, digest := a.Digest()
		if a.Revision() != was+1000 || a.CompactRevision() != was+1000 || a.Applied() != applied {
			t.Fatalf("revision %d, compacted to %d, applied %d", a.Revision(), a.CompactRevision(), a.Applied())
		}
		for _, rev := range []int64{0, was + 1000} {
			now, err := a.Range(ctx, &RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: rev})
			if err != nil || fmt.Sprint(now.Kvs) != fmt.Sprint(before.Kvs) {
				t.Fatalf("at %d: %d keys, there were %d: %v", rev, len(now.Kvs), len(before.Kvs), err)
			}
		}
		for _, rev := range []int64{was, was + 999} {
			if _, err := a.Range(ctx, &RangeRequest{Key: []byte("a"), Revision: rev}); !errors.Is(err, ErrCompacted) {
				t.Fatalf("at %d: %v", rev, err)
			}
		}
		if _, err := a.HashKV(ctx, 0); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(a.Verify(ctx), a.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Open(); err != nil {
			t.Fatal(err)
		}
		if _, again := a.Digest(); again != digest {
			t.Fatal("opened again, the digest is another one")
		}
	}
	for more := true; more; {
		if more, err = a.CompactStep(50); err != nil {
			t.Fatal(err)
		}
	}
	if a.SweptRevision() != was+1000 {
		t.Fatalf("swept to %d", a.SweptRevision())
	}
	if r := do(t, a, putCmd("later", "x")); r.Err != nil || a.Revision() != was+1001 {
		t.Fatalf("%v, revision %d", r.Err, a.Revision())
	}
	if err := a.Verify(ctx); err != nil {
		t.Fatal(err)
	}
}
