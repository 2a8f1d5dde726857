package sim

import (
	"fmt"
	"strings"
)

// SnapshotCrashes makes options those of a sweep that looks at snapshots alone: in
// every seed hosts lose their power at the operations with which images are taken and
// received, and where blocks are sent and have come.
func SnapshotCrashes(o Options) Options {
	o.Mode, o.EveryFault = Full, true
	o.Only = []string{"snapshot-crashes", "compact", "pebble", "durable-machine", "kept-writes", "apply-stalls"}
	return o
}

var snapshotCrashRows = [...]struct {
	at              string
	taken, received Mark
}{
	{"a write", MarkCrashTakingWrite, MarkCrashReceivingWrite},
	{"a sync", MarkCrashTakingSync, MarkCrashReceivingSync},
	{"the rename", MarkCrashTakingRename, MarkCrashReceivingRename},
	{"the directory's sync after it", MarkCrashTakingDirSync, MarkCrashReceivingDirSync},
	{"a chunk", MarkCrashSending, MarkCrashReceived},
}

// SnapshotCrashTable is where the hosts of such a sweep have crashed, and how often.
func (r *Report) SnapshotCrashTable() string {
	var b strings.Builder
	b.WriteString("| crashed at | taking and sending | receiving |\n|---|---|---|\n")
	for _, row := range snapshotCrashRows {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", row.at, r.Marks[row.taken], r.Marks[row.received])
	}
	return b.String()
}

// SnapshotCrashesMissed are the places at which no host has crashed.
func (r *Report) SnapshotCrashesMissed() (missed []Mark) {
	for _, row := range snapshotCrashRows {
		missed = append(missed, r.Marks.Missed(row.taken, row.received)...)
	}
	return missed
}
