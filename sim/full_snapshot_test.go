package sim

import (
	"context"
	"os"
	"testing"
)

// Snapshots are taken, sent, resumed and installed in a sweep, and every state
// that comes from one has the digest of replay (the ledger's restored).
func TestFullSnapshots(t *testing.T) {
	r, err := Run(context.Background(), Options{Mode: Full, Seeds: seeds(300), SeedBase: *flagBase + 50_000, Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.String())
	t.Log(r.Marks.String())
	for _, f := range r.Failures {
		t.Errorf("seed %d: %v", f.Seed, f.Violation)
	}
	if missed := r.Marks.Missed(MarkCompacted, MarkSnapshotTaken, MarkSnapshotNeeded, MarkSnapshotInstalled, MarkSnapshotResumed, MarkRestored,
		MarkSnapshotAsked, MarkCrashTaking, MarkCrashReceiving, MarkCrashAfterImage); len(missed) > 0 && r.Seeds >= 100 {
		t.Errorf("never reached: %v", missed)
	}
}
