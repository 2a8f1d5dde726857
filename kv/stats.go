package kv

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
)

// Stats are figures for metrics, of the last applied state.
type Stats struct {
	Revision, CompactRevision, SweptRevision int64
	Applied                                  uint64
	// Keys counts the live keys.
	Keys int64
	// BytesInUse are the bytes of live keys and their values, BytesOnDisk what
	// pebble's files take, BytesInMemory what waits to be flushed.
	BytesInUse, BytesOnDisk, BytesInMemory int64
	// BytesFree is the part of BytesOnDisk that pebble gives back by itself: files
	// that wait to be removed, and what it expects merging to drop.
	BytesFree int64
	// Puts, DeleteRanges and Ranges that commands have executed since the store was
	// opened, in transactions or not, and transactions of more than one of them.
	Puts, DeleteRanges, Ranges, Txns uint64
	// CacheBytes, CacheHits and CacheMisses are of the cache that puts use.
	CacheBytes             int64
	CacheHits, CacheMisses uint64
	BlockHits, BlockMisses int64
	Flushes, Compactions   int64
	CompactionDebtBytes    int64
	ReadAmplification      int
}

// Stats returns the figures. It is not for the hot path. A closed store has none.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return Stats{}
	}
	m := s.db.Metrics()
	return Stats{
		Revision: s.Revision(), CompactRevision: s.CompactRevision(), SweptRevision: s.SweptRevision(),
		Applied: s.Applied(), Keys: s.keys.Load(), BytesInUse: s.liveBytes.Load(),
		Puts: s.w.puts, DeleteRanges: s.w.deletes, Ranges: s.w.ranges, Txns: s.w.txns,
		BytesFree: freeBytes(m), BytesOnDisk: int64(m.DiskSpaceUsage()), BytesInMemory: int64(m.MemTable.Size),
		CacheBytes: s.w.cache.bytes(), CacheHits: s.w.cache.hits, CacheMisses: s.w.cache.misses,
		BlockHits: m.BlockCache.Hits, BlockMisses: m.BlockCache.Misses,
		Flushes: m.Flush.Count, Compactions: m.Compact.Count, CompactionDebtBytes: int64(m.Compact.EstimatedDebt),
		ReadAmplification: m.ReadAmp(),
	}
}

// freeBytes is Stats.BytesFree.
func freeBytes(m *pebble.Metrics) int64 {
	t := &m.Table
	return int64(m.WAL.ObsoletePhysicalSize + t.Local.ObsoleteSize + t.Local.ZombieSize +
		t.Garbage.PointDeletionsBytesEstimate + t.Garbage.RangeDeletionsBytesEstimate)
}

// Size returns the bytes on disk and those of live keys and values.
func (s *Store) Size() (onDisk, inUse int64) {
	st := s.Stats()
	return st.BytesOnDisk, st.BytesInUse
}

// Defragment has pebble merge its files now and drop what is deleted. Nothing is
// blocked meanwhile. Pebble does it by itself as it goes, unless the store is
// deterministic. The error wraps smr.ErrNoSpace if the disk is full, or says that a
// merge found no room there, which has then given back what it took.
func (s *Store) Defragment(ctx context.Context) error {
	e, err := s.hold()
	if err != nil {
		return err
	}
	defer e.release()
	if !s.cfg.Deterministic {
		// Pebble's own flush here could not be left if the disk is full.
		if err := e.disk.flush(e.db); err != nil {
			return err
		}
	}
	return asCorrupt(e.db.Compact(ctx, []byte{0}, []byte{0xff}, false))
}
