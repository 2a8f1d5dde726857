package raft

import (
	"fmt"
	"strings"
)

// Option changes a core for tests and for the lab. No setting of a server leads
// to one.
type Option struct {
	off      switches
	poison   bool
	paranoid bool
}

// Poison returns the option that overwrites an Output's slices at the next
// Take, and the Data of entries when its memory might be used again, so that
// whoever kept either is found out.
func Poison() Option { return Option{poison: true} }

// Paranoid returns the option that checks the expensive invariants too, after
// each call.
func Paranoid() Option { return Option{paranoid: true} }

// switches is a set of protections that are switched off.
type switches uint32

const (
	offPreVote switches = 1 << iota
	offCheckQuorum
	offOwnTermCommit
	offVotePersistence
	offSync
	offConflictHint
	offReadQuorum
	offRandomisation
	offBatching
	offPipelining
	offParallelWrite
	offJoint
	offOwnTermConfig
	offElectionCatchUp
	offLeaderHeard
	offOwnTermRead
	offLeaseBound
)

// Switch is a protection that Without can switch off.
type Switch struct{ Name, Meaning string }

// switchTable is in the order of the constants above.
//
// Without own-term-config alone nothing goes wrong as long as changes are joint:
// a joint configuration needs a majority of the old voters, and so meets every
// later change of them. The rule is kept because it costs nothing; it matters
// when joint is off too.
var switchTable = [...]Switch{
	{"pre-vote", "a replica asks whether it could win before it raises its term (thesis §9.6)"},
	{"check-quorum", "a leader that hears no quorum for an election timeout steps down (thesis §6.2)"},
	{"own-term-commit", "only entries of the leader's own term are committed by counting (Raft §5.4.2)"},
	{"vote-persistence", "a term or vote is on disk before it is spoken of (Raft §5.1, Figure 2)"},
	{"sync", "acknowledgements and commits wait for the log to be on disk (Raft §5.1, Figure 2)"},
	{"conflict-hint", "a rejected append names the conflicting term and its first index (Raft §5.3)"},
	{"read-quorum", "a quorum confirms the leader before a read is answered (thesis §6.4)"},
	{"randomisation", "election timeouts are drawn at random (Raft §5.2)"},
	{"batching", "many entries travel in one append (thesis §10.2.2)"},
	{"pipelining", "appends follow each other without waiting for answers (thesis §10.2.2)"},
	{"parallel-write", "a leader writes its disk while it sends to its followers (thesis §10.2.1)"},
	{"joint", "a membership change passes through a joint configuration (thesis §4.3)"},
	{"own-term-config", "a leader changes the membership only after it has committed an entry of its own term"},
	{"election-catch-up", "a candidate whose log is behind fetches what it lacks from a voter that refuses it"},
	{"leader-heard", "a voter that hears a leader ignores requests for votes (thesis §4.2.3)"},
	{"own-term-read", "a new leader answers no read before it has committed an entry of its own term (thesis §6.4)"},
	{"lease-bound", "a leader's lease ends before the promises that it rests on may, which their senders keep (thesis §6.4.1)"},
}

// Switches returns the protections that Without knows.
func Switches() []Switch { return append([]Switch(nil), switchTable[:]...) }

// Without returns the option that switches the named protections off, to show
// what they protect from. It is never reachable from a server's configuration.
// The error wraps ErrConfig and names the protection that is not known.
func Without(names ...string) (Option, error) {
	var o Option
next:
	for _, name := range names {
		for i := range switchTable {
			if switchTable[i].Name == name {
				o.off |= 1 << i
				continue next
			}
		}
		var known []string
		for i := range switchTable {
			known = append(known, switchTable[i].Name)
		}
		return Option{}, fmt.Errorf("%w: no protection is called %q; there are %s", ErrConfig, name, strings.Join(known, ", "))
	}
	return o, nil
}

func (s switches) has(x switches) bool { return s&x != 0 }
