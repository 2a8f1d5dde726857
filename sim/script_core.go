package sim

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// scriptCore is a script's world of bare cores.
type scriptCore struct {
	*world
	script *Script
}

func (s *Script) buildCore() error {
	o := &s.options
	f := scriptFeatures(o)
	w := &world{
		features: f, clockR: fork(o.Seed, 4), diskR: fork(o.Seed, 5), turnR: fork(o.Seed, 6),
		common: newCommon(o.Seed, &Options{Skip: o.Skip, Tracer: syncCounter{o.Tracer, s}}),
	}
	w.net = network{rng: fork(o.Seed, 3), delayMin: f.delayMin, delayMax: f.delayMax, inOrder: true}
	w.unvouched = slices.Contains(o.Without, "pulse")
	var err error
	if w.options, err = coreOptions(o.Without); err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	for i := range f.replicas {
		w.voters |= 1 << i
		w.config.Members = append(w.config.Members, smr.Member{ID: smr.ReplicaID(i + 1), Role: smr.Voter})
	}
	s.common, s.driver = &w.common, &scriptCore{w, s}
	known := map[[2]uint64]smr.Entry{}
	for i := range w.config.Members {
		r := newReplica(i, &f)
		r.disk.log.start.Configuration = w.config
		w.replicas = append(w.replicas, r)
		if err := w.preset(r, o.Logs[r.id], o.Terms[r.id], known); err != nil {
			return err
		}
		w.queue.push(occurrence{what: whatRestart, who: uint8(i)})
	}
	return nil
}

// preset puts entries of the given terms on a replica's disk. Entries of the
// same index and term are the same on all.
func (w *world) preset(r *replica, terms []uint64, term uint64, known map[[2]uint64]smr.Entry) error {
	prev := uint64(0)
	for i, t := range terms {
		index := uint64(i + 1)
		if t < prev || t == 0 {
			return fmt.Errorf("%w: in the log of replica %d entry %d of term %d follows one of term %d", ErrOptions, r.id, index, t, prev)
		}
		e, ok := known[[2]uint64{index, t}]
		if !ok {
			w.commandIDs++
			e = smr.Entry{Index: index, Term: t, Kind: smr.KindCommand, Data: appendCommand(nil, w.commandIDs, keysMax, commandBytesMin)}
			known[[2]uint64{index, t}] = e
		}
		w.appended(r.id, &e, prev)
		r.disk.log.entries = append(r.disk.log.entries, e)
		prev = t
	}
	if w.found != nil {
		return fmt.Errorf("%w: no run of Raft leads to these logs: %w", ErrOptions, w.found)
	}
	r.disk.hs.Term = max(term, prev)
	return nil
}

// syncCounter counts syncs on their way to a tracer.
type syncCounter struct {
	next Tracer
	s    *Script
}

// Trace implements Tracer.
func (c syncCounter) Trace(e *Event) {
	if e.Kind == EventPersist {
		c.s.syncs++
	}
	if c.next != nil {
		c.next.Trace(e)
	}
}

func (d *scriptCore) links() *links { return &d.net.links }

func (d *scriptCore) view(id smr.ReplicaID, v *View) {
	r := d.replicas[id-1]
	log := &r.log
	if v.Up = r.core != nil; v.Up {
		st := &r.state
		v.Role, v.Term, v.Leader = st.Role, st.Term, st.Leader
		v.Commit, v.Persisted, v.Last = st.Commit, st.Persisted, st.Last
		v.Applied, v.Digest = r.machine.applied, r.machine.digest
		v.Resting = r.core.Resting()
	} else {
		log = &r.disk.log
		v.Term, v.Last, v.Persisted = r.disk.hs.Term, log.last(), log.last()
	}
	for i := range log.entries {
		e := &log.entries[i]
		v.Log = append(v.Log, LogEntry{Term: e.Term, Command: commandOf(e)})
	}
}

func commandOf(e *smr.Entry) uint64 {
	if e.Kind != smr.KindCommand || len(e.Data) < commandBytesMin || commandKey(e.Data) == keysMax {
		return 0
	}
	return commandID(e.Data)
}

func letterOf(m *raft.Message) Letter {
	return Letter{Kind: m.Type.String(), From: m.From, To: m.To, Term: m.Term, Message: m}
}

func (d *scriptCore) letters(o *occurrence) []Letter {
	return []Letter{letterOf(&d.net.slab[o.ref])}
}

