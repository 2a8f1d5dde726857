package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/transport"
	"github.com/quorate/quorate/wire"
)

// wires are the connections between hosts. Each direction is first in, first
// out, as TCP is; it loses nothing but by breaking, and then everything under
// way. Through a link that is cut nothing passes, and the connection does not
// outlive it.
type wires struct {
	links
	w     *fullWorld
	rng   source
	slab  []frame
	free  []int32
	ends  [replicasMax][replicasMax]smr.Instant // when the newest frame arrives
	bulk  [replicasMax][replicasMax]smr.Instant // the same, of the connection for snapshots
	lives [replicasMax][replicasMax]uint32      // of the connection; a frame of an older one is lost
	// held are the frames that wait at a link that is cut, where the connection
	// outlives the cut: TCP sends them again when the way is free.
	held [replicasMax][replicasMax][]int32
	slow [replicasMax][replicasMax]bool
	// unchecked: the transport takes frames that do not match their checksums.
	unchecked bool
}

// frame is a frame under way.
type frame struct {
	b    []byte
	from uint8
	bulk bool
	life uint32
	// spoilt, if not nil, is what the connection brings of it. garbled: b is not what
	// was sent.
	spoilt  []byte
	garbled bool
}

// sender is a host's way out.
type sender struct {
	h    *simHost
	life uint32
	bulk bool
}

var errGone = errors.New("this host's life is over")

// Send implements host.Sender.
func (s sender) Send(to uint64, b *transport.Buffer) error {
	defer b.Release()
	h := s.h
	w := h.w
	if h.life != s.life || h.dead {
		return errGone
	}
	from, dest := h.slot, int(to)-1
	if dest < 0 || dest >= len(w.hosts) || dest == from {
		w.fail(Contract, ids(h.id), "sends a frame to %d", to)
		return errGone
	}
	out := b.B
	if h.newer {
		out = w.withNews(out)
	}
	w.checkFrame(h, out)
	w.net.send(from, dest, out, s.bulk)
	return nil
}

func (n *wires) send(from, to int, b []byte, bulk bool) {
	w := n.w
	w.sent++
	w.marks.hit(MarkFrame)
	w.note(0xd1, uint64(from)<<8|uint64(to), hashBytes(b), uint64(len(b)))
	w.traceFrame(EventSend, from, to, b)
	if !n.open(from, to) && w.full.patientPermille > 0 && n.waits(from, to) {
		n.hold(from, to, b, bulk)
		return
	}
	if !n.open(from, to) {
		w.marks.hit(MarkLost)
		w.traceFrame(EventDrop, from, to, b)
		if n.lives[from][to]&1 == 0 {
			n.lives[from][to]++ // odd: broken, and renewed by the next frame that passes
		}
		return
	}
	f := &w.features
	chaos := w.phase == phaseChaos
	out := frame{b: b, from: uint8(from), bulk: bulk}
	if chaos && !n.change(&out, to) {
		return
	}
	if n.lives[from][to]&1 == 1 {
		n.lives[from][to]++
	}
	n.release(from, to) // what was sent before goes first
	d := n.rng.between(f.delayMin, f.delayMax)
	if chaos && n.rng.permille(f.slowPermille) {
		d = n.rng.between(f.delayMax, f.slowMax)
	}
	out.life = n.lives[from][to]
	n.dispatch(from, to, n.keep(out), n.slowed(from, to, d))
}

// change lets happen to a frame what can in the chaos: it breaks the connection
// instead of arriving, or its bytes change.
func (n *wires) change(f *frame, to int) (arrives bool) {
	w := n.w
	if n.rng.permille(w.full.breakPermille) {
		if !n.rng.permille(w.full.corruptPermille * 100) {
			w.marks.hit(MarkBrokenConnection)
			if n.rng.flip() {
				w.marks.hit(MarkTornFrame)
			}
			n.snap(int(f.from), to)
			return false
		}
		f.spoilt = n.spoil(f.b)
	} else if w.frameR.permille(w.full.garblePermille) {
		if g := n.garble(f.b); g != nil {
			f.b, f.garbled = g, true
		}
	}
	return true
}

