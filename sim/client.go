package sim

import (
	"errors"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// client calls one operation after another. It talks to a replica directly: the
// network between client and replica is not what the core world is about.
type client struct {
	number int
	rng    source
	target int // slot of the replica it asks
	// readPermille is the share of its reads, patience how long it waits at
	// most. Clients differ: one that only reads stays with a leader of old,
	// where an impatient writer is long elsewhere.
	readPermille int
	patience     time.Duration
	call         call
	// serial numbers its calls, so that a late answer to an old one is told
	// apart.
	serial uint32
}

// call is the operation that a client is about, in one of the stages.
type call struct {
	stage    stage
	write    bool
	key      byte
	id       uint64 // of its first command, which writes the register
	count    int    // commands proposed together
	begin    int64
	floor    uint64 // the ledger's floor when it began
	deadline smr.Instant
}

type stage uint8

const (
	stageIdle stage = iota
	stageAsking
	stageWaiting
)

// waiter is a client's write in a replica's hands: its last command was
// proposed at (index, term).
type waiter struct {
	client      int
	serial      uint32
	index, term uint64
}

// ticket is a client's read in a replica's hands. index is zero until known.
type ticket struct {
	client int
	serial uint32
	number uint64
	index  uint64
	ready  bool
}

func newClient(seed uint64, number int, electionTimeout time.Duration) *client {
	c := &client{number: number, rng: fork(seed, 100+uint64(number))}
	c.readPermille = pick(&c.rng, 50, 300, 600, 950)
	c.patience = electionTimeout * time.Duration(pick(&c.rng, 1, 4, 16)) / 2
	if number == 0 {
		c.readPermille = 400 // somebody does both
	}
	return c
}

func (w *world) wake(c *client, d time.Duration, k what) {
	at := w.now.Add(d)
	if k == whatClient {
		at = w.calmed(&w.features, at)
	}
	w.queue.push(occurrence{at: at, what: k, ref: int32(c.number), life: c.serial})
}

// clientActs begins a client's next call, goes on with one, or gives one up.
func (w *world) clientActs(o *occurrence) {
	c := w.clients[o.ref]
	if o.life != c.serial {
		return
	}
	switch {
	case o.what == whatDeadline:
		w.giveUp(c)
	case c.call.stage == stageIdle:
		if w.phase >= phaseQuiet {
			return
		}
		w.beginCall(c)
		w.ask(c)
	case c.call.stage == stageAsking:
		w.ask(c)
	}
}

func (w *world) beginCall(c *client) {
	f := &w.features
	c.serial++
	c.call = call{
		stage: stageAsking, write: !c.rng.permille(c.readPermille), key: byte(c.rng.n(f.keys)), count: 1,
		begin: w.history.tick(), floor: w.floor, deadline: w.now.Add(c.rng.between(c.patience/2, c.patience)),
	}
	if c.call.write {
		c.call.count = 1 + c.rng.n(f.batchMax)
		c.call.id = w.commandIDs + 1
		w.commandIDs += uint64(c.call.count)
	}
	if c.rng.permille(f.strayPermille) {
		c.target = c.rng.n(len(w.replicas))
	}
	w.wake(c, c.call.deadline.Sub(w.now), whatDeadline)
}

// ask hands the call to the client's replica, or finds another one to ask.
func (w *world) ask(c *client) {
	r := w.replicas[c.target]
	if w.phase >= phaseHealed && w.core>>r.slot&1 == 0 {
		w.elsewhere(c, -1)
		return
	}
	if r.core == nil || w.now < r.pausedUntil {
		w.elsewhere(c, -1)
		return
	}
	var err error
	if c.call.write {
		err = w.askWrite(c, r)
	} else {
		err = w.askRead(c, r)
	}
	switch {
	case err == nil:
		c.call.stage = stageWaiting
		w.touch(r)
	case errors.Is(err, raft.ErrBusy):
		w.marks.hit(MarkBusy)
		w.wake(c, c.rng.between(w.features.delayMin, w.features.thinkMax), whatClient)
	case errors.Is(err, raft.ErrNotLeader):
		w.marks.hit(MarkNotLeader)
		w.elsewhere(c, int(r.core.State().Leader)-1)
	case errors.Is(err, raft.ErrTransferring):
		w.elsewhere(c, c.target)
	default:
		w.fail(Contract, ids(r.id), "refuses a request: %v", err)
	}
}

// elsewhere asks the replica in slot hint next, or any if that is negative.
func (w *world) elsewhere(c *client, hint int) {
	if hint < 0 || hint >= len(w.replicas) {
		hint = c.rng.n(len(w.replicas))
	}
	c.target = hint
	w.wake(c, c.rng.between(w.features.delayMin, w.features.delayMax*2), whatClient)
}

func (w *world) askWrite(c *client, r *replica) error {
	entries := make([]smr.Entry, c.call.count)
	size := w.features.valueBytes
	block := make([]byte, 0, size*len(entries))
	for i := range entries {
		key := c.call.key
		if i > 0 {
			key = keysMax // writes no register
		}
		from := len(block)
		block = appendCommand(block, c.call.id+uint64(i), key, size)
		entries[i] = smr.Entry{Kind: smr.KindCommand, Data: block[from:len(block):len(block)]}
	}
	if err := r.core.Propose(w.clock(r), entries); err != nil {
		return err
	}
	last := &entries[len(entries)-1]
	r.waiters = append(r.waiters, waiter{client: c.number, serial: c.serial, index: last.Index, term: last.Term})
	w.note(0xc1, uint64(c.number), last.Index, last.Term)
	w.trace(Event{Kind: EventPropose, Replica: r.id, Count: uint64(c.number), Index: last.Index, Term: last.Term})
	return nil
}

func (w *world) askRead(c *client, r *replica) error {
	number := uint64(c.number)<<32 | uint64(c.serial)
	now := w.clock(r)
	if r.core.HoldsLease(now) {
		w.marks.hit(MarkLeaseRead)
	}
	if err := r.core.ReadIndex(now, number); err != nil {
		return err
	}
	r.tickets = append(r.tickets, ticket{client: c.number, serial: c.serial, number: number})
	w.trace(Event{Kind: EventRead, Replica: r.id, Count: uint64(c.number)})
	return nil
}

// live returns the client if it still waits for the call of that serial.
func (w *world) live(client int, serial uint32) *client {
	c := w.clients[client]
	if c.serial != serial || c.call.stage != stageWaiting {
		return nil
	}
	return c
}

// answerWriters answers those who waited for e's index: done if it is the entry
// of their term, certainly not done if it is another's.
func (w *world) answerWriters(r *replica, e *smr.Entry) {
	kept := r.waiters[:0]
	for _, a := range r.waiters {
		if a.index != e.Index {
			kept = append(kept, a)
			continue
		}
		c := w.live(a.client, a.serial)
		if c == nil {
			continue
		}
		if a.term != e.Term {
			w.replaced(r, c)
			continue
		}
		w.acknowledge(r, c, e.Index)
	}
	r.waiters = kept
}

func (w *world) acknowledge(r *replica, c *client, index uint64) {
	n := uint64(c.call.count)
	for i := range n {
		id := c.call.id + i
		if at := w.place(id); at != index-n+1+i {
			w.fail(WrongAnswer, ids(r.id), "acknowledges command %d at index %d, it took effect at %d", id, index-n+1+i, at)
		}
		w.acknowledged = append(w.acknowledged, id)
	}
	if index-n+1 <= c.call.floor {
		w.fail(Linearizability, ids(r.id), "a write took effect at %d, when it began a client knew of %d", index-n+1, c.call.floor)
	}
	w.marks.hit(MarkWrite)
	w.known(index)
	w.history.ops = append(w.history.ops, operation{
		client: c.number, write: true, key: c.call.key, value: c.call.id, begin: c.call.begin, end: w.history.tick(),
	})
	if w.phase >= phaseHealed {
		w.halves.writes++
		w.writeAnswered()
	}
	w.done(r, c)
}

// replaced: another entry took the place of the client's last command, which
// can no longer commit. If none of the commands took effect they are asked for
// again, under the same ids; a batch may have come through in part.
func (w *world) replaced(r *replica, c *client) {
	w.marks.hit(MarkWriteReplaced)
	last := c.call.id + uint64(c.call.count) - 1
	if at := w.place(last); at != 0 {
		w.fail(WrongAnswer, ids(r.id), "the place of command %d was taken, but it took effect at %d", last, at)
	}
	if w.place(c.call.id) != 0 {
		w.giveUp(c)
		return
	}
	c.call.stage = stageAsking
	w.elsewhere(c, c.target)
}

func (w *world) done(r *replica, c *client) {
	w.note(0xc2, uint64(c.number), uint64(c.serial), w.floor)
	w.trace(Event{Kind: EventAnswer, Replica: r.id, Count: uint64(c.number), Index: w.floor})
	c.serial++
	c.call.stage = stageIdle
	w.wake(c, c.rng.between(0, w.features.thinkMax), whatClient)
}

// giveUp ends a call whose time is over. A write that was proposed stays open
// in the history: it may take effect at any time.
func (w *world) giveUp(c *client) {
	if c.call.stage == stageIdle {
		return
	}
	if c.call.write && c.call.stage == stageWaiting {
		w.marks.hit(MarkUnknown)
		w.history.ops = append(w.history.ops, operation{
			client: c.number, write: true, key: c.call.key, value: c.call.id, begin: c.call.begin, end: stillOpen,
		})
	}
	c.serial++
	c.call.stage = stageIdle
	c.target = c.rng.n(len(w.replicas))
	w.wake(c, c.rng.between(0, w.features.thinkMax), whatClient)
}

// takeReads notes which reads may be answered and which may not.
func (w *world) takeReads(r *replica, o *raft.Output) {
	for _, ready := range o.Reads {
		for i := range r.tickets {
			t := &r.tickets[i]
			if t.number != ready.Ticket {
				continue
			}
			t.ready, t.index = true, ready.Index
			if c := w.live(t.client, t.serial); c != nil && ready.Index < c.call.floor {
				w.fail(Linearizability, ids(r.id), "a read may be served at index %d, when it began a client knew of %d", ready.Index, c.call.floor)
			}
		}
	}
	for _, number := range o.ReadsFailed {
		kept := r.tickets[:0]
		for _, t := range r.tickets {
			if t.number != number {
				kept = append(kept, t)
				continue
			}
			w.marks.hit(MarkReadFailed)
			if c := w.live(t.client, t.serial); c != nil {
				c.call.stage = stageAsking
				w.elsewhere(c, int(r.state.Leader)-1)
			}
		}
		r.tickets = kept
	}
	if len(o.Reads) > 0 {
		w.answerReaders(r)
	}
}

// answerReaders answers the reads whose index is applied.
func (w *world) answerReaders(r *replica) {
	if len(r.tickets) == 0 {
		return
	}
	kept := r.tickets[:0]
	for _, t := range r.tickets {
		if !t.ready || t.index > r.machine.applied {
			kept = append(kept, t)
			continue
		}
		c := w.live(t.client, t.serial)
		if c == nil {
			continue
		}
		w.marks.hit(MarkRead)
		w.known(r.machine.applied)
		w.history.ops = append(w.history.ops, operation{
			client: c.number, key: c.call.key, value: r.machine.regs[c.call.key], begin: c.call.begin, end: w.history.tick(),
		})
		if w.phase >= phaseHealed {
			w.halves.reads++
		}
		w.done(r, c)
	}
	r.tickets = kept
}
