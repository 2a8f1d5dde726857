package sim

import (
	"context"
	"slices"
	"testing"
)

// Each protection that is switched off must be missed: within so many seeds the
// checkers report a violation, and of one of the classes that the protection is
// there to prevent. A protection whose absence nothing notices is not tested.
func TestSwitches(t *testing.T) {
	for _, c := range []struct {
		without string
		skip    []Class
		classes []Class
		seeds   int
	}{
		// Raft §5.1: "a server responds to RPCs only after updating stable
		// storage".
		{"vote-persistence", nil, []Class{Unpersisted, Monotonic}, 20},
		{"vote-persistence", []Class{Unpersisted, Monotonic}, []Class{ElectionSafety, LeaderAppendOnly, LogMatching}, 300},
		{"sync", nil, []Class{Unpersisted, CommitQuorum}, 20},
		{"sync", []Class{Unpersisted, CommitQuorum, Watermarks, Contract}, []Class{LeaderCompleteness, StateMachineSafety, LostWrite, Linearizability, ElectionSafety}, 300},
		// Raft §5.4.2: "Raft never commits log entries from previous terms by
		// counting replicas."
		{"own-term-commit", nil, []Class{LeaderCompleteness, StateMachineSafety}, 1000},
		// Thesis §6.4: the leader "needs to make sure it hasn't been superseded by
		// a newer leader of which it is unaware".
		{"read-quorum", nil, []Class{Linearizability}, 200},
	} {
		t.Run(c.without, func(t *testing.T) {
			r, err := Run(context.Background(), Options{Seeds: c.seeds, SeedBase: *flagBase, Without: []string{c.without}, Skip: c.skip, FailuresMax: 1})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Failures) == 0 {
				t.Fatalf("nothing in %d seeds", r.Seeds)
			}
			t.Logf("%d seeds: %v", r.Seeds, r.Failures[0].Violation)
			if v := r.Failures[0].Violation; !slices.Contains(c.classes, v.Class) {
				t.Errorf("seed %d: %v; expected one of %v", r.Failures[0].Seed, v, c.classes)
			}
		})
	}
}
