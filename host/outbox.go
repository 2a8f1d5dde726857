package host

import (
	"errors"
	"log/slog"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/transport"
	"github.com/quorate/quorate/wire"
)

// Sender takes the frames of a turn to the other hosts. Send owns the buffer
// from then on and never blocks; what it cannot take is lost, which the cores
// are made for. *transport.Transport is the Sender in production.
type Sender interface {
	Send(to uint64, b *transport.Buffer) error
}

// frameBytesSoft is where a frame is closed and another begun. A large turn then
// reaches a peer in pieces: it reads the first one while the others come, and all
// of them fit into memory that the transport uses again. Frames of 4 MiB halved
// the rate of commands of 16 KiB.
const frameBytesSoft = 256 << 10

// outbox gathers one turn's frames: one for each peer.
type outbox struct {
	shard  uint32
	sender Sender
	peers  []peerFrame // in the order in which peers were first written to
	log    *slog.Logger
	// tooLarge: it was logged that the transport does not carry a frame.
	tooLarge bool
}

type peerFrame struct {
	id smr.ReplicaID
	b  *transport.Buffer // nil: nothing for this peer in this turn
}

// frame returns the buffer to append items for a peer to. It is valid until the
// next call of frame or flush.
func (o *outbox) frame(to smr.ReplicaID) *transport.Buffer {
	for i := range o.peers {
		if o.peers[i].id == to {
			return o.open(&o.peers[i])
		}
	}
	o.peers = append(o.peers, peerFrame{id: to})
	return o.open(&o.peers[len(o.peers)-1])
}

func (o *outbox) open(p *peerFrame) *transport.Buffer {
	if p.b != nil && len(p.b.B) > frameBytesSoft {
		o.send(p)
	}
	if p.b == nil {
		p.b = transport.GetBuffer()
		p.b.B = wire.AppendHeader(p.b.B[:0], o.shard)
	}
	return p.b
}

// send gives the frame away. A frame that is refused is lost: the transport
// counts it, and the cores send again. Config.frameBytesMax sees to it that none is
// too large, which would be for ever.
func (o *outbox) send(p *peerFrame) {
	b := p.b
	p.b = nil
	size := len(b.B)
	if err := o.sender.Send(uint64(p.id), b); errors.Is(err, transport.ErrFrameTooLarge) && !o.tooLarge {
		o.tooLarge = true
		o.log.Error("a frame is larger than the transport carries: the peer does not get it, however often it is sent", "peer", p.id.String(), "bytes", size)
	}
}

// flush sends what this turn has gathered.
func (o *outbox) flush() {
	for i := range o.peers {
		if o.peers[i].b != nil {
			o.send(&o.peers[i])
		}
	}
}
