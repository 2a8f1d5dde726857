package sim

import (
	"github.com/quorate/quorate/smr"
)

// transfer is an image under way from one replica to another.
type transfer struct {
	image    *image
	from, to uint8
	life     uint32 // of the sender
	ok       bool
}

// compact takes an image of r's machine and drops the log's prefix, but for a
// tail that the seed draws.
func (w *world) compact(r *replica) {
	if r.core == nil || w.now < r.pausedUntil || r.machine.applied == 0 {
		return
	}
	meta, err := r.core.SnapshotMeta(r.machine.applied)
	if err != nil {
		return
	}
	im := &image{meta: meta, machine: r.machine}
	tail := uint64(w.nemesis.n(20))
	if tail >= meta.Index || meta.Index-tail <= r.log.start.Index {
		return
	}
	start, err := r.core.SnapshotMeta(meta.Index - tail)
	if err != nil {
		w.fail(Contract, ids(r.id), "knows no configuration at %d: %v", meta.Index-tail, err)
		return
	}
	if r.core.Compact(start.Index) != nil {
		return
	}
	w.marks.hit(MarkCompacted)
	r.image = im
	r.log.compact(start)
	r.disk.pending = append(r.disk.pending, write{compact: &start, image: im})
	w.touch(r)
}

// sendImage sends r's newest image to a follower that its log no longer
// reaches.
func (w *world) sendImage(r *replica, to smr.ReplicaID) {
	w.marks.hit(MarkSnapshotNeeded)
	im := r.image
	if im == nil || im.meta.Index < r.log.start.Index {
		w.fail(Contract, ids(r.id), "wants to send a snapshot to %d, its log begins at %d", to, r.log.start.Index)
		return
	}
	t := transfer{image: im, from: uint8(r.slot), to: uint8(to - 1), life: r.life}
	n := &w.net
	d := n.delay() + n.rng.between(n.delayMax, 4*n.delayMax)
	if n.open(r.slot, int(t.to)) && !n.rng.permille(n.lossPermille) {
		t.ok = true
		w.transfers = append(w.transfers, t)
		w.queue.push(occurrence{at: w.now.Add(d), what: whatImage, who: t.to, ref: int32(len(w.transfers) - 1)})
		return
	}
	w.transfers = append(w.transfers, t)
	w.queue.push(occurrence{at: w.now.Add(d), what: whatImageDone, who: t.from, ref: int32(len(w.transfers) - 1), life: r.life})
}

// imageArrives offers the image to the follower's core and tells the sender.
func (w *world) imageArrives(o *occurrence) {
	t := &w.transfers[o.ref]
	r := w.replicas[t.to]
	if r.core != nil {
		if w.postpone(r, o) {
			return
		}
		r.incoming = t.image
		r.core.Restored(w.clock(r), t.image.meta)
		w.touch(r)
	} else {
		t.ok = false
	}
	w.queue.push(occurrence{at: w.now.Add(w.net.delay()), what: whatImageDone, who: t.from, ref: o.ref, life: t.life})
}

func (w *world) imageDone(r *replica, ref int32) {
	t := &w.transfers[ref]
	r.core.SnapshotDone(smr.ReplicaID(t.to+1), t.image.meta.Index, t.ok)
	w.touch(r)
}

// restored sets the machine and the log to the image that the core has
// accepted.
func (w *world) restored(r *replica, meta *smr.SnapshotMeta) {
	im := r.incoming
	if im == nil || im.meta.Index != meta.Index {
		w.fail(Contract, ids(r.id), "restores a snapshot at %d that it was not offered", meta.Index)
		return
	}
	if at := w.states[meta.Index-1]; at != im.machine.digest {
		w.fail(StateMachineSafety, ids(r.id), "restores state %x at %d, applied was %x", im.machine.digest, meta.Index, at)
	}
	if meta.Index < r.machine.applied {
		w.fail(Monotonic, ids(r.id), "restores a snapshot at %d over what it has applied up to %d", meta.Index, r.machine.applied)
	}
	w.marks.hit(MarkRestored)
	r.machine, r.image = im.machine, im
	r.backlog = r.backlog[:0]
	r.log.compact(*meta)
	kept := r.waiters[:0]
	for _, a := range r.waiters {
		if a.index > meta.Index {
			kept = append(kept, a) // the others time out: their outcome is unknown
		}
	}
	r.waiters = kept
	r.disk.pending = append(r.disk.pending, write{compact: copyMeta(meta), image: im})
	w.answerReaders(r)
}

// copyMeta copies m, which is the core's own until the next Take.
func copyMeta(m *smr.SnapshotMeta) *smr.SnapshotMeta {
	c := *m
	return &c
}
