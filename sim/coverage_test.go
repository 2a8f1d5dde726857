package sim

import (
	"context"
	"strings"
	"testing"
)

// The share of each aim is a lower bound of what the seeds show, the features of
// aims exist, and so a mark is only missed where it is not reached any more.
func TestAims(t *testing.T) {
	for _, mode := range []Mode{Core, Full} {
		r, err := Run(context.Background(), Options{Mode: mode, Seeds: max(seeds(150), coverSeedsMin), SeedBase: *flagBase})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Coverage) < 25 {
			t.Fatalf("%v: only %d aims", mode, len(r.Coverage))
		}
		for _, c := range r.Coverage {
			if c.Drawn == 0 {
				t.Errorf("%v: no seed aims at %v", mode, &c)
			}
			// Far below the bound, in a sample that would show it: e^-9 by chance.
			if want := c.Drawn * c.permille; want >= 18_000 && c.Reached*1000 < want/4 {
				t.Errorf("%v: %v is reached in %d of %d seeds, at least %d in a thousand are expected", mode, &c, c.Reached, c.Drawn, c.permille)
			}
		}
		if missed := r.Missed(); len(missed) > 0 {
			t.Errorf("%v: missed %v", mode, missed)
		}
	}
}

// A mark that is aimed at often and never hit is missed; one that is rare, or
// aimed at in few seeds, is not.
func TestCoverageMisses(t *testing.T) {
	sweep := func(n int, hit ...Mark) string {
		r := Report{Mode: Full, Seeds: n}
		for range n {
			var m Marks
			for _, k := range hit {
				m.hit(k)
			}
			r.cover([]string{"pebble", "snapshots", "bit-flips"}, &m)
		}
		var missed []string
		for _, c := range r.Missed() {
			missed = append(missed, c.String())
		}
		return strings.Join(missed, " ")
	}
	all := []Mark{MarkElection, MarkWrite, MarkRead, MarkHealedCore, MarkWriteReplaced, MarkSearched, MarkDurableAck, MarkDurableCommit,
		MarkDurableReturn, MarkCompacted, MarkSnapshotTaken, MarkSnapshotNeeded, MarkSnapshotInstalled, MarkBitFlip}
	for _, c := range []struct {
		seeds int
		hit   []Mark
		want  string
	}{
		{99, all, ""}, // too few to be asked
		{100, all, "pebble"},
		{100, append(all, MarkPebble), ""},
		{200, all[:len(all)-1], "bit-flips→bit-flip pebble"},
	} {
		if got := sweep(c.seeds, c.hit...); got != c.want {
			t.Errorf("%d seeds missed %q, want %q", c.seeds, got, c.want)
		}
	}
}
