package sim

import (
	"fmt"
	"slices"
)

// knob is a feature that can be left out of a seed by name. What is left out has
// been drawn all the same, so the seed's other draws stay what they are.
type knob struct {
	name string
	on   func(f *features, x *fullFeatures) bool
	off  func(f *features, x *fullFeatures)
}

// actionNames are in the order of the actions.
var actionNames = [actionCount]string{
	"crash", "crash-leader", "crash-all", "cut-full", "cut-partial", "cut-one-way", "cut-flapping", "cut-leader",
	"cut-shape", "pause", "clock-jump", "compact", "transfer",
}

var knobs = func() []knob {
	ks := []knob{
		{"loss", func(f *features, _ *fullFeatures) bool { return f.lossPermille > 0 }, func(f *features, _ *fullFeatures) { f.lossPermille = 0 }},
		{"duplicates", func(f *features, _ *fullFeatures) bool { return f.dupPermille > 0 }, func(f *features, _ *fullFeatures) { f.dupPermille = 0 }},
		{"slow-messages", func(f *features, _ *fullFeatures) bool { return f.slowPermille > 0 }, func(f *features, _ *fullFeatures) { f.slowPermille, f.slowMax = 0, 0 }},
		{"drift", func(f *features, _ *fullFeatures) bool { return f.clockDriftPPM > 0 }, func(f *features, _ *fullFeatures) { f.clockDriftPPM = 0 }},
		{"stalls", func(f *features, _ *fullFeatures) bool { return f.stallPermille > 0 }, func(f *features, _ *fullFeatures) { f.stallPermille, f.stallMax = 0, 0 }},
		{"hunter", func(f *features, _ *fullFeatures) bool { return f.hunter }, func(f *features, _ *fullFeatures) { f.hunter = false }},
		{"sync-cuts", func(f *features, _ *fullFeatures) bool { return f.syncCutPermille > 0 }, func(f *features, _ *fullFeatures) { f.syncCutPermille = 0 }},
		{"kept-writes", func(f *features, x *fullFeatures) bool { return f.keepPermille+x.keepPercent > 0 }, func(f *features, x *fullFeatures) { f.keepPermille, x.keepPercent = 0, 0 }},
		{"durable-machine", func(f *features, _ *fullFeatures) bool { return f.durableMachine }, func(f *features, _ *fullFeatures) { f.durableMachine = false }},
		{"slow-apply", func(f *features, _ *fullFeatures) bool { return f.applyDelayMax > 0 }, func(f *features, _ *fullFeatures) { f.applyDelayMax = 0 }},
		{"learners", func(f *features, _ *fullFeatures) bool { return f.learners > 0 }, func(f *features, _ *fullFeatures) { f.learners = 0 }},
		{"batches", func(f *features, _ *fullFeatures) bool { return f.batchMax > 1 }, func(f *features, _ *fullFeatures) { f.batchMax = 1 }},
		{"stray-clients", func(f *features, _ *fullFeatures) bool { return f.strayPermille > 20 }, func(f *features, _ *fullFeatures) { f.strayPermille = 20 }},
		{"small-messages", func(f *features, _ *fullFeatures) bool { return f.appendEntriesMax+f.appendBytesMax > 0 }, func(f *features, _ *fullFeatures) { f.appendEntriesMax, f.appendBytesMax = 0, 0 }},
		{"small-window", func(f *features, _ *fullFeatures) bool { return f.inflightMessages > 0 }, func(f *features, _ *fullFeatures) { f.inflightMessages = 0 }},
		{"small-memory", func(f *features, _ *fullFeatures) bool {
			return f.tailBytes+f.committedBytes+f.backlogBytes+f.uncommittedBytes > 0
		}, func(f *features, _ *fullFeatures) {
			f.tailBytes, f.committedBytes, f.backlogBytes, f.uncommittedBytes = 0, 0, 0, 0
		}},
		{"rest", func(f *features, _ *fullFeatures) bool { return f.rest }, func(f *features, _ *fullFeatures) { f.rest, f.restRenewal, f.calmFor = false, 0, 0 }},
		{"lease", func(f *features, _ *fullFeatures) bool { return f.lease }, func(f *features, _ *fullFeatures) { f.lease = false }},
		{"star", func(f *features, _ *fullFeatures) bool { return f.star }, func(f *features, _ *fullFeatures) { f.star = false }},
		{"breaks", func(_ *features, x *fullFeatures) bool { return x.breakPermille+x.corruptPermille > 0 }, func(_ *features, x *fullFeatures) { x.breakPermille, x.corruptPermille = 0, 0 }},
		{"garbled-frames", func(_ *features, x *fullFeatures) bool { return x.garblePermille > 0 }, func(_ *features, x *fullFeatures) { x.garblePermille = 0 }},
		{"upgrades", func(_ *features, x *fullFeatures) bool { return x.newerPermille > 0 }, func(_ *features, x *fullFeatures) { x.newerPermille = 0 }},
		{"kills", func(_ *features, x *fullFeatures) bool { return x.killPermille > 0 }, func(_ *features, x *fullFeatures) { x.killPermille = 0 }},
		{"crash-at-operation", func(_ *features, x *fullFeatures) bool { return x.crashOpPermille > 0 }, func(_ *features, x *fullFeatures) { x.crashOpPermille = 0 }},
		{"failing-syncs", func(_ *features, x *fullFeatures) bool { return x.syncFailPermille > 0 }, func(_ *features, x *fullFeatures) { x.syncFailPermille = 0 }},
		{"full-disks", func(_ *features, x *fullFeatures) bool { return x.diskFull }, func(f *features, x *fullFeatures) { x.diskFull = false; f.dropAction(actDiskFull) }},
		{"bit-flips", func(_ *features, x *fullFeatures) bool { return x.damage.flipPermille > 0 }, func(_ *features, x *fullFeatures) { x.damage.flipPermille = 0 }},
		{"lost-writes", func(_ *features, x *fullFeatures) bool { return x.damage.lostPermille > 0 }, func(_ *features, x *fullFeatures) { x.damage.lostPermille = 0 }},
		{"stray-writes", func(_ *features, x *fullFeatures) bool { return x.damage.strayPermille > 0 }, func(_ *features, x *fullFeatures) { x.damage.strayPermille = 0 }},
		{"small-limits", func(_ *features, x *fullFeatures) bool { return x.load.requests > 0 }, func(_ *features, x *fullFeatures) {
			x.load = loadFeatures{workers: x.load.workers, largePermille: x.load.largePermille, largeBytes: x.load.largeBytes, burstPermille: x.load.burstPermille, burst: x.load.burst}
		}},
		{"large-values", func(_ *features, x *fullFeatures) bool { return x.load.largePermille > 0 }, func(_ *features, x *fullFeatures) { x.load.largePermille = 0 }},
		{"bursts", func(_ *features, x *fullFeatures) bool { return x.load.burst > 0 }, func(_ *features, x *fullFeatures) { x.load.burst = 0 }},
		{"slow-host", func(_ *features, x *fullFeatures) bool { return x.slow.host > 0 }, func(_ *features, x *fullFeatures) { x.slow.host = 0 }},
		{"slow-links", func(_ *features, x *fullFeatures) bool { return x.slow.links > 0 }, func(_ *features, x *fullFeatures) { x.slow.links = 0 }},
		{"late-word", func(_ *features, x *fullFeatures) bool { return x.lateWord }, func(_ *features, x *fullFeatures) { x.lateWord = false }},
		{"brief-leaders", func(_ *features, x *fullFeatures) bool { return x.brief }, func(_ *features, x *fullFeatures) { x.brief = false }},
		{"second-group", func(_ *features, x *fullFeatures) bool { return x.groups > 1 }, func(_ *features, x *fullFeatures) { x.groups = 1 }},
		{"snapshots", func(_ *features, x *fullFeatures) bool { return x.snapshots.on }, func(_ *features, x *fullFeatures) { x.snapshots.on = false }},
		{"apply-stalls", func(_ *features, x *fullFeatures) bool { return x.snapshots.applyStallTimeouts > 0 }, func(_ *features, x *fullFeatures) { x.snapshots.applyStallTimeouts = 0 }},
		{"snapshot-crashes", func(_ *features, x *fullFeatures) bool {
			return x.snapshots.opCrashPermille+x.snapshots.cutPermille > 0
		}, func(_ *features, x *fullFeatures) {
			x.snapshots.opCrashPermille, x.snapshots.cutPermille = 0, 0
		}},
		{"shard-bound", func(_ *features, x *fullFeatures) bool { return x.snapshots.shardFactor > 0 }, func(_ *features, x *fullFeatures) { x.snapshots.shardFactor = 0 }},
		{"backups", func(_ *features, x *fullFeatures) bool { return x.backups.on }, func(_ *features, x *fullFeatures) { x.backups.on = false }},
		{"pebble", func(_ *features, x *fullFeatures) bool { return x.pebble }, func(_ *features, x *fullFeatures) { x.pebble = false }},
	}
	for a, name := range actionNames {
		act := action(a)
		ks = append(ks, knob{name,
			func(f *features, _ *fullFeatures) bool { return slices.Contains(f.actions, act) },
			func(f *features, _ *fullFeatures) {
				f.dropAction(act)
				if act == actCompact {
					f.compaction = false
				}
			}})
	}
	return ks
}()

