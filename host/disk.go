package host

import (
	"fmt"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// diskRoom is what a shard knows of the room on its log's disk, and on those of its
// groups' state machines.
//
// Invariant: retryAt is Never unless full.
type diskRoom struct {
	// log: a batch of the log found no room. states is how many groups have a state
	// machine whose disk is full.
	log    bool
	states int
	// retryAt is when what found no room is tried again.
	retryAt smr.Instant
}

// full: this host takes no commands.
func (d *diskRoom) full() bool { return d.log || d.states > 0 }

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
	if full == s.disk.log {
		if full {
			s.disk.retryAt = now.Add(diskRetryEvery)
		}
		return
	}
	was := s.disk.full()
	s.disk.log = full
	if full {
		s.cfg.Logger.Error("the log's disk is full; handing over what this host leads, until there is room", "shard", s.number)
	} else {
		s.cfg.Logger.Info("the log's disk has room again", "shard", s.number)
	}
	s.roomChanged(now, was)
}

// stateFull follows what the worker has found of a state machine's disk. It is no
// failure either: what was applied is in the log, and what comes waits there.
func (g *group) stateFull(now smr.Instant, full bool) {
	s := g.shard
	if full == g.full {
		return
	}
	was := s.disk.full()
	if g.full = full; full {
		s.disk.states++
		s.cfg.Logger.Error("the disk of a group's state is full; handing over what this host leads, until there is room", "group", g.id)
	} else {
		s.disk.states--
		s.cfg.Logger.Info("the disk of a group's state has room again", "group", g.id)
	}
	s.roomChanged(now, was)
}

// roomChanged begins and ends to be full.
func (s *Shard) roomChanged(now smr.Instant, was bool) {
	full := s.disk.full()
	if full == was {
		return
	}
	s.disk.retryAt = smr.Never
	s.diskFull.Store(full)
	if full {
		s.metrics.diskFull.Add(1)
		s.disk.retryAt = now.Add(diskRetryEvery)
		s.handOverAll(now)
	}
}

// retryDisk lets the syncer and the workers try again, and this host try again to
// get rid of what it leads.
func (s *Shard) retryDisk(now smr.Instant) {
	if !s.disk.full() { // what was full has failed
		s.disk.retryAt = smr.Never
		return
	}
	s.disk.retryAt = now.Add(diskRetryEvery)
	if s.disk.log {
		s.syncer.retry.Store(true)
		s.syncer.wake()
	}
	if s.disk.states > 0 {
		for _, e := range s.deadlines {
			if e.g.full {
				e.g.worker.retry()
			}
		}
	}
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
