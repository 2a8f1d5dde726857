package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/transport"
)

// etcdCluster is etcd's raft with etcd's wal. What lies between is left to its
// users, so it is written here: one loop for each replica, which batches
// whatever has come, and, as etcd does, lets a leader send before it has
// written. Frames go over Quorate's transport.
type etcdCluster struct {
	replicas []*etcdReplica
	leader   atomic.Int32
	requests atomic.Uint64
}

// etcdReplica is one replica and its loop.
type etcdReplica struct {
	id      uint64
	node    *raft.RawNode
	storage *raft.MemoryStorage
	wal     *wal.WAL
	network *transport.Transport
	leads   atomic.Bool
	wake    chan struct{}
	stop    chan struct{}
	ended   chan error
	closed  bool // by Close or Break

	mu sync.Mutex
	in etcdInbox

	// Owned by the loop.
	taken   etcdInbox
	waiting map[uint64]*etcdWaiter // proposals by request
	reading map[uint64][]*etcdWaiter
	rounds  uint64
	applied uint64
	ready   []etcdRead
	out     []*transport.Buffer // by replica
}

// etcdInbox is what has come since the loop last looked.
type etcdInbox struct {
	proposals []etcdProposal
	reads     []*etcdWaiter
	frames    [][]byte
}

type etcdProposal struct {
	request uint64
	data    []byte // request, then the command
	w       *etcdWaiter
}

type etcdRead struct {
	index   uint64
	waiters []*etcdWaiter
}

type etcdWaiter struct{ done chan error }

var etcdWaiters = sync.Pool{New: func() any { return &etcdWaiter{done: make(chan error, 1)} }}

// etcdTick is the unit of its timeouts: 100 ms a heartbeat, 1 s an election, as
// in etcd.
const etcdTick = 100 * time.Millisecond

func startEtcdRaft(s setup) (system, error) {
	c := &etcdCluster{}
	listeners := make([]net.Listener, s.replicas)
	for i := range listeners {
		var err error
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	for i := range s.replicas {
		r, err := newEtcdReplica(replicaDir(s.dir, i+1), uint64(i+1), listeners)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.replicas = append(c.replicas, r)
	}
	for _, r := range c.replicas {
		go func() { r.ended <- r.run() }()
	}
	for deadline := time.Now().Add(startMax / 2); !c.findLeader(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return nil, errors.Join(errors.New("no leader"), c.Close())
		}
	}
	return c, nil
}

