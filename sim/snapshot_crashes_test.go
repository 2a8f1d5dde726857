package sim

import (
	"context"
	"os"
	"testing"
)

// raft.md 15: "a crash at any step leaves the old or the new one, never half of one":
// at every write, sync, rename and chunk of a snapshot, on both sides. The long run is
// "quorate sim snapshot-crashes".
func TestSnapshotCrashes(t *testing.T) {
	r, err := Run(context.Background(), SnapshotCrashes(Options{Seeds: seeds(200), SeedBase: *flagBase + 80_000, Progress: os.Stderr}))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v\n%s", &r, r.SnapshotCrashTable())
	for _, f := range r.Failures {
		t.Errorf("seed %d: %v", f.Seed, f.Violation)
	}
	// What is not synced before it is named is half of one after some of them.
	without, err := Run(context.Background(), SnapshotCrashes(Options{Seeds: 20, SeedBase: *flagBase + 80_000, Without: []string{"image-sync"}, FailuresMax: 1}))
	if err != nil || len(without.Failures) == 0 || without.Failures[0].Violation.Class != Contract {
		t.Errorf("images that are not synced: %v, %v", &without, err)
	}
	if missed := r.SnapshotCrashesMissed(); len(missed) > 0 && r.Seeds >= 200 {
		t.Errorf("no host crashed there: %v", missed)
	}
}
