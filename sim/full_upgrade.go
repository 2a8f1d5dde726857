package sim

import (
	"encoding/binary"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wire"
)

// Rolling upgrades: some lives of hosts are of a newer version, others not, in any
// order, for hosts are also put back. A newer version says all that this one says, and
// things that an older one can do without, in items of kinds that it does not know
// (package wire, how it may change).

// kindsToCome is where the kinds begin that no version knows yet.
const kindsToCome = 128

// newsPermille of the places between two items hold news.
const newsPermille = 500

// withNews is what a newer version would send in the place of a frame: the same, and
// news at its beginning, and here and there.
func (w *fullWorld) withNews(b []byte) []byte {
	shard, err := wire.FrameShard(b)
	out := w.appendNews(wire.AppendHeader(nil, shard))
	if err == nil {
		_, err = w.frames.each(b, func(it *wire.Item) {
			out = wire.AppendItem(out, it)
			if w.newerR.permille(newsPermille) {
				out = w.appendNews(out)
			}
		})
	}
	if err != nil {
		return b // the checkers will say so
	}
	w.marks.hit(MarkNews)
	return out
}

func (w *fullWorld) appendNews(dst []byte) []byte {
	s := &w.newerR
	n := s.n(40)
	dst = append(dst, byte(kindsToCome+s.n(256-kindsToCome)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	for range n {
		dst = append(dst, byte(s.next()))
	}
	return dst
}

// drawVersion draws of which version the life of a host is that begins.
func (h *simHost) drawVersion() {
	if h.newer = h.w.newerR.permille(h.w.full.newerPermille); h.newer {
		h.w.marks.hit(MarkNewer)
	}
}

// Upgrade lets the next lives of a host, of whole hosts, be of a newer version: it
// sends more than the others know of. With newer unset, it is put back.
func (s *Script) Upgrade(id smr.ReplicaID, newer bool) error { return s.driver.upgrade(id, newer) }

func (d *scriptHosts) upgrade(id smr.ReplicaID, newer bool) error {
	d.hosts[id-1].newer = newer
	return nil
}

func (d *scriptCore) upgrade(smr.ReplicaID, bool) error { return errNoHosts }
