package kv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/smr"
)

func applyOne(t testing.TB, s *Store, commands ...Command) {
	t.Helper()
	batch := make([]smr.Committed, len(commands))
	for i := range commands {
		batch[i].Index = s.Applied() + uint64(i) + 1
		batch[i].Kind = smr.KindCommand
		batch[i].Data = AppendCommand(nil, &commands[i])
	}
	if err := s.Apply(batch); err != nil {
		t.Fatal(err)
	}
}

// What a point read answers from its cache is what pebble has, whatever was
// applied since: puts, deletions by key and by range, transactions.
func TestPointIsWhatTheStoreHas(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	cfg.PointCacheBytes = 32 << 10 // so small that keys are forgotten
	s, _ := openStore(t, cfg)
	r := rand.New(rand.NewPCG(1, 2))
	key := func() string { return fmt.Sprintf("key %03d", r.IntN(100)) }
	hits := 0
	for range 8000 {
		switch r.IntN(10) {
		case 0:
			applyOne(t, s, putCmd(key(), fmt.Sprint(r.Uint64())), putCmd(key(), "x"))
		case 1:
			applyOne(t, s, deleteCmd(key(), ""))
		case 2:
			applyOne(t, s, deleteCmd(key(), key()))
		case 3:
			k := key()
			applyOne(t, s, txnCmd(TxnRequest{Success: []Op{put(k, "in a transaction"), rangeOp(k, "")}}))
		default:
			k := []byte(key())
			if s.points.get(k, s.Revision()) != nil {
				hits++
			}
			got, err := s.Range(t.Context(), &RangeRequest{Key: k})
			if err != nil {
				t.Fatal(err)
			}
			// A filter that admits everything keeps the cache out of it.
			want, err := s.Range(t.Context(), &RangeRequest{Key: k, MinModRevision: 1})
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%q: %v, but the store has %v", k, got, want)
			}
		}
	}
	if hits < 200 {
		t.Errorf("only %d reads were answered from the cache: this test has shown nothing", hits)
	}
}

// "Linearizability requires that a read shows a state of the store as of its
// revision": a reader beside Apply never sees a version later than the revision
// that it is told, nor an older one than was the newest then.
func TestPointBesideApply(t *testing.T) {
	s, _ := openStore(t, testConfig(vfs.NewMem()))
	const keys, batches, batchSize = 8, 400, 16
	name := func(i int) string { return fmt.Sprintf("key %d", i) }
	// The newest version of key i at revision r is history[r][i]; each put makes
	// one revision, so the history is known before it is written.
	history := make([][keys]int64, 2, batches*batchSize+2)
	r := rand.New(rand.NewPCG(3, 4))
	var writes [batches][]Command
	for b := range writes {
		for range batchSize {
			k := r.IntN(keys)
			now := history[len(history)-1]
			now[k] = int64(len(history))
			history = append(history, now)
			writes[b] = append(writes[b], putCmd(name(k), fmt.Sprint(now[k])))
		}
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for n := range 4 {
		readers.Go(func() {
			last := int64(0)
			for i := n; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				k := i % keys
				kv, rev, err := s.Point([]byte(name(k)))
				if err != nil {
					t.Error(err)
					return
				}
				got := int64(0)
				if kv != nil {
					got = kv.ModRevision
					if string(kv.Value) != fmt.Sprint(got) {
						t.Errorf("value %q of revision %d", kv.Value, got)
					}
				}
				if want := history[rev][k]; got != want || rev < last {
					t.Errorf("at revision %d, after %d: %s is of revision %d, want %d", rev, last, name(k), got, want)
					return
				}
				last = rev
			}
		})
	}
	for b := range writes {
		applyOne(t, s, writes[b]...)
	}
	close(done)
	readers.Wait()
}

// (2) Nothing is put in that was read before a change, or during one.
func TestPointCacheRefusesWhatIsOld(t *testing.T) {
	c := newPointCache(1 << 20)
	kv := func() *KeyValue { return &KeyValue{Key: []byte("k"), Value: []byte("v")} }
	before := c.change.Load()
	c.begin(1)
	c.put(kv(), before)
	c.put(kv(), c.change.Load())
	if c.get([]byte("k"), 1) != nil {
		t.Error("put in during a change")
	}
	c.end()
	c.put(kv(), before)
	if c.get([]byte("k"), 1) != nil {
		t.Error("put in after a change what was read before it")
	}
	noted := c.change.Load()
	c.put(kv(), noted)
	if c.get([]byte("k"), 1) == nil {
		t.Error("not put in without a change")
	}
	c.reset()
	c.put(kv(), noted)
	if c.get([]byte("k"), 1) != nil {
		t.Error("put in what was read before the store was opened again")
	}
}