func (d *scriptCore) strip(o *occurrence, _ int, index uint64) {
	m := &d.net.slab[o.ref]
	d.trace(Event{Kind: EventStrip, Replica: m.From, Peer: m.To, Term: m.Term, Index: index, Message: m})
	strip(m, index)
}

func (d *scriptCore) drop(o *occurrence) {
	d.traceMessage(EventDrop, &d.net.slab[o.ref])
	d.net.release(o.ref)
}

// split is never needed: a core's message travels alone.
func (d *scriptCore) split(o *occurrence, _ func(int) bool) occurrence { return *o }

func (d *scriptCore) free(*occurrence) {}

func (d *scriptCore) renew(*occurrence) {}

func (d *scriptCore) stand(id smr.ReplicaID) {
	r := d.replicas[id-1]
	r.core.Campaign(d.local(r))
	d.touch(r)
}

func (d *scriptCore) transfer(from, to smr.ReplicaID) {
	if r := d.replicas[from-1]; r.core != nil && r.core.Transfer(d.local(r), to) == nil {
		d.touch(r)
	}
}

// holdsTimer: a replica that does not lead has no other timers.
func (d *scriptCore) holdsTimer(o *occurrence) bool {
	if o.what != whatTick {
		return false
	}
	r := d.replicas[o.who]
	if o.life != r.life || r.core == nil || r.state.Role == raft.Leader {
		return false
	}
	r.tickAt = smr.Never
	return true
}

func (d *scriptCore) notice(id, peer smr.ReplicaID) {
	r := d.replicas[id-1]
	if r.core == nil {
		return
	}
	r.core.LeaderLost(d.local(r), peer)
	r.core.Unreachable(d.local(r), peer)
	d.touch(r)
}

func (d *scriptCore) crash(id smr.ReplicaID, power bool) {
	r := d.replicas[id-1]
	d.features.keepPermille, r.disk.keepPermille = 0, 0
	if !power {
		r.disk.keepPermille = 1000
	}
	d.world.crash(r)
}

func (d *scriptCore) restart(id smr.ReplicaID) {
	if r := d.replicas[id-1]; r.core == nil {
		d.world.restart(r)
	}
}

func (d *scriptCore) reason(o *occurrence) pauseReason {
	switch o.what {
	case whatSync:
		return pauseDisk
	case whatApply:
		return pauseApply
	}
	return pauseNone
}

// begin makes a client of its own for each call, so that one may wait while
// another goes on.
func (d *scriptCore) begin(c *Call) error {
	w := d.world
	r := w.replicas[c.Replica-1]
	if r.core == nil {
		return fmt.Errorf("%w: replica %d is down", ErrScript, c.Replica)
	}
	c.slot = len(w.clients)
	cl := newClient(w.seed, c.slot, w.features.electionTimeout)
	w.clients = append(w.clients, cl)
	cl.serial++
	cl.call = call{
		stage: stageWaiting, write: c.Write, key: c.Key, id: c.ID, count: c.Count,
		begin: w.history.tick(), floor: w.floor,
	}
	var err error
	if c.Write {
		err = w.askWrite(cl, r)
	} else {
		err = w.askRead(cl, r)
	}
	if err != nil {
		cl.call.stage = stageIdle
		return err
	}
	w.touch(r)
	return nil
}

func (d *scriptCore) readLocal(id smr.ReplicaID, key byte) (uint64, error) {
	r := d.replicas[id-1]
	if r.core == nil {
		return 0, fmt.Errorf("%w: replica %d is down", ErrScript, id)
	}
	return r.machine.regs[key], nil
}

func (d *scriptCore) poll(c *Call) {
	w := d.world
	cl := w.clients[c.slot]
	switch cl.call.stage {
	case stageWaiting:
		return
	case stageAsking:
		c.State, c.Err = CallRefused, errReplaced
	case stageIdle:
		c.State = CallDone
		for i := len(w.history.ops) - 1; i >= 0 && !c.Write; i-- {
			if op := &w.history.ops[i]; op.client == cl.number {
				c.Value = op.value
				break
			}
		}
	}
	c.Ended = w.now
}

var errReplaced = fmt.Errorf("%w: another entry took the command's place, or the leader lost its office", ErrScript)

func (d *scriptCore) giveUp(c *Call) { d.world.giveUp(d.clients[c.slot]) }

func (d *scriptCore) stepped() {}

func (d *scriptCore) finish() { d.checkHistory() }

func (d *scriptCore) close() {}
