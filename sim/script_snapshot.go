package sim

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorate/quorate/smr"
)

// ScriptSnapshots says when the hosts of a script compact their logs, and what
// their states are. Zero values mean: never by themselves; a tail of one entry;
// blocks of 512 bytes, two at a time; no limit of the bandwidth; a state of a few
// bytes in memory. Whole hosts alone.
type ScriptSnapshots struct {
	// EveryEntries and EveryBytes: a log that is larger is compacted, but for
	// TailEntries or TailBytes. HardBytes: one that is larger is compacted
	// although a follower that receives a snapshot will need another.
	EveryEntries, TailEntries        uint64
	EveryBytes, TailBytes, HardBytes int64
	// BlockBytes is a multiple of 512; WindowBlocks are asked for at once.
	BlockBytes, WindowBlocks int
	// BandwidthBytes per second; zero: without limit.
	BandwidthBytes int64
	// KeepTimeouts is for how many election timeouts a snapshot that was fetched
	// is kept.
	KeepTimeouts int
	// StateBytes pads the state: its snapshot is a little larger.
	StateBytes int
	// Durable: the state machine keeps its state on disk by itself. Pebble: it is
	// the key-value store, which does so.
	Durable, Pebble bool
	// SegmentBytes of the log, default 64 KiB.
	SegmentBytes int64
}

// set makes them the features of a world.
func (o *ScriptSnapshots) set(w *fullWorld) {
	or := func(v, otherwise int64) int64 {
		if v == 0 {
			return otherwise
		}
		return v
	}
	block := int(or(int64(o.BlockBytes), 512))
	every := or(o.EveryBytes, 64<<20)
	tail := or(o.TailBytes, every/4)
	w.full.snapshots = snapshotFeatures{
		on: true, everyEntries: uint64(or(int64(o.EveryEntries), 1<<30)), tailEntries: uint64(or(int64(o.TailEntries), 1)),
		everyBytes: every, tailBytes: tail, hardFactor: max(1, or(o.HardBytes, 8*every)/every),
		blockBytes: block, windowBlocks: int(or(int64(o.WindowBlocks), 2)), bandwidth: or(o.BandwidthBytes, -1),
		keepTimeouts: int(or(int64(o.KeepTimeouts), 100)), padding: o.StateBytes,
	}
	if o.EveryBytes > 0 && o.EveryEntries+o.TailEntries == 0 {
		w.full.snapshots.tailEntries = 1 << 28 // bytes alone say what stays
	}
	w.features.durableMachine = o.Durable
	w.full.pebble = o.Pebble
	w.full.segmentBytes = or(o.SegmentBytes, 64<<10)
}

// snapshotCounts are what a host has done in its life.
type snapshotCounts struct{ taken, installed, resumed uint64 }

// lookSnapshots follows what a host does about its snapshots, and tells of it.
func (d *scriptHosts) lookSnapshots(h *simHost, was, now *hostView) {
	st := h.rt.Stats()
	now.counts = snapshotCounts{st.SnapshotsTaken, st.SnapshotsInstalled, st.SnapshotBlocksResumed}
	now.snapshots = h.at[0].handle.Snapshots()
	now.first = h.at[0].handle.Status().First
	tell := func(k EventKind, index uint64) { d.trace(Event{Kind: k, Replica: h.id, Index: index}) }
	if now.snapshots.Taking && !was.snapshots.Taking {
		tell(EventTaking, now.snapshots.Newest)
	}
	if now.counts.taken > was.counts.taken {
		tell(EventTaken, now.snapshots.Newest)
	}
	if now.first > max(was.first, 1) {
		tell(EventCompact, now.first-1)
	}
	if now.counts.installed > was.counts.installed {
		applied, _ := h.at[0].machine.position()
		tell(EventInstall, applied)
	}
}

// Compact asks a host to make its state durable and to compact its log, as when
// that has grown too large.
func (s *Script) Compact(id smr.ReplicaID) (err error) {
	s.act(func() { err = s.driver.compactLog(id) })
	return err
}

func (d *scriptHosts) compactLog(id smr.ReplicaID) error {
	h := d.hosts[id-1]
	if h.rt == nil {
		return fmt.Errorf("%w: host %d is down", ErrScript, id)
	}
	ended, end := context.WithCancel(context.Background())
	end()
	if err := h.at[0].handle.Compact(ended); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %w", ErrScript, err)
	}
	return nil
}

// ReadLog reads an entry from a host's log on disk: wal.ErrCompacted if it is
// compacted.
func (s *Script) ReadLog(id smr.ReplicaID, index uint64) error { return s.driver.readLog(id, index) }

func (d *scriptHosts) readLog(id smr.ReplicaID, index uint64) error {
	h := d.hosts[id-1]
	if h.rt == nil {
		return fmt.Errorf("%w: host %d is down", ErrScript, id)
	}
	_, err := h.at[0].handle.ReadLog(index, index)
	return err
}

// CrashAt takes a host's power at one of its next operations on its disk. It
// stays down until it is restarted. A crash before that takes the fuse away.
func (s *Script) CrashAt(id smr.ReplicaID, f Fuse) error { return s.driver.light(id, f) }

func (d *scriptHosts) light(id smr.ReplicaID, f Fuse) error {
	if f.Nth < 1 {
		return fmt.Errorf("%w: a fuse for operation %d; they count from 1", ErrScript, f.Nth)
	}
	d.hosts[id-1].fuse = &f
	return nil
}

// command is one of at least so many bytes.
func (d *scriptHosts) command(id uint64, key byte, bytes int) []byte {
	d.local.wrote(id, key)
	if d.full.pebble {
		return putCommand(id, key)
	}
	return appendCommand(nil, id, key, max(bytes, d.features.valueBytes))
}

var errNoHosts = fmt.Errorf("%w: cores have no disk of their own, and no snapshots that a script knows of", ErrScript)

func (d *scriptCore) light(smr.ReplicaID, Fuse) error     { return errNoHosts }
func (d *scriptCore) compactLog(smr.ReplicaID) error      { return errNoHosts }
func (d *scriptCore) readLog(smr.ReplicaID, uint64) error { return errNoHosts }
