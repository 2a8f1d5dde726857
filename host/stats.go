package host

import (
	"github.com/quorate/quorate/transport"
	"github.com/quorate/quorate/wal"
)

// Stats are counters of a host since it was opened, over all its shards.
type Stats struct {
	// Turns taken, and in them: Proposals and Reads of this host's clients, and of the
	// reads those that this host answered by a leader's lease;
	// Committed entries; proposals Forwarded to a leader elsewhere; proposals
	// Reproposed because the term that took them lost them; requests refused
	// with ErrBusy.
	Turns, Proposals, Reads, LeaseReads, Committed, Forwarded, Reproposed, Busy uint64
	// Frames from peers; of them BadFrames could not be read, and DroppedFrames
	// were dropped because the log could not keep up.
	Frames, BadFrames, DroppedFrames uint64
	// SlowApplies are the batches of entries that a state machine took longer than
	// 100 ms to apply.
	SlowApplies uint64
	// DiskFull is how often the log's disk was found full, DiskStalls how often a
	// write took longer than Config.DiskStallTimeout.
	DiskFull, DiskStalls uint64
	// DamagedReads is how often entries that were synced could not be read back
	// from the log. More than none: the replica is to be replaced.
	DamagedReads uint64
	// Compactions of logs, CompactionsForShard those of them that were due to the
	// size of a shard's whole log (SnapshotConfig.ShardBytes); SnapshotsTaken and SnapshotsInstalled; blocks and
	// bytes of snapshots sent and received, and blocks that a receiver had
	// already when it went on.
	Compactions, CompactionsForShard, SnapshotsTaken, SnapshotsInstalled                uint64
	SnapshotBlocksSent, SnapshotBytesSent, SnapshotBytesReceived, SnapshotBlocksResumed uint64
	// Groups that run here, and how many of them rest now. Rests is how often one
	// began to; the others count what ended rests: requests of this host's clients,
	// those of another host's, messages of cores, hosts that were lost or heard
	// again, and the rest (renewals). PulsesLost and PulsesBack count the times that
	// another host fell silent, or began anew, and was heard again, while groups
	// rested with it.
	Groups, GroupsResting, Rests                               uint64
	WokenByClient, WokenByForward, WokenByMessage, WokenByHost uint64
	WokenOtherwise, PulsesLost, PulsesBack                     uint64
	// Log is the sum over the shards' logs; of SyncTimeMax and SyncTimeLast the
	// largest.
	Log wal.Stats
	// Peers are the connections to the other hosts.
	Peers []transport.PeerStats
}

// Stats may be called at any time by any goroutine.
func (h *Host) Stats() Stats {
	st := h.rt.Stats()
	st.Peers = h.transport.Stats()
	return st
}

// Stats of the runtime's own parts.
func (rt *Runtime) Stats() (st Stats) {
	for _, s := range rt.shards {
		m := &s.metrics
		st.Turns += m.turns.Load()
		st.Proposals += m.proposals.Load()
		st.Reads += m.reads.Load()
		st.LeaseReads += m.leaseReads.Load()
		st.Committed += m.committed.Load()
		st.Forwarded += m.forwarded.Load()
		st.Reproposed += m.reproposed.Load()
		st.Busy += m.busy.Load()
		st.Frames += m.frames.Load()
		st.BadFrames += m.badFrames.Load()
		st.DroppedFrames += m.droppedFrames.Load()
		st.SlowApplies += m.slowApplies.Load()
		st.DiskFull += m.diskFull.Load()
		st.DiskStalls += m.diskStalls.Load()
		st.DamagedReads += m.damagedReads.Load()
		st.Compactions += m.compactions.Load()
		st.CompactionsForShard += m.compactionsForShard.Load()
		st.SnapshotsTaken += m.snapshotsTaken.Load()
		st.SnapshotsInstalled += m.snapshotsInstalled.Load()
		st.SnapshotBlocksSent += m.snapshotBlocksSent.Load()
		st.SnapshotBytesSent += m.snapshotBytesSent.Load()
		st.SnapshotBytesReceived += m.snapshotBytesReceived.Load()
		st.SnapshotBlocksResumed += m.snapshotBlocksResumed.Load()
		st.Groups += m.groups.Load()
		st.GroupsResting += m.groupsResting.Load()
		st.Rests += m.rests.Load()
		st.WokenByClient += m.woken[wokenClient].Load()
		st.WokenByForward += m.woken[wokenForward].Load()
		st.WokenByMessage += m.woken[wokenMessage].Load()
		st.WokenByHost += m.woken[wokenHost].Load()
		st.WokenOtherwise += m.woken[wokenOther].Load()
		st.PulsesLost += m.pulsesLost.Load()
		st.PulsesBack += m.pulsesBack.Load()
		addLog(&st.Log, s.log.Stats())
	}
	return st
}

func addLog(sum *wal.Stats, l wal.Stats) {
	sum.Segments += l.Segments
	sum.Bytes += l.Bytes
	sum.LiveBytes += l.LiveBytes
	sum.Recycled += l.Recycled
	sum.Syncs += l.Syncs
	sum.SyncedBytes += l.SyncedBytes
	sum.MovedBytes += l.MovedBytes
	sum.SyncTime += l.SyncTime
	for i, n := range l.SyncTimes {
		sum.SyncTimes[i] += n
	}
	sum.SyncTimeMax = max(sum.SyncTimeMax, l.SyncTimeMax)
	sum.SyncTimeLast = max(sum.SyncTimeLast, l.SyncTimeLast)
	sum.NoSpace = sum.NoSpace || l.NoSpace
}
