package kv

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/smr"
)

func TestCommandRoundTrip(t *testing.T) {
	g := gen{rand.New(rand.NewPCG(1, 2))}
	for range 2000 {
		c := g.command(50, 3)
		b := AppendCommand(nil, &c)
		var got Command
		if err := DecodeCommand(b, &got); err != nil {
			t.Fatal(err)
		}
		if again := AppendCommand(nil, &got); !bytes.Equal(again, b) {
			t.Fatalf("%+v\n%x\n%x", c, b, again)
		}
		for cut := range b {
			if err := DecodeCommand(b[:cut], &got); !errors.Is(err, ErrBadCommand) {
				t.Fatalf("cut at %d of %d: %v", cut, len(b), err)
			}
		}
	}
}

func TestResultErrors(t *testing.T) {
	for _, want := range codes[1:] {
		var got Result
		b := AppendResult(nil, &Result{Kind: CommandPut, Err: want})
		if err := DecodeResult(b, &got); err != nil || got.Err != want || got.Revision() != 0 {
			t.Fatalf("%v: %+v, %v", want, got, err)
		}
	}
}

// TestDeepCommand: nesting is bounded before the stack is.
func TestDeepCommand(t *testing.T) {
	b := []byte{codecVersion, byte(CommandTxn)}
	for range 2_000_000 {
		b = append(b, 0, 1, opTxn)
	}
	var c Command
	if err := DecodeCommand(b, &c); !errors.Is(err, ErrBadCommand) {
		t.Fatal(err)
	}
}

