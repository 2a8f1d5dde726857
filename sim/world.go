package sim

import (
	"slices"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// world is a group of cores in one seed's world.
//
// The world is a queue of occurrences and what they are about. One occurrence
// at a time is taken out and dealt with, which puts new ones in; after each the
// checkers have seen everything that changed.
type world struct {
	common
	features features
	options  []raft.Option

	net       network
	replicas  []*replica
	transfers []transfer
	clients   []*client
	voters    uint // bit per slot
	config    smr.Configuration

	clockR source
	diskR  source
	turnR  source

	// maxCommit is the highest commit index of any replica so far, all of which
	// a quorum had persisted.
	maxCommit uint64
	// unvouched: nobody sends pulses.
	unvouched bool
}

func newWorld(seed uint64, o *Options) (*world, error) {
	f := drawFeatures(seed, o)
	if err := o.limit(&f, &fullFeatures{}); err != nil {
		return nil, err
	}
	w := &world{
		common:   newCommon(seed, o),
		features: f,
		clockR:   fork(seed, 4),
		diskR:    fork(seed, 5),
		turnR:    fork(seed, 6),
	}
	w.ledger.made = &w.commandIDs
	w.net = network{
		rng: fork(seed, 3), delayMin: f.delayMin, delayMax: f.delayMax,
		lossPermille: f.lossPermille, dupPermille: f.dupPermille, slowPermille: f.slowPermille, slowMax: f.slowMax,
	}
	var err error
	w.unvouched = slices.Contains(o.Without, "pulse")
	if w.options, err = coreOptions(o.Without); err != nil {
		return nil, err
	}
	for i := range f.replicas + f.learners {
		role := smr.Voter
		if i >= f.replicas {
			role = smr.Learner
		} else {
			w.voters |= 1 << i
		}
		w.config.Members = append(w.config.Members, smr.Member{ID: smr.ReplicaID(i + 1), Role: role})
	}
	for i := range w.config.Members {
		r := newReplica(i, &f)
		r.disk.log.start.Configuration = w.config
		w.replicas = append(w.replicas, r)
		w.queue.push(occurrence{at: smr.Instant(w.nemesis.between(0, f.delayMax)), what: whatRestart, who: uint8(i)})
	}
	for i := range f.clients {
		w.clients = append(w.clients, newClient(seed, i, f.electionTimeout))
		w.queue.push(occurrence{at: smr.Instant(f.electionTimeout), what: whatClient, ref: int32(i)})
	}
	w.nextNemesis()
	w.queue.push(occurrence{at: smr.Instant(f.electionTimeout) * smr.Instant(f.chaos), what: whatPhase})
	return w, nil
}

// run lets the world happen until it is over or a violation is found.
func (w *world) run() {
	w.happen(w.dispatch)
	if w.found == nil && !w.concluded {
		w.guarded(w.checkEnd)
	}
}

func (w *world) dispatch(o *occurrence) {
	switch o.what {
	case whatDeliver:
		w.deliver(o)
		return
	case whatNemesis:
		w.nemesisActs()
		return
	case whatHeal, whatFlap:
		w.heal(o)
		return
	case whatClient, whatDeadline:
		w.clientActs(o)
		return
	case whatPhase:
		w.nextPhase()
		return
	case whatImage:
		w.imageArrives(o)
		return
	}
	r := w.replicas[o.who]
	if o.what == whatRestart {
		if r.core == nil && o.life == r.life {
			w.restart(r)
		}
		return
	}
	if o.life != r.life || r.core == nil {
		return
	}
	switch o.what {
	case whatResume:
		w.resume(r)
		return
	case whatSync:
		// A disk goes on while its host is paused.
		w.synced(r)
		return
	case whatHunt:
		w.hunt(r, o.ref)
		return
	}
	if w.postpone(r, o) {
		return
	}
	switch o.what {
	case whatTick:
		if w.now < r.tickAt {
			return // an alarm that was set for later since, or put forward
		}
		r.tickAt = smr.Never
		if now := w.clock(r); r.core.Deadline() <= now {
			r.core.Tick(now)
			w.touch(r)
		} else {
			w.alarm(r)
		}
	case whatTurn:
		r.turnDue = false
		w.turn(r)
	case whatApply:
		w.applyDone(r)
	case whatFetch:
		w.fetched(r, o.ref)
	case whatImageDone:
		w.imageDone(r, o.ref)
	case whatPulse:
		w.pulse(r)
	case whatPulsed:
		w.pulsed(r, o.ref)
	}
}

// postpone puts o off until r's pause is over.
func (w *world) postpone(r *replica, o *occurrence) bool {
	if w.now >= r.pausedUntil {
		return false
	}
	later := *o
	later.at = r.pausedUntil
	w.queue.push(later)
	return true
}

func (w *world) traceMessage(k EventKind, m *raft.Message) {
	if w.tracer != nil {
		w.trace(Event{Kind: k, Replica: m.From, Peer: m.To, Term: m.Term, Index: m.Index, Message: m})
	}
}

func (w *world) local(r *replica) smr.Instant { return r.clock.local(w.now) }

// clock tells a core the time.
func (w *world) clock(r *replica) smr.Instant {
	now := w.local(r)
	r.core.Clock(now)
	return now
}

func (w *world) timeouts(n int) time.Duration {
	return w.features.electionTimeout * time.Duration(n)
}
