package sim

import "slices"

// Swarm testing leaves features out, for a mixture of everything hides things. A
// run with Options.EveryFault is that mixture: the seed still draws how often and
// when, but every fault that its world has takes part. What bounds a fault also
// holds here: a majority is healed in the end, and is live.

// everyFault lets take part what the seed has left out of both worlds' faults.
func (f *features) everyFault() {
	f.every = true
	f.lossPermille = max(f.lossPermille, 50)
	f.dupPermille = max(f.dupPermille, 50)
	f.slowPermille, f.slowMax = max(f.slowPermille, 30), max(f.slowMax, f.electionTimeout)
	f.clockDriftPPM = max(f.clockDriftPPM, 1000)
	f.stallPermille, f.stallMax = max(f.stallPermille, 2), max(f.stallMax, f.electionTimeout)
	f.syncCutPermille = max(f.syncCutPermille, 1)
	f.keepPermille = max(f.keepPermille, 300)
	f.applyDelayMax = max(f.applyDelayMax, f.electionTimeout/20)
	f.inflightMessages = max(f.inflightMessages, 2)
	f.strayPermille = max(f.strayPermille, 100)
	f.hunter, f.compaction = true, true
	f.star = false // it needs logs that reach back, and these are compacted
	for a := actCrash; a < actionCount; a++ {
		if !slices.Contains(f.actions, a) {
			f.actions = append(f.actions, a)
		}
	}
}

// everyFault lets take part what whole hosts have beside that.
func (x *fullFeatures) everyFault() {
	x.breakPermille, x.corruptPermille = max(x.breakPermille, 10), max(x.corruptPermille, 5)
	x.garblePermille, x.newerPermille = max(x.garblePermille, 2), max(x.newerPermille, 300)
	x.noticePermille, x.patientPermille = max(x.noticePermille, 500), max(x.patientPermille, 500)
	x.keepPercent, x.killPermille = max(x.keepPercent, 30), max(x.killPermille, 300)
	x.crashOpPermille = max(x.crashOpPermille, 300)
	x.syncFailPermille = max(x.syncFailPermille, 2)
	x.diskFull, x.backups.on = true, true
	s := &x.snapshots
	s.on, s.cutPermille, s.opCrashPermille = true, max(s.cutPermille, 30), max(s.opCrashPermille, 400)
	s.awayTimeouts, s.applyStallTimeouts = max(s.awayTimeouts, 10), max(s.applyStallTimeouts, 3)
}
