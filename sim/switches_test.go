package sim

import (
	"context"
	"slices"
	"testing"
)

// switchCases are the protections whose absence the seeds find.
var switchCases = []struct {
	name    string
	mode    Mode
	without string
	skip    []Class
	classes []Class
	seeds   int
}{
	// Raft §5.1: "a server responds to RPCs only after updating stable
	// storage" (Figure 2).
	{"vote/cause", Core, "vote-persistence", nil, []Class{Unpersisted, Monotonic}, 20},
	{"vote/effect", Core, "vote-persistence", []Class{Unpersisted, Monotonic}, []Class{ElectionSafety, LeaderAppendOnly, LogMatching}, 1000},
	{"sync/cause", Core, "sync", nil, []Class{Unpersisted, CommitQuorum}, 20},
	{"sync/effect", Core, "sync", []Class{Unpersisted, CommitQuorum, Watermarks, Contract, Liveness, NoProgress}, []Class{LeaderCompleteness, StateMachineSafety, LostWrite, Linearizability, ElectionSafety}, 500},
	{"sync/hosts/cause", Full, "sync", nil, []Class{Unpersisted, CommitQuorum}, 5},
	{"vote/hosts", Full, "vote-persistence", nil, []Class{Unpersisted, Monotonic}, 100},
	{"sync/hosts", Full, "sync", []Class{Unpersisted, CommitQuorum, Watermarks, Contract, Liveness, NoProgress, Monotonic}, []Class{LeaderCompleteness, LogMatching, StateMachineSafety, LostWrite, Linearizability, ElectionSafety, WrongAnswer, ExactlyOnce, Invariant}, 200},
	// Raft §5.4.2: "Raft never commits log entries from previous terms by
	// counting replicas."
	{"figure-8", Core, "own-term-commit", nil, []Class{LeaderCompleteness, StateMachineSafety}, 1000},
	{"figure-8/hosts", Full, "own-term-commit", nil, []Class{LeaderCompleteness, StateMachineSafety}, 1000},
	// Thesis §6.4: "the leader needs to make sure it hasn't been superseded by
	// a newer leader of which it is unaware."
	{"read-quorum", Core, "read-quorum", nil, []Class{Linearizability}, 1000},
	{"read-quorum/hosts", Full, "read-quorum", nil, []Class{Linearizability}, 500},
	// Thesis §6.4: "If the leader has not yet marked an entry from its current term
	// committed, it waits until it has done so."
	{"own-term-read", Core, "own-term-read", nil, []Class{Linearizability}, 100},
	{"own-term-read/hosts", Full, "own-term-read", nil, []Class{Linearizability}, 200},
	// Thesis §6.4.1: "Once the leader's heartbeats were acknowledged by a majority of
	// the cluster, it would extend its lease to start + election timeout / clock drift
	// bound".
	{"lease-bound/cause", Core, "lease-bound", nil, []Class{LeaseExclusion}, 100},
	{"lease-bound/hosts/cause", Full, "lease-bound", nil, []Class{LeaseExclusion}, 100},
	{"lease-bound/effect", Core, "lease-bound", []Class{LeaseExclusion}, []Class{Linearizability}, 1000},
	// Thesis §6.4: "The leader waits for its state machine to advance at least
	// as far as readIndex".
	{"apply-wait", Full, "apply-wait", nil, []Class{Linearizability}, 100},
	// A proposal that is forwarded into one term and proposed again in another
	// must not be taken twice.
	{"fence-term", Full, "fence-term", nil, []Class{ExactlyOnce}, 1000},
	// Thesis §6.2: "a leader … will step down if an election timeout elapses
	// without a successful round of heartbeats to a majority".
	{"check-quorum", Core, "check-quorum", nil, []Class{Liveness}, 300},
	// Raft §7: "once a server completes writing a snapshot, it may delete all
	// log entries up through the last included index".
	{"durable-image", Full, "durable-image", nil, []Class{Contract}, 200},
	// "Written aside, synced, renamed": a crash leaves the old one or the new
	// one, never half of one.
	{"image-sync", Full, "image-sync", nil, []Class{Contract}, 200},
	// A batch is written after the one before it was synced: so a valid one behind a
	// break of the chain proves that what is broken had been acknowledged.
	{"chain-check/cause", Full, "chain-check", nil, []Class{Monotonic, LeaderAppendOnly, Contract}, 300},
	{"chain-check/effect", Full, "chain-check", []Class{Monotonic, LeaderAppendOnly, Contract, Unpersisted, CommitQuorum, Watermarks}, []Class{LeaderCompleteness, ElectionSafety, StateMachineSafety, LostWrite, Linearizability}, 1000},
	// Ng et al. 2023, §2: the constrained election. A core that is healed as a
	// star has no leader while its middle has an old log.
	{"election-catch-up", Core, "election-catch-up", nil, []Class{Liveness}, 100},
	{"election-catch-up/hosts", Full, "election-catch-up", nil, []Class{Liveness}, 200},
	// Package transport: "TCP's own is too weak for data that a quorum will believe".
	{"frame-checksum/cause", Full, "frame-checksum", nil, []Class{Contract}, 200},
	{"frame-checksum/effect", Full, "frame-checksum", []Class{Contract}, []Class{ElectionSafety, LeaderAppendOnly, LogMatching, LeaderCompleteness, StateMachineSafety, CommitQuorum, Unpersisted, Watermarks, Linearizability, LostWrite, WrongAnswer, Invariant, Liveness}, 500},
	// Package wire: "Hosts of two releases next to each other work together".
	{"unknown-kinds/cause", Full, "unknown-kinds", nil, []Class{Contract}, 50},
	{"unknown-kinds/effect", Full, "unknown-kinds", []Class{Contract}, []Class{Liveness, NoProgress}, 100},
	// A group that rests while nobody vouches for its leader's host never finds
	// out that it died.
	{"pulse", Core, "pulse", nil, []Class{Liveness}, 100},
	{"pulse/hosts", Full, "pulse", nil, []Class{Liveness}, 100},
}

