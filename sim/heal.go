package sim

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// The bounds of the second phase, in election timeouts.
const (
	// progressBound: after the healing, and after the slowest message of the
	// first phase has arrived, a client's write and a read must be answered.
	progressBound = 25
	// convergeBound: once the clients have stopped, the core's states are equal.
	convergeBound = 15
)

// nextPhase ends the phase that is running.
func (w *world) nextPhase() {
	w.phase++
	switch w.phase {
	case phaseHealed:
		w.healCore()
		w.queue.push(occurrence{at: w.now.Add(w.timeouts(progressBound) + w.settling() + w.lag()), what: whatPhase})
	case phaseQuiet:
		w.checkProgress()
		w.queue.push(occurrence{at: w.now.Add(w.timeouts(convergeBound) + w.lag()), what: whatPhase})
	case phaseDeath:
		if !w.killLeader() {
			w.phase = phaseOver
		}
	case phaseOver:
		w.checkSuccessor()
	}
	w.trace(Event{Kind: EventPhase, Text: w.phase.String()})
}

// settling is how long the first phase may still be felt: by messages under way
// and syncs that stall.
func (w *world) settling() time.Duration {
	return w.features.slowMax + w.features.stallMax
}

// lag is how many entries the core's logs are apart, which may have to travel
// one by one.
func (w *world) lag() time.Duration {
	least, most := uint64(1<<63), uint64(0)
	for i, r := range w.replicas {
		if w.core>>i&1 == 1 {
			least = min(least, r.disk.log.last(), max(r.machine.applied, r.disk.log.start.Index))
			most = max(most, r.log.last(), r.disk.log.last())
		}
	}
	d := time.Duration(most-min(least, most)) * w.roundTrip()
	if w.features.star {
		d *= 2 // the middle may have to fetch them first
	}
	return d
}

// roundTrip is the longest that a healed core needs to send an entry, write it
// and answer.
func (w *world) roundTrip() time.Duration {
	f := &w.features
	return 2*f.delayMax + 2*f.syncMax + 3*f.turnDelayMax
}

// healCore draws a majority and takes every fault off it. What was wrong
// outside of it stays wrong for good.
func (w *world) healCore() {
	s := &w.nemesis
	n := w.features.replicas
	size := n/2 + 1 + s.n(n-n/2)
	if w.features.quiet {
		size = n // and nobody is left outside
	}
	for bits.OnesCount(w.core) < size {
		w.core |= 1 << s.n(n)
	}
	if size == n || s.flip() {
		w.core |= (1<<len(w.replicas) - 1) &^ (1<<n - 1) // the learners too
	}
	w.healedAt = w.now
	w.net.mend()
	if w.features.star {
		w.traceCut(w.net.add(starPairs(s, n, len(w.replicas), w.core), 0))
		w.marks.hit(MarkHealedStar)
	}
	w.net.lossPermille, w.net.dupPermille, w.net.slowPermille = 0, 0, 0
	w.net.inOrder = true
	w.features.applyDelayMax, w.features.batchMax = 0, 1
	for _, c := range w.clients {
		c.patience = w.timeouts(8)
		c.readPermille = min(max(c.readPermille, 300), 700)
	}
	w.marks.hit(MarkHealedCore)
	for i, r := range w.replicas {
		if w.core>>i&1 == 0 {
			w.leaveBroken(r)
			continue
		}
		r.disk.stallPermille = 0
		r.pausedUntil = min(r.pausedUntil, w.now)
		if r.core == nil {
			r.life++
			w.queue.push(occurrence{at: w.now.Add(s.between(0, w.features.electionTimeout)), what: whatRestart, who: uint8(i), life: r.life})
		}
	}
}

// starPairs are all links but those of one voter of the core, which it draws. A
// replica at an end reaches two, which is no majority: the middle alone can lead.
func starPairs(s *source, voters, all int, core uint) (pairs [][2]uint8) {
	middle := s.n(voters)
	for core>>middle&1 == 0 {
		middle = s.n(voters)
	}
	for i := range all {
		for j := range all {
			if i != j && i != middle && j != middle {
				pairs = append(pairs, [2]uint8{uint8(i), uint8(j)})
			}
		}
	}
	return pairs
}

