package kv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/smr"
)

// listPages reads [key, end) page by page at one revision, as Kubernetes does, and
// compares each page's count with the number of keys that are really left.
func listPages(t *testing.T, s *Store, key, end []byte, revision, limit int64) (keys int) {
	t.Helper()
	all, err := s.Range(ctx, &RangeRequest{Key: key, RangeEnd: end, Revision: revision})
	if err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		page, err := s.Range(ctx, &RangeRequest{Key: key, RangeEnd: end, Revision: revision, Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		if left := int64(len(all.Kvs) - keys); page.Count != left || page.More != (left > limit) || int64(len(page.Kvs)) != min(left, limit) {
			t.Fatalf("from %q at %d, %d keys a page: %d keys, count %d, more %v; %d are left", key, revision, limit, len(page.Kvs), page.Count, page.More, left)
		}
		for i := range page.Kvs {
			if !bytes.Equal(page.Kvs[i].Key, all.Kvs[keys+i].Key) {
				t.Fatalf("key %q stands where %q belongs", page.Kvs[i].Key, all.Kvs[keys+i].Key)
			}
		}
		keys += len(page.Kvs)
		if more = page.More; more {
			key = append(bytes.Clone(page.Kvs[len(page.Kvs)-1].Key), 0)
		}
	}
	return keys
}

// etcd's RangeResponse: "count is set to the actual number of keys within the range
// when requested. Unlike Kvs, it is unaffected by limits and filters". It stays so
// while others write, delete and compact, at old revisions and new ones, and after
// the store has taken another state.
func TestPagesCountWhatIsLeft(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	s, _ := openStore(t, cfg)
	rng := rand.New(rand.NewPCG(7, 1))
	index := uint64(0)
	apply := func(c *Command) {
		index++
		if err := s.Apply([]smr.Committed{{Entry: smr.Entry{Index: index, Kind: smr.KindCommand, Data: AppendCommand(nil, c)}}}); err != nil {
			t.Fatal(err)
		}
	}
	change := func() {
		key := fmt.Appendf(nil, "k%03d", rng.IntN(200))
		if rng.IntN(4) == 0 {
			apply(&Command{Kind: CommandDeleteRange, DeleteRange: DeleteRangeRequest{Key: key}})
			return
		}
		apply(&Command{Kind: CommandPut, Put: PutRequest{Key: key, Value: key}})
	}
	for range 300 {
		change()
	}
	for range 60 {
		for range rng.IntN(20) {
			change()
		}
		newest := s.Revision()
		revision := []int64{0, newest, newest - rng.Int64N(50)}[rng.IntN(3)]
		from, end := fmt.Appendf(nil, "k%03d", rng.IntN(100)), fmt.Appendf(nil, "k%03d", 100+rng.IntN(100))
		if rng.IntN(3) == 0 {
			end = fromKey
		}
		listPages(t, s, from, end, revision, 1+rng.Int64N(20))
		if rng.IntN(10) == 0 && newest > 60 {
			c := compactCmd(newest - 55)
			apply(&c)
		}
	}
}

// Only the first page counts: the next one knows what was left, and forgets it when
// the store takes another state.
func TestOnlyTheFirstPageCounts(t *testing.T) {
	s, _ := openStore(t, testConfig(vfs.NewMem()))
	if err := s.Apply(putBatches(1000, 1000, 1)(0)); err != nil {
		t.Fatal(err)
	}
	first := RangeRequest{Key: []byte{0}, RangeEnd: fromKey, Limit: 10}
	page, err := s.Range(ctx, &first)
	if err != nil {
		t.Fatal(err)
	}
	next := first
	next.Key, next.Revision = append(page.Kvs[9].Key, 0), page.Revision
	for i := range s.pages.all {
		if e := &s.pages.all[i]; e.revision != 0 {
			e.count += 12345 // who counts again finds another number
		}
	}
	if again, err := s.Range(ctx, &next); err != nil || again.Count != page.Count-10+12345 {
		t.Errorf("%d keys, then %d, %v", page.Count, again.Count, err)
	}
	s.pages.reset()
	if again, err := s.Range(ctx, &next); err != nil || again.Count != page.Count-10 {
		t.Errorf("%d keys, then %d, %v", page.Count, again.Count, err)
	}
}

// BenchmarkPages lists about 86,000 keys in pages of 500.
func BenchmarkPages(b *testing.B) {
	s := benchStore(b)
	next := putBatches(1000, 100_000, 16)
	for i := range 200 {
		if err := s.Apply(next(i)); err != nil {
			b.Fatal(err)
		}
	}
	end := fromKey
	for b.Loop() {
		key := []byte{0}
		revision := s.Revision()
		for more := true; more; {
			page, err := s.Range(ctx, &RangeRequest{Key: key, RangeEnd: end, Revision: revision, Limit: 500})
			if err != nil {
				b.Fatal(err)
			}
			if more = page.More; more {
				key = append(page.Kvs[len(page.Kvs)-1].Key, 0)
			}
		}
		s.pages.reset()
	}
}
