package host

import (
	"slices"

	"github.com/quorate/quorate/smr"
)

// relief keeps the log of a shard within SnapshotConfig.ShardBytes: the groups' logs
// may all be small, and fill the disk together.
//
// Once the log is larger, groups are compacted until it is not, those first that keep
// its oldest segments. None that has less than half of an equal share: all of these
// have at most half of the bound, so there is enough left to compact, and what they
// keep of old segments is little, which the log itself moves.
type relief struct {
	grown int64 // bytes of committed entries since the log was looked at
	bound int64 // as of then
	// queue are the groups to be compacted while the log is too large, running those
	// whose states are being made durable for it.
	queue   []smr.GroupID
	running []*group
}

// reliefAtOnce bounds how many states are made durable at a time.
const reliefAtOnce = 8

// relieve looks whether the log is too large, and has groups compacted if it is.
func (s *Shard) relieve(now smr.Instant) {
	r := &s.relief
	r.running = slices.DeleteFunc(r.running, func(g *group) bool {
		return g.failed != nil || !g.images.flushing && !g.images.taking
	})
	if r.grown >= s.cfg.Snapshots.ShardBytes/compactionChecks {
		r.grown = 0
		s.lookAtLog()
	}
	for len(r.queue) > 0 && len(r.running) < reliefAtOnce {
		if s.log.Stats().LiveBytes <= r.bound {
			r.queue = nil
			return
		}
		if g := s.groups[r.queue[0]]; g != nil && g.failed == nil && g.relieve(now) {
			r.running = append(r.running, g)
		}
		r.queue = r.queue[1:]
	}
}

// lookAtLog finds out which groups are to be compacted. States in memory are written
// as a whole: the bound allows for what all of them write, as that of one group does.
func (s *Shard) lookAtLog() {
	r := &s.relief
	r.queue = nil
	live := s.log.Stats().LiveBytes
	if live <= s.cfg.Snapshots.ShardBytes || len(s.all) == 0 {
		return
	}
	images := int64(0)
	for _, g := range s.all {
		if own := g.own(); own != nil {
			images += own.bytes
		}
	}
	r.bound = max(s.cfg.Snapshots.ShardBytes, images)
	if live > r.bound {
		r.queue = s.log.Oldest(r.bound / int64(2*len(s.all)))
	}
}

// pressed says that the log is too large, so that tails are not kept.
func (r *relief) pressed() bool { return len(r.queue)+len(r.running) > 0 }

// overdue says that it is so large that followers are not waited for either.
func (s *Shard) overdue() bool {
	return s.relief.pressed() && s.log.Stats().LiveBytes > 2*s.relief.bound
}

// relieve compacts the group's log, or reports that its state is being made durable
// first.
func (g *group) relieve(now smr.Instant) bool {
	im := &g.images
	if im.machine == nil || im.flushing || im.taking || im.restoring != nil || g.applied == 0 {
		return false
	}
	if own := g.own(); own != nil {
		if size, _ := g.shard.log.Size(g.id, 0); size < own.bytes/2 {
			return false // an image would cost more than it is worth
		}
		if own.Index >= g.core.State().First {
			g.compact(now, own.Index)
			return false
		}
	}
	g.startCompaction()
	return im.flushing || im.taking
}
