package roster

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/quorate/quorate/smr"
)

func apply(t *testing.T, r *Roster, commands ...[]byte) {
	t.Helper()
	var batch []smr.Committed
	for i, c := range commands {
		batch = append(batch, smr.Committed{Entry: smr.Entry{Index: r.applied + uint64(i) + 1, Kind: smr.KindCommand, Data: c}})
	}
	if err := r.Apply(batch); err != nil {
		t.Fatal(err)
	}
}

func TestTheLastAnnouncementCounts(t *testing.T) {
	r := New()
	_, empty := r.Digest()
	apply(t, r, Announce(1, []string{"http://a:1"}), Announce(2, []string{"http://b:1", "http://b:2"}))
	held := r.ClientURLs(2)
	apply(t, r, Announce(2, []string{"http://c:1"}), []byte("junk"), nil)
	if got := r.ClientURLs(2); !slices.Equal(got, []string{"http://c:1"}) {
		t.Errorf("member 2 has %v", got)
	}
	if !slices.Equal(held, []string{"http://b:1", "http://b:2"}) {
		t.Errorf("a reader's list was changed to %v", held)
	}
	if got := r.ClientURLs(3); got != nil {
		t.Errorf("member 3 has %v", got)
	}
	apply(t, r, Announce(1, nil), Announce(2, nil))
	if applied, d := r.Digest(); d != empty || applied != 7 {
		t.Errorf("after forgetting all, digest %x at %d", d, applied)
	}
}

// "Equal states have equal digests on every replica."
func TestDigestIsOfTheState(t *testing.T) {
	a, b := New(), New()
	apply(t, a, Announce(1, []string{"x"}), Announce(2, []string{"y"}))
	apply(t, b, Announce(2, []string{"z"}), Announce(2, []string{"y"}), Announce(1, []string{"x"}))
	_, da := a.Digest()
	_, db := b.Digest()
	if da != db {
		t.Error("one state, two digests")
	}
	apply(t, b, Announce(1, []string{"w"}))
	if _, d := b.Digest(); d == da {
		t.Error("two states, one digest")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Announce(7, []string{"http://127.0.0.1:2379", ""}))
	f.Add([]byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		member, urls, err := Decode(b)
		if err != nil {
			if !errors.Is(err, smr.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again := Announce(member, urls)
		m2, u2, err := Decode(again)
		if err != nil || m2 != member || !slices.Equal(u2, urls) || len(again) > len(b) {
			t.Fatalf("%x became %x: %v", b, again, err)
		}
		if len(again) == len(b) && !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

// A roster that was moved equals the one that it was taken of.
func TestMove(t *testing.T) {
	a, b := New(), New()
	batch := []smr.Committed{
		{Entry: smr.Entry{Index: 1, Kind: smr.KindCommand, Data: Announce(5, []string{"http://a", "http://b"})}},
		{Entry: smr.Entry{Index: 2, Kind: smr.KindCommand, Data: Announce(9, []string{"http://c"})}},
	}
	if err := a.Apply(batch); err != nil {
		t.Fatal(err)
	}
	v, err := a.View()
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.BeginRestore()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(r, v); err != nil {
		t.Fatal(err)
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	at, digest := a.Digest()
	if gotAt, got := b.Digest(); gotAt != at || got != digest || len(b.ClientURLs(5)) != 2 {
		t.Fatalf("moved: %d %x, was %d %x", gotAt, got, at, digest)
	}
}
