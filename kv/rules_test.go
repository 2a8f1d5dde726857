package kv

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/smr"
)

func newStore(t testing.TB) *Store {
	s, _ := openStore(t, testConfig(vfs.NewMem()))
	return s
}

// get is the latest version of key, or nil.
func get1(t *testing.T, s *Store, key string, rev int64) *KeyValue {
	t.Helper()
	r, err := s.Range(ctx, &RangeRequest{Key: []byte(key), Revision: rev})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return nil
	}
	return &r.Kvs[0]
}

func TestRevisions(t *testing.T) {
	s := newStore(t)
	// "a 64-bit, cluster-wide counter [...] The store's initial revision is 1":
	// the first write is revision 2.
	if s.Revision() != 1 || s.CompactRevision() != -1 {
		t.Fatalf("a new store is at revision %d, compacted to %d", s.Revision(), s.CompactRevision())
	}
	if r := do(t, s, putCmd("k", "1")); r.Revision() != 2 {
		t.Fatalf("first write at revision %d", r.Revision())
	}
	// "create_revision is the revision of last creation on this key.
	// mod_revision is the revision of last modification on this key. version is
	// the version of the key. A deletion resets the version to zero and any
	// modification of the key increases its version."
	do(t, s, putCmd("k", "2"))
	want := KeyValue{Key: []byte("k"), Value: []byte("2"), CreateRevision: 2, ModRevision: 3, Version: 2}
	if got := get1(t, s, "k", 0); !reflect.DeepEqual(*got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	if r := do(t, s, deleteCmd("k", "")); r.DeleteRange.Deleted != 1 || r.Revision() != 4 {
		t.Fatalf("deleting one key: %+v", r)
	}
	do(t, s, putCmd("k", "3"))
	want = KeyValue{Key: []byte("k"), Value: []byte("3"), CreateRevision: 5, ModRevision: 5, Version: 1}
	if got := get1(t, s, "k", 0); !reflect.DeepEqual(*got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	// A deletion that finds nothing is no modification.
	if r := do(t, s, deleteCmd("x", "")); r.DeleteRange.Deleted != 0 || r.Revision() != 5 {
		t.Fatalf("deleting nothing: %+v", r)
	}
	// "revision is the point-in-time of the key-value store to use for the
	// range."
	if got := get1(t, s, "k", 3); string(got.Value) != "2" {
		t.Fatalf("at revision 3: %+v", got)
	}
	if got := get1(t, s, "k", 4); got != nil {
		t.Fatalf("at revision 4, deleted: %+v", got)
	}
	if _, err := s.Range(ctx, &RangeRequest{Key: []byte("k"), Revision: 6}); !errors.Is(err, ErrFutureRev) {
		t.Fatalf("at a revision that is to come: %v", err)
	}
}

func TestCompact(t *testing.T) {
	s := newStore(t)
	for i := range 5 {
		do(t, s, putCmd("k", fmt.Sprint(i))) // revisions 2 to 6
	}
	if r := do(t, s, compactCmd(7)); !errors.Is(r.Err, ErrFutureRev) {
		t.Fatalf("compacting the future: %v", r.Err)
	}
	if r := do(t, s, compactCmd(4)); r.Err != nil || r.Revision() != 6 {
		t.Fatalf("compacting: %+v", r)
	}
	for _, rev := range []int64{4, 3} {
		if r := do(t, s, compactCmd(rev)); !errors.Is(r.Err, ErrCompacted) {
			t.Fatalf("compacting %d again: %v", rev, r.Err)
		}
	}
	// "All superseded keys with a revision less than the compaction revision
	// will be removed"; the state at the compaction revision can be read.
	if _, err := s.Range(ctx, &RangeRequest{Key: []byte("k"), Revision: 3}); !errors.Is(err, ErrCompacted) {
		t.Fatalf("below the compact revision: %v", err)
	}
	if got := get1(t, s, "k", 4); string(got.Value) != "2" {
		t.Fatalf("at the compact revision: %+v", got)
	}
}

func TestTxnRules(t *testing.T) {
	s := newStore(t)
	do(t, s, putCmd("a", "1"))
	do(t, s, putCmd("b", "1"))
	// "A Txn processes multiple requests in a single transaction. A txn request
	// increments the revision of the key-value store and generates events with
	// the same revision for every completed request."
	r := do(t, s, txnCmd(TxnRequest{
		Compare: []Compare{{Target: CompareValue, Key: []byte("a"), Value: []byte("1")}},
		Success: []Op{put("a", "2"), rangeOp("a", "c"), deleteOp("b", ""), rangeOp("a", "c"), put("c", "1")},
	}))
	if r.Err != nil || !r.Txn.Succeeded || r.Revision() != 4 {
		t.Fatalf("%+v", r)
	}
	// "Success is a list of requests which will be applied when compare
	// evaluates to true", in order: each sees what those before it did.
	if got := r.Txn.Responses[1].Range; got.Count != 2 || string(got.Kvs[0].Value) != "2" || got.Revision != 4 {
		t.Fatalf("range after the put: %+v", got)
	}
	if got := r.Txn.Responses[3].Range; got.Count != 1 {
		t.Fatalf("range after the deletion: %+v", got)
	}
	for _, key := range []string{"a", "c"} {
		if got := get1(t, s, key, 0); got.ModRevision != 4 {
			t.Fatalf("%s: %+v", key, got)
		}
	}
	// A read-only transaction has no effect on the revision.
	r = do(t, s, txnCmd(TxnRequest{Success: []Op{rangeOp("a", "")}}))
	if r.Revision() != 4 || s.Revision() != 4 {
		t.Fatalf("read-only transaction: %+v", r)
	}
	// A transaction that changes nothing neither.
	r = do(t, s, txnCmd(TxnRequest{Success: []Op{deleteOp("nothing", "")}}))
	if r.Revision() != 4 || s.Revision() != 4 {
		t.Fatalf("transaction without a change: %+v", r)
	}
	// All compares, nested ones too, look at the state before the transaction.
	r = do(t, s, txnCmd(TxnRequest{Success: []Op{
		put("n", "1"),
		{Txn: &TxnRequest{
			Compare: []Compare{{Target: CompareVersion, Key: []byte("n"), Number: 0}},
			Success: []Op{put("m", "then")}, Failure: []Op{put("m", "else")},
		}},
	}}))
	if nested := r.Txn.Responses[1].Txn; !nested.Succeeded || nested.Revision != 0 || string(get1(t, s, "m", 0).Value) != "then" {
		t.Fatalf("nested compare: %+v", nested)
	}
	// One operation that cannot be done undoes the whole transaction.
	for _, tc := range []struct {
		op   Op
		want error
	}{
		{Op{Put: &PutRequest{Key: []byte("z"), IgnoreValue: true}}, ErrKeyNotFound},
		{Op{Put: &PutRequest{Key: []byte("z"), IgnoreLease: true}}, ErrKeyNotFound},
		{Op{Put: &PutRequest{Key: []byte("z"), Lease: 3}}, ErrLeaseNotFound},
		{Op{Range: &RangeRequest{Key: []byte("a"), Revision: s.Revision() + 1}}, ErrFutureRev},
	} {
		before := s.Revision()
		r = do(t, s, txnCmd(TxnRequest{Success: []Op{put("y", "1"), tc.op}}))
		if !errors.Is(r.Err, tc.want) || s.Revision() != before || get1(t, s, "y", 0) != nil {
			t.Fatalf("%+v: %v, at revision %d", tc.op, r.Err, s.Revision())
		}
	}
}

func TestTxnRangeAtCompacted(t *testing.T) {
	s := newStore(t)
	for range 4 {
		do(t, s, putCmd("a", "1"))
	}
	do(t, s, compactCmd(4))
	r := do(t, s, txnCmd(TxnRequest{Success: []Op{put("b", "1"), {Range: &RangeRequest{Key: []byte("a"), Revision: 3}}}}))
	if !errors.Is(r.Err, ErrCompacted) || s.Revision() != 5 {
		t.Fatalf("%v, at revision %d", r.Err, s.Revision())
	}
}

// TestCompareAbsent: "a key that does not exist" has zeros, and no value.
func TestCompareAbsent(t *testing.T) {
	s := newStore(t)
	for _, tc := range []struct {
		c    Compare
		want bool
	}{
		{Compare{Target: CompareVersion}, true},
		{Compare{Target: CompareCreate}, true},
		{Compare{Target: CompareMod, Result: CompareLess, Number: 1}, true},
		{Compare{Target: CompareLease, Result: CompareNotEqual}, false},
		{Compare{Target: CompareValue}, false},
		{Compare{Target: CompareValue, Result: CompareNotEqual, Value: []byte("x")}, false},
		{Compare{Target: CompareVersion, RangeEnd: fromKey}, true},
		{Compare{Target: CompareValue, Result: CompareNotEqual, Value: []byte("x"), RangeEnd: fromKey}, false},
	} {
		tc.c.Key = []byte("k")
		r := do(t, s, txnCmd(TxnRequest{Compare: []Compare{tc.c}}))
		if r.Txn.Succeeded != tc.want {
			t.Errorf("%+v: %v", tc.c, r.Txn.Succeeded)
		}
		read, err := s.ReadTxn(ctx, &TxnRequest{Compare: []Compare{tc.c}})
		if err != nil || read.Succeeded != tc.want {
			t.Errorf("%+v as a read: %+v, %v", tc.c, read, err)
		}
	}
}

func TestPutOptions(t *testing.T) {
	s := newStore(t)
	// "ignore_value: etcd updates the key using its current value. Returns an
	// error if the key does not exist."
	if r := do(t, s, Command{Kind: CommandPut, Put: PutRequest{Key: []byte("k"), IgnoreValue: true}}); !errors.Is(r.Err, ErrKeyNotFound) {
		t.Fatal(r.Err)
	}
	do(t, s, putCmd("k", "v"))
	r := do(t, s, Command{Kind: CommandPut, Put: PutRequest{Key: []byte("k"), IgnoreValue: true, IgnoreLease: true, PrevKv: true}})
	// "if prev_kv is set [...] the previous key-value pair will be returned."
	if r.Err != nil || r.Put.PrevKv == nil || r.Put.PrevKv.ModRevision != 2 {
		t.Fatalf("%+v", r)
	}
	if got := get1(t, s, "k", 0); string(got.Value) != "v" || got.Version != 2 {
		t.Fatalf("%+v", got)
	}
	if r := do(t, s, Command{Kind: CommandPut, Put: PutRequest{Key: []byte("k"), Lease: 5}}); !errors.Is(r.Err, ErrLeaseNotFound) {
		t.Fatal(r.Err)
	}
	if r := do(t, s, putCmd("", "v")); !errors.Is(r.Err, ErrEmptyKey) {
		t.Fatal(r.Err)
	}
}

func nest(t TxnRequest) Op { return Op{Txn: &t} }

func TestCheck(t *testing.T) {
	many := func(n int) (ops []Op) {
		for i := range n {
			ops = append(ops, put(fmt.Sprint(i), ""))
		}
		return ops
	}
	deep := TxnRequest{Success: []Op{put("k", "")}}
	for range 200 {
		deep = TxnRequest{Success: []Op{nest(deep)}}
	}
	for i, tc := range []struct {
		txn  TxnRequest
		want error
	}{
		{TxnRequest{Success: many(128)}, nil},
		{TxnRequest{Success: many(129)}, ErrTooManyOps},
		{TxnRequest{Compare: make([]Compare, 129)}, ErrTooManyOps},
		{TxnRequest{Success: []Op{nest(TxnRequest{Success: many(127)})}}, nil},
		{TxnRequest{Success: []Op{nest(TxnRequest{Success: many(128)})}}, ErrTooManyOps},
		{deep, ErrTooManyOps},
		{TxnRequest{Compare: make([]Compare, 1)}, ErrEmptyKey},
		{TxnRequest{Success: []Op{{}}}, ErrKeyNotFound},
		{TxnRequest{Failure: []Op{put("", "")}}, ErrEmptyKey},
		{TxnRequest{Failure: []Op{{Put: &PutRequest{Key: []byte("k"), Value: []byte("v"), IgnoreValue: true}}}}, ErrValueProvided},
		{TxnRequest{Failure: []Op{{Put: &PutRequest{Key: []byte("k"), Lease: 1, IgnoreLease: true}}}}, ErrLeaseProvided},
		{TxnRequest{Success: []Op{{Range: &RangeRequest{Key: []byte("k"), SortOrder: 3}}}}, ErrInvalidSort},
		// "It is not allowed to modify the same key several times within one
		// txn."
		{TxnRequest{Success: []Op{put("k", "1"), put("k", "2")}}, ErrDuplicateKey},
		{TxnRequest{Success: []Op{put("k", "1")}, Failure: []Op{put("k", "2")}}, nil},
		{TxnRequest{Success: []Op{put("k", "1"), deleteOp("k", "")}}, ErrDuplicateKey},
		{TxnRequest{Success: []Op{deleteOp("a", "z"), put("k", "1")}}, ErrDuplicateKey},
		{TxnRequest{Success: []Op{deleteOp("a", "k"), put("k", "1")}}, nil},
		{TxnRequest{Success: []Op{deleteOp("a", "m"), deleteOp("b", "c"), put("k", "1")}}, ErrDuplicateKey},
		{TxnRequest{Success: []Op{deleteOp("a", "\x00"), put("k", "1")}}, nil}, // as etcd
		{TxnRequest{Success: []Op{put("k", "1"), nest(TxnRequest{Success: []Op{put("k", "2")}})}}, ErrDuplicateKey},
		{TxnRequest{Success: []Op{nest(TxnRequest{Success: []Op{put("k", "1")}, Failure: []Op{put("k", "2")}})}}, nil},
		{TxnRequest{Success: []Op{nest(TxnRequest{Success: []Op{put("k", "1")}}), nest(TxnRequest{Failure: []Op{put("k", "2")}})}}, ErrDuplicateKey},
		{TxnRequest{Success: []Op{put("k", "1"), nest(TxnRequest{Failure: []Op{deleteOp("k", "")}})}}, ErrDuplicateKey},
		{TxnRequest{Success: []Op{nest(TxnRequest{Success: []Op{deleteOp("k", "")}}), nest(TxnRequest{Success: []Op{put("k", "")}})}}, ErrDuplicateKey},
		{TxnRequest{Success: []Op{nest(TxnRequest{Success: []Op{put("k", "")}}), nest(TxnRequest{Success: []Op{deleteOp("k", "")}})}}, nil}, // as etcd
	} {
		if i == 2 {
			for c := range tc.txn.Compare {
				tc.txn.Compare[c].Key = []byte("k")
			}
		}
		if err := tc.txn.Check(Limits{}); !errors.Is(err, tc.want) || tc.want == nil && err != nil {
			t.Errorf("case %d: %v, want %v", i, err, tc.want)
		}
	}
}

// TestUncheckedTxn: what Check would have refused has an outcome all the same.
func TestUncheckedTxn(t *testing.T) {
	s := newStore(t)
	do(t, s, putCmd("k", "v"))
	r := do(t, s, txnCmd(TxnRequest{Success: []Op{
		put("k", "1"), put("k", "2"), deleteOp("k", ""),
		{Put: &PutRequest{Key: []byte("k"), IgnoreValue: true}}, rangeOp("k", ""),
	}}))
	if r.Err != nil || r.Revision() != 3 {
		t.Fatalf("%+v", r)
	}
	if got := r.Txn.Responses[4].Range.Kvs[0]; got.Version != 1 || got.CreateRevision != 3 || len(got.Value) != 0 {
		t.Fatalf("%+v", got)
	}
	do(t, s, compactCmd(3))
	do(t, s, putCmd("x", "")) // sweeps
	if _, err := s.History(ctx, HistoryRequest{From: 3}, func(*Event) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	fs := vfs.NewMem()
	s, _ := openStore(t, testConfig(fs))
	do(t, s, putCmd("k", "v"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := testConfig(fs)
	other.Group = 8
	if _, err := New(other).Open(); !errors.Is(err, ErrForeignStore) {
		t.Fatalf("another group's store: %v", err)
	}
	plain, err := pebble.Open("plain", &pebble.Options{FS: fs, Logger: pebble.DefaultLogger})
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Close(); err != nil {
		t.Fatal(err)
	}
	foreign := testConfig(fs)
	foreign.Dir = "plain"
	if _, err := New(foreign).Open(); !errors.Is(err, ErrForeignStore) {
		t.Fatalf("a pebble store of somebody else's: %v", err)
	}
	// The right one is as it was.
	s, applied := openStore(t, testConfig(fs))
	if applied != 1 || string(get1(t, s, "k", 0).Value) != "v" {
		t.Fatalf("applied %d", applied)
	}
}

func TestApplyRefusesGap(t *testing.T) {
	s := newStore(t)
	err := s.Apply([]smr.Committed{{Entry: smr.Entry{Index: 2, Kind: smr.KindEmpty}}})
	if !errors.Is(err, ErrGap) {
		t.Fatal(err)
	}
	// From then on the replica says so, and applies nothing.
	if err := s.Apply([]smr.Committed{{Entry: smr.Entry{Index: 1, Kind: smr.KindEmpty}}}); !errors.Is(err, ErrGap) {
		t.Fatal(err)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	s := newStore(t)
	do(t, s, putCmd("a", "1"))
	do(t, s, putCmd("b", "1"))
	if err := s.Verify(ctx); err != nil {
		t.Fatal(err)
	}
	k := appendSuffix(appendPrefix(nil, []byte("a")), position{2, 0}, kindPut)
	if err := s.db.Set(k, appendRecord(nil, &record{create: 2, version: 1, value: []byte("2")}), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(ctx); !errors.Is(err, ErrDigest) {
		t.Fatalf("a changed value: %v", err)
	}
}

// TestDigestSeesEverything: states that differ in anything have different
// digests.
func TestDigestSeesEverything(t *testing.T) {
	seen := map[[16]byte]int{}
	for i, cmds := range [][]Command{
		{},
		{putCmd("a", "1")},
		{putCmd("a", "2")},
		{putCmd("b", "1")},
		{putCmd("a", "1"), putCmd("a", "1")},
		{putCmd("a", "1"), deleteCmd("a", "")},
		{putCmd("a", "1"), compactCmd(2)},
		{putCmd("a", "2"), putCmd("a", "1")}, // the same live keys as case 4, another history
		{putCmd("a", "1"), putCmd("b", "1")},
		{txnCmd(TxnRequest{Success: []Op{put("a", "1"), put("b", "1")}})},
		{txnCmd(TxnRequest{Success: []Op{put("b", "1"), put("a", "1")}})},
	} {
		s := newStore(t)
		for _, c := range cmds {
			do(t, s, c)
		}
		_, d := s.Digest()
		if j, twice := seen[d]; twice {
			t.Errorf("cases %d and %d have the same digest", i, j)
		}
		seen[d] = i
	}
}

// TestReadersBesideApply: a range sees one revision, whole, whatever is applied,
// compacted and removed meanwhile. Every transaction sets both keys to the same
// value.
func TestReadersBesideApply(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	cfg.MemTableBytes, cfg.SweepEntries = 256<<10, 10
	s, _ := openStore(t, cfg)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					if n > 0 {
						return
					}
				default:
				}
				r, err := s.Range(ctx, &RangeRequest{Key: []byte("a"), RangeEnd: []byte("c")})
				if err != nil {
					t.Error(err)
					return
				}
				if len(r.Kvs) == 0 && r.Revision == 1 {
					continue
				}
				if len(r.Kvs) != 2 || string(r.Kvs[0].Value) != string(r.Kvs[1].Value) || r.Kvs[0].ModRevision != r.Revision {
					t.Errorf("torn read: %+v", r)
					return
				}
			}
		})
	}
	for i := range 1500 {
		v := fmt.Sprint(i)
		if r := do(t, s, txnCmd(TxnRequest{Success: []Op{put("a", v), put("b", v)}})); r.Err != nil {
			t.Fatal(r.Err)
		}
		if i%7 == 6 {
			do(t, s, compactCmd(s.Revision()))
		}
	}
	close(done)
	readers.Wait()
}

func TestLookup(t *testing.T) {
	s := newStore(t)
	do(t, s, putCmd("k", "v"))
	b, err := s.Lookup(AppendQuery(nil, &Query{Range: &RangeRequest{Key: []byte("k")}}))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := DecodeAnswer(b); err != nil || a.Range.Count != 1 || string(a.Range.Kvs[0].Value) != "v" {
		t.Fatalf("%+v, %v", a, err)
	}
	if b, err = s.Lookup(AppendQuery(nil, &Query{Txn: &TxnRequest{Success: []Op{rangeOp("k", "")}}})); err != nil {
		t.Fatal(err)
	}
	if a, err := DecodeAnswer(b); err != nil || len(a.Txn.Responses) != 1 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := s.Lookup([]byte{9}); !errors.Is(err, ErrBadCommand) {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Range(ctx, &RangeRequest{Key: []byte("k")}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// TestRangeFuncStops: memory does not depend on the range, so fn may stop it.
func TestRangeFuncStops(t *testing.T) {
	s := newStore(t)
	for i := range 10 {
		do(t, s, putCmd(fmt.Sprint(i), "v"))
	}
	n := 0
	if _, err := s.RangeFunc(ctx, &RangeRequest{Key: []byte("0"), RangeEnd: fromKey}, func(kv *KeyValue) bool {
		n++
		return n < 4
	}); err != nil || n != 4 {
		t.Fatalf("%d calls, %v", n, err)
	}
	resp, err := s.RangeFunc(ctx, &RangeRequest{Key: []byte("0"), RangeEnd: fromKey, Limit: 3}, func(*KeyValue) bool { return true })
	if err != nil || resp.Count != 10 || !resp.More {
		t.Fatalf("%+v, %v", resp, err)
	}
	if _, err := s.RangeFunc(ctx, &RangeRequest{Key: []byte("0"), SortOrder: SortDescend}, nil); !errors.Is(err, ErrInvalidSort) {
		t.Fatal(err)
	}
}

// A compaction is finished though nothing more is applied, and nobody can tell from
// what the store answers.
func TestIdleFinishesCompaction(t *testing.T) {
	for _, deterministic := range []bool{false, true} {
		cfg := testConfig(vfs.NewMem())
		cfg.Deterministic, cfg.SweepEntries = deterministic, 1
		s, _ := openStore(t, cfg)
		for i := range 2000 {
			do(t, s, putCmd(fmt.Sprintf("key-%d", i%10), "value"))
		}
		if more, err := s.Idle(); more || err != nil {
			t.Fatalf("without anything to do: %v, %v", more, err)
		}
		do(t, s, compactCmd(s.Revision()))
		applied, digest := s.Digest()
		hash, err := s.HashKV(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		steps := 0
		for more := true; more; steps++ {
			if more, err = s.Idle(); err != nil {
				t.Fatal(err)
			}
		}
		if s.SweptRevision() != s.CompactRevision() || steps < 2000/idleEntries {
			t.Errorf("swept to %d of %d in %d steps", s.SweptRevision(), s.CompactRevision(), steps)
		}
		if at, d := s.Digest(); at != applied || d != digest {
			t.Errorf("the digest became %x", d)
		}
		if h, err := s.HashKV(ctx, 0); err != nil || h != hash {
			t.Errorf("the hash was %+v, became %+v, %v", hash, h, err)
		}
		if err := s.Verify(ctx); err != nil {
			t.Error(err)
		}
	}
}
