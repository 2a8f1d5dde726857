package sim

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// Directed scenarios about compaction and snapshots, each with the sentence that it
// asserts. A sweep runs the same script once for each moment at which something
// may go wrong, until there is no such moment left.

// sweep runs one for n = 1, 2, 3 … until it says that n lies beyond the end.
func sweep(t *testing.T, one func(n int) (more bool)) (runs int) {
	t.Helper()
	const most = 2000
	for n := 1; n < most; n++ {
		if !one(n) || t.Failed() {
			return n - 1
		}
	}
	t.Fatalf("no end after %d runs", most)
	return 0
}

// behind is a cluster that 1 leads, whose log begins after what 3 has, which is
// down. Its log has 23 commands; 3 has three of them.
func behind(t *testing.T, o ScriptOptions) *directed {
	t.Helper()
	o.Mode = Full
	d := direct(t, o)
	d.lead(1)
	d.done("before", d.Write("ann", 1, 0, 3))
	d.pass(0.5)
	d.Crash(3, true)
	d.pass(3)
	d.done("without 3", d.Write("ann", 1, 1, 20))
	d.pass(0.5)
	d.compact(1, 10)
	return d
}

// compact has a host compact its log, and waits until that begins after index.
func (d *directed) compact(id smr.ReplicaID, index uint64) {
	d.t.Helper()
	if err := d.Compact(id); err != nil {
		d.t.Fatal(err)
	}
	d.to("compaction", func() bool { return d.view(id).First > index })
}

// steps lets n things happen. It reports whether over was false all the time.
func (d *directed) steps(n int, over func() bool) bool {
	d.t.Helper()
	for range n {
		if over() || d.Violation() != nil || !d.Step() {
			return false
		}
	}
	return true
}

// converged waits until all replicas have the same state, and ends the script:
// what was acknowledged is there.
func (d *directed) converged(what string) {
	d.t.Helper()
	d.to(what+": all are equal", func() bool {
		a := d.view(1)
		for id := smr.ReplicaID(2); int(id) <= d.Replicas(); id++ {
			if v := d.view(id); !v.Up || v.Applied != a.Applied || v.Digest != a.Digest || v.Commit != v.Applied || a.Commit != a.Applied {
				return false
			}
		}
		return a.Up
	})
	if v := d.Finish(); v != nil {
		d.t.Fatalf("%s: %v", what, v)
	}
}

// "snapshot install racing with appends": whatever of an image is there or is being
// installed when another leader, whose log reaches back, begins to send entries,
// the state comes from one of the two and is the same.
func TestInstallRacesWithAppends(t *testing.T) {
	installed, overtaken := 0, 0
	runs := sweep(t, func(n int) bool {
		d := behind(t, ScriptOptions{Snapshots: ScriptSnapshots{StateBytes: 2000}})
		d.Restart(3)
		d.to("a block", func() bool { return d.view(3).Snapshots.Blocks > 0 })
		// 1 is heard of no more as a leader, and 2, which has the whole log, leads.
		// The blocks from 1 and the entries from 2 are under way.
		heartbeat, appends := Rule{Kind: "heartbeat", From: 1, Drop: true}, Rule{Kind: "append", To: 3}
		d.Withhold(Rule{Kind: "snapshot-block"})
		d.Withhold(heartbeat)
		d.Withhold(appends)
		d.leader(1)
		d.Release(heartbeat)
		d.done("entries of 2", d.Write("bob", 2, 2, 5))
		if v := d.view(3); v.Installed > 0 || v.Snapshots.Receiving == 0 {
			t.Fatalf("%+v", v)
		}
		d.Release(Rule{Kind: "snapshot-block"})
		more := d.steps(n-1, func() bool { return d.view(3).Installed > 0 })
		d.Release(appends)
		d.pass(2)
		if d.view(3).Installed > 0 {
			installed++
		} else {
			overtaken++
		}
		d.converged(fmt.Sprintf("entries after %d steps", n-1))
		return more
	})
	if t.Logf("%d moments: %d installed, %d overtaken by the log", runs, installed, overtaken); installed == 0 || overtaken == 0 {
		t.Error("one of the two never came first")
	}
}

