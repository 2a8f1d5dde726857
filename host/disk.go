package host

import (
	"fmt"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// diskRoom is what a shard knows of the room on its log's disk.
//
// Invariant: retryAt is Never unless full.
type diskRoom struct {
	full bool
	// retryAt is when the batch that found no room is tried again.
	retryAt smr.Instant
}

// diskRetryEvery is how often a full disk is tried again.
const diskRetryEvery = 100e6 // ns

// syncedWith follows what the syncer found. A full disk is no failure: nothing of
// the batch was acknowledged, the log has kept it, and it is written when there
// is room. Until then this host takes no commands and hands over what it leads:
// "no leader acknowledges what it cannot keep".
func (s *Shard) syncedWith(now smr.Instant, full bool, err error) {
	if err != nil {
		s.fail(fmt.Errorf("%w: %w", ErrLogFailed, err))
		return
	}
	s.diskAnswered(now)
	if full == s.disk.full {
		if full {
			s.disk.retryAt = now.Add(diskRetryEvery)
		}
		return
	}
	s.disk = diskRoom{full: full, retryAt: smr.Never}
	if !full {
		s.cfg.Logger.Info("the log's disk has room again", "shard", s.number)
		return
	}
	s.metrics.diskFull.Add(1)
	s.cfg.Logger.Error("the log's disk is full; handing over what this host leads, until there is room", "shard", s.number)
	s.disk.retryAt = now.Add(diskRetryEvery)
	s.handOverAll(now)
}

// retryDisk lets the syncer try again, and this host try again to get rid of
// what it leads.
func (s *Shard) retryDisk(now smr.Instant) {
	s.disk.retryAt = now.Add(diskRetryEvery)
	s.syncer.retry.Store(true)
	s.syncer.wake()
	s.handOverAll(now)
}

// handOverAll asks the best successor of every group that this host leads to
// stand. A group without one is kept: it is stuck, not wrong.
func (s *Shard) handOverAll(now smr.Instant) {
	for _, e := range s.deadlines {
		g := e.g
		if g.failed != nil || g.core.State().Role != raft.Leader {
			continue
		}
		g.guard(func() {
			if to := successor(g.core.Status()); to != 0 {
				_ = g.core.Transfer(now, to) // refused while another is under way
			}
		})
		s.activate(g)
	}
}
