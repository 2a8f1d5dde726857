package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wire"
)

// scriptHosts is a script's world of whole hosts.
type scriptHosts struct {
	*fullWorld
	script *Script
	views  []hostView
	// chain knows of every entry that was in a log which term the one before it
	// has, and which command it holds. The last entry of a log then names the
	// whole log (Raft §5.3, log matching).
	chain map[[2]uint64]link
}

type link struct{ prevTerm, command uint64 }

// hostView is what a replica's log was at the last look.
type hostView struct {
	up             bool
	role           raft.RoleState
	term           uint64
	last, lastTerm uint64
	first          uint64
	snapshots      host.SnapshotStatus
	counts         snapshotCounts
}

func (s *Script) buildHosts() error {
	o := &s.options
	if len(o.Logs)+len(o.Terms) > 0 || o.ManualTimers {
		return fmt.Errorf("%w: logs and timers can be set for cores, not for hosts", ErrOptions)
	}
	d := &scriptHosts{script: s, chain: map[[2]uint64]link{}}
	w := &fullWorld{
		byHand: true, local: newLocalReads(o.Seed),
		features: scriptFeatures(o), clockR: fork(o.Seed, 4), diskR: fork(o.Seed, 5), turnR: fork(o.Seed, 6), faultR: fork(o.Seed, 20), loadR: fork(o.Seed, 27), newerR: fork(o.Seed, 32),
		full:   fullFeatures{groups: 1, shards: 1, segmentBytes: 64 << 10},
		common: newCommon(o.Seed, &Options{Skip: o.Skip, Tracer: chainTracer{o.Tracer, d}}),
	}
	d.fullWorld = w
	o.Snapshots.set(w)
	w.full.keepPercent = o.KeepPercent
	var err error
	if w.without, err = protections(o.Without); err != nil {
		return err
	}
	w.net = wires{w: w, rng: fork(o.Seed, 3)}
	w.groups = []*simGroup{{ledger: w.ledger, id: 1}}
	if w.full.pebble {
		w.groups[0].identify = identifyPut
	}
	var members smr.Configuration
	for i := range o.Replicas {
		members.Members = append(members.Members, smr.Member{ID: smr.ReplicaID(i + 1), Role: smr.Voter})
	}
	for i := range o.Replicas {
		w.hosts = append(w.hosts, newSimHost(w, i, members))
		w.queue.push(occurrence{what: whatRestart, who: uint8(i)})
	}
	d.views = make([]hostView, o.Replicas)
	s.common, s.driver = &w.common, d
	return nil
}

// chainTracer learns the entries from the appends that it sees.
type chainTracer struct {
	next Tracer
	d    *scriptHosts
}

// Trace implements Tracer.
func (c chainTracer) Trace(e *Event) {
	if m := e.Message; e.Kind == EventSend && m != nil && m.Type == raft.MsgAppend {
		prev := m.LogTerm
		for i := range m.Entries {
			x := &m.Entries[i]
			c.d.chain[[2]uint64{x.Index, x.Term}] = link{prev, commandOf(x)}
			prev = x.Term
		}
	}
	if c.next != nil {
		c.next.Trace(e)
	}
}

func (d *scriptHosts) links() *links { return &d.net.links }

func (d *scriptHosts) dispatch(o *occurrence) {
	if o.what == whatLoop && d.isSyncer(o.ref) {
		if h := d.hosts[o.who]; h.rt != nil && o.life == h.life && h.rt.Shards()[0].Syncer().HasWork() {
			d.script.syncs++
		}
	}
	d.fullWorld.dispatch(o)
}

func (d *scriptHosts) isSyncer(part int32) bool { return part == 1 }
func (d *scriptHosts) isWorker(part int32) bool { return part >= partsPerShard }

