package transport

// A second connection to a peer carries what is large and may wait, such as
// blocks of snapshots, so that it holds up nothing else: it has a queue, a
// sender and a reader of its own. It is dialled when SendBulk is first called,
// and the hello says which of the two it is. Handler.Frame is called with its
// frames too; PeerUp and PeerDown are about the first connection alone.

// class says what a connection carries. The numbers are part of the hello.
type class byte

const (
	classOrdinary class = 0
	classBulk     class = 1
	classMax            = classBulk
)

// SendBulk is Send over the connection for what is large. The first frames are
// refused with ErrNotConnected, until the peer is connected.
func (t *Transport) SendBulk(to uint64, b *Buffer) error {
	p := t.peer(to)
	if p == nil {
		b.Release()
		return ErrUnknownPeer
	}
	return p.bulkPeer(true).send(b)
}

// bulkPeer is the peer as the other end of the second connection. dial says that
// there is something to send to it.
func (p *peer) bulkPeer(dial bool) *peer {
	p.mu.Lock()
	if p.bulk == nil {
		p.bulk = newPeer(p.t, p.id, p.addr)
		p.bulk.class = classBulk
		p.bulk.stopped = p.stopped
	}
	b := p.bulk
	dial = dial && !p.bulkDialled && p.stopped == nil
	p.bulkDialled = p.bulkDialled || dial
	p.mu.Unlock()
	if dial {
		p.t.mu.Lock()
		if !p.t.closed {
			p.t.running.Go(b.run)
		}
		p.t.mu.Unlock()
	}
	return b
}

// bulkIfAny is the other end of the second connection, nil if there was none.
func (p *peer) bulkIfAny() *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bulk
}
