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

// Snapshots is what this replica knew of its snapshots at the end of its last turn.
// It is cheap and asks nobody.
func (g *Group) Snapshots() SnapshotStatus {
	v := &g.g.view
	st := SnapshotStatus{
		Newest: v.newest.Load(), Taking: v.taking.Load(), Restoring: v.restoring.Load(),
		Receiving: v.receiving.Load(), Blocks: v.blocks.Load(),
	}
	st.LogBytes, _ = g.g.shard.log.Size(g.g.id, 0)
	return st
}

// publishImages is publish for Snapshots.
func (g *group) publishImages() {
	im, v := &g.images, &g.view
	if im.machine == nil {
		return
	}
	var newest, receiving, blocks uint64
	if n := len(im.whole); n > 0 {
		newest = im.whole[n-1].Index
	}
	restoring := im.restoring != nil
	if in := im.in; in != nil {
		receiving, blocks = in.file.Index, in.have
		restoring = restoring || in.whole
	}
	v.newest.Store(newest)
	v.receiving.Store(receiving)
	v.blocks.Store(blocks)
	v.taking.Store(im.taking || im.flushing)
	v.restoring.Store(restoring)
}

// Compact makes the state durable, and compacts the log, as when it has grown too
// large: a state in memory has a snapshot taken. What this replica has applied when
// it is called is in it, unless one is under way already. What followers need and
// the tail of SnapshotConfig stay. It returns when that has begun. ErrConfig if the
// state machine is no smr.Snapshotter.
func (g *Group) Compact(ctx context.Context) error {
	return g.control(ctx, func(smr.Instant) error {
		im := &g.g.images
		switch {
		case g.g.failed != nil:
			return g.g.failed
		case im.machine == nil:
			return fmt.Errorf("%w: the state machine of group %d has no snapshots, so its log stays whole", ErrConfig, g.g.id)
		case g.g.applied < g.g.view.applied.Load():
			// The worker has applied more than the shard has heard of, such as what
			// the caller has just proposed.
			g.g.worker.push(&applyJob{group: g.g, act: func() error { return nil }, then: g.g.compactNow})
		default:
			g.g.compactNow()
		}
		return nil
	})
}

// compactNow is Compact, once the shard knows what is applied.
func (g *group) compactNow() {
	im := &g.images
	if !im.flushing && !im.taking && im.restoring == nil && g.applied > 0 {
		g.shard.activate(g)
		g.startCompaction()
	}
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
