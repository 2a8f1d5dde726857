package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/sim"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
	"github.com/quorate/quorate/wal"
)

// What the language has for snapshots and compaction: settings, steps, conditions
// and metrics. All of it is for hosts.

type (
	compact struct{ id smr.ReplicaID }
	crashAt struct {
		id   smr.ReplicaID
		fuse sim.Fuse
	}
	// entryIs says whether an entry is in a replica's log.
	entryIs struct {
		index     uint64
		id        smr.ReplicaID
		compacted bool
	}
	// busyWith says that a replica takes, or receives, a snapshot.
	busyWith struct {
		id        smr.ReplicaID
		receiving bool
	}
)

// snapshotMetrics are metrics of one replica.
var snapshotMetrics = []string{"first", "image", "taken", "installed", "received", "resumed", "log-bytes"}

// diskOps are the operations at which the power can go.
var diskOps = map[string]vfs.OpKind{
	"write": vfs.OpWrite, "sync": vfs.OpSync, "rename": vfs.OpRename, "create": vfs.OpCreate, "remove": vfs.OpRemove,
	"directory": vfs.OpSyncDir, "operation": 0,
}

var diskParts = map[string]sim.DiskPart{"image": sim.DiskImages, "log": sim.DiskLog}

// hostsOnly fails in a scenario without hosts.
func (p *parser) hostsOnly(col int, what string) {
	if p.s.Setup.Hosts == 0 {
		p.fail(col, "%s for hosts alone, and after their number", what)
	}
}

const bytesMax = 1 << 20

// snapshotSetting reads a line of the set-up that is about snapshots. It reports
// whether it is one.
func (p *parser) snapshotSetting(col int, w string) bool {
	o := &p.s.Setup.Snapshots
	switch w {
	case "compact":
		p.expect("after")
		if n := p.count("a number of entries or bytes", 1, bytesMax); p.accept("entries") {
			o.EveryEntries = uint64(n)
		} else {
			p.expect("bytes")
			o.EveryBytes, o.HardBytes = int64(n), 8*int64(n)
		}
	case "tail":
		if n := p.count("a number of entries or bytes", 1, bytesMax); p.accept("entries") {
			o.TailEntries = uint64(n)
		} else {
			p.expect("bytes")
			o.TailBytes = int64(n)
		}
	case "blocks":
		at := p.col()
		if o.BlockBytes = p.bytesOf("blocks"); o.BlockBytes%512 != 0 {
			p.fail(at, "blocks are of a multiple of 512 bytes")
		}
	case "segments":
		at := p.col()
		if o.SegmentBytes = int64(p.bytesOf("segments")); o.SegmentBytes < 16<<10 {
			p.fail(at, "segments are of at least 16384 bytes")
		}
	case "state":
		if o.Durable = p.accept("on", "disk"); !o.Durable {
			o.StateBytes = p.bytesOf("a state")
		}
	default:
		return false
	}
	p.hostsOnly(col, "snapshots are")
	return true
}

// bytesOf reads "of 512 bytes".
func (p *parser) bytesOf(what string) int {
	p.expect("of")
	n := p.count("the size of "+what, 1, bytesMax)
	p.expect("bytes")
	return n
}

// compactStep reads what follows "compact".
func (p *parser) compactStep(col int) action {
	p.hostsOnly(col, "compaction is")
	return compact{p.replica()}
}

// crashStep reads "1 2 3", or "1 at image write 2".
func (p *parser) crashStep(col int) action {
	ids := p.replicas()
	if !p.accept("at") {
		return crash{ids, true}
	}
	p.hostsOnly(col, "a crash at an operation is")
	if len(ids) > 1 {
		p.fail(col, "one host crashes at an operation, not several")
	}
	a := crashAt{id: ids[0], fuse: sim.Fuse{Nth: 1}}
	if part, ok := diskParts[p.peek()]; ok {
		a.fuse.Part = part
		p.at++
	}
	at := p.col()
	kind, ok := diskOps[p.next("an operation on the disk")]
	if !ok {
		p.fail(at, "expected an operation as in image write 2, log sync or rename; there are %s", strings.Join(sortedKeys(diskOps), ", "))
	}
	a.fuse.Kind = kind
	if p.isNumber() {
		a.fuse.Nth = p.count("the number of the operation", 1, 10_000)
	}
	return a
}

func sortedKeys[V any](m map[string]V) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// entryCondition reads "5 at 1 compacted".
func (p *parser) entryCondition() condition {
	c := entryIs{index: p.number("an index")}
	p.expect("at")
	c.id = p.replica()
	if c.compacted = p.accept("compacted"); !c.compacted {
		p.expect("there")
	}
	return c
}

func (a compact) act(r *run) error {
	err := r.world.Compact(a.id)
	r.settle()
	return err
}

func (a crashAt) act(r *run) error { return r.world.CrashAt(a.id, a.fuse) }

func (c entryIs) holds(r *run) (bool, string) {
	err := r.world.ReadLog(c.id, c.index)
	seen := fmt.Sprintf("entry %d is in the log of %d", c.index, c.id)
	if err != nil {
		seen = err.Error()
	}
	if c.compacted {
		return errors.Is(err, wal.ErrCompacted), seen
	}
	return err == nil, seen
}

func (c busyWith) holds(r *run) (bool, string) {
	v := r.view(c.id)
	if seen := snapshotText(v); seen != "" {
		return v.Up && (c.receiving && v.Snapshots.Receiving != 0 || !c.receiving && v.Snapshots.Taking), seen
	}
	return false, fmt.Sprintf("%d neither takes nor receives a snapshot", c.id)
}

// snapshotText says what a replica does about snapshots, empty for nothing.
func snapshotText(v *sim.View) string {
	s := &v.Snapshots
	switch {
	case s.Receiving != 0 && !s.Restoring:
		return fmt.Sprintf("receives snapshot %d: %d blocks", s.Receiving, s.Blocks)
	case s.Restoring:
		return "installs a snapshot"
	case s.Taking:
		return "takes a snapshot"
	}
	return ""
}

// measureSnapshots returns a metric about snapshots.
func (r *run) measureSnapshots(m *metric) (uint64, bool) {
	if m.id == 0 || !slices.Contains(snapshotMetrics, m.name) {
		return 0, false
	}
	v := r.view(m.id)
	switch m.name {
	case "first":
		return v.First, true
	case "image":
		return v.Snapshots.Newest, true
	case "taken":
		return v.Taken, true
	case "installed":
		return v.Installed, true
	case "received":
		return v.Snapshots.Blocks, true
	case "resumed":
		return v.Resumed, true
	}
	return uint64(v.Snapshots.LogBytes), true
}

// snapshotItem is what a recording holds of an event about snapshots.
func snapshotItem(e *sim.Event, it *Item) bool {
	switch e.Kind {
	case sim.EventTaking:
		it.Kind, it.Text = ItemTaking, "takes a snapshot of its state"
	case sim.EventTaken:
		it.Kind, it.Text = ItemTaken, fmt.Sprintf("snapshot %d is whole on its disk", e.Index)
	case sim.EventCompact:
		it.Kind, it.Text = ItemCompact, fmt.Sprintf("its log begins after entry %d", e.Index)
	case sim.EventInstall:
		it.Kind, it.Text = ItemInstall, fmt.Sprintf("snapshot %d has become its state", e.Index)
	case sim.EventRestore:
		it.Kind, it.Text = ItemRestore, fmt.Sprintf("has the state at entry %d, from a snapshot", e.Index)
	default:
		return false
	}
	it.Index = e.Index
	return true
}
