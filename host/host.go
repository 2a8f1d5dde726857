package host

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/transport"
	"github.com/quorate/quorate/vfs"
)

// Host is a Runtime whose parts each have a goroutine, with a clock and a
// network. Its methods may be called by any goroutine.
type Host struct {
	cfg       Config
	rt        *Runtime
	transport *transport.Transport
	epoch     time.Time

	wakeShard, wakeSyncer, wakeFetcher, wakeJob, wakeWorker []chan struct{}

	opened  chan struct{} // closed when rt is set, or never will be
	closing chan struct{}
	loops   sync.WaitGroup

	// stopping is closed when Close is called, closing when no group is being
	// started any more; starts counts those that are.
	stopping chan struct{}
	starts   sync.WaitGroup

	mu     sync.Mutex
	groups []*Group
	closed bool
}

// Open opens a host: its logs, its connections to the other hosts, and the loops
// that run its groups. Close it when done.
func Open(cfg Config) (*Host, error) { return OpenWithout(cfg, Protections{}) }

// OpenWithout is Open with protections taken away, so that a benchmark finds out
// what each of them costs or is worth. No setting of a server leads to it.
func OpenWithout(cfg Config, without Protections) (*Host, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.OS()
	}
	cfg.Raft.EagerStart = true
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg, epoch: time.Now(), opened: make(chan struct{}), closing: make(chan struct{}), stopping: make(chan struct{})}
	h.wakeShard, h.wakeSyncer, h.wakeFetcher = chans(cfg.Shards), chans(cfg.Shards), chans(cfg.Shards)
	h.wakeJob, h.wakeWorker = chans(cfg.Shards), chans(cfg.ApplyWorkers)
	peerAddrs := make(map[uint64]string, len(cfg.Peers))
	for id, addr := range cfg.Peers {
		peerAddrs[uint64(id)] = addr
	}
	t, err := transport.New(transport.Config{
		ID: uint64(cfg.ID), Cluster: cfg.Cluster, Listen: cfg.Listen, Listener: cfg.Listener, Peers: peerAddrs,
		FrameBytesMax: cfg.frameBytesMax(), QueueBytesMax: max(64<<20, cfg.frameBytesMax()),
		TLS: cfg.TLS, Handler: (*peers)(h), Logger: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the transport: %w", err)
	}
	h.transport = t
	h.rt, err = NewRuntime(cfg, Env{
		Sender: t, Seed: randomSeed(), Now: h.now, Go: h.loop, Without: without,
		WakeShard: waker(h.wakeShard), WakeSyncer: waker(h.wakeSyncer), WakeFetcher: waker(h.wakeFetcher), WakeJob: waker(h.wakeJob), WakeWorker: waker(h.wakeWorker),
	})
	close(h.opened)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	h.start()
	return h, nil
}

func randomSeed() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return binary.LittleEndian.Uint64(b[:])
}

// Now is the host's time, for the deadlines of Submit: since the host was
// opened, on the monotonic clock.
func (h *Host) Now() smr.Instant { return h.now() }

func (h *Host) now() smr.Instant { return smr.Instant(time.Since(h.epoch)) + 1 }

// peers is a Host as its transport sees it.
type peers Host

// Frame takes a frame of a peer.
func (p *peers) Frame(from uint64, f transport.Frame) {
	h := (*Host)(p)
	<-h.opened
	if h.rt == nil {
		return // it could not be opened
	}
	if err := h.rt.Deliver(smr.ReplicaID(from), f); err != nil && !errors.Is(err, ErrBusy) {
		h.cfg.Logger.Warn("a frame was dropped", "peer", smr.ReplicaID(from).String(), "err", err)
	}
}

// PeerUp needs no answer: a leader's next message goes through.
func (p *peers) PeerUp(uint64) {}

