package sim

import (
	"bytes"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/transport"
	"github.com/quorate/quorate/wire"
)

// Frames whose bytes change on their way.
//
// A spoilt frame changes between the sender's checksum and the receiver's: cables,
// switches and TCP's weak sum do that. The transport must refuse every one: CRC-32C
// finds a few bits always, and of anything else all but one in 2^32. The connection
// breaks there, when the frame comes in.
//
// A garbled frame has changed beside the checksum: in memory that fails, or in a
// sender with a bug. The decoder sees it, and Raft promises nothing: one bit makes
// of a term or a vote another one that is as good. So what is garbled here is what a
// decoder can find, and what it finds must cost no more than the loss of a message:
// of the items that can still be read, each is one that was sent.

// changed returns a copy of b in which some bytes have changed.
func changed(s *source, b []byte) []byte {
	out := bytes.Clone(b)
	for bytes.Equal(out, b) {
		from := s.n(len(b))
		stretch := out[from : from+1+s.n(min(len(b)-from, 64))]
		switch s.n(4) {
		case 0:
			for range 1 + s.n(3) {
				bit := s.n(8 * len(b))
				out[bit/8] ^= 1 << (bit % 8)
			}
		case 1:
			for i := range stretch {
				stretch[i] = byte(s.next())
			}
		case 2:
			clear(stretch)
		case 3:
			out = out[:from]
		}
	}
	return out
}

// spoil returns what a connection brings of a frame that changes on its way.
func (n *wires) spoil(b []byte) []byte {
	return changed(&n.w.frameR, transport.AppendFrame(nil, b))
}

// takeSpoilt reads a spoilt frame as the transport does. Unless it takes it, the
// connection has broken.
func (n *wires) takeSpoilt(f *frame, to int) bool {
	w, from := n.w, int(f.from)
	got, err := transport.FirstFrame(f.spoilt, !n.unchecked)
	if err == nil {
		if !n.unchecked {
			w.fail(Contract, ids(smr.ReplicaID(to+1)), "takes a frame of %d that has changed on its way", from+1)
		}
		f.b = got.B
		return true
	}
	w.marks.hit(MarkBrokenConnection)
	w.marks.hit(MarkCorruptFrame)
	w.trace(Event{Kind: EventDrop, Replica: smr.ReplicaID(from + 1), Peer: smr.ReplicaID(to + 1), Text: err.Error()})
	n.lives[from][to] += 2 // the other direction is a connection of its own
	n.ends[from][to], n.bulk[from][to] = 0, 0
	w.notice(to, from)
	if n.open(to, from) {
		w.notice(from, to)
	}
	return false
}

// garble returns what a decoder can find out about, or nil if there is nothing so.
func (n *wires) garble(b []byte) []byte {
	for range 8 {
		if g := changed(&n.w.frameR, b); losesOnly(b, g) {
			return g
		}
	}
	return nil
}

// losesOnly says that whoever reads g reads what is in b, in its order, and perhaps
// not all of it. A block of a snapshot has a checksum of its own.
func losesOnly(b, g []byte) bool {
	shard, all := readItems(b)
	other, rest := readItems(g)
	if len(rest) > 0 && other != shard {
		return false
	}
	for _, it := range all {
		if len(rest) > 0 && bytes.Equal(rest[0], it) {
			rest = rest[1:]
		}
	}
	return len(rest) == 0
}

// readItems returns what can be read of a frame, each item as it is written. Of a
// block of a snapshot the data is left out, but not that there is some.
func readItems(b []byte) (shard uint32, items [][]byte) {
	var r frameReader
	shard, _ = r.each(b, func(it *wire.Item) {
		if it.Kind == wire.KindSnapshotBlock && len(it.SnapshotBlock.Data) > 0 {
			it.SnapshotBlock.Data = []byte{1}
		}
		items = append(items, wire.AppendItem(nil, it))
	})
	return shard, items
}

// badFrames looks at what a life of a host could not read: frames that have been
// garbled, and no others.
func (h *simHost) badFrames(bad uint64) {
	h.w.marks[MarkBadFrame] += bad
	if bad > h.garbled {
		h.w.fail(Contract, ids(h.id), "could not read %d frames, and %d were garbled", bad, h.garbled)
	}
}
