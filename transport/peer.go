package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// peer is the connections with one other host.
//
// Invariants:
//
//  1. out is set while the sender may write to it; in while a reader reads.
//  2. Whoever sets out or in to nil counts breaks up and sets breakErr, in the
//     same hold of mu, and then calls notify.
//  3. queue is empty while out is nil.
//  4. queuedBytes is the size of what is in queue and what the sender has taken
//     from it and not yet written.
type peer struct {
	t      *Transport
	id     uint64
	ctx    context.Context // ends when the peer is removed
	cancel context.CancelFunc
	kick   chan struct{} // capacity 1: a reason to dial at once
	class  class

	mu          sync.Mutex
	work        sync.Cond // the queue is not empty, or outErr is set
	addr        string
	stopped     error
	out         net.Conn
	outErr      error // why out is of no use any more
	in          *inbound
	queue       bufferQueue
	queuedBytes int
	breaks      uint64
	breakErr    error
	lastErr     error
	// bulk is this peer as the other end of the second connection, nil until it
	// is needed; bulkDialled: it dials.
	bulk        *peer
	bulkDialled bool

	bytesSent, framesSent, writes        atomic.Uint64
	bytesReceived, framesReceived, reads atomic.Uint64
	dropped, connects                    atomic.Uint64

	notifying      sync.Mutex // held while the Handler is told
	reportedUp     bool
	reportedBreaks uint64
}

// inbound is an accepted connection.
type inbound struct {
	conn net.Conn
	done chan struct{} // closed when its reader has ended
}

func newPeer(t *Transport, id uint64, addr string) *peer {
	p := &peer{t: t, id: id, addr: addr, kick: make(chan struct{}, 1)}
	p.work.L = &p.mu
	p.ctx, p.cancel = context.WithCancel(t.ctx)
	return p
}

// send queues b for the sender.
func (p *peer) send(b *Buffer) error {
	size := headBytes + len(b.B)
	var err error
	p.mu.Lock()
	switch {
	case len(b.B) == 0:
		err = ErrFrameEmpty
	case len(b.B) > p.t.cfg.FrameBytesMax:
		err = ErrFrameTooLarge
	case p.out == nil || p.outErr != nil:
		err = ErrNotConnected
	case p.queuedBytes > 0 && p.queuedBytes+size > p.t.cfg.QueueBytesMax:
		err = ErrQueueFull
	default:
		wake := p.queue.first == nil
		p.queue.push(b)
		p.queuedBytes += size
		p.mu.Unlock()
		if wake {
			p.work.Signal()
		}
		return nil
	}
	p.mu.Unlock()
	p.dropped.Add(1)
	b.Release()
	return err
}

// crowdedBytes of frames that wait are a sign that there will be more in a moment.
const crowdedBytes = 1 << 10

// drain writes what is queued to c until it breaks, and returns why it did.
func (p *peer) drain(c net.Conn) error {
	w := newFrameWriter(c, p.t.cfg.TLS != nil, p.t.cfg.WriteTimeout, func(n int) {
		p.bytesSent.Add(uint64(n))
		p.writes.Add(1)
	})
	for {
		p.mu.Lock()
		for p.queue.first == nil && p.outErr == nil {
			p.work.Wait()
		}
		if p.queuedBytes >= crowdedBytes {
			// Whoever is about to send does so first: one write, and so one waking
			// of the peer, then serves all of it. With little to send nobody is,
			// and yielding would wake an idle thread for nothing.
			p.mu.Unlock()
			runtime.Gosched()
			p.mu.Lock()
		}
		if err := p.outErr; err != nil {
			p.mu.Unlock()
			return err
		}
		batch, size := p.queue, p.queuedBytes
		p.queue = bufferQueue{}
		p.mu.Unlock()

		err := w.write(&batch)
		n := batch.releaseAll()
		if err != nil {
			p.dropped.Add(n)
		} else {
			p.framesSent.Add(n)
		}
		p.mu.Lock()
		p.queuedBytes -= size
		p.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// abandonOut makes the sender give up the connection that it has, if it is c.
func (p *peer) abandonOut(c net.Conn, err error) {
	p.mu.Lock()
	if p.out == c && p.outErr == nil {
		p.outErr = err
	}
	p.mu.Unlock()
	p.work.Signal()
	closeNow(c) // wakes a sender that is blocked in a write
}

// watch waits until c breaks: nothing is received on a dialled connection.
func (p *peer) watch(c net.Conn) {
	var b [1]byte
	_, err := c.Read(b[:])
	if err == nil {
		err = fmt.Errorf("%w: it sends on a connection that it should only read", ErrNotQuorate)
	} else {
		err = closedByPeer(err)
	}
	p.abandonOut(c, err)
}

func closedByPeer(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the peer closed the connection: %w", err)
	}
	return err
}

// serveOut sends on a connection whose handshake is done, until it breaks.
func (p *peer) serveOut(c net.Conn) error {
	p.mu.Lock()
	if err := p.stopped; err != nil {
		p.mu.Unlock()
		closeNow(c)
		return err
	}
	p.out, p.outErr = c, nil
	p.mu.Unlock()
	p.connects.Add(1)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		p.watch(c)
	}()
	p.notify()
	p.abandonOut(c, p.drain(c))
	<-watched
	p.mu.Lock()
	err := p.outErr // the first reason: the later ones are its consequences
	p.out, p.outErr = nil, nil
	p.dropped.Add(p.queue.releaseAll())
	p.queuedBytes = 0
	p.broke(err)
	p.mu.Unlock()
	p.notify()
	return err
}

