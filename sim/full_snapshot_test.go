package sim

import "testing"

// Snapshots are taken, sent, resumed and installed in a sweep, and every state
// that comes from one has the digest of replay (the ledger's restored).
func TestFullSnapshots(t *testing.T) {
	r := runSeeds(t, Options{Mode: Full, Seeds: seeds(300), SeedBase: *flagBase + 50_000}, []Mark{
		MarkCompacted, MarkSnapshotTaken, MarkSnapshotNeeded, MarkSnapshotInstalled, MarkSnapshotResumed, MarkRestored,
		MarkSnapshotAsked, MarkCrashSending, MarkCrashTaking, MarkCrashReceiving, MarkCrashAfterImage,
	})
	m := &r.Marks
	for at, crashes := range map[string]uint64{
		"the sync of an image": m[MarkCrashTakingSync] + m[MarkCrashReceivingSync],
		"its rename":           m[MarkCrashTakingRename] + m[MarkCrashTakingDirSync] + m[MarkCrashReceivingRename] + m[MarkCrashReceivingDirSync],
	} {
		if crashes == 0 && r.Seeds >= 100 {
			t.Errorf("no host crashed at %s", at)
		}
	}
}