// "snapshot cut after each chunk, sender changes": the sender, which leads, is cut
// off after each block. The receiver goes on with it once it is back, or takes the
// image of the next leader after ten election timeouts; a receiver that is killed
// meanwhile has what it had.
func TestTransferCutAfterEachBlock(t *testing.T) {
	for _, how := range []string{"the sender returns", "another sender", "the receiver is killed"} {
		t.Run(how, func(t *testing.T) {
			resumed := uint64(0)
			runs := sweep(t, func(n int) bool {
				d := behind(t, ScriptOptions{Snapshots: ScriptSnapshots{StateBytes: 2500, EveryBytes: 500, EveryEntries: 1 << 20}})
				d.compact(2, 10)
				d.Restart(3)
				d.to("a block, or all", func() bool { v := d.view(3); return v.Snapshots.Blocks >= uint64(n) || v.Installed > 0 })
				more := d.view(3).Installed == 0
				at := d.view(3).Snapshots.Receiving
				d.isolate(1, true)
				switch how {
				case "the sender returns":
					d.leader(1)
					d.pass(2)
					d.isolate(1, false)
				case "another sender":
					d.leader(1)
					d.to("the image of another", func() bool { return d.view(3).Installed > 0 })
					d.isolate(1, false)
				default:
					d.Crash(3, false)
					d.isolate(1, false)
					d.pass(1)
					d.Restart(3)
					d.to("installed, or up to date", func() bool { v := d.view(3); return v.Installed > 0 || v.Applied >= at })
					resumed = max(resumed, d.view(3).Resumed)
				}
				d.done("afterwards", d.Write("bob", d.leader(0), 2, 2))
				d.converged(fmt.Sprintf("%s, after block %d", how, n))
				return more
			})
			if t.Logf("cut after each of %d blocks, %d blocks resumed", runs, resumed); runs < 5 || how == "the receiver is killed" && resumed < 3 {
				t.Errorf("only %d blocks, %d resumed", runs, resumed)
			}
		})
	}
}

// "two snapshots close together" (etcd #18055): while one image comes in or is being
// installed, the leader compacts its log beyond it, so that another one is needed.
func TestTwoSnapshotsCloseTogether(t *testing.T) {
	twice, once := 0, 0
	runs := sweep(t, func(n int) bool {
		d := behind(t, ScriptOptions{Snapshots: ScriptSnapshots{StateBytes: 1500, EveryBytes: 500, HardBytes: 500, EveryEntries: 1 << 20}})
		d.Restart(3)
		d.to("an image comes in", func() bool { return d.view(3).Snapshots.Receiving != 0 })
		more := d.steps(2*n, func() bool { return d.view(3).Installed > 0 })
		image, appends := d.view(1).Snapshots.Newest, Rule{Kind: "append", To: 3, Drop: true}
		d.Withhold(appends)
		d.done("many entries", d.WriteBytes("bob", 1, 2, 30, 600))
		if err := d.Compact(1); err != nil {
			t.Fatal(err)
		}
		d.to("the log begins after the first image", func() bool { return d.view(1).First > image+1 })
		d.Release(appends)
		d.to("a state", func() bool { return d.view(3).Applied == d.view(1).Applied })
		d.pass(0.5)
		switch d.view(3).Installed {
		case 1:
			once++
		case 2:
			twice++
		default:
			t.Errorf("after %d steps: %d snapshots were installed", 2*n, d.view(3).Installed)
		}
		d.converged(fmt.Sprintf("a second snapshot after %d steps", 2*n))
		return more
	})
	if t.Logf("%d moments: %d times both were installed, %d times one", runs, twice, once); twice == 0 || once == 0 {
		t.Error("one of the two never happened")
	}
}

// operations counts at which operations the power went.
type operations map[string]int

func (o operations) note(h *simHost) {
	o[fmt.Sprintf("%s of %s", h.burnt.Kind, [...]string{"?", "log", "snapshot", "store"}[partOf(h.burnt.Path)])]++
}

// "a crash at each write, sync and rename of a segment's rotation and of
// compaction": what was acknowledged is there, and the host comes back, with what
// was not synced lost, or half of it.
func TestCrashAtEachOperationOfRotationAndCompaction(t *testing.T) {
	for _, keep := range []int{0, 50} {
		seen := operations{}
		runs := sweep(t, func(n int) bool {
			d := direct(t, ScriptOptions{Mode: Full, Seed: uint64(n), KeepPercent: keep, Snapshots: ScriptSnapshots{
				SegmentBytes: 16 << 10, EveryBytes: 12 << 10, TailBytes: 2 << 10,
			}})
			d.lead(1)
			if err := d.CrashAt(1, Fuse{Nth: n}); err != nil {
				t.Fatal(err)
			}
			for range 8 {
				c := d.WriteBytes("ann", 1, 0, 12, 900)
				if d.to("an answer", func() bool { return c.State != CallWaiting }); c.State != CallDone {
					break
				}
				d.pass(0.2)
			}
			d.pass(1)
			v := d.view(1)
			if v.Up {
				if log := d.host(1).rt.Stats().Log; v.First == 1 || log.Segments > 3 {
					t.Errorf("no crash: the log begins at %d, %+v", v.First, log)
				}
			} else {
				seen.note(d.host(1))
				d.done("the others", d.Write("bob", d.leader(1), 1, 1))
				d.Restart(1)
			}
			d.converged(fmt.Sprintf("a crash at operation %d, %v", n, d.host(1).burnt))
			return !v.Up
		})
		t.Logf("%d %% kept: a crash at each of %d operations: %v", keep, runs, seen)
		for _, want := range []string{"write of log", "sync of log", "rename of log", "write of snapshot", "sync of snapshot", "rename of snapshot", "sync dir of snapshot"} {
			if seen[want] == 0 {
				t.Errorf("never at a %s", want)
			}
		}
	}
}