// broke keeps invariant 2. mu is held.
func (p *peer) broke(err error) {
	p.breaks++
	p.breakErr, p.lastErr = err, err
}

// serveIn hands frames of an accepted connection to the Handler until it
// breaks. It takes the place of an older connection of the same peer, whose
// last frame has been handled before the first of this one is.
func (p *peer) serveIn(c net.Conn) {
	in := &inbound{conn: c, done: make(chan struct{})}
	defer close(in.done)
	defer closeNow(c)
	p.mu.Lock()
	if p.stopped != nil {
		p.mu.Unlock()
		return
	}
	old := p.in
	p.in = in
	if old != nil {
		p.broke(ErrReplaced)
	}
	p.mu.Unlock()
	if old != nil {
		closeNow(old.conn)
		<-old.done
	}
	select {
	case p.kick <- struct{}{}: // it lives: no need to wait with dialling
	default:
	}
	p.notify()
	err := closedByPeer(p.readFrames(c))
	p.mu.Lock()
	current := p.in == in
	if current {
		p.in = nil
		if p.stopped != nil {
			err = p.stopped
		}
		p.broke(err)
	}
	p.mu.Unlock()
	if current {
		p.notify()
	}
}

func (p *peer) readFrames(c net.Conn) error {
	handler := p.t.cfg.Handler
	f := frameReader{conn: c, checksums: p.t.cfg.TLS == nil, frameBytesMax: p.t.cfg.FrameBytesMax, read: func(n int) {
		p.bytesReceived.Add(uint64(n))
		p.reads.Add(1)
	}}
	defer f.close()
	for {
		b, err := f.next()
		if err != nil {
			return err
		}
		p.framesReceived.Add(1)
		handler.Frame(p.id, b)
	}
}

// closeNow closes a connection without the farewell of TLS, which would wait for
// a peer that does not read.
func closeNow(c net.Conn) {
	if s, ok := c.(*tls.Conn); ok {
		c = s.NetConn()
	}
	_ = c.Close()
}

// notify tells the Handler what has changed.
func (p *peer) notify() {
	if p.class == classBulk {
		return
	}
	p.notifying.Lock()
	defer p.notifying.Unlock()
	for {
		p.mu.Lock()
		up := p.out != nil && p.in != nil
		breaks, err, addr := p.breaks, p.breakErr, p.addr
		if p.stopped != nil {
			up, err = false, p.stopped
		}
		p.mu.Unlock()
		switch {
		case p.reportedUp && (!up || breaks != p.reportedBreaks):
			p.reportedUp = false
			if errors.Is(err, ErrClosed) || errors.Is(err, ErrRemoved) {
				p.t.cfg.Logger.Info("peer disconnected", "peer", hexID(p.id), "addr", addr, "reason", err)
			} else {
				p.t.cfg.Logger.Warn("peer disconnected", "peer", hexID(p.id), "addr", addr, "reason", err)
			}
			p.t.cfg.Handler.PeerDown(p.id, err)
		case !p.reportedUp && up:
			p.reportedUp, p.reportedBreaks = true, breaks
			p.t.cfg.Logger.Info("peer connected", "peer", hexID(p.id), "addr", addr)
			p.t.cfg.Handler.PeerUp(p.id)
		default:
			return
		}
	}
}

// setAddr gives the peer a new address and leaves the old one.
func (p *peer) setAddr(addr string) {
	p.mu.Lock()
	c := p.out
	changed := p.addr != addr
	p.addr = addr
	bulk := p.bulk
	p.mu.Unlock()
	if bulk != nil {
		bulk.setAddr(addr)
	}
	if !changed {
		return
	}
	if c != nil {
		p.abandonOut(c, ErrAddressChanged)
	}
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

func (p *peer) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// stop ends everything about the peer, because of err. The Handler has been told
// when it returns, so that it hears of a later peer of the same id after this.
func (p *peer) stop(err error) {
	p.mu.Lock()
	if p.stopped == nil {
		p.stopped = err
	}
	out, in, bulk := p.out, p.in, p.bulk
	p.mu.Unlock()
	p.cancel()
	if bulk != nil {
		bulk.stop(err)
	}
	if out != nil {
		p.abandonOut(out, err)
	}
	if in != nil {
		closeNow(in.conn)
	}
	p.notify()
}

func (p *peer) stats() PeerStats {
	p.mu.Lock()
	s := PeerStats{ID: p.id, Addr: p.addr, Up: p.out != nil && p.in != nil && p.stopped == nil, QueuedBytes: p.queuedBytes, LastError: p.lastErr}
	p.mu.Unlock()
	s.BytesSent, s.FramesSent, s.Writes = p.bytesSent.Load(), p.framesSent.Load(), p.writes.Load()
	s.BytesReceived, s.FramesReceived, s.Reads = p.bytesReceived.Load(), p.framesReceived.Load(), p.reads.Load()
	if b := p.bulkIfAny(); b != nil {
		s.BulkBytesSent, s.BulkBytesReceived = b.bytesSent.Load(), b.bytesReceived.Load()
	}
	s.Dropped, s.Connects = p.dropped.Load(), p.connects.Load()
	return s
}

// pause waits d, or until there is a reason to dial at once. It reports whether
// to go on at all.
func (p *peer) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.kick:
	case <-p.ctx.Done():
	}
	return p.ctx.Err() == nil
}