// only says of which world alone a feature is.
var only = map[string]Mode{
	"loss": Core, "duplicates": Core, "sync-cuts": Core, "batches": Core, "learners": Core,
	"breaks": Full, "garbled-frames": Full, "upgrades": Full, "kills": Full, "crash-at-operation": Full, "failing-syncs": Full, "full-disks": Full,
	"slow-host": Full, "slow-links": Full, "small-limits": Full, "large-values": Full, "bursts": Full,
	"bit-flips": Full, "lost-writes": Full, "stray-writes": Full, "late-word": Full, "brief-leaders": Full,
	"second-group": Full, "snapshots": Full, "apply-stalls": Full, "snapshot-crashes": Full, "shard-bound": Full, "backups": Full, "pebble": Full,
}

// needs says without which other feature one does nothing, in that world.
var needs = [...]map[string]string{
	Core: {"kept-writes": "crash"},
	Full: {"kept-writes": "crash-at-operation", "kills": "crash", "bit-flips": "crash", "compact": "snapshots", "apply-stalls": "snapshots", "snapshot-crashes": "snapshots", "shard-bound": "snapshots"},
}

// FeatureNames lists what Options.Only can name in the worlds of these modes.
func FeatureNames(modes ...Mode) (names []string) {
	for i := range knobs {
		if mode, one := only[knobs[i].name]; !one || slices.Contains(modes, mode) {
			names = append(names, knobs[i].name)
		}
	}
	return names
}

