package sim

import "testing"

// The faults of a world, by the marks that say that they took part.
var (
	coreFaults = []Mark{
		MarkLost, MarkDuplicated, MarkReordered, MarkStall, MarkCrash, MarkCrashLostWrite, MarkCrashKeptWrite, MarkCrashAll, MarkHunted,
		MarkPause, MarkClockJump, MarkCutFull, MarkCutPartial, MarkCutOneWay, MarkCutFlapping, MarkCutLeader, MarkCutShape,
	}
	hostFaults = []Mark{
		MarkBrokenConnection, MarkCorruptFrame, MarkTornFrame, MarkGarbledFrame, MarkBadFrame, MarkNews, MarkStall, MarkSyncFailed, MarkDiskFull, MarkCrash, MarkCrashMidSync,
		MarkCrashAll, MarkHunted, MarkApplyStall, MarkCrashSending, MarkCrashTaking, MarkPause, MarkClockJump,
		MarkCutFull, MarkCutPartial, MarkCutOneWay, MarkCutFlapping, MarkCutLeader, MarkCutShape,
	}
)

// Under all faults at once every check holds, and each fault takes part in some of
// the seeds; the options say it all, so that a seed can be replayed.
func TestEveryFault(t *testing.T) {
	for _, c := range []struct {
		mode   Mode
		seeds  uint64
		faults []Mark
	}{{Core, 60, coreFaults}, {Full, 24, hostFaults}} {
		var marks Marks
		for seed := range c.seeds {
			o := Options{Mode: c.mode, EveryFault: true}
			res, err := RunSeed(seed, o)
			if err != nil || res.Violation != nil {
				t.Fatalf("%v seed %d: %v, %v", c.mode, seed, res.Violation, err)
			}
			if again, _ := RunSeed(seed, o); seed == 0 && again.Digest != res.Digest {
				t.Errorf("%v: two runs of a seed differ", c.mode)
			}
			marks.add(&res.Marks)
		}
		if missed := marks.Missed(c.faults...); len(missed) > 0 {
			t.Errorf("%v: these faults took no part: %v", c.mode, missed)
		}
		names, _, _, err := drawn(1, &Options{Mode: c.mode, EveryFault: true})
		if err != nil || len(names) < 2*int(actionCount) {
			t.Errorf("%v: a seed draws %v, %v", c.mode, names, err)
		}
	}
}
