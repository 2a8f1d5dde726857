package sim

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/smr"
)

// storeScript drives one host with the key-value store.
type storeScript struct {
	*directed
	store func() *kv.Store
	// revision is the highest that a client was told.
	revision int64
}

func newStoreScript(t *testing.T) *storeScript {
	d := direct(t, ScriptOptions{Mode: Full, Replicas: 1, Snapshots: ScriptSnapshots{Pebble: true, SegmentBytes: 16 << 10}})
	d.leader(0)
	// Commands that write no register have numbers of their own.
	next := uint64(1000)
	d.driver.(*scriptHosts).groups[0].identify = func(data []byte) (uint64, bool) {
		if id, ok := identifyPut(data); ok {
			return id, true
		}
		next++
		return next, true
	}
	return &storeScript{directed: d, store: func() *kv.Store { return d.host(1).at[0].machine.(*pebbleMachine).Store }}
}

// run has a command done, or the host crash. It reports whether it was done.
func (s *storeScript) run(c kv.Command) bool {
	h, done, failed := s.host(1), false, error(nil)
	life := h.life
	err := h.at[0].handle.Submit(kv.AppendCommand(nil, &c), h.local().Add(20*s.ElectionTimeout()), func(_ smr.Result, err error) {
		done, failed = true, err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.to("an answer, or a crash", func() bool { return done || h.life != life })
	if h.life != life || failed != nil {
		return false
	}
	s.revision = max(s.revision, s.store().Revision())
	return true
}

// "the revision never goes down across a crash in compaction" (etcd #17780): the
// newest revision is of a deletion, so that a compaction at it leaves nothing that
// has it; and the host loses its power at any operation on the store or the log,
// during the compaction, or while the store is made durable and the log is
// compacted after it.
func TestRevisionNeverGoesDown(t *testing.T) {
	seen := operations{}
	runs := sweep(t, func(n int) bool {
		s := newStoreScript(t)
		for i := range 3 {
			s.done("put", s.Write("ann", 1, byte(i), 1))
		}
		remove := func(key byte) kv.Command {
			return kv.Command{Kind: kv.CommandDeleteRange, DeleteRange: kv.DeleteRangeRequest{Key: registerKey(key)}}
		}
		s.run(remove(1))
		if err := s.CrashAt(1, Fuse{Nth: n}); err != nil {
			t.Fatal(err)
		}
		crashed := !s.run(kv.Command{Kind: kv.CommandCompact, Compact: kv.CompactRequest{Revision: s.revision}})
		for i := 0; i < 2 && !crashed; i++ {
			// All that is compacted is removed; then the state is made durable.
			if more, err := s.store().CompactStep(100); err != nil || more {
				t.Fatalf("%v, %v", more, err)
			}
			if err := s.Compact(1); err != nil {
				t.Fatal(err)
			}
			s.pass(1)
			crashed = !s.view(1).Up
			crashed = crashed || i == 0 && !s.run(remove(2))
		}
		told := s.revision
		if crashed {
			seen.note(s.host(1))
		} else if s.Crash(1, true); told != 6 {
			t.Fatalf("after three puts and two deletions the revision is %d", told)
		}
		s.Restart(1)
		s.leader(0)
		s.done("read", s.Read("bob", 1, 0))
		if got := s.store().Revision(); got < told {
			t.Errorf("operation %d, %v: revision %d, a client was told %d", n, s.host(1).burnt, got, told)
		}
		before := s.store().Revision()
		s.done("put", s.Write("ann", 1, 1, 1))
		if got := s.store().Revision(); got != before+1 {
			t.Errorf("operation %d: a put after %d has revision %d", n, before, got)
		}
		s.converged(fmt.Sprintf("a crash at operation %d", n))
		return crashed
	})
	if t.Logf("a crash at each of %d operations: %v", runs, seen); seen["sync of store"] == 0 || seen["sync of log"] == 0 {
		t.Error("never at a sync of the store and the log")
	}
}