// leaveBroken gives a replica outside the core a fault that stays.
func (w *world) leaveBroken(r *replica) {
	s, n := &w.nemesis, len(w.replicas)
	self := uint(1) << r.slot
	switch s.n(5) {
	case 0:
		w.crash(r)
		r.life++ // a restart that is due is void
		return
	case 1:
		w.net.add(cutPairs(n, self, true, true), 0)
	case 2:
		w.marks.hit(MarkOutsiderSpeaks)
		w.net.add(cutPairs(n, self, false, true), 0)
	case 3:
		w.marks.hit(MarkOutsiderHears)
		w.net.add(cutPairs(n, self, true, false), 0)
	case 4:
		// It hears nobody and is heard by one.
		w.marks.hit(MarkOutsiderSpeaks)
		out := cutPairs(n, self, true, false)
		spared := s.n(len(out))
		w.net.add(append(cutPairs(n, self, false, true), append(out[:spared:spared], out[spared+1:]...)...), 0)
	}
	if r.core == nil {
		r.life++
		w.queue.push(occurrence{at: w.now.Add(s.between(0, w.timeouts(3))), what: whatRestart, who: uint8(r.slot), life: r.life})
	}
}

// members lists the core's replicas.
func (w *world) coreIDs() []smr.ReplicaID {
	var in []smr.ReplicaID
	for i, r := range w.replicas {
		if w.core>>i&1 == 1 {
			in = append(in, r.id)
		}
	}
	return in
}

// checkProgress: the healed core has a leader and answers.
func (w *world) checkProgress() {
	if w.halves.writes == 0 || w.halves.reads == 0 {
		detail := ""
		for _, r := range w.replicas {
			detail += " " + w.describe(r)
		}
		w.fail(Liveness, w.coreIDs(), "%v after the healing %d writes and %d reads are answered:%s", w.now.Sub(w.healedAt), w.halves.writes, w.halves.reads, detail)
	}
}

func (w *world) describe(r *replica) string {
	if r.core == nil {
		return "[" + string('0'+rune(r.id)) + " down]"
	}
	s := r.state
	return fmt.Sprintf("[%d %v term %d leader %d commit %d applied %d last %d]", r.id, s.Role, s.Term, s.Leader, s.Commit, r.machine.applied, s.Last)
}

// checkEnd: the core has converged, what was acknowledged is there, and the
// history of each register has an order.
func (w *world) checkEnd() {
	w.checkConverged()
	w.checkAcknowledgedKept()
	w.checkHistory()
	w.checkDidSomething()
}

func (w *world) checkConverged() {
	var best *replica
	leaders := 0
	for i, r := range w.replicas {
		if w.core>>i&1 == 0 {
			continue
		}
		if r.core == nil {
			w.fail(Liveness, ids(r.id), "is not running at the end")
			return
		}
		if r.state.Role == raft.Leader {
			leaders++
		}
		if best == nil || r.machine.applied > best.machine.applied {
			best = r
		}
	}
	if leaders != 1 {
		w.fail(Liveness, w.coreIDs(), "the core ends with %d leaders: %s", leaders, w.describeAll())
	}
	for i, r := range w.replicas {
		if w.core>>i&1 == 1 && (r.machine != best.machine || r.state.Commit != best.state.Commit) {
			w.fail(Liveness, ids(best.id, r.id), "the core has not converged: %s", w.describeAll())
		}
	}
	if best.machine.applied < w.maxCommit {
		w.fail(Liveness, ids(best.id), "the core has applied up to %d, committed is %d", best.machine.applied, w.maxCommit)
	}
}

func (w *world) describeAll() string {
	all := ""
	for _, r := range w.replicas {
		all += w.describe(r)
	}
	return all
}

// checkAcknowledgedKept: every acknowledged command is in the log that the core
// ends with, or was applied before its log begins.
func (w *world) checkAcknowledgedKept() {
	for i, r := range w.replicas {
		if w.core>>i&1 == 0 || r.core == nil {
			continue
		}
		for _, id := range w.acknowledged {
			at := w.place(id)
			if at == 0 || at > r.machine.applied {
				w.fail(LostWrite, ids(r.id), "command %d was acknowledged; it took effect at %d, this replica ends at %d", id, at, r.machine.applied)
				return
			}
			if at > r.log.start.Index && commandID(r.log.at(at).Data) != id {
				w.fail(LostWrite, ids(r.id), "command %d was acknowledged at index %d and is not there", id, at)
				return
			}
		}
	}
}

func (w *world) checkHistory() { w.checkHistoryOf(w.ledger, &w.history, w.features.keys) }

// checkDidSomething: a run that did nothing proves nothing.
func (w *world) checkDidSomething() {
	if len(w.commits) < 10 || len(w.acknowledged) < 5 || len(w.history.ops) < 5 {
		w.fail(NoProgress, nil, "only %d entries were applied, %d commands acknowledged, %d operations ended", len(w.commits), len(w.acknowledged), len(w.history.ops))
	}
}
