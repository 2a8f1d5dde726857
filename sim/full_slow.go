package sim

import "time"

// Hosts and links that are slow for the whole of the chaos, by a factor. Delays that
// are all drawn from one range even out; one replica that is always the last, and a
// quorum that is always the same, show what those hide.

// slowFeatures are what a seed draws about that.
type slowFeatures struct {
	// host is by how much one of the hosts is slower in its turns, syncs and
	// applies; links by how much some of the directed links are. Zero: not.
	host, links int
}

func drawSlow(seed uint64) (f slowFeatures) {
	s := fork(seed, 23)
	if s.permille(200) {
		f.host = pick(&s, 3, 10, 30)
	}
	if s.permille(200) {
		f.links = pick(&s, 3, 10, 30)
	}
	return f
}

// drawSlowOnes chooses the host and the links.
func (w *fullWorld) drawSlowOnes() {
	s := fork(w.seed, 24)
	n := len(w.hosts)
	slot := s.n(n)
	w.hosts[slot].slow = w.full.slow.host > 0
	for i := range n {
		for j := range n {
			w.net.slow[i][j] = i != j && s.permille(300) && w.full.slow.links > 0
		}
	}
}

// slowMost bounds what slowness adds up to: a host or a link that needs longer than
// this is no use to anybody, which cuts and crashes see to.
func (w *fullWorld) slowMost() time.Duration { return w.features.electionTimeout / 2 }

func (h *simHost) slowed(d time.Duration) time.Duration {
	w := h.w
	if !h.slow || w.healed(h.slot) {
		return d
	}
	w.marks.hit(MarkSlowHost)
	return max(d, min(d*time.Duration(w.full.slow.host), w.slowMost()))
}

func (n *wires) slowed(from, to int, d time.Duration) time.Duration {
	w := n.w
	if !n.slow[from][to] || w.healed(from) && w.healed(to) {
		return d
	}
	w.marks.hit(MarkSlowLink)
	return max(d, min(d*time.Duration(w.full.slow.links), w.slowMost()))
}

// healed says that a host is of the core, which has no faults any more.
func (w *fullWorld) healed(slot int) bool { return w.core>>slot&1 == 1 }
