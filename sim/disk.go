package sim

import (
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// disk is a replica's disk at the level of numbered writes.
//
// One sync runs at a time and covers the writes that were there when it began;
// the next one takes what has gathered since (the log's double buffer). At a
// crash the longest prefix of the unsynced writes that happens to be kept
// survives: each of them is kept or lost on its own, and the log's checksum
// chain ends at the first that is lost.
type disk struct {
	log entryLog
	hs  smr.HardState
	// image is the newest durable image of the state machine, if there is one.
	// Its index lies in [log.start.Index, log.last()].
	image *image

	pending []write
	// syncing is how many of pending the running sync covers; zero: none runs.
	syncing int
	// spare are the entries' slices of finished writes, to be used again.
	spare [][]smr.Entry

	latencyMin, latencyMax time.Duration
	stallPermille          int
	stallMax               time.Duration
	keepPermille           int
}

type write struct {
	seq     uint64
	hs      smr.HardState
	hsSet   bool
	entries []smr.Entry
	// compact, if set, is a compaction of the log and not a write to it. image
	// is durable with it.
	compact *smr.SnapshotMeta
	image   *image
}

// appendCopies appends copies of entries to dst, their Data included: the core
// that lent them uses the memory of both again.
func appendCopies(dst, entries []smr.Entry) []smr.Entry {
	size := 0
	for i := range entries {
		size += len(entries[i].Data)
	}
	data := make([]byte, 0, size)
	for i := range entries {
		e := entries[i]
		if n := len(data); len(e.Data) > 0 {
			data = append(data, e.Data...)
			e.Data = data[n:len(data):len(data)]
		}
		dst = append(dst, e)
	}
	return dst
}

// wipe overwrites what was lent and is not any more.
func wipe(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}

// add takes a write of the core. It copies the entries, for they are the core's
// own until the next Take.
func (d *disk) add(a *raft.Append) {
	w := write{seq: a.Seq, hs: a.HardState, hsSet: a.HardStateSet}
	if n := len(d.spare); n > 0 && len(a.Entries) > 0 {
		w.entries = d.spare[n-1][:0]
		d.spare = d.spare[:n-1]
	}
	w.entries = appendCopies(w.entries, a.Entries)
	d.pending = append(d.pending, w)
}

// begin starts a sync if one is due, and returns how long it takes.
func (d *disk) begin(rng *source, marks *Marks) (latency time.Duration, started bool) {
	if d.syncing > 0 || len(d.pending) == 0 {
		return 0, false
	}
	d.syncing = len(d.pending)
	latency = rng.between(d.latencyMin, d.latencyMax)
	if rng.permille(d.stallPermille) {
		latency = rng.between(d.latencyMax, d.stallMax)
		marks.hit(MarkStall)
	}
	return latency, true
}

// finish ends the running sync and returns the number of the newest write that
// it made durable.
func (d *disk) finish() (seq uint64, err error) {
	n := d.syncing
	d.syncing = 0
	for i := range d.pending[:n] {
		seq = max(seq, d.pending[i].seq)
		if err := d.persist(&d.pending[i]); err != nil {
			return 0, err
		}
	}
	d.drop(n)
	return seq, nil
}

// crash keeps what was synced and some of what was not.
func (d *disk) crash(rng *source) (kept, lost int, err error) {
	for kept < len(d.pending) && rng.permille(d.keepPermille) {
		if err := d.persist(&d.pending[kept]); err != nil {
			return 0, 0, err
		}
		kept++
	}
	lost = len(d.pending) - kept
	d.drop(len(d.pending))
	d.syncing = 0
	return kept, lost, nil
}

func (d *disk) persist(w *write) error {
	if w.hsSet {
		d.hs = w.hs
	}
	if w.compact != nil {
		d.log.compact(*w.compact)
		if d.image == nil || d.image.machine.applied < w.image.machine.applied {
			d.image = w.image
		}
		return nil
	}
	_, err := d.log.put(w.entries)
	return err
}

func (d *disk) drop(n int) {
	for i := range d.pending[:n] {
		if e := d.pending[i].entries; cap(e) > 0 {
			clear(e)
			d.spare = append(d.spare, e)
		}
	}
	m := copy(d.pending, d.pending[n:])
	clear(d.pending[m:])
	d.pending = d.pending[:m]
}
