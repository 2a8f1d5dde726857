package sim

import (
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// nextNemesis sets when the nemesis acts next.
func (w *world) nextNemesis() {
	if len(w.features.actions) == 0 {
		return
	}
	d := w.nemesis.between(w.features.nemesisMin, w.features.nemesisMax)
	w.queue.push(occurrence{at: w.now.Add(d), what: whatNemesis})
}

// nemesisActs does one of the seed's actions.
func (w *world) nemesisActs() {
	if w.phase != phaseChaos {
		return
	}
	s := &w.nemesis
	r := w.replicas[s.n(len(w.replicas))]
	down := s.between(w.features.electionTimeout/10, w.timeouts(5))
	switch a := w.features.actions[s.n(len(w.features.actions))]; a {
	case actCrash:
		w.crashFor(r, down)
	case actCrashLeader:
		if l := w.leader(); l != nil {
			w.crashFor(l, down)
		}
	case actCrashAll:
		w.marks.hit(MarkCrashAll)
		for _, r := range w.replicas {
			w.crashFor(r, s.between(w.features.electionTimeout/10, w.timeouts(2)))
		}
	case actPause:
		w.pause(r, s.between(w.features.electionTimeout/10, w.timeouts(4)))
	case actClockJump:
		r.clock.offset += smr.Instant(s.between(w.features.electionTimeout/2, w.timeouts(20)))
		w.marks.hit(MarkClockJump)
		w.alarm(r)
	case actCompact:
		w.compact(r)
	case actTransfer:
		if l := w.leader(); l != nil && l != r && w.now >= l.pausedUntil {
			if l.core.Transfer(w.local(l), r.id) == nil {
				w.touch(l)
			}
		}
	default:
		leader := -1
		if l := w.leader(); l != nil {
			leader = l.slot
		}
		pairs, flaps := drawCut(a, len(w.replicas), leader, s, &w.marks)
		d := s.between(w.features.electionTimeout, w.timeouts(8))
		if flaps > 0 {
			d /= 4
		}
		w.makeCut(pairs, flaps, d)
	}
	w.nextNemesis()
}

// leader returns the running leader of the highest term, if there is one.
func (w *world) leader() *replica {
	var l *replica
	for _, r := range w.replicas {
		if r.core != nil && r.state.Role == raft.Leader && (l == nil || r.state.Term > l.state.Term) {
			l = r
		}
	}
	return l
}

// drawCut draws the links of a cut in the shape of a, among n replicas of which
// the one in slot leader leads (negative: none). flaps is how often it goes off
// and on.
func drawCut(a action, n, leader int, s *source, marks *Marks) (pairs [][2]uint8, flaps int) {
	if n < 2 {
		return nil, 0
	}
	some := uint(1 + s.n(1<<n-2)) // neither none nor all
	switch a {
	case actCutFull:
		pairs = cutPairs(n, some, true, true)
		marks.hit(MarkCutFull)
	case actCutPartial:
		i := s.n(n)
		j := (i + 1 + s.n(n-1)) % n
		pairs = [][2]uint8{{uint8(i), uint8(j)}, {uint8(j), uint8(i)}}
		marks.hit(MarkCutPartial)
	case actCutOneWay:
		pairs = cutPairs(n, some, true, false)
		marks.hit(MarkCutOneWay)
	case actCutFlapping:
		pairs = cutPairs(n, some, true, s.flip())
		flaps = 2 * (1 + s.n(5))
		marks.hit(MarkCutFlapping)
	case actCutLeader:
		if leader >= 0 {
			pairs = cutOff(leader, n, s)
			marks.hit(MarkCutLeader)
		}
	case actCutShape:
		pairs = shapePairs(n, s)
		marks.hit(MarkCutShape)
	}
	return pairs, flaps
}

// cutOff draws how a replica is cut off: from all or from all but one, in both
// directions or in one.
func cutOff(slot, n int, s *source) [][2]uint8 {
	way := s.n(4)
	pairs := cutPairs(n, 1<<slot, way != 0, way != 1)
	if n > 2 && s.permille(300) {
		spared := uint8((slot + 1 + s.n(n-1)) % n)
		kept := pairs[:0]
		for _, p := range pairs {
			if p[0] != spared && p[1] != spared {
				kept = append(kept, p)
			}
		}
		pairs = kept
	}
	return pairs
}

// shapePairs leaves a star, a chain or a ring: the partial partitions that cost
// other protocols their liveness (Ng et al. 2023).
func shapePairs(n int, s *source) [][2]uint8 {
	shape, middle := s.n(3), s.n(n)
	linked := func(i, j int) bool {
		switch shape {
		case 0:
			return i == middle || j == middle
		case 1:
			return i-j == 1 || j-i == 1
		default:
			return i-j == 1 || j-i == 1 || i-j == n-1 || j-i == n-1
		}
	}
	var pairs [][2]uint8
	for i := range n {
		for j := range n {
			if i != j && !linked(i, j) {
				pairs = append(pairs, [2]uint8{uint8(i), uint8(j)})
			}
		}
	}
	return pairs
}

func (w *world) makeCut(pairs [][2]uint8, flaps int, d time.Duration) {
	i := w.net.add(pairs, flaps)
	w.traceCut(i)
	k := whatHeal
	if flaps > 0 {
		k = whatFlap
	}
	w.queue.push(occurrence{at: w.now.Add(d), what: k, ref: i})
}

func (w *world) traceCut(i int32) { w.common.traceCut(&w.net.cuts[i]) }

func (w *common) traceCut(c *cut) {
	if w.tracer == nil {
		return
	}
	k := EventHeal
	if c.on {
		k = EventCut
	}
	text := ""
	for _, p := range c.pairs {
		text += " " + string('1'+rune(p[0])) + "→" + string('1'+rune(p[1]))
	}
	w.trace(Event{Kind: k, Text: text})
}

// heal ends a cut, or flips one that flaps.
func (w *world) heal(o *occurrence) {
	if w.phase != phaseChaos {
		return
	}
	c := &w.net.cuts[o.ref]
	if o.what == whatHeal || c.flaps == 0 {
		w.net.set(o.ref, false)
		w.traceCut(o.ref)
		return
	}
	c.flaps--
	w.net.set(o.ref, !c.on)
	w.traceCut(o.ref)
	later := *o
	later.at = w.now.Add(w.nemesis.between(w.features.electionTimeout/4, w.timeouts(2)))
	w.queue.push(later)
}

// elected sends the hunter after a new leader: the moments after an election
// are where Raft's subtle faults are.
func (w *world) elected(r *replica) {
	if !w.features.hunter || w.phase != phaseChaos || !w.nemesis.permille(600) {
		return
	}
	d, how := w.nemesis.between(0, 6*w.features.delayMax+3*w.features.syncMax), w.nemesis.n(huntDisk)
	if how == huntVotes {
		d = 0
	}
	w.queue.push(occurrence{at: w.now.Add(d), what: whatHunt, who: uint8(r.slot), ref: int32(how), life: r.life})
}

// How the hunter strikes.
const (
	huntCrash = iota
	huntCut
	huntPause
	huntVotes // its voters crash, with what they have not synced, and it is cut off
	huntDisk  // in the middle of a sync, and back soon
	huntFall  // as brief leaders fall
)

func (w *world) hunt(r *replica, how int32) {
	if w.phase != phaseChaos {
		return
	}
	w.marks.hit(MarkHunted)
	d := w.nemesis.between(w.features.electionTimeout/5, w.timeouts(4))
	switch how {
	case huntCrash:
		w.crashFor(r, d)
	case huntVotes:
		for _, p := range w.replicas {
			if p != r && len(p.disk.pending) > 0 {
				w.crashFor(p, w.nemesis.between(0, w.features.electionTimeout/4))
			}
		}
		w.makeCut(cutPairs(len(w.replicas), 1<<r.slot, true, true), 0, d)
	case huntDisk:
		w.crashFor(r, w.nemesis.between(0, w.features.electionTimeout/4))
	case huntCut:
		w.makeCut(cutOff(r.slot, len(w.replicas), &w.nemesis), 0, d)
	default:
		w.pause(r, d)
	}
}
