package sim

import "github.com/quorate/quorate/smr"

// outsider is what stays wrong with a host outside of the core: beside being down
// and cut off, all that leaves a host half alive.
type outsider uint8

const (
	outsiderNone    outsider = iota
	outsiderCrashes          // and comes back, again and again
	outsiderPauses
	outsiderFlaps     // its links are cut and whole by turns
	outsiderSyncsFail // so that it stops and is started again
	outsiderFull
	outsiderSlowDisk
	outsiderDrifts // its clock is a third too fast, or too slow
	outsiderCount
)

var outsiderMarks = [outsiderCount]Mark{
	outsiderCrashes: MarkOutsiderCrashes, outsiderPauses: MarkOutsiderPauses, outsiderFlaps: MarkOutsiderFlaps,
	outsiderSyncsFail: MarkOutsiderSyncsFail, outsiderFull: MarkOutsiderFull, outsiderSlowDisk: MarkOutsiderSlowDisk,
	outsiderDrifts: MarkOutsiderDrifts,
}

// comesAndGoes says that the host does not get to rest: it is away for good once
// the clients have stopped, or states could not be compared at any time.
func (k outsider) comesAndGoes() bool { return k > outsiderNone && k <= outsiderSyncsFail }

// outsiderDriftPPM is by how much such a clock is too slow or too fast.
const outsiderDriftPPM = 300_000

// leaveHalfAlive gives a host one of these faults for good.
func (w *fullWorld) leaveHalfAlive(h *simHost) {
	s, n := &w.faultR, len(w.hosts)
	h.outsider = outsider(1 + s.n(int(outsiderCount)-1))
	w.marks.hit(outsiderMarks[h.outsider])
	switch h.outsider {
	case outsiderFull:
		h.full = true
	case outsiderDrifts:
		h.drift = int64(pick(s, -outsiderDriftPPM, outsiderDriftPPM))
		// The clock shows now what it did, and goes on at another pace.
		was := h.clock.local(w.now)
		h.clock.ppm = h.drift
		h.clock.offset += was - h.clock.local(w.now)
		h.wakeAll()
	case outsiderFlaps:
		h.flaps = w.net.add(cutPairs(n, 1<<h.slot, true, s.flip()), 0)
	}
	if h.outsider.comesAndGoes() {
		w.nextTrouble(h)
	}
	if h.rt == nil {
		h.life++
		w.restartIn(h, s.between(0, w.timeouts(3)))
	}
}

// wakeAll gives the shards a turn: what their clock shows has changed.
func (h *simHost) wakeAll() {
	if h.rt == nil {
		return
	}
	for i := range h.w.full.shards {
		h.schedule(partsPerShard*i, h.w.now)
	}
}

func (w *fullWorld) nextTrouble(h *simHost) {
	d := w.faultR.between(w.features.electionTimeout/4, w.timeouts(4))
	w.queue.push(occurrence{at: w.now.Add(d), what: whatTrouble, who: uint8(h.slot)})
}

// trouble is the next time that an outsider's fault comes or goes.
func (w *fullWorld) trouble(h *simHost) {
	if w.phase != phaseHealed {
		return
	}
	d := w.faultR.between(w.features.electionTimeout/10, w.timeouts(2))
	switch h.outsider {
	case outsiderCrashes:
		w.crashFor(h, d)
	case outsiderPauses:
		w.pause(h, d)
	case outsiderFlaps:
		w.net.set(h.flaps, !w.net.cuts[h.flaps].on)
		w.net.healed()
		w.common.traceCut(&w.net.cuts[h.flaps])
	}
	w.nextTrouble(h)
}

// endTroubles lets what comes and goes stay away.
func (w *fullWorld) endTroubles() {
	for _, h := range w.hosts {
		switch {
		case !h.outsider.comesAndGoes():
		case h.outsider == outsiderFlaps:
			w.net.set(h.flaps, true)
		default:
			if h.rt != nil {
				w.crash(h, true)
			}
			h.life++ // a restart that is due is void
		}
	}
}

// stalled says that syncs of the host take far too long. What is read is in memory
// all the same.
func (h *simHost) stalled() bool { return h.outsider == outsiderSlowDisk && h.w.phase >= phaseHealed }

// leadsOutside: an outsider that is half alive may well lead, if the core follows.
func (w *fullWorld) leadsOutside(g *simGroup) bool {
	leader := smr.ReplicaID(0)
	for i, h := range w.hosts {
		if w.core>>i&1 == 0 {
			continue
		}
		st := h.at[g.id-1].handle.Status()
		if st.Leader == 0 || leader != 0 && st.Leader != leader {
			return false
		}
		leader = st.Leader
	}
	return leader != 0 && w.core>>(leader-1)&1 == 0 && w.hosts[leader-1].outsider != outsiderNone
}