// "a crash between saving a snapshot and freeing the log" (etcd #10219): between any
// two steps of a compaction, on a host that has nobody to fetch from. It comes back
// with all that it acknowledged, and its log reaches back to a state that it has.
func TestCrashBetweenSavingASnapshotAndFreeingTheLog(t *testing.T) {
	for name, snaps := range map[string]ScriptSnapshots{
		"memory": {StateBytes: 1200}, "durable": {Durable: true}, "pebble": {Pebble: true},
	} {
		t.Run(name, func(t *testing.T) {
			snaps.SegmentBytes = 16 << 10
			seen := operations{}
			whole, freed := 0, 0
			runs := sweep(t, func(n int) bool {
				d := direct(t, ScriptOptions{Mode: Full, Replicas: 1, Seed: uint64(n), Snapshots: snaps})
				d.leader(0)
				last := d.done("before", d.WriteBytes("ann", 1, 0, 40, 900)).ID + 39
				d.pass(0.5)
				before := d.view(1)
				if err := d.CrashAt(1, Fuse{Nth: n}); err != nil {
					t.Fatal(err)
				}
				if err := d.Compact(1); err != nil {
					t.Fatal(err)
				}
				d.pass(3)
				crashed := !d.view(1).Up
				if crashed {
					seen.note(d.host(1))
					d.Restart(1)
				}
				d.host(1).fuse = nil
				d.leader(0)
				if r := d.done("read", d.Read("bob", 1, 0)); r.Value != last {
					t.Errorf("operation %d: reads %d", n, r.Value)
				}
				v := d.view(1)
				if v.Applied < before.Applied {
					t.Errorf("operation %d: has applied %d, it was %d", n, v.Applied, before.Applied)
				}
				if v.Snapshots.Newest > 0 {
					whole++
				}
				if v.First > 1 {
					freed++
				}
				d.done("afterwards", d.Write("carl", 1, 1, 1))
				d.compact(1, 40)
				d.converged(fmt.Sprintf("a crash at operation %d, %v", n, d.host(1).burnt))
				return crashed
			})
			t.Logf("%d operations: %v; afterwards %d had a snapshot, %d a shorter log", runs, seen, whole, freed)
			if runs < 2 || freed == 0 || freed > runs || name == "memory" && (whole <= freed || runs < 10) {
				t.Error("the crash was never between the two")
			}
		})
	}
}

// A snapshot that came in is the only thing that the log follows until the state
// machine has taken it over: it stays so long, however slow that is.
func TestReceivedSnapshotStaysUntilItIsTheState(t *testing.T) {
	d := behind(t, ScriptOptions{Snapshots: ScriptSnapshots{StateBytes: 1000, KeepTimeouts: 1, Durable: true}})
	d.Pause(3, true, false) // its state machine stands still
	d.Restart(3)
	d.to("the log begins at the snapshot, on disk", func() bool { v := d.view(3); return v.First > 4 && v.Persisted >= v.First-1 })
	d.pass(8)
	if v := d.view(3); !v.Snapshots.Restoring || v.Applied > 4 {
		t.Fatalf("%+v", v)
	}
	d.Crash(3, false)
	d.Restart(3)
	d.converged("a crash before the exchange of the states")
}

// What a script asks of a disk: the power goes at exactly the operation that it
// names.
func TestCrashAtNamedOperation(t *testing.T) {
	for _, f := range []Fuse{
		{Part: DiskImages, Kind: vfs.OpWrite, Nth: 2}, {Part: DiskImages, Kind: vfs.OpSync, Nth: 1}, {Part: DiskImages, Kind: vfs.OpRename, Nth: 1}, {Part: DiskImages, Kind: vfs.OpSyncDir, Nth: 1}, {Part: DiskLog, Kind: vfs.OpWrite, Nth: 1},
	} {
		d := direct(t, ScriptOptions{Mode: Full, Snapshots: ScriptSnapshots{StateBytes: 2000}})
		d.lead(1)
		d.done("before", d.Write("ann", 1, 0, 10))
		d.pass(0.5)
		if err := d.CrashAt(1, f); err != nil {
			t.Fatal(err)
		}
		if err := d.Compact(1); err != nil {
			t.Fatal(err)
		}
		d.to("a crash", func() bool { return !d.view(1).Up })
		if h := d.host(1); h.burnt.Kind != f.Kind || partOf(h.burnt.Path) != f.Part {
			t.Errorf("%+v: crashed at %+v", f, h.burnt)
		}
		d.pass(5)
		d.Restart(1)
		d.converged("afterwards")
	}
	d := direct(t, ScriptOptions{Mode: Full})
	if err := d.CrashAt(1, Fuse{}); err == nil {
		t.Error("a fuse for operation 0")
	}
	d.finish()
}