// PeerDown tells the groups at once.
func (p *peers) PeerDown(id uint64, _ error) {
	h := (*Host)(p)
	<-h.opened
	if h.rt != nil {
		h.rt.PeerDown(smr.ReplicaID(id))
	}
}

// StartGroup starts this host's replica of a group. The group owns the state
// machine and closes it, also when StartGroup fails after opening it. It takes as
// long as opening the machine does, and restoring it from a snapshot if its state
// is behind its log; other groups go on and may be started meanwhile.
func (h *Host) StartGroup(cfg GroupConfig) (*Group, error) {
	if err := cfg.check(h.cfg.ID); err != nil {
		return nil, err
	}
	st, err := h.reserve(cfg)
	if err != nil {
		return nil, err
	}
	defer h.starts.Done()
	if err := st.prepare(h.stopping); err != nil {
		_ = h.within(cfg.ID, func(smr.Instant) error { st.giveUp(); return nil })
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errors.Join(ErrStopped, cfg.Machine.Close())
	}
	var g *Group
	if err := h.within(cfg.ID, func(now smr.Instant) (err error) {
		g, err = h.rt.begin(st, now)
		return err
	}); err != nil {
		return nil, err
	}
	g.host = h
	h.groups = append(h.groups, g)
	return g, nil
}

// reserve is the first step of StartGroup; it counts in starts if it succeeds.
func (h *Host) reserve(cfg GroupConfig) (st *starting, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrStopped
	}
	err = h.within(cfg.ID, func(smr.Instant) (err error) {
		st, err = h.rt.reserve(cfg)
		return err
	})
	if err == nil {
		h.starts.Add(1)
	}
	return st, err
}

// within runs f within a turn of the group's shard and waits for it. The host
// must not be closed meanwhile.
func (h *Host) within(g smr.GroupID, f func(now smr.Instant) error) error {
	return h.rt.shardOf(g).run(context.Background(), f)
}

// Addr is the address that peers reach this host at.
func (h *Host) Addr() string { return h.transport.Addr().String() }

// SetPeer says where another host is reached.
func (h *Host) SetPeer(id smr.ReplicaID, addr string) { h.transport.SetPeer(uint64(id), addr) }

// HandOver hands the groups that this host leads to other members, so that
// closing it costs their clients nothing. It returns when they are handed over,
// or when ctx ends.
func (h *Host) HandOver(ctx context.Context) error {
	h.mu.Lock()
	groups := h.groups
	h.mu.Unlock()
	for _, g := range groups {
		if err := g.handOver(ctx); err != nil {
			return fmt.Errorf("handing over group %d: %w", g.ID(), err)
		}
	}
	return nil
}

// handOver tries the members that were heard from lately, those with the longest
// logs first.
func (g *Group) handOver(ctx context.Context) error {
	tick := time.NewTicker(g.rt.cfg.HeartbeatInterval)
	defer tick.Stop()
	for g.Status().Role == raft.Leader {
		st, err := g.Inspect(ctx)
		if err != nil {
			return err
		}
		to := successor(st)
		if to == 0 {
			return nil // alone: there is nobody to hand over to
		}
		if err := g.Transfer(ctx, to); err != nil && !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrTransferring) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// successor is the active voter with the longest log, zero if there is none.
func successor(st raft.Status) (to smr.ReplicaID) {
	var match uint64
	for _, p := range st.Progress {
		if p.ID == st.ID || !p.Active || to != 0 && p.Match <= match {
			continue
		}
		for _, m := range st.Configuration.Members {
			if m.ID == p.ID && m.Role == smr.Voter {
				to, match = p.ID, p.Match
			}
		}
	}
	return to
}

// Close stops the host: requests that wait are answered with ErrStopped, the
// logs and state machines are closed. It returns within the time that a write
// under way takes.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	h.mu.Unlock()
	close(h.stopping)
	h.starts.Wait()
	err := h.transport.Close()
	h.endLoops()
	return errors.Join(err, h.rt.Close())
}
