package sim

import (
	"errors"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// replica is one core with its disk, its clock and its state machine.
//
// Invariants: (1) log is what the core's log must be: every change of it passes
// through Output. (2) machine.applied ≤ commit. (3) turnDue says that the queue
// holds a whatTurn of this life; tickAt is when its next whatTick comes.
type replica struct {
	slot int
	id   smr.ReplicaID
	core *raft.Raft // nil: down
	out  raft.Output
	life uint32

	log     entryLog
	hs      smr.HardState
	state   raft.State
	disk    disk
	machine machine
	clock   clock

	// listening stands in for its host; resting is whether the core rested after
	// its last turn.
	listening listening
	resting   bool

	turnDue     bool
	tickAt      smr.Instant
	pausedUntil smr.Instant
	// backlog are committed entries that the state machine has not got to yet.
	backlog  []smr.Entry
	applying bool

	waiters []waiter
	tickets []ticket
	fetches []raft.Fetch
	votes   []vote
	// image is the newest image of the machine, incoming one that the core was
	// offered.
	image, incoming *image
}

// vote is a vote that a replica has spoken of: it holds across restarts.
type vote struct {
	term      uint64
	candidate smr.ReplicaID
}

// machine is the replicated state: registers, and a digest of everything
// applied so far.
type machine struct {
	applied uint64
	digest  uint64
	regs    [keysMax]uint64
}

// keysMax bounds the registers of a world.
const keysMax = 8

// image is a snapshot of a machine on disk.
type image struct {
	meta    smr.SnapshotMeta
	machine machine
}

func (m *machine) apply(e *smr.Entry) {
	m.applied = e.Index
	m.digest = mix64(m.digest ^ hashEntry(e) ^ e.Term<<40 ^ e.Index)
	if e.Kind == smr.KindCommand && len(e.Data) >= commandBytesMin {
		if k := commandKey(e.Data); k < keysMax {
			m.regs[k] = commandID(e.Data)
		}
	}
}

func newReplica(slot int, f *features) *replica {
	return &replica{
		slot: slot, id: smr.ReplicaID(slot + 1), tickAt: smr.Never,
		disk: disk{
			latencyMin: f.syncMin, latencyMax: f.syncMax,
			stallPermille: f.stallPermille, stallMax: f.stallMax, keepPermille: f.keepPermille,
		},
	}
}

// restart starts r from its disk.
func (w *world) restart(r *replica) {
	d := &r.disk
	r.life++
	r.log = entryLog{start: d.log.start, entries: append(r.log.entries[:0], d.log.entries...)}
	r.hs = d.hs
	r.machine, r.image, r.incoming = machine{}, d.image, nil
	if d.image != nil {
		r.machine = d.image.machine
		w.marks.hit(MarkDurableMachine)
	}
	if r.life > 1 && d.log.last() > r.machine.applied {
		w.marks.hit(MarkReplay)
	}
	drift := w.features.clockDriftPPM
	r.clock = clock{offset: smr.Instant(w.clockR.between(0, time.Hour)), ppm: int64(w.clockR.n(2*drift+1) - drift)}
	r.turnDue, r.tickAt, r.pausedUntil, r.applying = false, smr.Never, 0, false
	r.backlog, r.waiters, r.tickets, r.fetches = r.backlog[:0], r.waiters[:0], r.tickets[:0], r.fetches[:0]
	r.listening, r.resting = listening{}, false
	cfg := w.features.config()
	cfg.ID, cfg.Seed = r.id, w.clockR.next()
	start := raft.Start{LogState: d.log.state(d.hs, w.features.tailOnRestart), Applied: max(r.machine.applied, d.log.start.Index)}
	core, err := raft.New(cfg, start, w.local(r), w.options...)
	if err != nil {
		w.fail(Contract, ids(r.id), "does not start from its disk: %v", err)
		return
	}
	r.core = core
	core.Clock(w.local(r))
	r.state = core.State()
	w.note(0xa1, uint64(r.id), r.hs.Term, r.log.last())
	w.trace(Event{Kind: EventRestart, Replica: r.id, Term: r.hs.Term, Index: r.log.last()})
	for i := range r.listening {
		r.listening[i].heard = w.local(r)
	}
	if w.features.rest && !w.unvouched {
		w.queue.push(occurrence{at: w.now, what: whatPulse, who: uint8(r.slot), life: r.life})
	}
	w.touch(r)
}

// crash stops r at once. What was not synced is kept or lost as the disk draws.
func (w *world) crash(r *replica) {
	if r.core == nil {
		return
	}
	busy := r.disk.syncing > 0
	kept, lost, err := r.disk.crash(&w.diskR)
	if err != nil {
		w.fail(Contract, ids(r.id), "writes to its log: %v", err)
	}
	w.marks.hit(MarkCrash)
	if kept > 0 {
		w.marks.hit(MarkCrashKeptWrite)
	}
	if lost > 0 {
		w.marks.hit(MarkCrashLostWrite)
	}
	if busy {
		w.marks.hit(MarkCrashMidSync)
	}
	r.core, r.life = nil, r.life+1
	w.note(0xa2, uint64(r.id), uint64(kept), uint64(lost))
	w.trace(Event{Kind: EventCrash, Replica: r.id})
}

// crashFor stops r and starts it again after d.
func (w *world) crashFor(r *replica, d time.Duration) {
	if r.core == nil {
		return
	}
	w.crash(r)
	w.queue.push(occurrence{at: w.now.Add(d), what: whatRestart, who: uint8(r.slot), life: r.life})
}

func (w *world) pause(r *replica, d time.Duration) {
	if r.core == nil || w.now < r.pausedUntil {
		return
	}
	r.pausedUntil = w.now.Add(d)
	w.marks.hit(MarkPause)
	w.trace(Event{Kind: EventPause, Replica: r.id})
	w.queue.push(occurrence{at: r.pausedUntil, what: whatResume, who: uint8(r.slot), life: r.life})
}

func (w *world) resume(r *replica) {
	if w.now >= r.pausedUntil {
		w.trace(Event{Kind: EventResume, Replica: r.id})
	}
}

// touch gives r a turn: at once, or after what the seed drew for its loop.
func (w *world) touch(r *replica) {
	if r.turnDue || w.found != nil {
		return
	}
	if d := w.features.turnDelayMax; d > 0 {
		r.turnDue = true
		w.queue.push(occurrence{at: w.now.Add(w.turnR.between(0, d)), what: whatTurn, who: uint8(r.slot), life: r.life})
		return
	}
	w.turn(r)
}

// turn takes what the core wants done, checks it, and does it.
func (w *world) turn(r *replica) {
	for again := true; again && w.found == nil; {
		r.core.Take(&r.out)
		o := &r.out
		before := r.state
		r.state = r.core.State()
		w.takeLog(r, o, &before)
		w.takeRole(r, &before)
		w.takeRest(r, &before)
		w.takeCommit(r, &before)
		for i := range o.Messages {
			w.checkMessage(r, &o.Messages[i])
			w.send(&o.Messages[i])
		}
		again = w.takeCommitted(r, o) || o.More
		w.takeReads(r, o)
		w.takeFetches(r, o)
		for _, to := range o.Snapshots {
			w.sendImage(r, to)
		}
	}
	w.beginSync(r)
	w.alarm(r)
}

// takeLog follows the writes into the world's copy of the log and to the disk.
func (w *world) takeLog(r *replica, o *raft.Output, before *raft.State) {
	if o.Restore != nil {
		w.restored(r, o.Restore)
	}
	a := &o.Append
	if a.Seq == 0 {
		if len(a.Entries) > 0 || a.HardStateSet {
			w.fail(Contract, ids(r.id), "a write without a number")
		}
		return
	}
	if a.HardStateSet {
		w.checkHardState(r, a.HardState)
		r.hs = a.HardState
	}
	if n := len(a.Entries); n > 0 {
		first := a.Entries[0].Index
		if before.Role == raft.Leader && r.state.Role == raft.Leader && before.Term == r.state.Term && first != r.log.last()+1 {
			w.fail(LeaderAppendOnly, ids(r.id), "the leader of term %d writes at %d, its log ends at %d", r.state.Term, first, r.log.last())
		}
		truncated, err := r.log.put(appendCopies(nil, a.Entries))
		if err != nil {
			w.fail(Contract, ids(r.id), "%v", err)
			return
		}
		if truncated {
			w.marks.hit(MarkTruncation)
		}
		for i := range a.Entries {
			e := &a.Entries[i]
			if e.Index != first+uint64(i) {
				w.fail(Contract, ids(r.id), "entries of a write jump from %d to %d", first+uint64(i)-1, e.Index)
				return
			}
			w.appended(r.id, e, r.log.term(e.Index-1))
		}
		w.trace(Event{Kind: EventAppend, Replica: r.id, Index: first, Count: uint64(n), Term: a.Entries[n-1].Term})
	}
	r.disk.add(a)
}

// takeRole watches elections.
func (w *world) takeRole(r *replica, before *raft.State) {
	s := &r.state
	if s.Role == before.Role && s.Term == before.Term {
		return
	}
	if s.Term > before.Term {
		w.marks.hit(MarkTermRaised)
	}
	w.note(0xb1, uint64(r.id), s.Term, uint64(s.Role))
	w.trace(Event{Kind: EventRole, Replica: r.id, Role: s.Role, Term: s.Term})
	if before.Role == raft.Leader && s.Role != raft.Leader {
		w.marks.hit(MarkLeaderStepDown)
	}
	if s.Role == raft.Leader && w.leads(r.id, s.Term) {
		w.marks.hit(MarkElection)
		w.complete(r.id, s.Term, &r.log)
		w.checkLeases(r)
		w.elected(r)
	}
}

// takeCommit watches the commit index.
func (w *world) takeCommit(r *replica, before *raft.State) {
	s := &r.state
	w.checkState(r, before)
	if s.Commit == before.Commit {
		return
	}
	w.trace(Event{Kind: EventCommit, Replica: r.id, Index: s.Commit})
	for i := w.maxCommit + 1; i <= s.Commit && w.found == nil; i++ {
		w.checkQuorum(r, i)
	}
	w.maxCommit = max(w.maxCommit, s.Commit)
}

// takeCommitted hands committed entries to the state machine. It reports
// whether it told the core of anything.
func (w *world) takeCommitted(r *replica, o *raft.Output) bool {
	if len(o.Committed) == 0 {
		return false
	}
	w.checkCommitted(r, o.Committed)
	if w.found != nil {
		return false
	}
	d := w.features.applyDelayMax
	if d == 0 && !r.applying {
		for i := range o.Committed {
			w.apply(r, &o.Committed[i])
		}
		r.core.Applied(r.machine.applied)
		return true
	}
	r.backlog = append(r.backlog, o.Committed...)
	if !r.applying {
		r.applying = true
		w.queue.push(occurrence{at: w.now.Add(w.turnR.between(0, d)), what: whatApply, who: uint8(r.slot), life: r.life})
	}
	return false
}

// applyDone applies some of the backlog.
func (w *world) applyDone(r *replica) {
	r.applying = false
	if len(r.backlog) == 0 {
		return // a snapshot has overtaken it
	}
	n := 1 + w.turnR.n(len(r.backlog))
	for i := range r.backlog[:n] {
		w.apply(r, &r.backlog[i])
	}
	left := copy(r.backlog, r.backlog[n:])
	clear(r.backlog[left:])
	r.backlog = r.backlog[:left]
	if left > 0 {
		r.applying = true
		w.queue.push(occurrence{at: w.now.Add(w.turnR.between(0, w.features.applyDelayMax)), what: whatApply, who: uint8(r.slot), life: r.life})
	}
	r.core.Applied(r.machine.applied)
	w.touch(r)
}

func (w *world) apply(r *replica, e *smr.Entry) {
	if e.Index != r.machine.applied+1 {
		w.fail(Contract, ids(r.id), "is to apply entry %d after %d", e.Index, r.machine.applied)
		return
	}
	r.machine.apply(e)
	w.applied(r.id, e, r.machine.digest, r.state.Term)
	w.trace(Event{Kind: EventApply, Replica: r.id, Index: e.Index, Term: e.Term})
	w.answerWriters(r, e)
	w.answerReaders(r)
	if w.features.durableMachine && w.turnR.permille(100) {
		w.flush(r)
	}
}

// flush makes the state machine durable as it is, as a storage engine does on
// its own.
func (w *world) flush(r *replica) {
	r.disk.image = &image{machine: r.machine, meta: smr.SnapshotMeta{Index: r.machine.applied, Term: r.log.termOrZero(r.machine.applied), Configuration: w.config}}
}

func (w *world) beginSync(r *replica) {
	if d, ok := r.disk.begin(&w.diskR, &w.marks); ok {
		if w.phase == phaseChaos && w.nemesis.permille(w.features.syncCutPermille) {
			w.queue.push(occurrence{at: w.now.Add(w.nemesis.between(0, d)), what: whatHunt, who: uint8(r.slot), ref: huntDisk, life: r.life})
		}
		w.queue.push(occurrence{at: w.now.Add(d), what: whatSync, who: uint8(r.slot), life: r.life})
	}
}

// synced ends a sync. The core hears of it when its host is not paused; that
// is close enough, for the disk needs nobody.
func (w *world) synced(r *replica) {
	seq, err := r.disk.finish()
	if err != nil {
		w.fail(Contract, ids(r.id), "writes to its log: %v", err)
		return
	}
	w.trace(Event{Kind: EventPersist, Replica: r.id, Index: r.disk.log.last()})
	if seq > 0 {
		r.core.Persisted(seq)
	}
	w.beginSync(r)
	w.touch(r)
}

// alarm asks for a tick at the core's deadline.
func (w *world) alarm(r *replica) {
	if r.core == nil || w.found != nil {
		return
	}
	at := r.clock.world(r.core.Deadline())
	if at >= r.tickAt || at == smr.Never {
		return
	}
	at = max(at, w.now)
	r.tickAt = at
	w.queue.push(occurrence{at: at, what: whatTick, who: uint8(r.slot), life: r.life})
}

func (w *world) takeFetches(r *replica, o *raft.Output) {
	for _, f := range o.Fetches {
		if f.To == r.id {
			w.marks.hit(MarkFetchSelf)
		} else {
			w.marks.hit(MarkFetchFollower)
		}
		slot := -1
		for i := range r.fetches {
			if r.fetches[i].To == 0 {
				slot = i
			} else if r.fetches[i].To == f.To {
				w.fail(Contract, ids(r.id), "two fetches for %d are open", f.To)
			}
		}
		if slot < 0 {
			r.fetches = append(r.fetches, raft.Fetch{})
			slot = len(r.fetches) - 1
		}
		r.fetches[slot] = f
		w.queue.push(occurrence{at: w.now.Add(w.diskR.between(w.features.syncMin, w.features.syncMax)), what: whatFetch, who: uint8(r.slot), ref: int32(slot), life: r.life})
	}
}

// errCompacted is what the log says of entries that it no longer holds.
var errCompacted = errors.New("compacted")

// fetched reads entries back from the disk.
func (w *world) fetched(r *replica, slot int32) {
	f := r.fetches[slot]
	r.fetches[slot] = raft.Fetch{}
	l := &r.disk.log
	if f.First <= l.start.Index || f.First > l.last() {
		r.core.Fetched(f.To, nil, errCompacted)
		w.touch(r)
		return
	}
	var entries []smr.Entry
	size := 0
	for i := f.First; i <= min(f.Last, l.last()); i++ {
		e := l.at(i)
		if size += e.Size(); size > f.BytesMax && len(entries) > 0 {
			break
		}
		entries = append(entries, *e)
	}
	r.core.Fetched(f.To, entries, nil)
	w.touch(r)
}
