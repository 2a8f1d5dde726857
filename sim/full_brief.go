package sim

import "time"

// briefLeaders is the world of Raft's Figure 8 for whole hosts. What is needed for
// it is an entry that few have, a later leader whose own entry nobody else has, and
// one after that which brings the first entry to a majority and its own to nobody.
// Chance meets that too seldom: frames that are under way when a link is cut still
// arrive, so nearly every leader's first entry is everywhere. Here a new leader's
// connections to all but a few break with what is under way, and soon after that it
// dies or is cut off altogether.
func (x *fullFeatures) briefLeaders(f *features) {
	f.oneEntryEach(1)
	f.actions = f.actions[:0]
	x.snapshots.on, x.load.burst, x.load.largePermille = false, 0, 0
	x.patientPermille, x.noticePermille = 0, 1000
}

// reachesFew cuts a new leader off from all but up to two others, and has the hunter
// come for it.
func (w *fullWorld) reachesFew(h *simHost) {
	s, f, n := &w.briefR, &w.features, len(w.hosts)
	fall := s.between(0, 6*f.delayMax+2*f.syncMax)
	reached := uint(1) << h.slot
	for range s.n(3) {
		reached |= 1 << s.n(n)
	}
	w.severFor(h, ^reached, fall+s.between(f.electionTimeout/2, w.timeouts(2)))
	w.queue.push(occurrence{at: w.now.Add(fall), what: whatHunt, who: uint8(h.slot), ref: huntFall, life: h.life})
}

// falls ends a brief leader.
func (w *fullWorld) falls(h *simHost) {
	d := w.briefR.between(w.features.electionTimeout/2, w.timeouts(2))
	if w.briefR.flip() {
		w.crashFor(h, d)
	} else {
		w.severFor(h, ^uint(1<<h.slot), d)
	}
}

// severFor cuts a host off from some others, and what is under way is lost.
func (w *fullWorld) severFor(h *simHost, others uint, d time.Duration) {
	var pairs [][2]uint8
	for i := range w.hosts {
		if others>>i&1 == 1 {
			w.net.snap(i, h.slot)
			pairs = append(pairs, [2]uint8{uint8(i), uint8(h.slot)}, [2]uint8{uint8(h.slot), uint8(i)})
		}
	}
	w.makeCut(pairs, 0, d)
}
