package transport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// closeTimeout bounds Close. It passes only if a Handler or a Dial hangs.
const closeTimeout = 5 * time.Second

// Transport connects this host to its peers. Its methods may be called from any
// goroutine.
type Transport struct {
	cfg      Config
	listener net.Listener
	ctx      context.Context // ends at Close
	cancel   context.CancelFunc
	running  sync.WaitGroup
	refusals refusalLog

	// peers is replaced, never changed, so that Send finds a peer without a
	// lock. Replaced under mu.
	peers  atomic.Pointer[map[uint64]*peer]
	mu     sync.Mutex
	closed bool
	// shaking are accepted connections in their handshake.
	shaking map[net.Conn]struct{}
}

// New begins to accept connections, and to connect to cfg.Peers. The error
// wraps ErrConfig or is that of listening.
func New(cfg Config) (*Transport, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	listener := cfg.Listener
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("listen for peers: %w; is another host running at this address?", err)
		}
	}
	t := &Transport{cfg: cfg, listener: listener, shaking: map[net.Conn]struct{}{}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.peers.Store(&map[uint64]*peer{})
	for id, addr := range cfg.Peers {
		t.SetPeer(id, addr)
	}
	t.running.Go(t.accept)
	return t, nil
}

// Addr is the address at which peers reach this host.
func (t *Transport) Addr() net.Addr { return t.listener.Addr() }

// SetPeer tells the transport of a peer, or of its new address. The transport
// connects to it from now on, and accepts connections from it. This host's own
// id is ignored.
func (t *Transport) SetPeer(id uint64, addr string) {
	if id == t.cfg.ID || id == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	if p := t.peer(id); p != nil {
		p.setAddr(addr)
		return
	}
	p := newPeer(t, id, addr)
	t.replacePeers(func(m map[uint64]*peer) { m[id] = p })
	t.running.Go(p.run)
}

// RemovePeer forgets a peer and closes its connections. If the peer was up,
// Handler.PeerDown has been called with ErrRemoved when it returns.
func (t *Transport) RemovePeer(id uint64) {
	t.mu.Lock()
	p := t.peer(id)
	if p != nil {
		t.replacePeers(func(m map[uint64]*peer) { delete(m, id) })
	}
	t.mu.Unlock()
	if p != nil {
		p.stop(ErrRemoved)
	}
}

func (t *Transport) peer(id uint64) *peer { return (*t.peers.Load())[id] }

func (t *Transport) replacePeers(change func(map[uint64]*peer)) {
	m := maps.Clone(*t.peers.Load())
	change(m)
	t.peers.Store(&m)
}

// Send hands a frame to the sender of a peer and owns b from then on, also if
// it fails. It never blocks. It returns ErrUnknownPeer, ErrNotConnected,
// ErrQueueFull, ErrFrameTooLarge or ErrFrameEmpty, unwrapped, or nil, which promises
// nothing.
func (t *Transport) Send(to uint64, b *Buffer) error {
	p := t.peer(to)
	if p == nil {
		b.Release()
		return ErrUnknownPeer
	}
	return p.send(b)
}

// PeerStats is what has happened with one peer since SetPeer.
type PeerStats struct {
	ID   uint64
	Addr string
	// Up says that both directions are connected.
	Up bool
	// BytesSent and BytesReceived count payloads and heads of frames; Writes
	// and Reads are the system calls that took them.
	BytesSent, FramesSent, Writes        uint64
	BytesReceived, FramesReceived, Reads uint64
	// BulkBytesSent and BulkBytesReceived are of the second connection.
	BulkBytesSent, BulkBytesReceived uint64
	// Dropped counts frames that Send refused or that were queued when the
	// connection broke.
	Dropped uint64
	// Connects counts connections that this host has made.
	Connects uint64
	// QueuedBytes waits to be sent.
	QueuedBytes int
	// LastError is why the peer is not connected, or was not before.
	LastError error
}

// Stats returns the figures of all peers, by ascending id.
func (t *Transport) Stats() []PeerStats {
	peers := *t.peers.Load()
	stats := make([]PeerStats, 0, len(peers))
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		stats = append(stats, peers[id].stats())
	}
	return stats
}

// Close closes all connections and waits until nothing of the transport runs:
// no method of the Handler is called after it. Peers that are up go down with
// ErrClosed. What is queued is dropped. It fails if a Handler or a Dial does
// not return within five seconds.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	for c := range t.shaking {
		_ = c.Close()
	}
	t.mu.Unlock()
	t.cancel()
	err := t.listener.Close()
	for _, p := range *t.peers.Load() {
		p.stop(ErrClosed)
	}
	done := make(chan struct{})
	go func() {
		t.running.Wait()
		close(done)
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		return errors.New("close transport: a handler or a dial did not return in time")
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close transport: %w", err)
	}
	return nil
}