func (n *wires) dispatch(from, to int, ref int32, d time.Duration) {
	ends := &n.ends
	if n.slab[ref].bulk {
		ends = &n.bulk
	}
	at := max(n.w.now.Add(d), ends[from][to])
	ends[from][to] = at
	n.w.queue.push(occurrence{at: at, what: whatDeliver, who: uint8(to), ref: ref})
}

// waits says whether frames wait at the cut link, which is drawn once for each
// connection.
func (n *wires) waits(from, to int) bool {
	if n.lives[from][to]&1 == 1 {
		return false // broken already
	}
	draw := mix64(n.w.seed ^ uint64(from)<<32 ^ uint64(to)<<16 ^ uint64(n.lives[from][to])<<40)
	return int(draw%1000) < n.w.full.patientPermille
}

// hold lets a frame wait until the link is whole.
func (n *wires) hold(from, to int, b []byte, bulk bool) {
	const heldMax = 2000 // beyond that the sender's buffer is full
	if len(n.held[from][to]) >= heldMax {
		n.w.marks.hit(MarkLost)
		n.lives[from][to]++
		return
	}
	n.w.marks.hit(MarkHeld)
	n.held[from][to] = append(n.held[from][to], n.keep(frame{b: b, from: uint8(from), bulk: bulk, life: n.lives[from][to]}))
}

// release lets the frames go that waited at a link that is whole again.
func (n *wires) release(from, to int) {
	if len(n.held[from][to]) == 0 || !n.open(from, to) {
		return
	}
	for _, ref := range n.held[from][to] {
		n.dispatch(from, to, ref, n.w.features.delayMax)
	}
	n.held[from][to] = n.held[from][to][:0]
}

// healed lets go what waited at links that a heal has opened.
func (n *wires) healed() {
	for i := range n.w.hosts {
		for j := range n.w.hosts {
			n.release(i, j)
		}
	}
}

// snap breaks the connection in both directions; the hosts may notice.
func (n *wires) snap(a, b int) {
	n.lives[a][b] += 2
	n.lives[b][a] += 2
	n.ends[a][b], n.ends[b][a] = 0, 0
	n.bulk[a][b], n.bulk[b][a] = 0, 0
	if n.rng.permille(n.w.full.noticePermille) {
		n.w.notice(a, b)
		n.w.notice(b, a)
	}
}

// drop breaks every connection of a host that ends.
func (n *wires) drop(slot int, noticed bool) {
	for i := range n.w.hosts {
		if i == slot {
			continue
		}
		n.lives[slot][i] += 2
		n.lives[i][slot] += 2
		n.ends[slot][i], n.ends[i][slot] = 0, 0
		n.bulk[slot][i], n.bulk[i][slot] = 0, 0
		if noticed && n.open(slot, i) {
			n.w.notice(i, slot)
		}
	}
}

// keep copies a frame into the slab.
func (n *wires) keep(f frame) int32 {
	f.b = append([]byte(nil), f.b...)
	if k := len(n.free); k > 0 {
		i := n.free[k-1]
		n.free = n.free[:k-1]
		n.slab[i] = f
		return i
	}
	n.slab = append(n.slab, f)
	return int32(len(n.slab) - 1)
}

func (n *wires) deliver(o *occurrence) {
	w := n.w
	f := n.slab[o.ref]
	h := w.hosts[o.who]
	if h.rt == nil || f.life != n.lives[f.from][o.who] {
		w.traceFrame(EventDrop, int(f.from), int(o.who), f.b)
		n.slab[o.ref] = frame{}
		n.free = append(n.free, o.ref)
		return
	}
	n.slab[o.ref] = frame{}
	n.free = append(n.free, o.ref)
	if f.spoilt != nil && !n.takeSpoilt(&f, int(o.who)) {
		return
	}
	w.traceFrame(EventDeliver, int(f.from), int(o.who), f.b)
	if f.garbled {
		w.marks.hit(MarkGarbledFrame)
		h.garbled++
	}
	err := h.rt.Deliver(smr.ReplicaID(f.from+1), transport.PoisonFrame(f.b))
	switch {
	case err == nil || errors.Is(err, host.ErrBusy):
	case f.garbled: // by its header
		w.marks.hit(MarkBadFrame)
	default:
		w.fail(Contract, ids(h.id), "refuses a frame of %d: %v", f.from+1, err)
	}
}