func (d *scriptHosts) view(id smr.ReplicaID, v *View) {
	h := d.hosts[id-1]
	hv := &d.views[id-1]
	if v.Up = h.rt != nil; v.Up {
		st := h.at[0].handle.Status()
		v.Role, v.Term, v.Leader = st.Role, st.Term, st.Leader
		v.Commit, v.Persisted, v.Last = st.Commit, st.Persisted, st.Last
		v.Applied, v.Digest = h.at[0].machine.position()
		v.Snapshots = hv.snapshots
		v.Resting = d.features.rest && h.at[0].handle.Core().Resting
	} else {
		v.Term, v.Last = hv.term, hv.last
	}
	v.First, v.Taken, v.Installed, v.Resumed = hv.first, hv.counts.taken, hv.counts.installed, hv.counts.resumed
	v.Log = d.log(v.Log, hv.last, hv.lastTerm)
}

// log is the log that ends with an entry of that index and term.
func (d *scriptHosts) log(to []LogEntry, last, term uint64) []LogEntry {
	for range last {
		to = append(to, LogEntry{})
	}
	for i := last; i > 0; i-- {
		l := d.chain[[2]uint64{i, term}]
		to[i-1] = LogEntry{Term: term, Command: l.command}
		term = l.prevTerm
	}
	return to
}

// stepped follows the logs, and checks those of new leaders.
func (d *scriptHosts) stepped() {
	for i, h := range d.hosts {
		was := d.views[i]
		now := hostView{up: h.rt != nil, last: was.last, lastTerm: was.lastTerm, term: was.term, first: was.first}
		if now.up {
			st := h.at[0].handle.Core()
			now.role, now.term, now.last, now.lastTerm = st.Role, st.HardState.Term, st.Last, st.LastTerm
			d.lookSnapshots(h, &was, &now)
		}
		if now == was {
			continue
		}
		d.views[i] = now
		prev := was.lastTerm
		for n := was.last + 1; n <= now.last && now.role == raft.Leader && now.lastTerm == now.term; n++ {
			key := [2]uint64{n, now.term}
			if _, ok := d.chain[key]; !ok {
				d.chain[key] = link{prevTerm: prev}
			}
			prev = now.term
		}
		if now.role == raft.Leader && (was.role != raft.Leader || was.term != now.term) {
			d.checkNewLeader(h.id, &now)
		}
	}
}

func (d *scriptHosts) checkNewLeader(id smr.ReplicaID, v *hostView) {
	var log entryLog
	for i, e := range d.log(nil, v.last, v.lastTerm) {
		if e.Term == 0 {
			return // not known
		}
		log.entries = append(log.entries, smr.Entry{Index: uint64(i + 1), Term: e.Term})
	}
	d.complete(id, v.term, &log)
}

// letters are the items of a frame.
func (d *scriptHosts) letters(o *occurrence) []Letter {
	var letters []Letter
	d.items(o, func(_ int, it *wire.Item) {
		f := &d.net.slab[o.ref]
		l := Letter{From: smr.ReplicaID(f.from + 1), To: smr.ReplicaID(o.who + 1)}
		switch it.Kind {
		case wire.KindMessage:
			m := it.Message
			m.Entries = append([]smr.Entry(nil), m.Entries...)
			l = letterOf(&m)
		case wire.KindForward:
			l.Kind, l.Term, l.Count = "forward", it.Forward.Term, len(it.Forward.Entries)
		case wire.KindForwardReject:
			l.Kind, l.Term, l.Count = "forward-reject", it.ForwardReject.Term, len(it.ForwardReject.Requests)
		case wire.KindReadAsk:
			l.Kind, l.Term = "read-ask", it.ReadAsk.Term
		case wire.KindReadReply:
			l.Kind = "read-reply"
		case wire.KindSnapshotOffer:
			l.Kind, l.Term = "snapshot-offer", it.SnapshotOffer.Term
		case wire.KindSnapshotFetch:
			l.Kind = "snapshot-fetch"
		case wire.KindSnapshotBlock:
			l.Kind, l.Block = "snapshot-block", it.SnapshotBlock.Number+1
		case wire.KindSnapshotStatus:
			l.Kind, l.Term = "snapshot-status", it.SnapshotStatus.Term
		case wire.KindPulse:
			l.Kind = "pulse"
		}
		letters = append(letters, l)
	})
	return letters
}

