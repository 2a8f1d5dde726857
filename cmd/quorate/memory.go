package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Go's default lets the heap grow to twice what is live before it collects. A
// member's live heap is often a few megabytes, while each request leaves some
// kilobytes behind: it would collect several times a second, and each collection
// walks and shrinks the stacks of all workers, which then grow again. So a
// member collects only after garbageMin of garbage, whatever is live; from a
// live heap of garbageMin on it is as by default. Memory is at most garbageMin
// above the default.

// garbageMin is how many bytes are allocated between two collections, at least.
const garbageMin = 64 << 20

const (
	gcPercentDefault = 100
	// gcPercentMax keeps the products in the runtime small. It is reached below
	// a live heap of 2 MiB.
	gcPercentMax = 3200
)

// gcPercent is what GOGC must be for a heap of live bytes.
func gcPercent(live uint64) int {
	if live == 0 {
		return gcPercentMax
	}
	return int(min(max(garbageMin*100/live, gcPercentDefault), gcPercentMax))
}

// collector adjusts GOGC after every collection.
type collector struct {
	live func() uint64 // of the last collection
	set  func(percent int)
	last int
}

// tuneCollector adjusts this process's collections from now on, unless the
// environment has GOGC or GOMEMLIMIT: then the operator has chosen.
func tuneCollector() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	c := &collector{live: liveHeap, set: func(percent int) { debug.SetGCPercent(percent) }}
	c.step()
	c.arm()
}

// arm has step called after the next collection: an object that nothing points
// to is gone with it.
func (c *collector) arm() {
	type sentinel struct{ self *sentinel }
	runtime.AddCleanup(new(sentinel), func(c *collector) {
		c.step()
		c.arm()
	}, c)
}

// step sets the percentage if it has moved by more than an eighth: setting it
// stops the world for a moment.
func (c *collector) step() {
	percent := gcPercent(c.live())
	if d := percent - c.last; max(d, -d) > c.last/8 {
		c.set(percent)
		c.last = percent
	}
}

// liveHeap is the bytes that the last collection has found to be in use.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return garbageMin // as by default
	}
	return sample[0].Value.Uint64()
}
