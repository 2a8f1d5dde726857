package sim

import (
	"errors"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
)

// fullClient is a client of a host: it asks any host, which forwards.
type fullClient struct {
	client
	group *simGroup
	// asked is when the call went to a host, in which life, so that a host that
	// forgets a request is found out.
	life uint32
	// tries is how often the call was refused and asked again.
	tries int
}

// triesMax bounds how often a client asks for the same command.
const triesMax = 5

func (w *fullWorld) clientActs(o *occurrence) {
	c := w.clients[o.ref]
	if o.life != c.serial {
		return
	}
	if o.what == whatDeadline {
		w.forget(c)
		return
	}
	if c.call.stage == stageWaiting {
		return
	}
	if w.phase >= phaseQuiet {
		w.giveUpAsking(c)
		return
	}
	w.readsLocally()
	w.ask(c)
}

func (w *fullWorld) wake(c *fullClient, d time.Duration, k what) {
	at := w.now.Add(d)
	if k == whatClient && c.call.stage == stageIdle {
		at = w.calmed(&w.features, at)
	}
	w.queue.push(occurrence{at: at, what: k, ref: int32(c.number), life: c.serial})
}

// ask begins a call at the client's host, or looks for a host that runs.
func (w *fullWorld) ask(c *fullClient) {
	f := &w.features
	if c.rng.permille(f.strayPermille) {
		c.target = c.rng.n(len(w.hosts))
	}
	h := w.hosts[c.target]
	if h.rt == nil || w.now < h.pausedUntil || w.phase >= phaseHealed && w.core>>h.slot&1 == 0 {
		c.target = c.rng.n(len(w.hosts))
		w.wake(c, c.rng.between(f.delayMin, f.thinkMax), whatClient)
		return
	}
	c.serial++
	c.life = h.life
	if c.call.stage == stageIdle {
		w.beginCall(c)
	}
	c.call.stage, c.call.deadline = stageWaiting, h.local().Add(c.rng.between(c.patience/2, c.patience))
	st := h.at[c.group.id-1]
	serial := c.serial
	w.burst(h, st)
	var err error
	if c.call.write {
		id := c.call.id
		err = st.handle.Submit(w.command(id, c.call.key), c.call.deadline, func(r smr.Result, err error) { w.written(c, h, st, serial, id, r, err) })
	} else {
		err = st.handle.SubmitBarrier(c.call.deadline, func(r smr.Result, err error) { w.barrier(c, h, st, serial, r, err) })
	}
	if err != nil {
		w.markBusy(err)
		if !errors.Is(err, host.ErrBusy) && !errors.Is(err, host.ErrLogFailed) {
			w.fail(Contract, ids(h.id), "refuses a request: %v", err)
		}
		if c.call.write {
			w.refusedWrite(c, h)
		} else {
			w.ended(c)
		}
		return
	}
	// The host answers by the deadline on its own clock, give or take its turns;
	// a client whose host has died stops waiting then too.
	slack := w.features.electionTimeout + 2*c.patience + 4*f.turnDelayMax + 4*f.applyDelayMax + f.stallMax + w.timeouts(2*w.full.snapshots.applyStallTimeouts)
	slack += w.loadTime()
	if h.slow {
		slack += 6 * w.slowMost()
	}
	w.wake(c, slack, whatDeadline)
}

// beginCall draws what a client asks for next.
func (w *fullWorld) beginCall(c *fullClient) {
	c.group, c.tries = w.groups[c.rng.n(len(w.groups))], 0
	c.call = call{
		write: !c.rng.permille(c.readPermille), key: byte(c.rng.n(w.features.keys)), count: 1,
		begin: c.group.history.tick(), floor: c.group.floor,
	}
	if c.call.write {
		w.commandIDs++
		c.call.id = w.commandIDs
	}
}

// refusedWrite is a host's word that a write is not done and never will be. Most
// clients believe it and ask again for the same command, here or elsewhere: if it
// was done after all, it is done twice.
func (w *fullWorld) refusedWrite(c *fullClient, h *simHost) {
	g := c.group
	if at := g.place(c.call.id); at != 0 {
		w.fail(WrongAnswer, ids(h.id), "group %d: a client was told that command %d is not done; it took effect at %d", g.id, c.call.id, at)
	}
	if w.byHand || c.tries >= triesMax || !w.faultR.permille(700) {
		g.refused = append(g.refused, c.call.id)
		w.ended(c)
		return
	}
	w.marks.hit(MarkRetried)
	c.tries++
	c.serial++
	c.call.stage = stageAsking
	if w.faultR.flip() {
		c.target = w.faultR.n(len(w.hosts))
	}
	w.wake(c, w.faultR.between(w.features.delayMin, w.features.thinkMax), whatClient)
}

// giveUpAsking ends a call that was refused and is not asked again.
func (w *fullWorld) giveUpAsking(c *fullClient) {
	if c.call.stage == stageAsking {
		c.group.refused = append(c.group.refused, c.call.id)
		c.call.stage = stageIdle
		c.serial++
	}
}

