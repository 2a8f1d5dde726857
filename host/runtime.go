package host

import (
	"errors"
	"fmt"
	"path"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/transport"
	"github.com/quorate/quorate/wal"
	"github.com/quorate/quorate/wire"
)

// Env is what a Runtime takes from outside and a simulator puts in its place.
type Env struct {
	// Sender takes frames to the other hosts.
	Sender Sender
	// Seed of everything that is random: election timeouts, the host's name in
	// entries. It must differ between hosts and between lives of a host.
	Seed uint64
	// WakeShard, WakeSyncer, WakeFetcher, WakeJob and WakeWorker are called,
	// from any goroutine, when the turn of that number would find work. Nil:
	// nobody is told, and the caller asks HasWork.
	WakeShard, WakeSyncer, WakeFetcher, WakeJob, WakeWorker func(number int)
	// Go runs f on a goroutine of its own, so that a state machine that takes long
	// to make itself durable holds up nothing else; at most one at a time for each
	// group. Nil: f is a step of the shard's Job.
	Go func(f func())
	// Without takes protections away. Only a simulation or a measurement may.
	Without Protections
	// Now measures how long syncs take, for Stats. Nil: they are not measured.
	Now func() smr.Instant
	// WatchDigest, if set, is told the digest of a group's state after each
	// batch that was applied.
	WatchDigest func(g smr.GroupID, applied uint64, digest [16]byte)
}

// Protections that can be taken away so that a simulation finds out what they
// protect from. The zero value takes none away.
type Protections struct {
	// Core is passed on to every core.
	Core []raft.Option
	// Fence: proposals of an earlier term are not proposed again.
	Fence bool
	// FenceTerm: a leader takes forwarded proposals in any term.
	FenceTerm bool
	// ApplyWait: reads do not wait until their index is applied.
	ApplyWait bool
	// Sync: the log acknowledges without syncing.
	Sync bool
	// DurableImage: the log is compacted before the state that it leads to is
	// durable.
	DurableImage bool
	// ImageSync: snapshots get their names without having been synced.
	ImageSync bool
	// ImageMarker: the states are exchanged before it is on disk that the log
	// begins at the snapshot.
	ImageMarker bool
	// ChainCheck: the log ends where it is damaged, as if that were a batch that was
	// being written, although a later one proves that it was synced.
	ChainCheck bool
	// Prepared: the log's segments are plain files that grow, neither reserved
	// nor recycled. It protects from nothing: it is for measurements.
	Prepared bool
	// DirectWrites: the log is written through the page cache. It protects from
	// nothing: it is for measurements.
	DirectWrites bool
	// DiskWatch: a leader whose disk stalls keeps leading.
	DiskWatch bool
	// Pulse: groups rest although no host vouches for another.
	Pulse bool
	// UnknownKinds: a frame is not read beyond an item of a kind that this version
	// does not know.
	UnknownKinds bool
}

// Runtime is a host without goroutines and without a clock. Every method but
// Deliver, and the requests of its groups, is for one goroutine at a time per
// part: see Shard, Syncer, Fetcher, Worker.
type Runtime struct {
	cfg     Config
	env     Env
	shards  []*Shard
	workers []*Worker
}

// NewRuntime opens the logs under cfg.Dir. cfg.Listen, Listener and TLS are not
// used.
func NewRuntime(cfg Config, env Env) (*Runtime, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	rt := &Runtime{cfg: cfg, env: env}
	for i := range cfg.ApplyWorkers {
		rt.workers = append(rt.workers, &Worker{wake: wakeOf(env.WakeWorker, i), now: env.Now})
	}
	for i := range cfg.Shards {
		s, err := rt.newShard(i)
		if err != nil {
			return nil, errors.Join(err, rt.Close())
		}
		rt.shards = append(rt.shards, s)
	}
	return rt, nil
}

func wakeOf(wake func(int), number int) func() {
	if wake == nil {
		return func() {}
	}
	return func() { wake(number) }
}

// recycleMax is how many segments the log keeps to be written again: those that a
// compaction frees, within bounds. Measured with batches of 1 MiB, a segment that
// is written again takes half the time of a new one.
func recycleMax(cfg *Config) int {
	return int(min(max(cfg.Snapshots.EveryBytes/cfg.SegmentBytes, 2), 8))
}

// startTailBytesMax bounds the entries of a group that are in memory when it
// starts: enough for followers that are a moment behind. Those that are to be
// applied again come from the disk as they are wanted.
const startTailBytesMax = 4 << 20

