package wal

import (
	"fmt"
	"log/slog"
	"math/bits"
	"time"

	"github.com/quorate/quorate/smr"
)

// Identity says whose log it is. It is in the header of every segment.
type Identity struct {
	Cluster uint64
	Replica smr.ReplicaID
	// Incarnation changes each time a replica begins with an empty directory.
	Incarnation uint64
}

func (i Identity) String() string {
	return fmt.Sprintf("cluster %x, replica %x, incarnation %x", i.Cluster, uint64(i.Replica), i.Incarnation)
}

// Options of a log. Zero values mean the defaults given.
type Options struct {
	// Identity of the replica. An Incarnation of zero means whatever is in the
	// directory.
	Identity Identity
	// Shard that the log belongs to.
	Shard uint32
	// MustExist: a log was here, so none is made where it is missing. A replica
	// that lost its log may have voted and acknowledged what it no longer knows.
	MustExist bool
	// SegmentBytes is the size of a segment. Default 64 MiB, at least 16 KiB.
	// It may differ from one Open to the next. A batch larger than a segment
	// gets a larger segment of its own.
	SegmentBytes int64
	// TailBytesMax bounds LogState.Tail. Default 16 MiB.
	TailBytesMax int
	// RecycleMax is how many freed segments are kept to be written again.
	// Default 2; negative: none.
	RecycleMax int
	// Logger for what an operator should know. Default slog.Default().
	Logger *slog.Logger
	// Now measures the duration of syncs for Stats. Nil: they are not measured.
	Now func() smr.Instant
	// NoSync leaves out every sync: a crash of the machine then loses what was
	// acknowledged. For tests that show this, never for data.
	NoSync bool
	// NoChainCheck takes every break of the chain at the log's end for a torn tail,
	// whatever is behind it: what was acknowledged is then dropped unseen where a
	// disk has damaged it. For tests that show this, never for data.
	NoChainCheck bool
	// Plain segments are files that grow as they are appended to: their space is
	// neither reserved, nor filled with zeros, nor used again. As safe, and
	// slower: each sync writes the file's size too. For measurements of what
	// prepared segments are worth.
	Plain bool
	// PageCache has the log written through the page cache. Without it batches go
	// past it where the system can do that, which is as safe, takes half of the
	// processor time and a third less time to sync. For measurements.
	PageCache bool

	// marksMax bounds the marks of a group. For tests; default marksMax.
	marksMax int
}

func (o *Options) complete() error {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.TailBytesMax == 0 {
		o.TailBytesMax = 16 << 20
	}
	if o.RecycleMax == 0 {
		o.RecycleMax = 2
	}
	if o.marksMax == 0 {
		o.marksMax = marksMax
	}
	if o.Plain {
		o.RecycleMax = -1
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.SegmentBytes < segmentBytesMin || o.SegmentBytes > segmentBytesMax {
		return fmt.Errorf("segment of %d bytes: must be between %d and %d", o.SegmentBytes, segmentBytesMin, int64(segmentBytesMax))
	}
	if o.TailBytesMax < 0 {
		return fmt.Errorf("a limit of %d bytes for the tail is negative", o.TailBytesMax)
	}
	return nil
}

// Ack says that everything up to Seq of Group is on disk.
type Ack struct {
	Group smr.GroupID
	Seq   uint64
}

// SyncTimeBuckets is the number of bars in Stats.SyncTimes; SyncTimeBound is the
// longest time that counts for bar i, all but the last.
const SyncTimeBuckets = 15

// SyncTimeBound is 1 ms, doubled i times.
func SyncTimeBound(i int) time.Duration { return time.Millisecond << i }

// syncTimeBucket is the bar that d counts for.
func syncTimeBucket(d time.Duration) int {
	return min(bits.Len64(uint64(max(d-1, 0)/time.Millisecond)), SyncTimeBuckets-1)
}

// Stats are counters of one log since it was opened, for metrics.
type Stats struct {
	// Segments in use, without prepared and recycled ones; Bytes is their size.
	Segments int
	Bytes    int64
	// LiveBytes are the bytes of entries that are not compacted.
	LiveBytes int64
	// Recycled segments waiting to be written again.
	Recycled int
	// Syncs is the number of batches written and synced, SyncedBytes their size,
	// MovedBytes what of it was rewritten to free old segments.
	Syncs, SyncedBytes, MovedBytes uint64
	// SyncTime is the sum over all batches of the time for write and sync,
	// SyncTimeMax the longest, SyncTimeLast the latest. Zero without
	// Options.Now.
	SyncTime, SyncTimeMax, SyncTimeLast time.Duration
	// SyncTimes is how many batches took up to 1 ms, 2 ms, 4 ms, …, and in the last
	// place those that took longer than all of these.
	SyncTimes [SyncTimeBuckets]uint64
	// NoSpace says that no further segment could be prepared. What is left of
	// the current segment, about half, still takes writes: a leader should hand
	// over now and append no more entries, so that this room serves hard states
	// and compactions.
	NoSpace bool
}
