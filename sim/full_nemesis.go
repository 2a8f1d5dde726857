package sim

import (
	"context"
	"fmt"
	"math/bits"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

func (w *fullWorld) nextNemesis() {
	if len(w.features.actions) == 0 {
		return
	}
	d := w.nemesis.between(w.features.nemesisMin, w.features.nemesisMax)
	w.queue.push(occurrence{at: w.now.Add(d), what: whatNemesis})
}

// nemesisActs does one of the seed's actions.
func (w *fullWorld) nemesisActs() {
	if w.phase != phaseChaos {
		return
	}
	w.damageDisks()
	s, et := &w.nemesis, w.features.electionTimeout
	h := w.hosts[s.n(len(w.hosts))]
	leader := w.leader()
	down := s.between(et/10, w.outage(5))
	switch a := w.features.actions[s.n(len(w.features.actions))]; a {
	case actCrash:
		w.crashFor(h, down)
	case actCrashLeader:
		if leader >= 0 {
			w.crashFor(w.hosts[leader], down)
		}
	case actCrashAll:
		w.marks.hit(MarkCrashAll)
		for _, h := range w.hosts {
			w.crashFor(h, s.between(et/10, w.timeouts(2)))
		}
	case actPause:
		w.pause(h, s.between(et/10, w.timeouts(4)))
	case actClockJump:
		h.clock.offset += smr.Instant(s.between(et/2, w.timeouts(20)))
		w.marks.hit(MarkClockJump)
	case actCompact:
		w.compactNow(h)
	case actTransfer:
		w.handOver(h)
	case actDiskFull:
		w.fillDisks(h, leader, down)
	default:
		pairs, flaps := drawCut(a, len(w.hosts), leader, s, &w.marks)
		d := s.between(et, w.timeouts(8))
		if flaps > 0 {
			d /= 4
		}
		w.makeCut(pairs, flaps, d)
	}
	w.nextNemesis()
}

// fillDisks leaves no room on the disk of a host for a while, of the leader or of
// a quorum.
func (w *fullWorld) fillDisks(h *simHost, leader int, d time.Duration) {
	s, n := &w.faultR, len(w.hosts)
	full := uint(1) << h.slot
	switch s.n(3) {
	case 0:
		if leader >= 0 {
			full = 1 << leader
			w.marks.hit(MarkDiskFullLeader)
		}
	case 1:
		for bits.OnesCount(full) < n/2+1 {
			full |= 1 << s.n(n)
		}
		w.marks.hit(MarkDiskFullQuorum)
	}
	for i, h := range w.hosts {
		if full>>i&1 == 1 && h.rt != nil {
			h.full = true
			w.queue.push(occurrence{at: w.now.Add(d), what: whatRoom, who: uint8(i)})
		}
	}
}

// handOver asks the leader of a group to hand its office to a host, now and then
// to one that nobody hears. Nobody waits for the answer.
func (w *fullWorld) handOver(to *simHost) {
	g := w.groups[w.faultR.n(len(w.groups))]
	slot := w.leaderOf(g)
	if slot < 0 || slot == to.slot {
		return
	}
	if w.faultR.permille(300) {
		w.marks.hit(MarkTransferCutOff)
		w.makeCut(cutPairs(len(w.hosts), 1<<to.slot, true, true), 0, w.timeouts(1+w.faultR.n(3)))
	}
	w.marks.hit(MarkTransferAsked)
	ended, end := context.WithCancel(context.Background())
	end()
	_ = w.hosts[slot].at[g.id-1].handle.Transfer(ended, to.id)
	g.handedTo = to.id
}

// leader is the slot of the running leader of the highest term of group 1, or
// negative.
func (w *fullWorld) leader() int { return w.leaderOf(w.groups[0]) }

func (w *fullWorld) leaderOf(g *simGroup) int {
	slot, term := -1, uint64(0)
	for i, h := range w.hosts {
		if h.rt == nil {
			continue
		}
		if st := h.at[g.id-1].handle.Status(); st.Role == raft.Leader && st.Term > term {
			slot, term = i, st.Term
		}
	}
	return slot
}

func (w *fullWorld) pause(h *simHost, d time.Duration) {
	if h.rt == nil || w.now < h.pausedUntil {
		return
	}
	h.pausedUntil = w.now.Add(d)
	w.marks.hit(MarkPause)
	w.trace(Event{Kind: EventPause, Replica: h.id})
}

func (w *fullWorld) makeCut(pairs [][2]uint8, flaps int, d time.Duration) {
	i := w.net.add(pairs, flaps)
	w.traceCut(&w.net.cuts[i])
	for _, p := range pairs {
		if w.full.patientPermille == 0 && w.net.rng.permille(w.full.noticePermille) {
			w.notice(int(p[0]), int(p[1]))
		}
	}
	k := whatHeal
	if flaps > 0 {
		k = whatFlap
	}
	w.queue.push(occurrence{at: w.now.Add(d), what: k, ref: i})
}

// heal ends a cut, or flips one that flaps.
func (w *fullWorld) heal(o *occurrence) {
	if w.phase != phaseChaos {
		return
	}
	c := &w.net.cuts[o.ref]
	if o.what == whatHeal || c.flaps == 0 {
		w.net.set(o.ref, false)
		w.net.healed()
		w.traceCut(c)
		return
	}
	c.flaps--
	w.net.set(o.ref, !c.on)
	w.net.healed()
	w.traceCut(c)
	later := *o
	later.at = w.now.Add(w.nemesis.between(w.features.electionTimeout/4, w.timeouts(2)))
	w.queue.push(later)
}

func (w *fullWorld) elected(h *simHost) {
	if !w.features.hunter || w.phase != phaseChaos || !w.nemesis.permille(600) {
		return
	}
	d := w.nemesis.between(0, 3*w.features.delayMax+2*w.features.syncMax)
	w.queue.push(occurrence{at: w.now.Add(d), what: whatHunt, who: uint8(h.slot), ref: int32(w.nemesis.n(huntDisk + 1)), life: h.life})
}

func (w *fullWorld) hunt(h *simHost, how int32) {
	if w.phase != phaseChaos {
		return
	}
	w.marks.hit(MarkHunted)
	d := w.nemesis.between(w.features.electionTimeout/5, w.timeouts(4))
	switch how {
	case huntCrash:
		w.crashFor(h, d)
	case huntPause:
		w.pause(h, d)
	case huntDisk:
		// The power goes at one of the next operations on the log.
		h.crashIn = 1 + w.nemesis.n(6)
	case huntVotes:
		for _, p := range w.hosts {
			if p != h && w.nemesis.flip() {
				w.crashFor(p, w.nemesis.between(0, w.features.electionTimeout/4))
			}
		}
		w.makeCut(cutPairs(len(w.hosts), 1<<h.slot, true, true), 0, d)
	case huntCut:
		w.makeCut(cutOff(h.slot, len(w.hosts), &w.nemesis), 0, d)
	}
}

func (w *fullWorld) nextPhase() {
	w.phase++
	if w.beyond {
		w.phase = phaseOver // nothing has to go on
		w.leaveOpen()
	}
	switch w.phase {
	case phaseHealed:
		w.healCore()
		settling := w.features.slowMax + w.features.stallMax + w.timeouts(w.full.snapshots.applyStallTimeouts)
		w.queue.push(occurrence{at: w.now.Add(w.timeouts(progressBound) + settling + w.lag()), what: whatPhase})
	case phaseQuiet:
		w.checkProgress()
		w.endTroubles()
		w.queue.push(occurrence{at: w.now.Add(w.timeouts(convergeBound) + w.lag()), what: whatPhase})
	case phaseDeath:
		if !w.killLeader() {
			w.phase = phaseOver
		}
	case phaseOver:
		if !w.beyond {
			w.checkSuccessor()
		}
	}
	w.trace(Event{Kind: EventPhase, Text: w.phase.String()})
}

// lag is how long the core may need to bring its logs together.
func (w *fullWorld) lag() time.Duration {
	least, most := uint64(1<<63), uint64(0)
	for i, h := range w.hosts {
		if w.core>>i&1 == 0 {
			continue
		}
		for _, st := range h.at {
			if h.rt == nil {
				most = max(most, uint64(len(st.group.commits)))
				least = 0
				continue
			}
			s := st.handle.Status()
			applied, _ := st.machine.position()
			least, most = min(least, s.Last, applied), max(most, s.Last)
		}
	}
	return time.Duration(most-min(least, most))*w.roundTrip() + w.sendingImages()
}

// roundTrip is how long an entry may take that goes alone. A leader outside of the core
// may have slow links to it, and be slow.
func (w *fullWorld) roundTrip() time.Duration {
	f := &w.features
	d := 2*f.delayMax + 4*f.syncMax + 4*f.turnDelayMax
	if w.full.slow != (slowFeatures{}) && f.oneByOne() {
		d += 2 * w.slowMost()
	}
	return d
}

// sendingImages is how long the limit of the bandwidth may hold up images to all of
// the core: one that is under way, and the one that takes its place.
func (w *fullWorld) sendingImages() time.Duration {
	f := &w.full.snapshots
	if !f.on || f.bandwidth < 0 {
		return 0
	}
	bytes := int64(2*(len(w.hosts)-1)*w.full.groups) * int64(machineBytes+f.padding+1024)
	return time.Duration(bytes * int64(w.full.shards) * int64(time.Second) / f.bandwidth)
}

// healCore draws a majority and takes every fault off it. What was wrong
// outside of it stays wrong for good.
func (w *fullWorld) healCore() {
	s, n := &w.nemesis, len(w.hosts)
	size := n/2 + 1 + s.n(n-n/2)
	if w.features.quiet {
		size = n
	}
	w.core = w.healthyCore(size)
	w.healedAt = w.now
	w.net.mend()
	w.net.healed()
	w.marks.hit(MarkHealedCore)
	if w.features.star {
		i := w.net.add(starPairs(s, n, n, w.core), 0)
		w.common.traceCut(&w.net.cuts[i])
		w.marks.hit(MarkHealedStar)
	}
	w.features.applyDelayMax, w.features.thinkMax = 0, max(w.features.thinkMax, w.features.electionTimeout/4)
	for _, c := range w.clients {
		c.patience = w.timeouts(8)
		c.readPermille = min(max(c.readPermille, 300), 700)
	}
	for i, h := range w.hosts {
		h.crashIn, h.fuse, h.full = 0, nil, false
		if w.core>>i&1 == 0 {
			w.leaveBroken(h)
			continue
		}
		h.pausedUntil = min(h.pausedUntil, w.now)
		if h.rt == nil {
			h.life++
			w.restartIn(h, s.between(0, w.features.electionTimeout))
		}
	}
}

// leaveBroken gives a host outside the core a fault that stays.
func (w *fullWorld) leaveBroken(h *simHost) {
	if w.faultR.permille(600) {
		w.leaveHalfAlive(h)
		return
	}
	s, n := &w.nemesis, len(w.hosts)
	self := uint(1) << h.slot
	switch s.n(4) {
	case 0:
		if h.rt != nil {
			w.crash(h, true)
		}
		h.life++ // a restart that is due is void
		return
	case 1:
		w.net.add(cutPairs(n, self, true, true), 0)
	case 2:
		w.marks.hit(MarkOutsiderSpeaks)
		w.net.add(cutPairs(n, self, false, true), 0)
	case 3:
		w.marks.hit(MarkOutsiderHears)
		w.net.add(cutPairs(n, self, true, false), 0)
	}
	if h.rt == nil {
		h.life++
		w.restartIn(h, s.between(0, w.timeouts(3)))
	}
}

func (w *fullWorld) checkProgress() {
	for _, g := range w.groups {
		if g.halves.writes == 0 || g.halves.reads == 0 {
			w.fail(Liveness, nil, "group %d: %v after the healing %d writes and %d reads are answered: %s", g.id, w.now.Sub(w.healedAt), g.halves.writes, g.halves.reads, w.describe(g))
		}
	}
}

func (w *fullWorld) describe(g *simGroup) string {
	all := ""
	for i, h := range w.hosts {
		in := "outside"
		if w.core>>i&1 == 1 {
			in = "core"
		}
		if h.rt == nil {
			all += fmt.Sprintf("[%d %s down]", h.id, in)
			continue
		}
		st := h.at[g.id-1]
		applied, _ := st.machine.position()
		s := st.handle.Status()
		all += fmt.Sprintf("[%d %s %v term %d leader %d commit %d applied %d last %d]", h.id, in, s.Role, s.Term, s.Leader, s.Commit, applied, s.Last)
	}
	return all
}

// checkEnd: every group of the core has converged, what was acknowledged is
// there, what was refused is not, and the history has an order.
func (w *fullWorld) checkEnd() {
	total := 0
	for _, g := range w.groups {
		if !w.beyond {
			w.checkConverged(g)
		}
		w.checkHistoryOf(g.ledger, &g.history, w.features.keys)
		w.fullyApplied(g)
		total += len(g.acknowledged)
		if g.found != nil && w.found == nil {
			w.found = g.found
		}
		if w.beyond {
			continue
		}
		if len(g.commits) < 5 || len(g.history.ops) < 3 {
			w.fail(NoProgress, nil, "group %d: only %d entries were applied and %d operations ended", g.id, len(g.commits), len(g.history.ops))
		}
	}
	if total < 5 && !w.beyond {
		w.fail(NoProgress, nil, "only %d commands were acknowledged", total)
	}
}

func (w *fullWorld) checkConverged(g *simGroup) {
	leaders := 0
	for i, h := range w.hosts {
		if w.core>>i&1 == 0 {
			continue
		}
		if h.rt == nil {
			w.fail(Liveness, ids(h.id), "is not running at the end")
			return
		}
		st := h.at[g.id-1]
		if st.handle.Status().Role == raft.Leader {
			leaders++
		}
		if applied, digest := st.machine.position(); applied != uint64(len(g.commits)) || applied > 0 && digest != g.states[applied-1] {
			w.fail(Liveness, ids(h.id), "group %d has not converged: %d entries are committed, %s", g.id, len(g.commits), w.describe(g))
			return
		}
	}
	if leaders != 1 && (leaders != 0 || !w.leadsOutside(g)) {
		w.fail(Liveness, nil, "the core ends with %d leaders of group %d: %s", leaders, g.id, w.describe(g))
	}
}

// fullyApplied: each acknowledged command took effect, and no refused one did.
// The core has applied all that was ever applied, by checkConverged.
func (w *fullWorld) fullyApplied(g *simGroup) {
	for _, id := range g.acknowledged {
		if g.place(id) == 0 {
			w.fail(LostWrite, nil, "group %d: command %d was acknowledged and is not there", g.id, id)
		}
	}
	for _, id := range g.refused {
		if at := g.place(id); at != 0 {
			w.fail(WrongAnswer, nil, "group %d: a client was told that command %d is not done; it took effect at %d", g.id, id, at)
		}
	}
}