// Each protection that is switched off must be missed: within so many seeds the
// checkers report a violation, and of one of the classes that the protection is
// there to prevent. A protection whose absence nothing notices is not tested.
//
// Where the first thing to be seen is the cause (a message that rests on
// nothing), its class is skipped in a second run, which must find what it leads
// to. What conflict-hint, batching, pipelining, parallel-write, randomisation,
// pre-vote and leader-heard protect is speed or calm, not safety: their absence is
// a figure or a directed test (figures_test.go), and no violation. The list of all
// is TestEveryProtectionIsShown.
func TestSwitches(t *testing.T) {
	for _, c := range switchCases {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && c.seeds > 200 {
				t.Skip("takes long")
			}
			r, err := Run(context.Background(), Options{
				Mode: c.mode, Seeds: c.seeds, SeedBase: *flagBase, Without: []string{c.without}, Skip: c.skip, FailuresMax: 1,
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Failures) == 0 {
				t.Fatalf("nothing in %d seeds", r.Seeds)
			}
			f := &r.Failures[0]
			t.Logf("%d seeds: %v", r.Seeds, f.Violation)
			if !slices.Contains(c.classes, f.Violation.Class) {
				t.Errorf("seed %d: %v; expected one of %v", f.Seed, f.Violation, c.classes)
			}
		})
	}
}

// What the world is built of must be found at fault too: a run that a fault of
// the checkers themselves makes blind is caught by the switches above; one whose
// options name nothing that exists is refused.
func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"nothing to run":         {},
		"unknown protection":     {Seeds: 1, Without: []string{"gravity"}},
		"protection of the host": {Seeds: 1, Mode: Core, Without: []string{"fence"}},
		"trace of many":          {Seeds: 2, Tracer: Printer{}},
		"unknown class":          {Seeds: 1, Skip: []Class{"nonsense"}},
		"unknown mode":           {Seeds: 1, Mode: 9},
	} {
		if _, err := Run(context.Background(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
