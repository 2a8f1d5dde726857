package sim

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/smr"
)

// Class names a property that a run has violated.
type Class string

// The classes. The first five are those of Raft's Figure 3.
const (
	// ElectionSafety: at most one leader can be elected in a given term.
	ElectionSafety Class = "election-safety"
	// LeaderAppendOnly: a leader never overwrites or deletes entries in its
	// log; it only appends new entries.
	LeaderAppendOnly Class = "leader-append-only"
	// LogMatching: if two logs contain an entry with the same index and term,
	// then the logs are identical in all entries up through the given index.
	LogMatching Class = "log-matching"
	// LeaderCompleteness: if an entry is committed in a given term, then it
	// will be present in the logs of the leaders for all higher terms.
	LeaderCompleteness Class = "leader-completeness"
	// StateMachineSafety: if a replica has applied an entry at a given index,
	// no other replica will ever apply a different entry for the same index.
	StateMachineSafety Class = "state-machine-safety"

	// Monotonic: term, vote, commit index or applied index went back.
	Monotonic Class = "monotonic"
	// CommitQuorum: an entry was committed that no quorum had persisted.
	CommitQuorum Class = "commit-quorum"
	// Unpersisted: a message was sent that rests on a write that is not on
	// disk, or an entry was applied before it was.
	Unpersisted Class = "unpersisted"
	// Watermarks: applied ≤ commit ≤ last does not hold.
	Watermarks Class = "watermarks"
	// LeaseExclusion: a leader was elected while another one held a lease.
	LeaseExclusion Class = "lease-exclusion"
	// Linearizability: a read missed a write that was acknowledged before it
	// began, or the history of a register has no order.
	Linearizability Class = "linearizability"
	// LostWrite: a write that was acknowledged is not there.
	LostWrite Class = "lost-write"
	// ExactlyOnce: a command took effect twice.
	ExactlyOnce Class = "exactly-once"
	// WrongAnswer: a client was told what is not so: "not done" of a command
	// that took effect, or "done" of one that did not.
	WrongAnswer Class = "wrong-answer"
	// Liveness: the healed core did not elect, commit or converge in time.
	Liveness Class = "liveness"
	// NoProgress: the run did nothing worth the name.
	NoProgress Class = "no-progress"
	// Invariant: the code under test found one of its own invariants broken, or
	// panicked.
	Invariant Class = "invariant"
	// Contract: an output of the core broke a promise of its interface.
	Contract Class = "contract"
)

// Classes lists all classes.
func Classes() []Class {
	return []Class{
		ElectionSafety, LeaderAppendOnly, LogMatching, LeaderCompleteness, StateMachineSafety, Monotonic, CommitQuorum,
		Unpersisted, Watermarks, LeaseExclusion, Linearizability, LostWrite, ExactlyOnce, WrongAnswer, Liveness, NoProgress, Invariant, Contract,
	}
}

// Violation is the first thing that a run's checkers found.
type Violation struct {
	Class    Class
	At       smr.Instant
	Replicas []smr.ReplicaID
	Detail   string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%s at %v, replicas %v: %s", v.Class, time.Duration(v.At), v.Replicas, v.Detail)
}
