package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorate/quorate/smr"
)

// SnapshotStatus is what a replica knows of its snapshots.
type SnapshotStatus struct {
	// Newest is the index of the newest whole one on disk, zero if there is none.
	Newest uint64
	// Taking: one is being taken. Restoring: one has been received, and is being
	// brought in the place of the state.
	Taking, Restoring bool
	// Receiving is the index of the one that comes in, zero if none does, and
	// Blocks how many blocks of it are there.
	Receiving, Blocks uint64
	// LogBytes is about how many bytes the log takes on disk.
	LogBytes int64
}

// Snapshots is for simulations, which may call it between turns.
func (g *Group) Snapshots() SnapshotStatus {
	im := &g.g.images
	st := SnapshotStatus{Taking: im.taking || im.flushing, Restoring: im.restoring != nil}
	if n := len(im.whole); n > 0 {
		st.Newest = im.whole[n-1].Index
	}
	if in := im.in; in != nil {
		st.Receiving, st.Blocks = in.file.Index, in.have
		st.Restoring = st.Restoring || in.whole
	}
	st.LogBytes, _ = g.g.shard.log.Size(g.g.id, 0)
	return st
}

// Compact makes the state durable, and compacts the log, as when it has grown too
// large: a state in memory has a snapshot taken. What followers need and the tail
// of SnapshotConfig stay. It returns when that has begun; nothing more happens if
// it is under way already. ErrConfig if the state machine is no smr.Snapshotter.
func (g *Group) Compact(ctx context.Context) error {
	return g.control(ctx, func(smr.Instant) error {
		im := &g.g.images
		switch {
		case g.g.failed != nil:
			return g.g.failed
		case im.machine == nil:
			return fmt.Errorf("%w: the state machine of group %d has no snapshots, so its log stays whole", ErrConfig, g.g.id)
		case !im.flushing && !im.taking && im.restoring == nil && g.g.applied > 0:
			g.g.shard.activate(g.g)
			g.g.startCompaction()
		}
		return nil
	})
}

// ReadLog returns the entries from first to last, or fewer from first on, as they
// are on this replica's disk, their checksums verified. Any goroutine.
//
// Errors: wal.ErrCompacted if first is compacted, wal.ErrUnavailable if it is not
// on disk yet, a *wal.CorruptionError, or what the file system returned.
func (g *Group) ReadLog(first, last uint64) ([]smr.Entry, error) {
	const bytesMax = 1 << 20
	if first == 0 || last < first {
		return nil, errors.New("the first entry of a log has index 1, and the last is not before the first")
	}
	return g.g.shard.log.Read(g.g.id, first, last, bytesMax, nil)
}
