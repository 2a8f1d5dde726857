package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// simHost is one host: a runtime on a disk, with the parts that take turns.
type simHost struct {
	w       *fullWorld
	slot    int
	id      smr.ReplicaID
	members smr.Configuration
	life    uint32
	clock   clock

	mem   *vfs.Mem
	ghost *ghost
	rng   *rand.Rand
	rt    *host.Runtime // nil: down
	at    []*seat       // by group
	// due is when each part takes its next turn: shard, syncer, fetcher and job
	// of each shard, then the workers.
	due         []smr.Instant
	untold      []bool // by shard: it has not heard of the newest sync yet
	pausedUntil smr.Instant

	// crashIn counts down the operations on the log until the power goes; zero:
	// it stays. Then frozen is what the disk holds, and dead is set.
	crashIn int
	frozen  *vfs.Mem
	dead    bool
	full    bool // the disk has no room
	// fuse, if not nil, is the operation at which the power is taken.
	// burnt is the operation at which it went last.
	fuse  *Fuse
	burnt vfs.Op
	// hurt says that a fault was put into the log, so that its failure is no
	// surprise; logFailed that it failed.
	hurt, logFailed bool
	damage
	// outsider is what stays wrong with it outside of the core; flaps is its cut,
	// drift its clock's.
	outsider outsider
	flaps    int32
	slow     bool // in turns, syncs and applies
	drift    int64
	// moved is what the life has sent and received of snapshots, sent the blocks sent.
	moved, sent uint64
	// named is the name that an image had before it got its final one, the last time.
	named string
	// newer: the life is of a newer version. garbled counts the frames that have
	// reached it garbled.
	newer   bool
	garbled uint64
}

// seat is a host's replica of one group.
type seat struct {
	group   *simGroup
	handle  *host.Group
	machine watched
	flushed *machine
	status  host.Status
	// restores counts the states that it has taken in.
	restores int
}

// partsPerShard is how many parts of a shard take turns.
const partsPerShard = 4

func newSimHost(w *fullWorld, slot int, members smr.Configuration) *simHost {
	h := &simHost{w: w, slot: slot, id: smr.ReplicaID(slot + 1), members: members, mem: vfs.NewMem()}
	h.ghost = newGhost(h)
	h.rng = rand.New(rand.NewPCG(w.seed, uint64(slot)))
	for _, g := range w.groups {
		st := &seat{group: g}
		if w.features.durableMachine {
			st.flushed = &machine{}
		}
		h.at = append(h.at, st)
	}
	return h
}

// Before implements vfs.Policy: the faults of the disk. Those of pebble's files
// are pebble's business; here it is the log that is looked at.
func (h *simHost) Before(op vfs.Op) vfs.Verdict {
	w := h.w
	if !strings.Contains(op.Path, logDir) {
		return vfs.Verdict{}
	}
	if h.dead {
		return vfs.Verdict{Err: errGone}
	}
	if !op.Kind.Mutates() {
		return vfs.Verdict{}
	}
	if h.crashIn > 0 {
		if h.crashIn--; h.crashIn == 0 {
			h.loseDisk()
			return vfs.Verdict{Err: errGone}
		}
	}
	if h.burns(op) {
		return vfs.Verdict{Err: errGone}
	}
	if w.phase != phaseChaos && h.outsider == outsiderNone {
		return h.spoilt(op)
	}
	switch op.Kind {
	case vfs.OpSync, vfs.OpSyncDir:
		fails := w.full.syncFailPermille
		if h.outsider == outsiderSyncsFail {
			fails = 100
		}
		if w.diskR.permille(fails) {
			h.hurt = true
			w.marks.hit(MarkSyncFailed)
			return vfs.Verdict{Err: syscall.EIO}
		}
	case vfs.OpWrite, vfs.OpCreate, vfs.OpReserve:
		if h.full {
			h.hurt = true
			w.marks.hit(MarkDiskFull)
			return vfs.Verdict{Err: syscall.ENOSPC, Partial: w.diskR.n(2000)}
		}
	}
	return h.spoilt(op)
}

