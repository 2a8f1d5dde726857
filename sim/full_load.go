package sim

import (
	"errors"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
)

// More than a host wants to take: its limits are small, values are large, and now
// and then clients come all at once.

// loadFeatures are what a seed draws about that.
type loadFeatures struct {
	// The host's limits of these names; zero: its defaults.
	inboxBytes, requests, logBufferBytes, tailBytes, commandBytes int
	workers                                                       int
	// largePermille of the commands are up to largeBytes long.
	largePermille, largeBytes int
	// burstPermille of the calls come together with so many others.
	burstPermille, burst int
}

func drawLoad(seed uint64) (f loadFeatures) {
	s := fork(seed, 26)
	small := s.permille(250)
	if s.permille(250) {
		f.largePermille, f.largeBytes = pick(&s, 20, 100), pick(&s, 3000, 40_000, 300_000)
	}
	if small {
		least := max(1000, f.largeBytes+100)
		f.commandBytes = least
		f.inboxBytes = (least + 100) * pick(&s, 1, 4, 20) // an entry is more than its command
		f.logBufferBytes = (least + 100) * pick(&s, 1, 4, 20)
		f.requests = pick(&s, 2, 8, 100)
		f.tailBytes = pick(&s, 1, 2000, 100_000)
	}
	f.workers = pick(&s, 0, 0, 1, 3)
	if s.permille(300) {
		f.burstPermille, f.burst = pick(&s, 10, 50), pick(&s, 10, 60, 200)
	}
	return f
}

func (f *loadFeatures) limit(c *host.Config) {
	c.InboxBytesMax, c.RequestsMax, c.LogBufferBytesMax, c.TailBytesMax, c.CommandBytesMax = f.inboxBytes, f.requests, f.logBufferBytes, f.tailBytes, f.commandBytes
	c.ApplyWorkers = f.workers
}

// workers is how many there are on a host.
func (w *fullWorld) workers() int {
	if n := w.full.load.workers; n > 0 {
		return n
	}
	return w.full.shards
}

// valueSize draws how long a command is.
func (w *fullWorld) valueSize() int {
	f := &w.full.load
	if f.largePermille == 0 || !w.loadR.permille(f.largePermille) {
		return w.features.valueBytes
	}
	w.marks.hit(MarkLargeCommand)
	return max(w.features.valueBytes, w.loadR.n(f.largeBytes))
}

// burst lets many clients come at once, each with a write of no register.
func (w *fullWorld) burst(h *simHost, st *seat) {
	f := &w.full.load
	if f.burst == 0 || w.phase != phaseChaos || !w.loadR.permille(f.burstPermille) {
		return
	}
	w.marks.hit(MarkBurst)
	g := st.group
	for range f.burst {
		w.commandIDs++
		id := w.commandIDs
		command := appendCommand(nil, id, keysMax, w.valueSize())
		err := st.handle.Submit(command, h.local().Add(w.timeouts(1+w.loadR.n(10))), func(r smr.Result, err error) {
			if !h.dead {
				w.burstAnswered(h, g, id, r, err)
			}
		})
		if err != nil {
			w.burstAnswered(h, g, id, smr.Result{}, err)
		}
	}
}

func (w *fullWorld) burstAnswered(h *simHost, g *simGroup, id uint64, r smr.Result, err error) {
	w.markBusy(err)
	switch at := g.place(id); {
	case err == nil && (at == 0 || r.Value != at):
		w.fail(WrongAnswer, ids(h.id), "acknowledges command %d at index %d, it took effect at %d", id, r.Value, at)
	case err == nil:
		g.acknowledged = append(g.acknowledged, id)
		g.known(at)
	case host.Retryable(err):
		g.refused = append(g.refused, id)
	}
}

func (w *fullWorld) markBusy(err error) {
	if errors.Is(err, host.ErrBusy) {
		w.marks.hit(MarkBusy)
	}
}

// loadTime is how much longer an answer may take under such load.
func (w *fullWorld) loadTime() time.Duration {
	if w.full.load.burst == 0 {
		return 0
	}
	return w.timeouts(2)
}
