package sim

import (
	"fmt"
	"time"
)

// RunEveryFault runs a seed of the core world in which every fault of the
// network, the disks, the clocks and the processes takes part, where a seed of
// its own draws some of them.
func RunEveryFault(seed uint64, o Options) (Result, error) {
	o.Mode = Core
	w, err := newWorld(seed, &o)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	f := &w.features
	f.lossPermille = max(f.lossPermille, 50)
	f.dupPermille = max(f.dupPermille, 50)
	f.slowPermille, f.slowMax = max(f.slowPermille, 30), max(f.slowMax, f.electionTimeout)
	f.clockDriftPPM = max(f.clockDriftPPM, 1000)
	f.stallPermille, f.stallMax = max(f.stallPermille, 2), max(f.stallMax, f.electionTimeout)
	f.syncCutPermille = max(f.syncCutPermille, 1)
	f.applyDelayMax = max(f.applyDelayMax, f.electionTimeout/20)
	f.hunter, f.compaction, f.durableMachine = true, true, true
	if len(f.actions) == 0 {
		w.queue.push(occurrence{at: w.now.Add(time.Duration(f.nemesisMin)), what: whatNemesis})
	}
	f.actions = f.actions[:0]
	for a := actCrash; a < actionCount; a++ {
		f.actions = append(f.actions, a)
	}
	w.net.lossPermille, w.net.dupPermille = f.lossPermille, f.dupPermille
	w.net.slowPermille, w.net.slowMax = f.slowPermille, f.slowMax
	for _, r := range w.replicas {
		r.disk.stallPermille, r.disk.stallMax = f.stallPermille, f.stallMax
	}
	w.run()
	w.note(0xff, uint64(len(w.commits)), w.maxCommit, w.steps)
	if w.found != nil {
		w.trace(Event{Kind: EventViolation, Text: w.found.Error()})
	}
	return Result{
		Seed: seed, Mode: Core, Violation: w.found, Digest: w.digest, Virtual: time.Duration(w.now), Messages: w.sent,
		Applied: uint64(len(w.commits)), Operations: len(w.history.ops), Marks: w.marks,
	}, nil
}