func FuzzDecodeCommand(f *testing.F) {
	g := gen{rand.New(rand.NewPCG(3, 4))}
	for range 30 {
		c := g.command(50, 3)
		f.Add(AppendCommand(nil, &c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c, again Command
		if err := DecodeCommand(b, &c); err != nil {
			if !errors.Is(err, ErrBadCommand) {
				t.Fatal(err)
			}
			return
		}
		if err := DecodeCommand(AppendCommand(nil, &c), &again); err != nil || !reflect.DeepEqual(c, again) {
			t.Fatalf("%v\n%+v\n%+v", err, c, again)
		}
		c.Txn.Check(Limits{})
	})
}

func FuzzDecodeResult(f *testing.F) {
	kv := KeyValue{Key: []byte("k"), Value: []byte("v"), CreateRevision: 1, ModRevision: 2, Version: 3, Lease: 4}
	for _, r := range []Result{
		{Kind: CommandPut, Put: PutResponse{Revision: 3, PrevKv: &kv}},
		{Kind: CommandDeleteRange, DeleteRange: DeleteRangeResponse{Revision: 3, Deleted: 1, PrevKvs: []KeyValue{kv}}},
		{Kind: CommandTxn, Txn: TxnResponse{Revision: 3, Succeeded: true, Responses: []OpResponse{
			{Range: &RangeResponse{Count: 1, Kvs: []KeyValue{kv}}}, {Txn: &TxnResponse{}}, {},
		}}},
		{Kind: CommandCompact, Err: ErrCompacted},
	} {
		f.Add(AppendResult(nil, &r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again Result
		if err := DecodeResult(b, &r); err != nil {
			if !errors.Is(err, smr.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if r.Err == nil && r.Kind == 0 {
			t.Fatal("a result of no kind")
		}
		if err := DecodeResult(AppendResult(nil, &r), &again); err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%v\n%+v\n%+v", err, r, again)
		}
		DecodeAnswer(b)
		DecodeQuery(b)
	})
}

// FuzzApply: whatever is in an entry, the store answers and stays whole.
func FuzzApply(f *testing.F) {
	g := gen{rand.New(rand.NewPCG(5, 6))}
	for range 30 {
		c := g.command(5, -1)
		f.Add(AppendCommand(nil, &c))
	}
	s, _ := openStore(f, testConfig(vfs.NewMem()))
	f.Fuzz(func(t *testing.T, b []byte) {
		batch := []smr.Committed{{Entry: smr.Entry{Index: s.Applied() + 1, Kind: smr.KindCommand, Data: b}, Wanted: true}}
		if err := s.Apply(batch); err != nil {
			t.Fatal(err)
		}
		var r Result
		if err := DecodeResult(batch[0].Result.Data, &r); err != nil {
			t.Fatal(err)
		}
		s.Lookup(b)
	})
}

func FuzzKeys(f *testing.F) {
	for _, k := range testKeys {
		f.Add([]byte(k), []byte("a"))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		pa, pb := appendPrefix(nil, a), appendPrefix(nil, b)
		if got := appendUserKey(nil, pa); !bytes.Equal(got, a) {
			t.Fatalf("%x becomes %x", a, got)
		}
		va := appendSuffix(slices.Clone(pa), position{5, 1}, kindPut)
		vb := appendSuffix(slices.Clone(pb), position{9, 0}, kindDelete)
		if want := bytes.Compare(a, b); want != 0 && comparer.Compare(va, vb) != want {
			t.Fatalf("%x and %x: versions in the wrong order", a, b)
		}
		if bytes.Equal(a, b) && comparer.Compare(va, vb) <= 0 {
			t.Fatal("a later version must come first")
		}
		if n := split(va); n != len(pa) {
			t.Fatalf("split of %x at %d", va, n)
		}
		// ImmediateSuccessor: above every version of a, not above any other's.
		next := comparer.ImmediateSuccessor(nil, pa)
		if comparer.Compare(va, next) >= 0 || split(next) != len(next) {
			t.Fatalf("successor %x of %x", next, pa)
		}
		if bytes.Compare(a, b) < 0 && comparer.Compare(next, pb) > 0 {
			t.Fatalf("successor %x of %x is beyond %x", next, pa, pb)
		}
		// Separator and Successor keep to their contracts.
		if comparer.Compare(va, vb) < 0 {
			if k := comparer.Separator(nil, va, vb); comparer.Compare(va, k) > 0 || comparer.Compare(k, vb) >= 0 {
				t.Fatalf("separator %x of %x and %x", k, va, vb)
			}
		}
		prefix, at, kind, err := splitVersion(vb)
		if err != nil || !bytes.Equal(prefix, pb) || at != (position{9, 0}) || kind != kindDelete {
			t.Fatalf("%x: %x %v %d %v", vb, prefix, at, kind, err)
		}
		splitVersion(a)
		decodeRecord(a)
		decodeChange(a, b)
		decodeState(a)
	})
}

func TestStateRoundTrip(t *testing.T) {
	st := state{applied: 1, revision: 20, compact: 12, swept: 3, sweeping: 11, cursor: position{6, 7}, keys: 8, bytes: 9}
	st.set[3], st.chain[31] = 10, 11
	got, err := decodeState(st.append(nil))
	if err != nil || got != st {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range []state{{revision: 0, compact: -1}, {revision: 1, compact: 2}, {revision: 9, compact: 5, swept: 6, sweeping: 5}, {revision: 1, keys: -1}} {
		if _, err := decodeState(bad.append(nil)); !errors.Is(err, smr.ErrCorrupt) {
			t.Fatalf("%+v: %v", bad, err)
		}
	}
}

// TestPutAllocations: a put of a key in the cache allocates nothing of its own;
// a batch costs the slab of results and what pebble takes.
func TestPutAllocations(t *testing.T) {
	s := newStore(t)
	next := putBatches(256, 100, 16)
	i := 0
	apply := func() {
		if err := s.Apply(next(i)); err != nil {
			t.Fatal(err)
		}
		i++
	}
	for range 20 {
		apply()
	}
	if per := testing.AllocsPerRun(50, apply) / 256; per > 0.1 {
		t.Fatalf("%.2f allocations for a put", per)
	}
}

func TestCache(t *testing.T) {
	c := newLatestCache(100*latestOverhead, 1)
	key := func(i int) []byte { return []byte{byte(i), byte(i >> 8)} }
	for i := range 1000 {
		c.set(key(i), latest{version: int64(i)})
		if l := c.get(key(i)); l == nil || l.version != int64(i) {
			t.Fatalf("entry %d: %+v", i, l)
		}
		c.get(key(0)) // used all the time: stays
		c.turn()
		if c.bytes() > 2*c.bytesMax {
			t.Fatalf("%d bytes in a cache of %d", c.bytes(), c.bytesMax)
		}
	}
	if l := c.get(key(0)); l == nil || l.version != 0 {
		t.Fatal("what was used was forgotten")
	}
	if c.get(key(1)) != nil {
		t.Fatal("what was not used was kept")
	}
	// A key changed while in the old generation has one value.
	c.set(key(2000), latest{version: 1})
	for i := range 60 {
		c.set(key(3000+i), latest{})
	}
	c.turn()
	c.set(key(2000), latest{version: 2})
	if l := c.get(key(2000)); l.version != 2 {
		t.Fatalf("%+v", l)
	}
}
