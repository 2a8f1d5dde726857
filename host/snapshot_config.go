package host

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/snapshot"
)

// SnapshotConfig says when the groups' logs are compacted, and how snapshots
// are kept and sent. Zero values mean the defaults given. A group whose state
// machine is no smr.Snapshotter keeps its whole log.
type SnapshotConfig struct {
	// EveryBytes and EveryEntries: a group's log is compacted when it is larger
	// than one of them. Defaults 64 MiB and 1,000,000. For a state machine in
	// memory a log as large as its last snapshot is let grow, so that writing
	// snapshots at most doubles what is written; and no other one is taken while
	// it is followers that keep the log from being compacted up to the last.
	EveryBytes   int64
	EveryEntries uint64
	// TailBytes of the log are kept for followers that are a little behind, but
	// no more than TailEntries. Defaults: a quarter of the two above.
	TailBytes   int64
	TailEntries uint64
	// HardBytes: a log that is larger is compacted although a follower that was
	// heard of lately, or one that is receiving a snapshot, will then need
	// another snapshot. Default 8 × EveryBytes. For a state machine in memory
	// twice its last snapshot, if that is larger.
	HardBytes int64
	// ShardBytes: when the logs of all groups of a shard are larger together, they
	// are compacted though each is small, and keep no tails, until they are not. A
	// shard whose log is twice as large waits for no follower. Default
	// 2 × HardBytes. For state machines in memory the sum of their last snapshots,
	// if that is larger.
	ShardBytes int64

	// BandwidthBytes is how many bytes of snapshots a host sends per second, to
	// all others together. Default 128 MiB; negative: no limit.
	BandwidthBytes int64
	// WindowBytes is how much a host asks for ahead of what it has written.
	// Default 8 MiB.
	WindowBytes int64
	// KeepFor is how long an image that was fetched from is kept after that, for
	// a follower that restarts. Default 2 min.
	KeepFor time.Duration
	// BlockBytes is the size of a snapshot's blocks, a multiple of 512. Default
	// 1 MiB.
	BlockBytes int
}

func (c *SnapshotConfig) complete() error {
	orDefault(&c.EveryBytes, 64<<20)
	if c.EveryEntries == 0 {
		c.EveryEntries = 1_000_000
	}
	orDefault(&c.TailBytes, c.EveryBytes/4)
	if c.TailEntries == 0 {
		c.TailEntries = c.EveryEntries / 4
	}
	orDefault(&c.HardBytes, 8*c.EveryBytes)
	orDefault(&c.ShardBytes, 2*c.HardBytes)
	orDefault(&c.BandwidthBytes, 128<<20)
	orDefault(&c.WindowBytes, 8<<20)
	orDefault(&c.KeepFor, 2*time.Minute)
	orDefault(&c.BlockBytes, snapshot.BlockBytes)
	switch {
	case c.EveryBytes < 0 || c.TailBytes < 0 || c.HardBytes < 0 || c.ShardBytes < 0 || c.WindowBytes < 0 || c.KeepFor < 0:
		return fmt.Errorf("%w: a limit of Snapshots is negative", ErrConfig)
	case c.TailBytes > c.EveryBytes || c.EveryBytes > c.HardBytes || c.EveryBytes > c.ShardBytes || c.TailEntries > c.EveryEntries:
		return fmt.Errorf("%w: Snapshots needs TailBytes %d <= EveryBytes %d <= HardBytes %d and ShardBytes %d, and TailEntries %d <= EveryEntries %d",
			ErrConfig, c.TailBytes, c.EveryBytes, c.HardBytes, c.ShardBytes, c.TailEntries, c.EveryEntries)
	case c.BlockBytes < snapshot.BlockBytesMin || c.BlockBytes > snapshot.BlockBytesMax || c.BlockBytes%snapshot.BlockBytesMin != 0:
		return fmt.Errorf("%w: Snapshots.BlockBytes of %d is no multiple of %d up to %d", ErrConfig, c.BlockBytes, snapshot.BlockBytesMin, snapshot.BlockBytesMax)
	}
	return nil
}
