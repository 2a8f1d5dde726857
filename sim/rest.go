package sim

import (
	"math/bits"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// Groups in which nothing happens rest (raft's rest, host's pulses). Here is what
// that asks of the worlds: times in which no client asks for anything, a stand-in
// for the pulses where there are only cores, and a death at the end that nobody
// but a host that vouches can notice.

// drawRest lets most groups rest, and most clients pause for long enough.
func (f *features) drawRest(s *source) {
	if !s.permille(850) {
		return
	}
	f.rest = true
	f.restRenewal = f.electionTimeout * time.Duration(pick(s, 10, 30, 400))
	if s.permille(800) {
		f.calmFor = f.electionTimeout * time.Duration(3+s.n(6))
		f.calmEvery = f.calmFor + f.electionTimeout*time.Duration(4+s.n(8))
	}
}

// calmed puts a client's next call off to the end of a time in which nobody asks.
func (w *common) calmed(f *features, at smr.Instant) smr.Instant {
	if f.calmFor == 0 || w.phase != phaseChaos {
		return at
	}
	if into := time.Duration(at) % f.calmEvery; into < f.calmFor {
		at = at.Add(f.calmFor - into)
	}
	return at
}

// mayLose reports whether a core of n voters has a quorum without one of its own.
func mayLose(core uint, n int) bool { return bits.OnesCount(core)-1 > n/2 }

// listening is what a replica of the core world knows of the others' lives, in
// place of its host.
type listening [replicasMax]struct {
	heard  smr.Instant // by its own clock
	life   int32
	silent bool
}

// pulse sends r's pulses, and tells its core of whom it has not heard.
func (w *world) pulse(r *replica) {
	now, f := w.local(r), &w.features
	for i, p := range w.replicas {
		l := &r.listening[i]
		if p == r {
			continue
		}
		if w.net.open(r.slot, i) && !w.net.rng.permille(w.net.lossPermille) {
			w.queue.push(occurrence{at: w.now.Add(w.net.delay()), what: whatPulsed, who: uint8(i), ref: int32(r.slot) | int32(r.life)<<4, life: p.life})
		}
		if !l.silent && now.Sub(l.heard) >= f.electionTimeout {
			l.silent = true
			w.marks.hit(MarkPulseLost)
			w.lost(r, p.id)
		}
	}
	at := r.clock.world(now.Add(f.electionTimeout / time.Duration(f.heartbeats)))
	w.queue.push(occurrence{at: max(at, w.now.Add(time.Microsecond)), what: whatPulse, who: uint8(r.slot), life: r.life})
}

func (w *world) lost(r *replica, peer smr.ReplicaID) {
	r.core.LeaderLost(w.clock(r), peer)
	r.core.Unreachable(w.clock(r), peer)
	w.touch(r)
}

// pulsed takes a pulse: ref names the sender and its life.
func (w *world) pulsed(r *replica, ref int32) {
	from, life := ref&15, ref>>4
	l, peer := &r.listening[from], smr.ReplicaID(from+1)
	l.heard = w.local(r)
	if l.life != 0 && l.life != life {
		w.marks.hit(MarkPulseNewLife)
		l.silent = true
		w.lost(r, peer)
	}
	l.life = life
	if l.silent {
		l.silent = false
		w.marks.hit(MarkPulseBack)
		r.core.Reachable(w.clock(r), peer)
		w.touch(r)
	}
}

// takeRest watches who rests, and tells a new leader who is silent.
func (w *world) takeRest(r *replica, before *raft.State) {
	if resting := r.core.Resting(); resting != r.resting {
		r.resting = resting
		if resting {
			w.marks.hit(MarkRest)
			w.trace(Event{Kind: EventLog, Replica: r.id, Text: "rests"})
		} else {
			w.marks.hit(MarkWoken)
			w.trace(Event{Kind: EventLog, Replica: r.id, Text: "is awake"})
		}
	}
	if !w.features.rest || r.state.Role != raft.Leader || before.Role == raft.Leader {
		return
	}
	for i := range w.replicas {
		if r.listening[i].silent {
			r.core.Unreachable(w.clock(r), smr.ReplicaID(i+1))
		}
	}
}

// killLeader ends the run with a death. The clients have stopped: nobody asks for
// anything, and whoever is left must find out all the same.
func (w *world) killLeader() bool {
	l := w.leader()
	f := &w.features
	if !f.rest || f.star || f.quiet || l == nil || w.core>>l.slot&1 == 0 || !mayLose(w.core&w.voters, f.replicas) {
		return false
	}
	w.checkEnd()
	w.concluded = true
	if l.resting {
		w.marks.hit(MarkDeathAtRest)
	}
	w.crash(l)
	l.life++
	w.core &^= 1 << l.slot
	w.queue.push(occurrence{at: w.now.Add(w.timeouts(progressBound)), what: whatPhase})
	return true
}

func (w *world) checkSuccessor() {
	if l := w.leader(); l == nil || w.core>>l.slot&1 == 0 {
		w.fail(Liveness, w.coreIDs(), "the leader died while nobody asked for anything; %d election timeouts later nobody leads: %s", progressBound, w.describeAll())
	}
}

func (w *fullWorld) killLeader() bool {
	slot, f := w.leader(), &w.features
	if !f.rest || f.star || f.quiet || slot < 0 || w.core>>slot&1 == 0 || !mayLose(w.core, f.replicas) {
		return false
	}
	w.checkEnd()
	w.concluded = true
	h := w.hosts[slot]
	if s := h.rt.Stats(); s.GroupsResting > 0 {
		w.marks.hit(MarkDeathAtRest)
	}
	w.crash(h, w.nemesis.permille(800)) // a process that dies is noticed by its peers
	h.life++
	w.core &^= 1 << slot
	w.queue.push(occurrence{at: w.now.Add(w.timeouts(progressBound)), what: whatPhase})
	return true
}

func (w *fullWorld) checkSuccessor() {
	for _, g := range w.groups {
		leaders := 0
		for i, h := range w.hosts {
			if w.core>>i&1 == 1 && h.at[g.id-1].handle.Status().Role == raft.Leader {
				leaders++
			}
		}
		if leaders == 0 && !w.leadsOutside(g) {
			w.fail(Liveness, nil, "a leader died while nobody asked for anything; %d election timeouts later nobody leads group %d: %s", progressBound, g.id, w.describe(g))
		}
	}
}

// restMarks are what a host's life has seen of rest.
func (w *fullWorld) restMarks(h *simHost) {
	s := h.rt.Stats()
	for m, n := range map[Mark]uint64{
		MarkRest: s.Rests, MarkPulseLost: s.PulsesLost, MarkPulseBack: s.PulsesBack, MarkWokenByClient: s.WokenByClient,
		MarkWokenByForward: s.WokenByForward, MarkWokenByMessage: s.WokenByMessage, MarkWokenByHost: s.WokenByHost, MarkWoken: s.WokenOtherwise,
	} {
		w.marks[m] += n
	}
}
