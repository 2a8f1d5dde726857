package sim

import (
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// replicasMax bounds a simulated group.
const replicasMax = 8

// links says which directed links are cut. Cuts overlap: each link counts those
// that hold it.
type links struct {
	held [replicasMax][replicasMax]uint16
	cuts []cut
}

// cut is a set of directed links that are cut together.
type cut struct {
	pairs [][2]uint8
	on    bool
	flaps int // how often it will still go off and on
}

func (l *links) open(from, to int) bool { return l.held[from][to] == 0 }

// set switches cut number i on or off.
func (l *links) set(i int32, on bool) {
	c := &l.cuts[i]
	if c.on == on {
		return
	}
	c.on = on
	for _, p := range c.pairs {
		if on {
			l.held[p[0]][p[1]]++
		} else {
			l.held[p[0]][p[1]]--
		}
	}
}

// add makes a cut that is on and returns its number.
func (l *links) add(pairs [][2]uint8, flaps int) int32 {
	l.cuts = append(l.cuts, cut{pairs: pairs, flaps: flaps})
	i := int32(len(l.cuts) - 1)
	l.set(i, true)
	return i
}

// mend takes every cut off.
func (l *links) mend() {
	for i := range l.cuts {
		l.cuts[i].flaps = 0
		l.set(int32(i), false)
	}
}

// between returns the directed links from and to the replicas of set a (bit
// per slot), as chosen.
func cutPairs(n int, a uint, outward, inward bool) [][2]uint8 {
	var pairs [][2]uint8
	for i := range n {
		for j := range n {
			if i == j || a>>i&1 == a>>j&1 {
				continue
			}
			if a>>i&1 == 1 && outward || a>>i&1 == 0 && inward {
				pairs = append(pairs, [2]uint8{uint8(i), uint8(j)})
			}
		}
	}
	return pairs
}

// network carries messages between the cores. A message in flight sits in a
// slab, with entries of its own.
type network struct {
	links
	rng   source
	slab  []raft.Message
	free  []int32
	newer [replicasMax][replicasMax]smr.Instant // latest arrival, to see reordering

	// inOrder makes each link first in, first out, as one connection is.
	inOrder                   bool
	delayMin, delayMax        time.Duration
	lossPermille, dupPermille int
	slowPermille              int
	slowMax                   time.Duration
}

// hold copies m into the slab.
func (n *network) hold(m *raft.Message) int32 {
	var i int32
	if k := len(n.free); k > 0 {
		i = n.free[k-1]
		n.free = n.free[:k-1]
	} else {
		n.slab = append(n.slab, raft.Message{})
		i = int32(len(n.slab) - 1)
	}
	entries := appendCopies(n.slab[i].Entries[:0], m.Entries)
	n.slab[i] = *m
	n.slab[i].Entries = entries
	return i
}

// release gives the slot back. Its entries are wiped, so that a core that kept
// the slice, or the Data, is found out.
func (n *network) release(i int32) {
	for k := range n.slab[i].Entries {
		wipe(n.slab[i].Entries[k].Data)
	}
	clear(n.slab[i].Entries)
	n.free = append(n.free, i)
}

// delay draws how long a message is under way.
func (n *network) delay() time.Duration {
	if n.rng.permille(n.slowPermille) {
		return n.rng.between(n.delayMax, n.slowMax)
	}
	return n.rng.between(n.delayMin, n.delayMax)
}

// send puts m on its way, or loses it.
func (w *world) send(m *raft.Message) {
	n := &w.net
	from, to := int(m.From)-1, int(m.To)-1
	w.note(uint64(m.Type), uint64(m.From)<<8|uint64(m.To), m.Term<<32^m.Index, m.Commit^m.Round<<40^uint64(len(m.Entries))<<20)
	w.sent++
	w.traceMessage(EventSend, m)
	if from == to || to < 0 || to >= len(w.replicas) {
		w.fail(Contract, ids(m.From), "sends a message to %d", m.To)
		return
	}
	if m.Reject {
		if m.Type == raft.MsgAppendReply {
			w.marks.hit(MarkAppendRejected)
		} else if m.Type == raft.MsgVoteReply || m.Type == raft.MsgPreVoteReply {
			w.marks.hit(MarkVoteRefused)
		}
	}
	if m.Type == raft.MsgSuffix {
		w.marks.hit(MarkSuffix)
	} else if m.Type == raft.MsgPreVoteReply && m.LogTerm > 0 {
		w.marks.hit(MarkOffer)
	}
	if len(m.Entries) > 1 {
		w.marks.hit(MarkBatchAppend)
	}
	if !n.open(from, to) || n.rng.permille(n.lossPermille) {
		w.marks.hit(MarkLost)
		w.traceMessage(EventDrop, m)
		return
	}
	copies := 1
	if n.rng.permille(n.dupPermille) {
		copies = 2
		w.marks.hit(MarkDuplicated)
	}
	for range copies {
		at := w.now.Add(n.delay())
		if n.inOrder {
			at = max(at, n.newer[from][to])
		}
		if at < n.newer[from][to] {
			w.marks.hit(MarkReordered)
		} else {
			n.newer[from][to] = at
		}
		w.queue.push(occurrence{at: at, what: whatDeliver, who: uint8(to), ref: n.hold(m)})
	}
}

// deliver hands the message in slot i to its replica.
func (w *world) deliver(o *occurrence) {
	m := &w.net.slab[o.ref]
	r := w.replicas[o.who]
	if r.core == nil {
		w.traceMessage(EventDrop, m)
		w.net.release(o.ref)
		return
	}
	if w.postpone(r, o) {
		return
	}
	w.traceMessage(EventDeliver, m)
	last := r.state.Last
	r.core.Step(w.clock(r), m)
	if m.Type == raft.MsgSuffix && r.core.State().Last > last {
		w.marks.hit(MarkSuffixTaken)
	}
	w.net.release(o.ref)
	w.touch(r)
}