func (rt *Runtime) newShard(number int) (*Shard, error) {
	cfg := &rt.cfg
	log, err := wal.Open(cfg.FS, path.Join(cfg.Dir, fmt.Sprintf("shard-%03d", number)), wal.Options{
		Identity:     wal.Identity{Cluster: cfg.Cluster, Replica: cfg.ID, Incarnation: cfg.Incarnation},
		Shard:        uint32(number),
		MustExist:    cfg.LogsExist,
		SegmentBytes: cfg.SegmentBytes,
		TailBytesMax: startTailBytesMax,
		RecycleMax:   recycleMax(cfg),
		Logger:       cfg.Logger,
		Now:          rt.env.Now,
		NoSync:       rt.env.Without.Sync,
		NoChainCheck: rt.env.Without.ChainCheck,
		Plain:        rt.env.Without.Prepared,
		PageCache:    rt.env.Without.DirectWrites,
	})
	if errors.Is(err, wal.ErrMissing) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the log of shard %d: %w", number, err)
	}
	s := &Shard{
		id:      cfg.ID,
		number:  uint32(number),
		origin:  mix(rt.env.Seed, uint64(number)) | 1,
		cfg:     cfg,
		without: rt.env.Without,
		log:     log,
		groups:  map[smr.GroupID]*group{}, starting: map[smr.GroupID]bool{},
		sweepAt: smr.Never,
		disk:    diskRoom{retryAt: smr.Never},
		watch:   idleDisk,
		pulses:  pulses{at: smr.Never},
		clock:   groupClock{limit: smr.Never},
		out:     outbox{shard: uint32(number), sender: rt.env.Sender, log: cfg.Logger},
		digest:  rt.env.WatchDigest,
		now:     rt.env.Now,
		reader:  wire.Reader{Strict: rt.env.Without.UnknownKinds},
	}
	s.memory.TailBytesMax = cfg.TailBytesMax
	s.inbox = inbox{bytesMax: cfg.InboxBytesMax, wake: wakeOf(rt.env.WakeShard, number)}
	s.syncer = &Syncer{shard: s, wake: wakeOf(rt.env.WakeSyncer, number)}
	s.fetcher = &Fetcher{shard: s, wake: wakeOf(rt.env.WakeFetcher, number)}
	sc := &cfg.Snapshots
	s.job = &Job{shard: s, goes: rt.env.Go, wake: wakeOf(rt.env.WakeJob, number), tokens: tokens{perSecond: sc.BandwidthBytes}}
	if sc.BandwidthBytes > 0 {
		s.job.tokens.perSecond = max(1, sc.BandwidthBytes/int64(cfg.Shards))
	}
	s.blocksAhead = int(max(2, sc.WindowBytes/int64(sc.BlockBytes)))
	return s, nil
}

// mix is the finaliser of SplitMix64 over two numbers: it makes independent
// seeds from one.
func mix(a, b uint64) uint64 {
	z := a + (b+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Shards, Syncers, Fetchers and Workers are the parts that take turns; a shard's
// syncer and fetcher have its number.
func (rt *Runtime) Shards() []*Shard { return rt.shards }

// Workers apply committed entries.
func (rt *Runtime) Workers() []*Worker { return rt.workers }

// Syncer writes the shard's log.
func (s *Shard) Syncer() *Syncer { return s.syncer }

// Fetcher reads the shard's log.
func (s *Shard) Fetcher() *Fetcher { return s.fetcher }

// Job works on the snapshots of the shard's groups.
func (s *Shard) Job() *Job { return s.job }

// Deliver takes a frame that a peer sent, and releases it when it has been read,
// also with an error. Any goroutine; ErrBusy says that the frame was dropped.
func (rt *Runtime) Deliver(from smr.ReplicaID, f transport.Frame) error {
	err := rt.deliver(from, f)
	if err != nil {
		f.Release()
	}
	return err
}

func (rt *Runtime) deliver(from smr.ReplicaID, f transport.Frame) error {
	shard, err := wire.FrameShard(f.B)
	if err != nil {
		return err
	}
	if int(shard) >= len(rt.shards) {
		return fmt.Errorf("%w: host %v has at least %d shards, this one %d; all hosts of a cluster need the same number", ErrConfig, from, shard+1, len(rt.shards))
	}
	return rt.shards[shard].inbox.frame(from, f)
}

// PeerDown tells the groups that the connection to a peer broke: they need not
// wait for a timeout to find out. Any goroutine.
func (rt *Runtime) PeerDown(peer smr.ReplicaID) {
	for _, s := range rt.shards {
		s.inbox.put(func(l *letters) {
			l.control = append(l.control, func(smr.Instant) { s.peerDown(peer) })
		})
	}
}

// shardOf is the shard that a group lives on.
func (rt *Runtime) shardOf(g smr.GroupID) *Shard {
	return rt.shards[uint64(g)%uint64(len(rt.shards))]
}

// Close closes the logs and the state machines, without waiting for anything.
// Nothing may run any more. What the syncer has not written is lost, as in a
// crash; nothing of it was acknowledged.
func (rt *Runtime) Close() error {
	var errs []error
	for _, w := range rt.workers {
		w.drop(fmt.Errorf("%w: %w", ErrOutcomeUnknown, ErrStopped))
	}
	for _, s := range rt.shards {
		s.inbox.stop(ErrStopped)
		s.job.endAll()
		for _, e := range s.deadlines {
			e.g.fail(ErrStopped)
			if r := e.g.images.restoring; r != nil {
				errs = append(errs, r.restoration.Close())
			}
			errs = append(errs, e.g.machine.Close())
		}
		s.inbox.swap(&s.letters, false)
		for _, w := range s.letters.requests {
			w.complete(smr.Result{}, ErrStopped)
		}
		errs = append(errs, s.log.Close())
	}
	return errors.Join(errs...)
}
