// Package smr holds what every part of Quorate speaks: identifiers, time,
// entries of the replicated log, and the interfaces that a replicated state
// machine implements. It imports only the standard library.
package smr

import (
	"math"
	"strconv"
	"time"
)

// ReplicaID identifies a host of a cluster, and with it that host's replica in
// every group. It is never zero and never reused: a host that has lost its data
// directory comes back under a new id.
type ReplicaID uint64

// String writes the id in hexadecimal, as etcd's tools write members' ids.
func (id ReplicaID) String() string { return strconv.FormatUint(uint64(id), 16) }

// GroupID identifies one instance of consensus. Zero is not a valid group.
type GroupID uint64

// Instant is a point in time in nanoseconds on a clock that never goes back,
// with an arbitrary origin. Nothing below host reads a clock: time is an
// argument.
type Instant int64

// Never is later than every other Instant.
const Never Instant = math.MaxInt64

// Add returns the instant d after i, and Never if i is Never.
func (i Instant) Add(d time.Duration) Instant {
	if i == Never || d > 0 && int64(i) > math.MaxInt64-int64(d) {
		return Never
	}
	return i + Instant(d)
}

// Sub returns the time from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// EntryKind says what an entry of the log is for. The numbers are part of the
// formats on disk and wire.
type EntryKind uint8

const (
	// KindEmpty is the entry that a leader appends on its election (Raft §8):
	// it carries nothing and commits what came before it.
	KindEmpty EntryKind = 0
	// KindCommand is a user's command for the state machine.
	KindCommand EntryKind = 1
	// KindConfiguration carries an encoded Configuration, active when appended.
	KindConfiguration EntryKind = 2
	// KindSession registers or expires an exactly-once session.
	KindSession EntryKind = 3
)

// Entry is one slot of the replicated log. Once appended it is immutable, and
// so are the bytes of Data, which none may write to. How long Data may be read
// is said where an Entry is handed out: often its memory is used again.
type Entry struct {
	// Index is the position in the log, from 1.
	Index uint64
	// Term is the term of the leader that created the entry.
	Term uint64
	Kind EntryKind
	// Origin and Request name the waiter of this entry: Origin is drawn anew
	// each time a host starts, Request is chosen by that host. The origin
	// answers its client when it applies the entry. Both zero: nobody waits.
	Origin, Request uint64
	// Session and Sequence make a retried command take effect once. Session
	// zero: the command belongs to no session.
	Session, Sequence uint64
	Data              []byte
}

// EntryOverhead is what an entry is counted for in every limit in bytes,
// beside its Data.
const EntryOverhead = 80

// Size is what the entry counts for in every limit in bytes.
func (e *Entry) Size() int { return EntryOverhead + len(e.Data) }

// HardState is what a replica must have on disk before it speaks of it.
// Invariants: Term never goes back; Vote is fixed within a Term once not zero;
// Commit never goes back.
type HardState struct {
	Term   uint64
	Vote   ReplicaID
	Commit uint64
}

// Role is what a member of a group may do.
type Role uint8

const (
	// Voter counts in elections and commits.
	Voter Role = 1
	// Learner receives the log and has no vote.
	Learner Role = 2
	// Witness votes and acknowledges but keeps no data.
	Witness Role = 3
)

// Member is one member of a configuration. In a joint configuration (thesis
// §4.3) a member counts in the old, the new, or both sets of voters.
type Member struct {
	ID ReplicaID
	// Role in the new (or only) configuration; zero if it is in the old alone.
	Role Role
	// Old is the role in the outgoing configuration of a joint one; zero
	// outside a joint configuration and for members that are new in it.
	Old Role
}

// Configuration is the membership of a group. Members are sorted by ID without
// duplicates.
type Configuration struct {
	Members []Member
	// Joint is set between the two halves of a membership change: decisions
	// need a quorum of the old and of the new voters.
	Joint bool
}

// SnapshotMeta names an image of the state, or the start of a group's log.
type SnapshotMeta struct {
	// Index and Term of the last entry that the image contains.
	Index, Term uint64
	// Configuration in force at Index.
	Configuration Configuration
}

// TermRun says that the entries from First on, up to the next run, are of Term.
type TermRun struct{ First, Term uint64 }

// LogState is what a log on disk holds of a group: what a replica knows when it
// begins.
type LogState struct {
	HardState HardState
	// Snapshot is where the log begins: the snapshot it was compacted to, or
	// (Index 0) the configuration that the group was created with.
	Snapshot SnapshotMeta
	// Last is the index of the last entry; all in (Snapshot.Index, Last] are
	// there. Last equals Snapshot.Index if there is none.
	Last uint64
	// Terms are the runs of equal terms over (Snapshot.Index, Last], ascending.
	Terms []TermRun
	// Configurations are the configuration entries in (Snapshot.Index, Last],
	// whole and ascending.
	Configurations []Entry
	// Tail are the last entries of the log, in any number, ending at Last.
	Tail []Entry
}