func (h *simHost) spoilt(op vfs.Op) vfs.Verdict {
	if !h.may {
		return vfs.Verdict{}
	}
	return h.spoil(op)
}

// logDir is where the hosts' logs are; pebble's stores are elsewhere.
const logDir = "wal"

func (h *simHost) config() host.Config {
	f := &h.w.features
	rc := f.config()
	if !h.w.byHand {
		rc.ClockDriftMax = max(rc.ClockDriftMax, outsiderDriftPPM)
	}
	c := host.Config{
		ID: h.id, Cluster: 7, Incarnation: uint64(h.id), Dir: logDir, FS: ghostFS{vfs.NewFault(h.mem, h, nil), h.ghost},
		ElectionTimeout: f.electionTimeout, HeartbeatInterval: f.electionTimeout / time.Duration(max(f.heartbeats, 2)),
		RequestTimeout: h.w.timeouts(20), Shards: h.w.full.shards, SegmentBytes: h.w.full.segmentBytes,
		Snapshots: h.snapshots(), Raft: rc, NoRest: !f.rest, Logger: slog.New(&ear{h: h}),
	}
	h.w.full.load.limit(&c)
	return c
}

// restart opens the host on what its disk holds.
func (w *fullWorld) restart(h *simHost) {
	if h.gone {
		return
	}
	h.life++
	h.dead, h.frozen, h.logFailed, h.hurt = false, nil, false, h.afflicted()
	drift := w.features.clockDriftPPM
	h.clock = clock{offset: smr.Instant(w.clockR.between(0, time.Hour)), ppm: int64(w.clockR.n(2*drift+1) - drift)}
	if h.outsider == outsiderDrifts {
		h.clock.ppm = h.drift
	}
	h.pausedUntil, h.moved, h.sent, h.named, h.garbled = 0, 0, 0, "", 0
	if !w.byHand {
		h.drawVersion()
	}
	h.due = make([]smr.Instant, partsPerShard*w.full.shards+w.workers())
	h.untold = make([]bool, w.full.shards)
	for i := range h.due {
		h.due[i] = smr.Never
	}
	h.crashIn = 0
	if w.phase == phaseChaos && w.nemesis.permille(w.full.crashOpPermille) {
		h.crashIn = 1 + w.nemesis.n(w.full.crashOpMax)
	}
	if w.phase == phaseChaos && !w.byHand {
		h.fuse = w.drawFuse()
	}
	w.trace(Event{Kind: EventRestart, Replica: h.id})
	w.note(0xa1, uint64(h.id), uint64(h.life), 0)
	if err := h.open(); err != nil {
		if !h.dead && !h.hurt {
			w.fail(Contract, ids(h.id), "does not start from its disk: %v", err)
			return
		}
		w.trace(Event{Kind: EventLog, Replica: h.id, Text: fmt.Sprintf("does not start: %v", err)})
		if !h.dead && h.afflicted() && errors.Is(err, smr.ErrCorrupt) {
			w.marks.hit(MarkDamageRefused)
			h.gone = true
		}
		w.crash(h, true)
		if !w.byHand {
			w.restartIn(h, w.nemesis.between(0, w.timeouts(1)))
		}
		return
	}
	w.marks.hit(MarkReplay)
	w.checkReturn(h)
	for i := range w.full.shards {
		h.schedule(partsPerShard*i, w.now)
	}
}

