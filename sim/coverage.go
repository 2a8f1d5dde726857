package sim

import (
	"fmt"
	"strings"
)

// A fault that is drawn and never happens tests nothing, and nothing fails for it.
// So each feature names the marks that it is there for, and how often: in the share
// of the seeds with the feature that hit the mark. That share is a lower bound,
// about half of what was counted over some thousand seeds. If k such seeds miss a
// mark whose share is p, by chance this has the probability (1-p)^k < e^(-pk). A
// sweep fails for it from pk = 23 on: in fewer than one of 10^9 sweeps by chance.
const missExponent = 23

// coverSeedsMin is the least sweep that is asked what it has reached.
const coverSeedsMin = 100

// aim is what a feature is there for. Without a feature it is of every seed.
type aim struct {
	feature  string
	mark     Mark
	permille [2]int // of the seeds, by mode; zero: not in that world
}

var aims = [...]aim{
	{"", MarkElection, [2]int{900, 900}},
	{"", MarkWrite, [2]int{900, 900}},
	{"", MarkRead, [2]int{900, 900}},
	{"", MarkHealedCore, [2]int{900, 900}},
	{"", MarkWriteReplaced, [2]int{100, 400}},
	{"", MarkSearched, [2]int{350, 430}},
	{"", MarkDurableAck, [2]int{0, 900}},
	{"", MarkDurableCommit, [2]int{0, 900}},
	{"", MarkDurableReturn, [2]int{0, 430}},
	{"loss", MarkLost, [2]int{900, 0}},
	{"duplicates", MarkDuplicated, [2]int{900, 0}},
	{"slow-messages", MarkReordered, [2]int{900, 0}},
	{"stalls", MarkStall, [2]int{370, 350}},
	{"hunter", MarkHunted, [2]int{400, 400}},
	{"sync-cuts", MarkCrashMidSync, [2]int{400, 0}},
	{"kept-writes", MarkCrashKeptWrite, [2]int{250, 0}},
	{"durable-machine", MarkDurableMachine, [2]int{430, 330}},
	{"batches", MarkBatchAppend, [2]int{270, 0}},
	{"stray-clients", MarkNotLeader, [2]int{900, 0}},
	{"stray-clients", MarkForwarded, [2]int{0, 900}},
	{"small-memory", MarkFetchSelf, [2]int{350, 0}},
	{"rest", MarkRest, [2]int{400, 400}},
	{"lease", MarkLeaseRead, [2]int{700, 700}},
	{"star", MarkHealedStar, [2]int{500, 500}},
	{"breaks", MarkBrokenConnection, [2]int{0, 900}},
	{"breaks", MarkTornFrame, [2]int{0, 400}},
	{"breaks", MarkCorruptFrame, [2]int{0, 200}},
	{"garbled-frames", MarkGarbledFrame, [2]int{0, 470}},
	{"garbled-frames", MarkBadFrame, [2]int{0, 460}},
	{"upgrades", MarkNewer, [2]int{0, 490}},
	{"upgrades", MarkNews, [2]int{0, 490}},
	{"crash-at-operation", MarkCrashMidSync, [2]int{0, 430}},
	{"failing-syncs", MarkSyncFailed, [2]int{0, 300}},
	{"full-disks", MarkDiskFull, [2]int{0, 400}},
	{"bit-flips", MarkBitFlip, [2]int{0, 200}},
	{"lost-writes", MarkLostBatch, [2]int{0, 200}},
	{"stray-writes", MarkStrayBatch, [2]int{0, 200}},
	{"late-word", MarkLateWord, [2]int{0, 420}},
	{"brief-leaders", MarkHunted, [2]int{0, 900}},
	{"second-group", MarkSecondGroup, [2]int{0, 900}},
	{"snapshots", MarkCompacted, [2]int{0, 430}},
	{"snapshots", MarkSnapshotTaken, [2]int{0, 350}},
	{"snapshots", MarkSnapshotNeeded, [2]int{0, 120}},
	{"snapshots", MarkSnapshotInstalled, [2]int{0, 120}},
	{"apply-stalls", MarkApplyStall, [2]int{0, 190}},
	{"snapshot-crashes", MarkCrashTaking, [2]int{0, 70}},
	{"backups", MarkBackup, [2]int{0, 450}},
	{"backups", MarkBackupFollower, [2]int{0, 450}},
	{"backups", MarkBackupBesideApply, [2]int{0, 300}},
	{"shard-bound", MarkShardCompacted, [2]int{0, 200}},
	{"pebble", MarkPebble, [2]int{0, 900}},
	{"crash", MarkCrash, [2]int{900, 900}},
	{"crash-leader", MarkCrash, [2]int{900, 900}},
	{"crash-all", MarkCrashAll, [2]int{400, 400}},
	{"cut-full", MarkCutFull, [2]int{400, 400}},
	{"cut-partial", MarkCutPartial, [2]int{400, 400}},
	{"cut-one-way", MarkCutOneWay, [2]int{400, 400}},
	{"cut-flapping", MarkCutFlapping, [2]int{400, 400}},
	{"cut-leader", MarkCutLeader, [2]int{400, 400}},
	{"cut-shape", MarkCutShape, [2]int{400, 400}},
	{"pause", MarkPause, [2]int{400, 400}},
	{"clock-jump", MarkClockJump, [2]int{400, 400}},
	{"compact", MarkCompacted, [2]int{400, 0}},
	{"compact", MarkSnapshotAsked, [2]int{0, 470}},
	{"transfer", MarkTransferAsked, [2]int{0, 300}},
}

