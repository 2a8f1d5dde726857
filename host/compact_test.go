package host_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wal"
)

// raft.md 13: "only up to what is in a durable snapshot; keeps a tail for slow
// followers; a reader of a compacted index gets ErrCompacted, never old bytes".
func TestCompactOnDemand(t *testing.T) {
	s := newShelf(t, 1, host.SnapshotConfig{EveryBytes: 1 << 20, TailBytes: 8 << 10, BlockBytes: 4096})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.write(1, 200, 300)
	g := s.group[1]
	before, err := g.ReadLog(1, 1)
	if err != nil || len(before) != 1 || before[0].Index != 1 {
		t.Fatalf("%v, %v", before, err)
	}
	if err := g.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first entry is compacted, on disk", func() bool {
		_, err := g.ReadLog(1, 5)
		return errors.Is(err, wal.ErrCompacted)
	})
	st := s.hosts[1].Stats()
	if first := g.Status().First; st.SnapshotsTaken != 1 || st.Compactions != 1 || first < 100 || first > 190 {
		t.Errorf("the log begins at %d, a tail of 8 KiB is to stay: %+v", first, st)
	}
	last := g.Status().Last
	if e, err := g.ReadLog(last, last); err != nil || len(e) != 1 || len(e[0].Data) != 300 {
		t.Errorf("the last entry: %v, %v", e, err)
	}
	for _, bad := range [][2]uint64{{0, 3}, {3, 2}, {last + 1, last + 1}} {
		if e, err := g.ReadLog(bad[0], bad[1]); err == nil {
			t.Errorf("entries %v: %v", bad, e)
		}
	}
	fixed, err := s.hosts[1].StartGroup(host.GroupConfig{ID: 2, Members: host.Voters(1), Machine: stateOnly{&book{}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := fixed.Compact(ctx); !errors.Is(err, host.ErrConfig) {
		t.Errorf("a state machine without snapshots: %v", err)
	}
}

// stateOnly is a state machine without snapshots.
type stateOnly struct{ smr.StateMachine }