func (h *simHost) open() error {
	w, shards := h.w, h.w.full.shards
	rt, err := host.NewRuntime(h.config(), host.Env{
		Sender: sender{h: h, life: h.life}, Seed: w.clockR.next(), Without: w.without,
		WakeShard:   h.waker(func(n int) int { return partsPerShard * n }),
		WakeSyncer:  h.waker(func(n int) int { return partsPerShard*n + 1 }),
		WakeFetcher: h.waker(func(n int) int { return partsPerShard*n + 2 }),
		WakeJob:     h.waker(func(n int) int { return partsPerShard*n + 3 }),
		WakeWorker:  h.waker(func(n int) int { return partsPerShard*shards + n }),
	})
	if err != nil {
		return err
	}
	for _, st := range h.at {
		st.machine = h.newMachine(st)
		st.handle, err = rt.StartGroup(host.GroupConfig{ID: st.group.id, Members: h.members, Machine: st.machine}, h.local())
		if err != nil {
			_ = rt.Close()
			return err
		}
		st.status = host.Status{}
	}
	h.rt = rt
	return nil
}

func (h *simHost) newMachine(st *seat) watched {
	life := h.life
	watch := func(e *smr.Entry, state uint64) {
		if h.life != life {
			return
		}
		h.w.checkApply(h, st.group, e)
		st.group.applied(h.id, e, state, st.handle.Status().Term)
		h.w.trace(Event{Kind: EventApply, Replica: h.id, Index: e.Index, Term: e.Term, Count: uint64(st.group.id)})
	}
	if h.w.full.pebble {
		h.w.marks.hit(MarkPebble)
		return newPebbleMachine(h, st, watch)
	}
	if st.flushed != nil && st.flushed.applied > 0 {
		h.w.marks.hit(MarkDurableMachine)
	}
	r := &registers{watch: watch, flushed: st.flushed, rng: &h.w.turnR, padding: h.w.full.snapshots.padding, restored: h.restored(st, life), disk: &stateDisk{h: h}}
	if st.flushed != nil {
		return durableRegisters{r}
	}
	return r
}

func (h *simHost) local() smr.Instant { return h.clock.local(h.w.now) }

// waker schedules the part of that number when the runtime says that it has
// work.
func (h *simHost) waker(part func(number int) int) func(int) {
	life := h.life
	return func(number int) {
		if h.life != life {
			return
		}
		p := part(number)
		h.schedule(p, h.w.now.Add(h.waits(p)))
	}
}

// waits draws how long a part lets wait.
func (h *simHost) waits(part int) time.Duration { return h.slowed(h.drawWait(part)) }

func (h *simHost) drawWait(part int) time.Duration {
	w, f := h.w, &h.w.features
	switch {
	case part >= partsPerShard*w.full.shards:
		return w.turnR.between(0, f.applyDelayMax) + w.applyStall()
	case part%partsPerShard == 0:
		return w.turnR.between(f.turnDelayMax/100, f.turnDelayMax)
	case part%partsPerShard == 1 && h.stalled():
		return w.diskR.between(f.electionTimeout/2, w.timeouts(3))
	case w.phase == phaseChaos && w.diskR.permille(f.stallPermille):
		w.marks.hit(MarkStall)
		return w.diskR.between(f.syncMax, f.stallMax)
	default:
		return w.diskR.between(f.syncMin, f.syncMax)
	}
}

// schedule gives a part its turn at that time, unless it has an earlier one.
func (h *simHost) schedule(part int, at smr.Instant) {
	if at >= h.due[part] {
		return
	}
	h.due[part] = at
	h.w.queue.push(occurrence{at: max(at, h.w.now), what: whatLoop, who: uint8(h.slot), ref: int32(part), life: h.life})
}

func (w *fullWorld) hostActs(h *simHost, o *occurrence) {
	switch {
	case o.what == whatRestart:
		if h.rt == nil && o.life == h.life {
			w.restart(h)
		}
		return
	case o.what == whatTrouble:
		w.trouble(h)
		return
	case o.what == whatRoom && h.outsider == outsiderFull:
		return
	case o.what == whatRoom:
		h.full = false
		return
	case o.life != h.life || h.rt == nil:
		return
	}
	if w.now < h.pausedUntil {
		later := *o
		later.at = h.pausedUntil
		if o.what == whatLoop && h.due[o.ref] == o.at {
			h.due[o.ref] = later.at
		}
		w.queue.push(later)
		return
	}
	switch o.what {
	case whatHunt:
		w.hunt(h, o.ref)
	case whatPeerDown:
		h.rt.PeerDown(smr.ReplicaID(o.ref + 1))
	case whatTold:
		w.told(h, int(o.ref))
	case whatLoop:
		w.loop(h, int(o.ref), o.at)
	}
}