func (w *fullWorld) command(id uint64, key byte) []byte {
	w.local.wrote(id, key)
	if w.full.pebble {
		return putCommand(id, key)
	}
	return appendCommand(nil, id, key, w.valueSize())
}

// written is the answer to a write.
func (w *fullWorld) written(c *fullClient, h *simHost, st *seat, serial uint32, id uint64, r smr.Result, err error) {
	if h.dead {
		return // it died in this turn
	}
	g := st.group
	if err == nil {
		at := g.place(id)
		if at == 0 || !w.full.pebble && r.Value != at {
			w.fail(WrongAnswer, ids(h.id), "acknowledges command %d at index %d, it took effect at %d", id, r.Value, at)
		}
		g.acknowledged = append(g.acknowledged, id)
	}
	if c.serial != serial || c.call.stage != stageWaiting {
		if err == nil {
			g.known(g.place(id)) // nobody listens any more, but it was said
		} else if host.Retryable(err) {
			g.refused = append(g.refused, id)
		}
		return
	}
	w.markBusy(err)
	w.note(0xc2, uint64(c.number), id, uint64(len(g.acknowledged)))
	op := operation{client: c.number, write: true, key: c.call.key, value: id, begin: c.call.begin, end: stillOpen}
	switch {
	case err == nil:
		at := g.place(id)
		if at <= c.call.floor {
			w.fail(Linearizability, ids(h.id), "a write took effect at %d, when it began a client knew of %d", at, c.call.floor)
		}
		w.marks.hit(MarkWrite)
		g.known(at)
		op.end = g.history.tick()
		g.history.ops = append(g.history.ops, op)
		if w.phase >= phaseHealed {
			g.halves.writes++
			w.writeAnswered()
		}
	case host.Retryable(err):
		w.marks.hit(MarkWriteReplaced)
		w.trace(Event{Kind: EventAnswer, Replica: h.id, Count: uint64(c.number), Index: g.floor, Text: errorText(err)})
		w.refusedWrite(c, h)
		return
	default:
		w.marks.hit(MarkUnknown)
		g.history.ops = append(g.history.ops, op)
	}
	w.trace(Event{Kind: EventAnswer, Replica: h.id, Count: uint64(c.number), Index: g.floor, Text: errorText(err)})
	w.ended(c)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// barrier is the answer to a read's barrier: the register is read at once.
func (w *fullWorld) barrier(c *fullClient, h *simHost, st *seat, serial uint32, r smr.Result, err error) {
	if h.dead || c.serial != serial || c.call.stage != stageWaiting {
		return
	}
	g := st.group
	w.note(0xc3, uint64(c.number), uint64(serial), r.Value)
	if err == nil {
		applied, _ := st.machine.position()
		if r.Value < c.call.floor || applied < c.call.floor {
			w.fail(Linearizability, ids(h.id), "a read is served at index %d of %d, when it began a client knew of %d", r.Value, applied, c.call.floor)
		}
		w.marks.hit(MarkRead)
		if st.status.Role != 3 {
			w.marks.hit(MarkFollowerRead)
		}
		value := st.machine.read(c.call.key)
		g.known(applied)
		g.history.ops = append(g.history.ops, operation{
			client: c.number, key: c.call.key, value: value, begin: c.call.begin, end: g.history.tick(),
		})
		if w.phase >= phaseHealed {
			g.halves.reads++
		}
	} else {
		w.marks.hit(MarkReadFailed)
	}
	w.trace(Event{Kind: EventAnswer, Replica: h.id, Count: uint64(c.number), Index: r.Value, Text: errorText(err)})
	w.ended(c)
}

// ended goes on to the next call after a while.
func (w *fullWorld) ended(c *fullClient) {
	c.serial++
	c.call.stage = stageIdle
	w.wake(c, c.rng.between(w.features.delayMin, w.features.thinkMax), whatClient)
}

// forget gives up a call that was not answered in time. Only a host that died,
// paused or whose clock is off may leave one so.
func (w *fullWorld) forget(c *fullClient) {
	if c.call.stage != stageWaiting {
		return
	}
	h := w.hosts[c.target]
	if h.life == c.life && !w.troubled(h) {
		w.fail(Contract, ids(h.id), "does not answer a request by its deadline")
	}
	if c.call.write {
		w.marks.hit(MarkUnknown)
		c.group.history.ops = append(c.group.history.ops, operation{
			client: c.number, write: true, key: c.call.key, value: c.call.id, begin: c.call.begin, end: stillOpen,
		})
	}
	c.target = c.rng.n(len(w.hosts))
	w.ended(c)
}

// leaveOpen ends a run in which clients still wait.
func (w *fullWorld) leaveOpen() {
	for _, c := range w.clients {
		if c.call.stage == stageWaiting && c.call.write {
			c.group.history.ops = append(c.group.history.ops, operation{
				client: c.number, write: true, key: c.call.key, value: c.call.id, begin: c.call.begin, end: stillOpen,
			})
		}
	}
}

// troubled says that a host has an excuse to be late.
func (w *fullWorld) troubled(h *simHost) bool {
	return h.rt == nil || h.pausedUntil > 0 || w.features.clockDriftPPM > 100_000
}