// (2) While a batch is applied, a reader gets what was the newest before it, and
// afterwards the newest of the batch; the cache knows both without pebble.
func TestPointCacheKeepsTheVersionBefore(t *testing.T) {
	c := newPointCache(1 << 20)
	key := []byte("k")
	version := func(rev int64) *KeyValue { return &KeyValue{Key: key, Value: fmt.Append(nil, rev), ModRevision: rev} }
	want := func(revision, mod int64) {
		t.Helper()
		if kv := c.get(key, revision); kv == nil || kv.ModRevision != mod || string(kv.Value) != fmt.Sprint(mod) {
			t.Errorf("at %d: %v, want the version of %d", revision, kv, mod)
		}
	}
	c.put(version(3), c.change.Load())
	want(5, 3)
	c.begin(5)
	value := version(6)
	c.write(value)
	copy(value.Value, "x") // the cache has a copy
	want(5, 3)
	c.write(version(8))
	want(5, 3)
	want(4, 3) // a reader that was slow
	c.end()
	want(9, 8)
	c.begin(9)
	c.write(version(10))
	want(9, 8)
	if kv := c.get(key, 5); kv != nil {
		t.Errorf("at 5, which was published two batches ago: %v", kv)
	}
	c.remove(key)
	if kv := c.get(key, 9); kv != nil {
		t.Errorf("after it was removed: %v", kv)
	}
	c.end()
}

// "Only readers make entries": what is written and not read is given up.
func TestPointCacheGivesUpTheUnread(t *testing.T) {
	c := newPointCache(1 << 20)
	key := []byte("k")
	c.begin(1)
	c.write(&KeyValue{Key: key, ModRevision: 2})
	c.end()
	if c.get(key, 2) != nil {
		t.Error("a write has made an entry")
	}
	c.put(&KeyValue{Key: key, ModRevision: 2}, c.change.Load())
	for rev := int64(3); rev < 3+2*pointUnreadMax; rev++ {
		c.begin(rev - 1)
		c.write(&KeyValue{Key: key, ModRevision: rev})
		c.end()
	}
	s := c.shard(key)
	if len(s.young)+len(s.old) != 0 || s.bytes != 0 {
		t.Errorf("%d and %d entries, %d bytes", len(s.young), len(s.old), s.bytes)
	}
}

// It holds no more than its bound, and of two keys keeps the one that is used.
func TestPointCacheIsBounded(t *testing.T) {
	c := newPointCache(64 << 10)
	busy := &KeyValue{Key: []byte("busy"), Value: make([]byte, 100)}
	c.put(busy, 0)
	for i := range 10000 {
		c.put(&KeyValue{Key: fmt.Appendf(nil, "key %d", i), Value: make([]byte, 100)}, 0)
		if c.get(busy.Key, 1) == nil {
			t.Fatalf("the busy key is forgotten after %d others", i)
		}
	}
	c.put(&KeyValue{Key: []byte("large"), Value: make([]byte, 64<<10)}, 0)
	if c.get([]byte("large"), 1) != nil {
		t.Error("a value as large as everything was put in")
	}
	var held int64
	for i := range c.shards {
		for _, g := range []map[string]*point{c.shards[i].young, c.shards[i].old} {
			for _, p := range g {
				held += p.bytes()
			}
		}
	}
	if held > 64<<10 {
		t.Errorf("%d bytes are held", held)
	}
}

func TestPointErrors(t *testing.T) {
	s, _ := openStore(t, testConfig(vfs.NewMem()))
	if _, _, err := s.Point(nil); !errors.Is(err, ErrEmptyKey) {
		t.Errorf("empty key: %v", err)
	}
	applyOne(t, s, putCmd("k", "v"))
	if kv, rev, err := s.Point([]byte("k")); err != nil || kv == nil || rev != 2 {
		t.Errorf("%v at %d: %v", kv, rev, err)
	}
	if allocs := testing.AllocsPerRun(100, func() { _, _, _ = s.Point([]byte("k")) }); allocs > 0 {
		t.Errorf("a cached point read makes %v allocations", allocs)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Point([]byte("k")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := s.Open(); err != nil {
		t.Fatal(err)
	}
	if kv, _, err := s.Point([]byte("k")); err != nil || kv == nil {
		t.Errorf("after Open: %v, %v", kv, err)
	}
}