func newEtcdReplica(dir string, id uint64, listeners []net.Listener) (*etcdReplica, error) {
	r := &etcdReplica{
		id: id, storage: raft.NewMemoryStorage(), wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan error, 1),
		waiting: map[uint64]*etcdWaiter{}, reading: map[uint64][]*etcdWaiter{}, out: make([]*transport.Buffer, len(listeners)+1),
	}
	var voters []uint64
	for i := range listeners {
		voters = append(voters, uint64(i+1))
	}
	var err error
	if r.wal, err = wal.Create(zap.NewNop(), dir, nil); err != nil {
		return nil, err
	}
	// The members are what a snapshot at index 1 says.
	err = r.storage.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: voters}}})
	if err != nil {
		return nil, err
	}
	r.node, err = raft.NewRawNode(&raft.Config{
		ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: r.storage, Applied: 1,
		MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256, MaxUncommittedEntriesSize: 1 << 30,
		CheckQuorum: true, PreVote: true, Logger: quietLogger{},
	})
	if err != nil {
		return nil, err
	}
	r.network, err = transport.New(transport.Config{ID: id, Cluster: 1, Listener: listeners[id-1], Handler: r, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	for i, l := range listeners {
		r.network.SetPeer(uint64(i+1), l.Addr().String())
	}
	return r, nil
}

// Frame takes what another replica says.
// It keeps the frame: nothing is released.
func (r *etcdReplica) Frame(_ uint64, f transport.Frame) {
	r.put(func(in *etcdInbox) { in.frames = append(in.frames, f.B) })
}
func (r *etcdReplica) PeerUp(uint64)          {}
func (r *etcdReplica) PeerDown(uint64, error) {}

func (r *etcdReplica) put(fill func(*etcdInbox)) {
	r.mu.Lock()
	fill(&r.in)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run is the loop.
func (r *etcdReplica) run() error {
	ticker := time.NewTicker(etcdTick)
	defer ticker.Stop()
	for {
		select {
		case <-r.wake:
		case <-ticker.C:
			r.node.Tick()
		case <-r.stop:
			return nil
		}
		r.mu.Lock()
		r.in, r.taken = r.taken, r.in
		r.mu.Unlock()
		if err := r.take(); err != nil {
			return err
		}
		for r.node.HasReady() {
			if err := r.handle(r.node.Ready()); err != nil {
				return err
			}
		}
	}
}

// take gives raft what has come in.
func (r *etcdReplica) take() error {
	for _, b := range r.taken.frames {
		for len(b) > 4 {
			n := binary.LittleEndian.Uint32(b)
			m := &pb.Message{}
			if err := proto.Unmarshal(b[4:4+n], m); err != nil {
				return err
			}
			_ = r.node.Step(m) // what it refuses is not for it
			b = b[4+n:]
		}
	}
	for _, p := range r.taken.proposals {
		if err := r.node.Propose(p.data); err != nil {
			p.w.done <- err
			continue
		}
		r.waiting[p.request] = p.w
	}
	if len(r.taken.reads) > 0 {
		r.rounds++
		r.reading[r.rounds] = append([]*etcdWaiter(nil), r.taken.reads...)
		r.node.ReadIndex(binary.LittleEndian.AppendUint64(nil, r.rounds))
	}
	clear(r.taken.frames)
	clear(r.taken.proposals)
	clear(r.taken.reads)
	r.taken = etcdInbox{r.taken.proposals[:0], r.taken.reads[:0], r.taken.frames[:0]}
	return nil
}

// handle does what raft wants done.
func (r *etcdReplica) handle(rd raft.Ready) error {
	if rd.SoftState != nil {
		leads := rd.SoftState.RaftState == raft.StateLeader
		if r.leads.Swap(leads) && !leads {
			r.failAll()
		}
	}
	leads := r.leads.Load()
	if leads { // thesis §10.2.1: a leader may send before it has written
		r.send(rd.Messages)
	}
	if err := r.wal.Save(rd.HardState, rd.Entries); err != nil {
		return err
	}
	if !raft.IsEmptySnap(rd.Snapshot) {
		return errors.New("a snapshot, and none was made")
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		if err := r.storage.SetHardState(rd.HardState); err != nil {
			return err
		}
	}
	if err := r.storage.Append(rd.Entries); err != nil {
		return err
	}
	if !leads {
		r.send(rd.Messages)
	}
	for _, s := range rd.ReadStates {
		round := binary.LittleEndian.Uint64(s.RequestCtx)
		r.ready = append(r.ready, etcdRead{s.Index, r.reading[round]})
		delete(r.reading, round)
	}
	r.apply(rd.CommittedEntries)
	r.node.Advance(rd)
	return r.compact()
}

// apply applies entries and answers whoever waits for them.
func (r *etcdReplica) apply(entries []*pb.Entry) {
	for _, e := range entries {
		r.applied = e.GetIndex()
		if len(e.Data) < 8 {
			continue
		}
		request := binary.LittleEndian.Uint64(e.Data)
		if w, ok := r.waiting[request]; ok {
			delete(r.waiting, request)
			w.done <- nil
		}
	}
	kept := r.ready[:0]
	for _, read := range r.ready {
		if read.index > r.applied {
			kept = append(kept, read)
			continue
		}
		for _, w := range read.waiters {
			w.done <- nil
		}
	}
	r.ready = kept
}

// The entries in memory are compacted to the last entriesKept when there are
// twice as many.
const entriesKept = 50000

func (r *etcdReplica) compact() error {
	first, err := r.storage.FirstIndex()
	if err != nil || r.applied < first+2*entriesKept {
		return err
	}
	return r.storage.Compact(r.applied - entriesKept)
}

// send puts messages into a frame for each replica.
func (r *etcdReplica) send(messages []*pb.Message) {
	for _, m := range messages {
		to := m.GetTo()
		if to == r.id || to >= uint64(len(r.out)) {
			continue
		}
		b := r.out[to]
		if b == nil {
			b = transport.GetBuffer()
			r.out[to] = b
		}
		at := len(b.B)
		b.B = append(b.B, 0, 0, 0, 0)
		var err error
		if b.B, err = (proto.MarshalOptions{}).MarshalAppend(b.B, m); err != nil {
			panic(err)
		}
		binary.LittleEndian.PutUint32(b.B[at:], uint32(len(b.B)-at-4))
	}
	for to, b := range r.out {
		if b != nil {
			_ = r.network.Send(uint64(to), b)
			r.out[to] = nil
		}
	}
}

var errEtcdLost = errors.New("leadership lost")

// failAll tells all that wait that they will not be answered.
func (r *etcdReplica) failAll() {
	for request, w := range r.waiting {
		delete(r.waiting, request)
		w.done <- errEtcdLost
	}
	for round, ws := range r.reading {
		delete(r.reading, round)
		for _, w := range ws {
			w.done <- errEtcdLost
		}
	}
}

func (c *etcdCluster) findLeader() bool {
	for i, r := range c.replicas {
		if r.leads.Load() {
			c.leader.Store(int32(i))
			return true
		}
	}
	return false
}

func (c *etcdCluster) Propose(ctx context.Context, group int, command []byte) error {
	return c.ProposeAt(ctx, int(c.leader.Load()), group, command)
}

// ProposeAt proposes at a replica, which passes it on to the leader.
func (c *etcdCluster) ProposeAt(ctx context.Context, i, _ int, command []byte) error {
	request := c.requests.Add(1)
	data := make([]byte, 8, 8+len(command))
	binary.LittleEndian.PutUint64(data, request)
	data = append(data, command...)
	return c.wait(ctx, i, func(in *etcdInbox, w *etcdWaiter) {
		in.proposals = append(in.proposals, etcdProposal{request, data, w})
	})
}

func (c *etcdCluster) Read(ctx context.Context, _ int) error {
	return c.wait(ctx, int(c.leader.Load()), func(in *etcdInbox, w *etcdWaiter) { in.reads = append(in.reads, w) })
}

// Leader is the replica that leads.
func (c *etcdCluster) Leader(int) int { c.findLeader(); return int(c.leader.Load()) }

// wait asks replica i and waits for the answer.
func (c *etcdCluster) wait(ctx context.Context, i int, ask func(*etcdInbox, *etcdWaiter)) error {
	w := etcdWaiters.Get().(*etcdWaiter)
	c.replicas[i].put(func(in *etcdInbox) { ask(in, w) })
	select {
	case err := <-w.done:
		etcdWaiters.Put(w)
		if err != nil {
			c.findLeader()
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Break ends a replica without a hand-over.
func (c *etcdCluster) Break(i int) error { return c.replicas[i].close() }

func (c *etcdCluster) Close() error {
	var err error
	for _, r := range c.replicas {
		err = errors.Join(err, r.close())
	}
	return err
}

func (r *etcdReplica) close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	err := r.network.Close()
	close(r.stop)
	if e := <-r.ended; e != nil {
		err = errors.Join(err, fmt.Errorf("replica %d: %w", r.id, e))
	}
	return errors.Join(err, r.wal.Close())
}

// quietLogger is a logger that says nothing but why it panics.
type quietLogger struct{}

func (quietLogger) Debug(...any)            {}
func (quietLogger) Debugf(string, ...any)   {}
func (quietLogger) Error(...any)            {}
func (quietLogger) Errorf(string, ...any)   {}
func (quietLogger) Info(...any)             {}
func (quietLogger) Infof(string, ...any)    {}
func (quietLogger) Warning(...any)          {}
func (quietLogger) Warningf(string, ...any) {}
func (quietLogger) Fatal(v ...any)          { panic(fmt.Sprint(v...)) }
func (quietLogger) Fatalf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}
func (quietLogger) Panic(v ...any)            { panic(fmt.Sprint(v...)) }
func (quietLogger) Panicf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
