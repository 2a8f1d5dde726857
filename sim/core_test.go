package sim

import (
	"bufio"
	"context"
	"flag"
	"os"
	"strings"
	"testing"
)

var (
	flagSeeds   = flag.Int("seeds", 0, "how many seeds to run in each world (default: as many as the test says)")
	flagBase    = flag.Uint64("seed-base", 1, "the first seed")
	flagSeed    = flag.Uint64("seed", 0, "run this seed alone, in TestOne")
	flagWithout = flag.String("without", "", "protections to switch off, in TestOne")
	flagMode    = flag.String("mode", "core", "the world of TestOne: core or full")
	flagTrace   = flag.Bool("trace", false, "print the trace of TestOne")
)

// TestOne runs the seed that -seed names.
func TestOne(t *testing.T) {
	if *flagSeed == 0 {
		t.Skip("no -seed given")
	}
	o := Options{}
	if *flagMode == "full" {
		o.Mode = Full
	}
	if *flagWithout != "" {
		o.Without = strings.Split(*flagWithout, ",")
	}
	if *flagTrace {
		b := bufio.NewWriter(os.Stdout)
		defer b.Flush()
		o.Tracer = Printer{b}
	}
	r, err := RunSeed(*flagSeed, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("digest %x, %v virtual, %d messages, %d applied, %d operations", r.Digest, r.Virtual, r.Messages, r.Applied, r.Operations)
	t.Log(r.Marks.String())
	if r.Violation != nil {
		t.Error(r.Violation)
	}
}

func seeds(n int) int {
	if *flagSeeds > 0 {
		return *flagSeeds
	}
	if testing.Short() {
		return n / 5
	}
	return n
}

// runSeeds runs a sweep in which nothing may fail, and demands that it reached
// what its faults are there for.
func runSeeds(t *testing.T, o Options, wanted []Mark) *Report {
	t.Helper()
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.String())
	t.Log(r.Marks.String())
	for _, f := range r.Failures {
		t.Errorf("seed %d: %v\nreplay: %s", f.Seed, f.Violation, o.Replay(f.Seed))
	}
	if o.Seeds < 100 {
		return &r // too few to reach everything
	}
	if missed := r.Marks.Missed(wanted...); len(missed) > 0 {
		t.Errorf("%d seeds never reached %v", o.Seeds, missed)
	}
	for _, c := range r.Missed() {
		t.Errorf("%v: never in %d seeds that aimed at it", &c, c.Drawn)
	}
	return &r
}

// The chaos that both worlds must reach.
var chaosMarks = []Mark{
	MarkElection, MarkLeaderStepDown, MarkLost, MarkCutFull, MarkCutPartial, MarkCutOneWay, MarkCutFlapping,
	MarkCutLeader, MarkCutShape, MarkCrash, MarkCrashAll, MarkHunted, MarkPause, MarkClockJump, MarkStall, MarkReplay,
	MarkDurableMachine, MarkWrite, MarkWriteReplaced, MarkUnknown, MarkRead, MarkReadFailed, MarkHealedCore,
	MarkOutsiderSpeaks, MarkOutsiderHears, MarkCrashMidSync, MarkRest, MarkWoken, MarkPulseLost, MarkPulseBack, MarkDeathAtRest,
}

func TestCoreSeeds(t *testing.T) {
	runSeeds(t, Options{Mode: Core, Seeds: seeds(400), SeedBase: *flagBase}, append([]Mark{
		MarkTermRaised, MarkTruncation, MarkAppendRejected, MarkVoteRefused, MarkBatchAppend, MarkDuplicated, MarkReordered,
		MarkCrashLostWrite, MarkCrashKeptWrite, MarkFetchFollower, MarkFetchSelf, MarkSnapshotNeeded, MarkRestored,
		MarkCompacted, MarkBusy, MarkNotLeader, MarkOffer, MarkSuffix, MarkSuffixTaken, MarkHealedStar,
		MarkPulseNewLife,
	}, chaosMarks...))
}

func TestFullSeeds(t *testing.T) {
	runSeeds(t, Options{Mode: Full, Seeds: seeds(300), SeedBase: *flagBase}, append([]Mark{
		MarkFrame, MarkBrokenConnection, MarkCorruptFrame, MarkTornFrame, MarkHeld, MarkForwarded, MarkReproposed,
		MarkFollowerRead, MarkSyncFailed, MarkDiskFull, MarkStateFull, MarkOutsiderCrashes, MarkOutsiderPauses, MarkOutsiderFlaps, MarkOutsiderSyncsFail, MarkOutsiderFull, MarkOutsiderSlowDisk, MarkOutsiderDrifts,
		MarkBusy, MarkLargeCommand, MarkBurst, MarkFrameDropped, MarkRetried, MarkSlowHost, MarkSlowLink, MarkBitFlip, MarkLostBatch, MarkStrayBatch, MarkDiskThrownAway, MarkDamageRefused, MarkDiskFullLeader, MarkDiskFullQuorum, MarkSegment, MarkSecondGroup, MarkPebble, MarkFetchFollower, MarkHealedStar,
		MarkWokenByClient, MarkWokenByForward, MarkWokenByMessage, MarkWokenByHost,
		MarkTransferAsked, MarkTransferCutOff, MarkTransferred,
	}, chaosMarks...))
}

// Without faults nothing is left but to work: no election is lost, no read
// fails, nobody steps down.
func TestQuiet(t *testing.T) {
	for _, mode := range []Mode{Core, Full} {
		r, err := Run(context.Background(), Options{Mode: mode, Seeds: seeds(40), SeedBase: *flagBase, Quiet: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(r.String())
		t.Log(r.Marks.String())
		for _, f := range r.Failures {
			t.Errorf("%v seed %d: %v", mode, f.Seed, f.Violation)
		}
		for _, m := range []Mark{MarkCrash, MarkLost, MarkCutFull, MarkPause, MarkPulseLost} {
			if r.Marks[m] != 0 {
				t.Errorf("%v: a quiet world hit %v", mode, m)
			}
		}
	}
}

// Beyond what the promises allow, the disks of a majority change and lose in
// silence what was synced: "a safe halt, never a wrong answer".
func TestBeyond(t *testing.T) {
	r, err := Run(context.Background(), Options{Mode: Full, Seeds: seeds(60), SeedBase: *flagBase, Beyond: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.String())
	t.Log(r.Marks.String())
	o := Options{Mode: Full, Beyond: true}
	for _, f := range r.Failures {
		t.Errorf("seed %d: %v\nreplay: %s", f.Seed, f.Violation, o.Replay(f.Seed))
	}
	if missed := r.Marks.Missed(MarkBitFlip, MarkLostBatch, MarkStrayBatch, MarkDamageRefused); len(missed) > 0 && r.Seeds >= 50 {
		t.Errorf("never reached %v", missed)
	}
}
