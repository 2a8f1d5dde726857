package sim

import (
	"fmt"
	"testing"
)

// "A crash at any step leaves the old or the new one, never half of one" (raft.md,
// 15): the receiver loses its power at each operation on its disk from its restart
// on, through the blocks that come in, the exchange of the states and its first
// entries after that; for a state in memory, one on disk, and the key-value store.
func TestCrashAtEachOperationOfAnInstallation(t *testing.T) {
	for name, snaps := range map[string]ScriptSnapshots{
		"memory": {StateBytes: 1500}, "durable": {StateBytes: 1500, Durable: true}, "pebble": {Pebble: true},
	} {
		t.Run(name, func(t *testing.T) {
			seen := operations{}
			installed, resumed := 0, uint64(0)
			runs := sweep(t, func(n int) bool {
				d := behind(t, ScriptOptions{Seed: uint64(n), KeepPercent: []int{0, 50, 90}[n%3], Snapshots: snaps})
				if err := d.CrashAt(3, Fuse{Nth: n}); err != nil {
					t.Fatal(err)
				}
				d.Restart(3)
				d.pass(6)
				crashed := !d.view(3).Up
				if crashed {
					seen.note(d.host(3))
					d.Restart(3)
				}
				d.host(3).fuse = nil
				d.done("afterwards", d.Write("bob", 1, 2, 2))
				d.to("a state", func() bool { return d.view(3).Applied == d.view(1).Applied })
				if d.view(3).Installed > 0 {
					installed++
				}
				resumed = max(resumed, d.view(3).Resumed)
				d.converged(fmt.Sprintf("a crash at operation %d, %v", n, d.host(3).burnt))
				return crashed
			})
			t.Logf("%d operations: %v; %d installed afterwards, up to %d blocks resumed", runs, seen, installed, resumed)
			for _, want := range []string{"write of snapshot", "sync of snapshot", "rename of snapshot", "sync dir of snapshot", "sync of log"} {
				if seen[want] == 0 {
					t.Errorf("never at a %s", want)
				}
			}
			if installed == 0 || resumed == 0 {
				t.Errorf("%d of %d installed the snapshot after the crash, %d blocks resumed", installed, runs, resumed)
			}
			if name == "pebble" && seen["rename of store"]+seen["write of store"] == 0 {
				t.Error("never at an operation on the store")
			}
		})
	}
}
