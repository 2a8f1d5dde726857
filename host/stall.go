package host

import (
	"time"

	"github.com/quorate/quorate/smr"
)

// diskWatch notices that the log's disk stalls: that what waits to be written has
// waited for too long. Other hosts' disks are enough to commit an entry, but this one
// applies none that it has not written, and so answers none of its clients. So a
// leader hands over, which needs no disk of its own, and clients are told to go
// elsewhere. A follower that stalls is not waited for anyway, and cannot be elected:
// its own vote would have to be on disk.
//
// Time is the groups': a host that was paused finds no stall for it.
//
// Invariant: at is Never if and only if nothing waits to be written.
type diskWatch struct {
	at      smr.Instant
	since   smr.Instant // when what waits longest began to
	stalled bool
}

// idleDisk is a watch while nothing waits.
var idleDisk = diskWatch{at: smr.Never}

// watchDisk ends a turn. pending: something waits to be written.
func (s *Shard) watchDisk(now smr.Instant, pending bool) {
	w := &s.watch
	if pending && w.at == smr.Never {
		*w = diskWatch{at: now.Add(s.cfg.DiskStallTimeout), since: now}
	}
	if now < w.at || s.without.DiskWatch {
		return
	}
	if !w.stalled {
		w.stalled = true
		s.metrics.diskStalls.Add(1)
		s.cfg.Logger.Error("the log's disk has stalled; handing over what this host leads, until it works again", "shard", s.number, "for", now.Sub(w.since).Round(time.Millisecond))
	}
	w.at = now.Add(s.cfg.DiskStallTimeout)
	s.handOverAll(now)
}

// diskAnswered follows what the syncer said: that it wrote, or found no room.
func (s *Shard) diskAnswered(now smr.Instant) {
	if s.watch.stalled {
		s.cfg.Logger.Info("the log's disk works again", "shard", s.number, "after", now.Sub(s.watch.since).Round(time.Millisecond))
	}
	s.watch = idleDisk
}
