package smr

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func drawEntry(t *rapid.T) Entry {
	e := Entry{
		Index: rapid.Uint64().Draw(t, "index"), Term: rapid.Uint64().Draw(t, "term"),
		Kind: EntryKind(rapid.Byte().Draw(t, "kind")),
		Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
	}
	if rapid.Bool().Draw(t, "origin?") {
		e.Origin, e.Request = rapid.Uint64().Draw(t, "origin"), rapid.Uint64().Draw(t, "request")
	}
	if rapid.Bool().Draw(t, "session?") {
		e.Session, e.Sequence = rapid.Uint64().Draw(t, "session"), rapid.Uint64().Draw(t, "sequence")
	}
	if len(e.Data) == 0 {
		e.Data = nil
	}
	return e
}

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEntry(t)
		b := AppendEntry([]byte("before"), &e)
		if len(b) > len("before")+EntryEncodedMax+len(e.Data) {
			t.Fatalf("%d bytes for %d of data", len(b), len(e.Data))
		}
		b = append(b, "after"...)
		var got Entry
		rest, err := DecodeEntry(b[len("before"):], &got)
		if err != nil || string(rest) != "after" || !reflect.DeepEqual(got, e) {
			t.Fatalf("%+v %q %v, want %+v", got, rest, err, e)
		}
		if h, rest, err := DecodeEntryHead(b[len("before"):]); err != nil || string(rest) != "after" || h != (EntryHead{e.Index, e.Term, e.Kind}) {
			t.Fatalf("head %+v %q %v, want that of %+v", h, rest, err, e)
		}
		for n := range len(b) - len("before") - len("after") {
			if _, _, err := DecodeEntryHead(b[len("before") : len("before")+n]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("the head of the first %d bytes: %v", n, err)
			}
			if _, err := DecodeEntry(b[len("before"):len("before")+n], &got); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("the first %d bytes: %v", n, err)
			}
		}
	})
}

// The format on disk and wire is a promise: these bytes must never change.
func TestGoldenBytes(t *testing.T) {
	for _, c := range []struct {
		e    Entry
		want string
	}{
		{Entry{Index: 1, Term: 1}, "0000010100"},
		{Entry{Index: 300, Term: 2, Kind: KindCommand, Data: []byte("ab")}, "0001ac0202026162"},
		{Entry{Index: 5, Term: 2, Kind: KindCommand, Origin: 7, Request: 8, Session: 9, Sequence: 10, Data: []byte("z")}, "030105020708090a017a"},
	} {
		if got := hex.EncodeToString(AppendEntry(nil, &c.e)); got != c.want {
			t.Errorf("%+v: %s, want %s", c.e, got, c.want)
		}
	}
	conf := Configuration{Joint: true, Members: []Member{{ID: 1, Role: Voter, Old: Voter}, {ID: 300, Role: Learner}}}
	if got := hex.EncodeToString(AppendConfiguration(nil, &conf)); got != "0102010101ac020200" {
		t.Errorf("configuration: %s", got)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(AppendEntry(nil, &Entry{Index: 5, Term: 2, Kind: KindCommand, Origin: 7, Request: 8, Session: 9, Sequence: 10, Data: []byte("z")}))
	f.Add([]byte{0, 1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, again Entry
		rest, err := DecodeEntry(b, &e)
		h, after, headErr := DecodeEntryHead(b)
		if (err == nil) != (headErr == nil) || !bytes.Equal(after, rest) {
			t.Fatalf("%v, but of its head %v", err, headErr)
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || !errors.Is(headErr, ErrCorrupt) {
				t.Fatal(err, headErr)
			}
			return
		}
		if want := (EntryHead{e.Index, e.Term, e.Kind}); h != want {
			t.Fatalf("head %+v, want %+v", h, want)
		}
		if tail, err := DecodeEntry(AppendEntry(nil, &e), &again); err != nil || len(tail) != 0 || !reflect.DeepEqual(e, again) {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
		if !bytes.HasSuffix(b, rest) {
			t.Fatal("the rest is not the end of the input")
		}
	})
}

func FuzzDecodeConfiguration(f *testing.F) {
	f.Add(AppendConfiguration(nil, &Configuration{Joint: true, Members: []Member{{ID: 1, Role: Voter, Old: Voter}, {ID: 300, Role: Learner}}}))
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _, err := DecodeConfiguration(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, rest, err := DecodeConfiguration(AppendConfiguration(nil, &c))
		if err != nil || len(rest) != 0 || !reflect.DeepEqual(c, again) {
			t.Fatalf("%+v became %+v, %v", c, again, err)
		}
	})
}

func TestInstant(t *testing.T) {
	if Never.Add(-time.Hour) != Never || (Never-5).Add(time.Hour) != Never || Instant(5).Add(-3) != 2 {
		t.Error("Add")
	}
	if Instant(7).Sub(5) != 2 {
		t.Error("Sub")
	}
}

func TestReplicaIDText(t *testing.T) {
	if got := ReplicaID(0x2c87b3ca189d6eec).String(); got != "2c87b3ca189d6eec" {
		t.Error(got)
	}
}
