package vfs

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// Whichever sync fails first, once MkdirAll has returned nil the directory is
// there after a crash, also when an earlier call made it and failed.
func TestMkdirAllIsDurableAfterAFailure(t *testing.T) {
	const dir = "a/b/c"
	for fail := range 4 {
		mem := NewMem()
		syncs := 0
		fs := NewFault(mem, PolicyFunc(func(op Op) Verdict {
			if op.Kind != OpSyncDir {
				return Verdict{}
			}
			syncs++
			if syncs-1 == fail {
				return Verdict{Err: syscall.EIO}
			}
			return Verdict{}
		}), func(time.Duration) {})
		err := MkdirAll(fs, dir)
		if (err != nil) != (syncs > fail) {
			t.Fatalf("sync %d fails: %v after %d syncs", fail, err, syncs)
		}
		if err != nil {
			if err := MkdirAll(fs, dir); err != nil {
				t.Fatal(err)
			}
		}
		after := mem.Crash(rand.New(rand.NewPCG(1, 1)), 0)
		if _, err := after.Stat(dir); err != nil {
			t.Errorf("sync %d fails and MkdirAll is tried again: after a crash: %v", fail, err)
		}
	}
}