// wanted is what Only names, and what that needs.
func (o *Options) wanted() ([]string, error) {
	has, names := FeatureNames(o.Mode), slices.Clone(o.Only)
	for _, name := range o.Only {
		if name != "none" && !slices.Contains(has, name) {
			return nil, fmt.Errorf("the %v world has no feature %q; it has %v", o.Mode, name, has)
		}
		if need := needs[o.Mode][name]; need != "" {
			names = append(names, need)
		}
	}
	return names, nil
}

// limit leaves out what the options leave out. x is empty in the core world.
func (o *Options) limit(f *features, x *fullFeatures) error {
	if o.Clients > 0 {
		f.clients = o.Clients
	}
	if o.Chaos > 0 {
		f.chaos = o.Chaos
	}
	if o.Only == nil {
		return nil
	}
	wanted, err := o.wanted()
	if err != nil {
		return err
	}
	for i := range knobs {
		if k := &knobs[i]; !slices.Contains(wanted, k.name) {
			k.off(f, x)
		}
	}
	return nil
}

// drawn lists the features that a seed has, within the options.
func drawn(seed uint64, o *Options) (names []string, clients, chaos int, err error) {
	f, x := drawFeatures(seed, o), fullFeatures{groups: 1}
	if o.Mode == Full {
		x = drawFull(seed)
		x.damage = drawDamage(seed, o.Beyond)
		x.fit(&f)
	}
	if err := o.limit(&f, &x); err != nil {
		return nil, 0, 0, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	for i := range knobs {
		if knobs[i].on(&f, &x) {
			names = append(names, knobs[i].name)
		}
	}
	return names, f.clients, f.chaos, nil
}