// Coverage is how a sweep has aimed at a mark, and hit.
type Coverage struct {
	// Feature whose seeds aim at Mark; empty: all do.
	Feature string
	Mark    Mark
	// Drawn is how many seeds that ended well have the feature, Reached in how many
	// of them the mark was hit.
	Drawn, Reached int
	// permille is the share of Drawn that is expected at least.
	permille int
}

// Missed says that Drawn seeds without a hit are no chance.
func (c *Coverage) Missed() bool { return c.Reached == 0 && c.Drawn*c.permille >= missExponent*1000 }

// cover counts what a seed has aimed at. Seeds whose faults the options bend are
// not asked.
func (r *Report) cover(features []string, marks *Marks) {
	if r.Coverage == nil {
		for _, a := range aims {
			if p := a.permille[r.Mode]; p > 0 {
				r.Coverage = append(r.Coverage, Coverage{Feature: a.feature, Mark: a.mark, permille: p})
			}
		}
	}
	has := map[string]bool{"": true}
	for _, f := range features {
		has[f] = true
	}
	for i := range r.Coverage {
		c := &r.Coverage[i]
		if !has[c.Feature] {
			continue
		}
		c.Drawn++
		if marks[c.Mark] > 0 {
			c.Reached++
		}
	}
}

// asked says whether a seed with these options is asked what it has reached.
func (o *Options) asked() bool {
	return !o.Quiet && !o.Beyond && !o.EveryFault && len(o.Without) == 0 && o.Only == nil && o.Clients == 0 && o.Chaos == 0
}

// Missed lists what a sweep of enough seeds has aimed at and never hit, though it
// had to.
func (r *Report) Missed() (missed []Coverage) {
	if r.Seeds < coverSeedsMin {
		return nil
	}
	for _, c := range r.Coverage {
		if c.Missed() {
			missed = append(missed, c)
		}
	}
	return missed
}

// CoverageText is in how many of the seeds that aimed at each mark it was hit.
func (r *Report) CoverageText() string {
	var b strings.Builder
	for _, c := range r.Coverage {
		if c.Drawn > 0 {
			fmt.Fprintf(&b, "%s %d/%d  ", &c, c.Reached, c.Drawn)
		}
	}
	return strings.TrimSpace(b.String())
}

func (c *Coverage) String() string {
	if c.Feature == "" || c.Feature == c.Mark.String() {
		return c.Mark.String()
	}
	return c.Feature + "→" + c.Mark.String()
}