func (d *scriptHosts) items(o *occurrence, do func(n int, it *wire.Item)) {
	var r frameReader
	n := 0
	_, _ = r.each(d.net.slab[o.ref].b, func(it *wire.Item) {
		do(n, it)
		n++
	})
}

// split makes a frame of some items of another.
func (d *scriptHosts) split(o *occurrence, keep func(int) bool) occurrence {
	b := wire.AppendHeader(nil, 0)
	d.items(o, func(n int, it *wire.Item) {
		if keep(n) {
			b = wire.AppendItem(b, it)
		}
	})
	part := *o
	f := d.net.slab[o.ref]
	part.ref = d.net.keep(frame{b: b, from: f.from, bulk: f.bulk, life: f.life})
	return part
}

// strip makes the frame anew.
func (d *scriptHosts) strip(o *occurrence, n int, index uint64) {
	b := wire.AppendHeader(nil, 0)
	d.items(o, func(i int, it *wire.Item) {
		if i == n {
			d.trace(Event{Kind: EventStrip, Replica: it.Message.From, Peer: it.Message.To, Term: it.Message.Term, Index: index, Message: &it.Message})
			strip(&it.Message, index)
		}
		b = wire.AppendItem(b, it)
	})
	d.net.slab[o.ref].b = b
}

func (d *scriptHosts) free(o *occurrence) {
	d.net.slab[o.ref] = frame{}
	d.net.free = append(d.net.free, o.ref)
}

func (d *scriptHosts) drop(o *occurrence) {
	f := &d.net.slab[o.ref]
	d.traceFrame(EventDrop, int(f.from), int(o.who), f.b)
	d.free(o)
}

func (d *scriptHosts) renew(o *occurrence) {
	f := &d.net.slab[o.ref]
	f.life = d.net.lives[f.from][o.who]
}

// stand moves the host's clock on past its election timeout. Where hosts pulse, it
// takes turns on the way, or the groups would not see so much time pass.
func (d *scriptHosts) stand(id smr.ReplicaID) {
	h := d.hosts[id-1]
	if f := &d.features; f.rest {
		for range 4 * f.heartbeats {
			h.clock.offset += smr.Instant(f.electionTimeout / time.Duration(2*f.heartbeats))
			h.due[0] = d.now
			d.loop(h, 0, d.now)
		}
	}
	h.clock.offset += smr.Instant(2 * d.features.electionTimeout)
	h.schedule(0, d.now)
}

// transfer asks the leader's host, and does not wait for its answer.
func (d *scriptHosts) transfer(from, to smr.ReplicaID) {
	h := d.hosts[from-1]
	if h.rt == nil {
		return
	}
	ended, end := context.WithCancel(context.Background())
	end()
	_ = h.at[0].handle.Transfer(ended, to)
}

func (d *scriptHosts) holdsTimer(*occurrence) bool { return false }

func (d *scriptHosts) notice(id, peer smr.ReplicaID) {
	if h := d.hosts[id-1]; h.rt != nil {
		h.rt.PeerDown(peer)
	}
}

func (d *scriptHosts) crash(id smr.ReplicaID, power bool) {
	if h := d.hosts[id-1]; h.rt != nil {
		d.fullWorld.crash(h, power)
	}
}

func (d *scriptHosts) restart(id smr.ReplicaID) {
	if h := d.hosts[id-1]; h.rt == nil {
		d.fullWorld.restart(h)
	}
}

