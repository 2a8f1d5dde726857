package raft

import (
	"runtime"
	"testing"
)

// An idle group that has elected a leader and committed a few entries costs
// little memory: a host may hold ten thousand of them in 8 KiB each, all parts
// together.
func TestIdleGroupIsSmall(t *testing.T) {
	const groups = 300
	var before, after runtime.MemStats
	held := make([]*lockstep, groups)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range held {
		held[i] = newLockstep(t, 3, nil)
		r := held[i].elect(1)
		held[i].propose(r, 4, 32)
		held[i].settle()
		for k := range held[i].outs {
			held[i].outs[k] = Output{} // the host's, and shared
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int(after.HeapAlloc-before.HeapAlloc) / (3 * groups)
	t.Logf("%d bytes for each replica", each)
	if each > 5<<10 {
		t.Errorf("an idle replica holds %d bytes", each)
	}
	runtime.KeepAlive(held)
}
