package sim

import "testing"

// simulation.md: "operators: … backups … at bad moments": one that is whole is the
// state at one index, whatever happens to its host meanwhile.
func TestBackups(t *testing.T) {
	runSeeds(t, Options{
		Mode: Full, Seeds: seeds(200), SeedBase: *flagBase + 70_000, Chaos: 30,
		Only: []string{"backups", "snapshots", "snapshot-crashes", "compact", "crash", "kills", "pause", "second-group", "pebble"},
	}, []Mark{MarkBackup, MarkBackupFollower, MarkBackupBesideApply, MarkBackupCompacted, MarkBackupCrash, MarkBackupCut})
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