// loop lets a part take its turn, and looks at what came of it.
func (w *fullWorld) loop(h *simHost, part int, at smr.Instant) {
	if h.due[part] != at && h.due[part] > w.now {
		return // it has had this turn already
	}
	h.due[part] = smr.Never
	shards := w.full.shards
	switch {
	case part >= partsPerShard*shards:
		h.rt.Workers()[part-partsPerShard*shards].Turn()
	case part%partsPerShard == 1:
		w.sync(h, part/partsPerShard)
	case part%partsPerShard == 2:
		h.rt.Shards()[part/partsPerShard].Fetcher().Turn()
		w.marks.hit(MarkFetchFollower)
	case part%partsPerShard == 3:
		j := h.rt.Shards()[part/partsPerShard].Job()
		now := h.local()
		if next := j.Turn(now); next <= now || j.HasWork() {
			h.schedule(part, w.now.Add(h.waits(part)))
		} else if next != smr.Never {
			h.schedule(part, max(h.clock.world(next), w.now.Add(time.Microsecond)))
		}
		w.jobDone(h)
		if h.rt == nil {
			return
		}
	default:
		s := h.rt.Shards()[part/partsPerShard]
		next := s.Turn(h.local())
		if s.HasWork() {
			h.schedule(part, w.now.Add(h.waits(part)))
		} else if next != smr.Never {
			h.schedule(part, max(h.clock.world(next), w.now.Add(time.Microsecond)))
		}
	}
	if h.dead {
		w.crash(h, true)
		if !w.byHand {
			w.restartIn(h, w.nemesis.between(0, w.outage(2)))
		}
		return
	}
	if h.logFailed {
		// An operator's supervisor starts it again; the machine went on.
		w.crash(h, false)
		w.restartIn(h, w.nemesis.between(w.features.electionTimeout/10, w.timeouts(2)))
		return
	}
	for _, st := range h.at {
		w.observe(h, st)
	}
}

// observe checks what a replica says of itself after a turn.
func (w *fullWorld) observe(h *simHost, st *seat) {
	now, was := st.handle.Status(), st.status
	st.status = now
	if now == was {
		return
	}
	if now.Term < was.Term || now.Commit < was.Commit || now.Applied < was.Applied {
		w.fail(Monotonic, ids(h.id), "group %d goes from %+v back to %+v", st.group.id, was, now)
	}
	if now.Commit > now.Last || now.Commit > now.Persisted && w.features.replicas == 1 {
		w.fail(Watermarks, ids(h.id), "group %d: %+v", st.group.id, now)
	}
	if applied, _ := st.machine.position(); applied > now.Commit {
		w.fail(Watermarks, ids(h.id), "group %d has applied %d, commit index %d", st.group.id, applied, now.Commit)
	}
	if l := &h.ghost.logs[st.group.id-1]; now.Persisted > l.last() {
		st.group.fail(Unpersisted, ids(h.id), "takes entries up to %d for persisted, on its disk the log ends at %d", now.Persisted, l.last())
	}
	if now.Commit != was.Commit {
		w.checkCommit(h, st.group, now.Term, now.Commit)
		w.trace(Event{Kind: EventCommit, Replica: h.id, Index: now.Commit, Count: uint64(st.group.id)})
	}
	if now.Role == was.Role && now.Term == was.Term {
		return
	}
	w.note(0xb1, uint64(h.id), now.Term, uint64(now.Role))
	w.trace(Event{Kind: EventRole, Replica: h.id, Role: now.Role, Term: now.Term, Count: uint64(st.group.id)})
	if was.Role == raft.Leader && now.Role != raft.Leader {
		w.marks.hit(MarkLeaderStepDown)
	}
	if now.Role == raft.Leader && st.group.leads(h.id, now.Term) {
		w.marks.hit(MarkElection)
		if h.id == st.group.handedTo {
			w.marks.hit(MarkTransferred)
		}
		st.group.handedTo = 0
		w.checkLeases(h, st.group, now.Term)
		w.elected(h)
	}
}