func (d *scriptHosts) reason(o *occurrence) pauseReason {
	switch {
	case o.what != whatLoop:
		return pauseNone
	case d.isSyncer(o.ref):
		return pauseDisk
	case d.isWorker(o.ref):
		return pauseApply
	}
	return pauseNone
}

func (d *scriptHosts) begin(c *Call) error {
	w := d.fullWorld
	h := w.hosts[c.Replica-1]
	if h.rt == nil {
		return fmt.Errorf("%w: host %d is down", ErrScript, c.Replica)
	}
	c.life = h.life
	c.slot = len(w.clients)
	st := h.at[0]
	deadline := h.local().Add(d.script.options.Patience)
	for i := range c.Count {
		cl := &fullClient{client: *newClient(w.seed, len(w.clients), w.features.electionTimeout), group: w.groups[0], life: h.life}
		w.clients = append(w.clients, cl)
		cl.serial++
		cl.call = call{
			stage: stageWaiting, write: c.Write, key: c.Key, id: c.ID + uint64(i), count: 1,
			begin: cl.group.history.tick(), floor: cl.group.floor, deadline: deadline,
		}
		if err := d.submit(c, cl, h, st); err != nil {
			cl.call.stage = stageIdle
			if c.Write {
				cl.group.refused = append(cl.group.refused, cl.call.id)
			}
			return err
		}
	}
	return nil
}

func (d *scriptHosts) readLocal(id smr.ReplicaID, key byte) (uint64, error) {
	h := d.hosts[id-1]
	if h.rt == nil {
		return 0, fmt.Errorf("%w: host %d is down", ErrScript, id)
	}
	return d.readLocally(h, h.at[0], key), nil
}

func (d *scriptHosts) submit(c *Call, cl *fullClient, h *simHost, st *seat) error {
	w, serial := d.fullWorld, cl.serial
	if cl.call.write {
		id := cl.call.id
		last := id == c.ID+uint64(c.Count)-1
		return st.handle.Submit(d.command(id, c.Key, c.Bytes), cl.call.deadline, func(r smr.Result, err error) {
			w.written(cl, h, st, serial, id, r, err)
			d.answered(c, h, last, err)
		})
	}
	return st.handle.SubmitBarrier(cl.call.deadline, func(r smr.Result, err error) {
		w.barrier(cl, h, st, serial, r, err)
		if !h.dead && err == nil {
			c.Value = st.machine.read(c.Key)
		}
		d.answered(c, h, true, err)
	})
}

// answered is an answer to a client. A call of many commands is done with the
// last, and fails with the first that does.
func (d *scriptHosts) answered(c *Call, h *simHost, last bool, err error) {
	if h.dead || c.State != CallWaiting || err == nil && !last {
		return
	}
	c.Ended, c.Err = d.now, err
	switch {
	case err == nil:
		c.State = CallDone
	case !c.Write || host.Retryable(err):
		c.State = CallRefused
	default:
		c.State = CallUnknown
	}
}

// poll gives up a call to a host that has lost its power meanwhile.
func (d *scriptHosts) poll(c *Call) {
	if d.hosts[c.Replica-1].life != c.life {
		d.script.abandon(c)
	}
}

// giveUp leaves the writes of a call open in the history.
func (d *scriptHosts) giveUp(c *Call) {
	for i := range c.Count {
		cl := d.clients[c.slot+i]
		if cl.call.stage == stageWaiting && c.Write {
			cl.group.history.ops = append(cl.group.history.ops, operation{
				client: cl.number, write: true, key: c.Key, value: cl.call.id, begin: cl.call.begin, end: stillOpen,
			})
		}
		cl.serial++
		cl.call.stage = stageIdle
	}
}

func (d *scriptHosts) finish() {
	g := d.groups[0]
	d.checkHistoryOf(g.ledger, &g.history, d.features.keys)
	d.fullyApplied(g)
}

func (d *scriptHosts) close() {
	for _, h := range d.hosts {
		h.close()
	}
}
