package sim

import (
	"context"
	"os"
	"testing"
)

// simulation.md: "operators: … backups … at bad moments": one that is whole is the
// state at one index, whatever happens to its host meanwhile.
func TestBackups(t *testing.T) {
	r, err := Run(context.Background(), Options{
		Mode: Full, Seeds: seeds(200), SeedBase: *flagBase + 70_000, Progress: os.Stderr, Chaos: 30,
		Only: []string{"backups", "snapshots", "snapshot-crashes", "compact", "crash", "kills", "pause", "second-group", "pebble"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.String())
	t.Log(r.Marks.String())
	for _, f := range r.Failures {
		t.Errorf("seed %d: %v", f.Seed, f.Violation)
	}
	if missed := r.Marks.Missed(MarkBackup, MarkBackupFollower, MarkBackupBesideApply, MarkBackupCompacted, MarkBackupCrash, MarkBackupCut); len(missed) > 0 && r.Seeds >= 100 {
		t.Errorf("never reached: %v", missed)
	}
}

// "View returns an immutable view of the state": if it were not, backups would mix
// states, and the checks see that, in both state machines.
func TestTornBackupsAreFound(t *testing.T) {
	for name, only := range map[string][]string{"registers": {"backups"}, "pebble": {"backups", "pebble"}} {
		t.Run(name, func(t *testing.T) {
			found, base := 0, *flagBase
			for seed := base; seed < base+300 && found == 0; seed++ {
				if x := drawFull(seed); !x.backups.on || x.pebble != (name == "pebble") {
					continue
				}
				r, err := RunSeed(seed, Options{Mode: Full, Only: only, Chaos: 20, tornBackups: true})
				if err != nil {
					t.Fatal(err)
				}
				if r.Violation != nil {
					t.Logf("seed %d: %v", seed, r.Violation)
					if found++; r.Violation.Class != StateMachineSafety {
						t.Errorf("seed %d: %v", seed, r.Violation)
					}
				}
			}
			if found == 0 {
				t.Error("no backup of a state that changes under it is found")
			}
		})
	}
}