// crash ends a host: the machine, or its process alone.
func (w *fullWorld) crash(h *simHost, power bool) {
	next := h.frozen
	if next == nil && power {
		next = h.mem.Crash(h.rng, w.full.keepPercent)
	} else if next == nil {
		next = h.mem.Crash(nil, 100)
	}
	w.marks.hit(MarkCrash)
	w.note(0xa2, uint64(h.id), 0, 0)
	w.trace(Event{Kind: EventCrash, Replica: h.id})
	w.net.drop(h.slot, !power)
	h.close()
	h.spoilCrash(next)
	h.mem, h.fuse = next, nil
}

// close lets go of a runtime whose time is over. Whatever it still says or
// writes reaches nobody.
func (h *simHost) close() {
	h.life++
	h.dead = true
	if h.rt == nil {
		return
	}
	s := h.rt.Stats()
	h.badFrames(s.BadFrames)
	h.w.snapshotMarks(&s)
	h.w.restMarks(h)
	h.w.marks[MarkLeaseRead] += s.LeaseReads
	h.w.marks[MarkForwarded] += s.Forwarded
	h.w.marks[MarkFrameDropped] += s.DroppedFrames
	h.w.marks[MarkReproposed] += s.Reproposed
	h.w.marks[MarkSegment] += uint64(s.Log.Recycled)
	_ = h.rt.Close()
	h.rt = nil
}

func (w *fullWorld) restartIn(h *simHost, d time.Duration) {
	w.queue.push(occurrence{at: w.now.Add(d), what: whatRestart, who: uint8(h.slot), life: h.life})
}

func (w *fullWorld) crashFor(h *simHost, d time.Duration) {
	if h.rt == nil {
		return
	}
	w.crash(h, !w.nemesis.permille(w.full.killPermille))
	w.restartIn(h, d)
}

// ear hears what a host logs: that a shard or a replica of a group has stopped.
type ear struct{ h *simHost }

// Enabled implements slog.Handler.
func (e *ear) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle implements slog.Handler.
func (e *ear) Handle(_ context.Context, r slog.Record) error {
	h := e.h
	if h.dead {
		return nil
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	h.w.trace(Event{Kind: EventLog, Replica: h.id, Text: text})
	switch {
	case strings.HasPrefix(r.Message, "the shard has stopped"):
		h.logFailed = true
		if !h.hurt {
			h.w.fail(Contract, ids(h.id), "the log failed without a fault: %s", text)
		}
	case strings.HasPrefix(r.Message, "the log is damaged"):
		h.w.marks.hit(MarkDamageRead)
		if !h.afflicted() {
			h.w.fail(Contract, ids(h.id), "%s", text)
		}
	case strings.HasPrefix(r.Message, "this replica of the group has stopped"):
		if h.afflicted() {
			h.w.marks.hit(MarkDamageStopped)
			break
		}
		h.w.fail(Invariant, ids(h.id), "%s", text)
	case strings.HasPrefix(r.Message, "a peer sent a frame that cannot be read") && h.garbled > 0:
	case strings.HasPrefix(r.Message, "a snapshot") && !h.hurt:
		h.w.fail(Contract, ids(h.id), "%s", text)
	case strings.Contains(r.Message, "cannot be read") && !h.afflicted() && !strings.HasPrefix(r.Message, "a snapshot"):
		h.w.fail(Contract, ids(h.id), "%s", text)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (e *ear) WithAttrs([]slog.Attr) slog.Handler { return e }

// WithGroup implements slog.Handler.
func (e *ear) WithGroup(string) slog.Handler { return e }
