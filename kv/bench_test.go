package kv

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/smr"
)

// benchStore is a store on a memory file system with production's sizes.
func benchStore(b *testing.B) *Store {
	cfg := testConfig(vfs.NewMem())
	cfg.CacheBytes, cfg.MemTableBytes, cfg.BlockCacheBytes = 0, 0, 0
	s, _ := openStore(b, cfg)
	return s
}

// putBatches returns a function that makes the i-th batch of puts of 16-byte
// keys, drawn from the given number of keys, in memory that it reuses.
func putBatches(size, keys, valueBytes int) func(i int) []smr.Committed {
	batch := make([]smr.Committed, size)
	data := make([][]byte, size)
	value := make([]byte, valueBytes)
	key := make([]byte, 16)
	n := uint64(0)
	return func(i int) []smr.Committed {
		for j := range batch {
			n = n*6364136223846793005 + 1442695040888963407
			binary.BigEndian.PutUint64(key[8:], (n>>20)%uint64(keys))
			c := Command{Kind: CommandPut, Put: PutRequest{Key: key, Value: value}}
			data[j] = AppendCommand(data[j][:0], &c)
			batch[j] = smr.Committed{Entry: smr.Entry{Index: uint64(i*size + j + 1), Kind: smr.KindCommand, Data: data[j]}, Wanted: true}
		}
		return batch
	}
}

func BenchmarkApplyPut(b *testing.B) {
	for _, size := range []int{1, 64, 1024} {
		for _, keys := range []int{1000, 10_000_000} {
			b.Run(fmt.Sprintf("batch=%d/keys=%d", size, keys), func(b *testing.B) {
				s := benchStore(b)
				next := putBatches(size, keys, 16)
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if err := s.Apply(next(i)); err != nil {
						b.Fatal(err)
					}
					i++
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i*size), "ns/put")
			})
		}
	}
}

// BenchmarkApplyPutCompacted is a steady state: history is compacted as fast as
// it is written.
func BenchmarkApplyPutCompacted(b *testing.B) {
	s := benchStore(b)
	next := putBatches(256, 100_000, 16)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		batch := next(i)
		if rev := s.Revision(); i%20 == 19 && rev > 10_000 {
			c := compactCmd(rev - 5_000)
			batch[0].Data = AppendCommand(nil, &c)
		}
		if err := s.Apply(batch); err != nil {
			b.Fatal(err)
		}
		i++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i*256), "ns/put")
	b.ReportMetric(float64(s.Revision()-s.SweptRevision()), "behind")
}

func BenchmarkRange(b *testing.B) {
	s := benchStore(b)
	next := putBatches(1000, 100_000, 16)
	for i := range 200 {
		if err := s.Apply(next(i)); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Flush(); err != nil {
		b.Fatal(err)
	}
	b.Run("point", func(b *testing.B) {
		b.ReportAllocs()
		key := make([]byte, 16)
		n := uint64(1)
		for b.Loop() {
			n = n*6364136223846793005 + 1442695040888963407
			binary.BigEndian.PutUint64(key[8:], (n>>20)%100_000)
			if _, err := s.Range(ctx, &RangeRequest{Key: key}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("count", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Range(ctx, &RangeRequest{Key: []byte{0}, RangeEnd: fromKey, CountOnly: true}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(s.Stats().Keys), "ns/key")
	})
	b.Run("limit=500", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Range(ctx, &RangeRequest{Key: []byte{0}, RangeEnd: fromKey, Limit: 500, NoCount: true}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkApplyTxn is what Kubernetes does: compare the revision, put, or else
// read.
func BenchmarkApplyTxn(b *testing.B) {
	s := benchStore(b)
	revs := map[int]int64{}
	batch := make([]smr.Committed, 64)
	index, n := uint64(0), 0
	b.ReportAllocs()
	for b.Loop() {
		for j := range batch {
			k := n % 10_000
			n++
			key := fmt.Appendf(nil, "/registry/pods/%06d", k)
			c := txnCmd(TxnRequest{
				Compare: []Compare{{Target: CompareMod, Key: key, Number: revs[k]}},
				Success: []Op{{Put: &PutRequest{Key: key, Value: make([]byte, 128)}}},
				Failure: []Op{{Range: &RangeRequest{Key: key}}},
			})
			index++
			revs[k] = s.Revision() + int64(j) + 1
			batch[j] = smr.Committed{Entry: smr.Entry{Index: index, Kind: smr.KindCommand, Data: AppendCommand(nil, &c)}, Wanted: true}
		}
		if err := s.Apply(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(index), "ns/txn")
}