// notice tells a host, a little later, that its connection to a peer broke.
func (w *fullWorld) notice(slot, peer int) {
	h := w.hosts[slot]
	d := w.net.rng.between(0, w.features.delayMax)
	w.queue.push(occurrence{at: w.now.Add(d), what: whatPeerDown, who: uint8(slot), ref: int32(peer), life: h.life})
}

func hashBytes(b []byte) uint64 {
	h := uint64(len(b))
	for len(b) >= 8 {
		h = mix64(h ^ binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	for _, c := range b {
		h = mix64(h ^ uint64(c) ^ 0x100)
	}
	return h
}

// traceFrame tells the tracer of each item of a frame.
func (w *fullWorld) traceFrame(k EventKind, from, to int, b []byte) {
	if w.tracer == nil {
		return
	}
	e := Event{Kind: k, Replica: smr.ReplicaID(from + 1), Peer: smr.ReplicaID(to + 1)}
	if _, err := wire.FrameShard(b); err != nil {
		e.Text = err.Error()
		w.trace(e)
		return
	}
	var r frameReader // a tracer may look at others
	_, _ = r.each(b, func(it *wire.Item) {
		e.Message, e.Text, e.Term, e.Index, e.Count = nil, "", 0, 0, 0
		switch it.Kind {
		case wire.KindMessage:
			m := it.Message
			e.Message, e.Term, e.Index = &m, m.Term, m.Index
		case wire.KindPulse:
			e.Text = fmt.Sprintf("pulse of life %x", it.Pulse.Life)
		case wire.KindForward:
			e.Text = fmt.Sprintf("forward of %d, term %d", len(it.Forward.Entries), it.Forward.Term)
		case wire.KindForwardReject:
			e.Text = fmt.Sprintf("refusal of %d, term %d, reason %d", len(it.ForwardReject.Requests), it.ForwardReject.Term, it.ForwardReject.Reason)
		case wire.KindReadAsk:
			e.Text = fmt.Sprintf("read asked, term %d", it.ReadAsk.Term)
		case wire.KindReadReply:
			e.Text = fmt.Sprintf("read index %d, %v", it.ReadReply.Index, it.ReadReply.OK)
		case wire.KindSnapshotOffer:
			o := &it.SnapshotOffer
			e.Term, e.Index = o.Term, o.Index
			e.Text = fmt.Sprintf("offer %d, a snapshot of host %d; the log begins after %d", o.Index, o.Source, o.LogStart)
		case wire.KindSnapshotFetch:
			f := &it.SnapshotFetch
			e.Index = f.Index
			e.Text = fmt.Sprintf("fetch from block %d, %d blocks of snapshot %d", f.First, f.Count, f.Index)
		case wire.KindSnapshotBlock:
			b := &it.SnapshotBlock
			e.Index, e.Count = b.Index, uint64(len(b.Data))
			e.Text = fmt.Sprintf("block %d, of snapshot %d, %d bytes", b.Number, b.Index, len(b.Data))
		case wire.KindSnapshotStatus:
			s := &it.SnapshotStatus
			e.Term, e.Index = s.Term, s.Index
			e.Text = statusText(s)
		}
		w.trace(e)
	})
}

func statusText(s *wire.SnapshotStatus) string {
	switch s.State {
	case wire.SnapshotRunning:
		return fmt.Sprintf("receives %d, has %d blocks", s.Index, s.Have)
	case wire.SnapshotInstalled:
		return fmt.Sprintf("installed %d", s.Index)
	}
	return fmt.Sprintf("failed %d, wants another", s.Index)
}
