package raft

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/smr"
)

// MessageType says which of the protocol's messages a Message is. The numbers
// are part of the wire format.
type MessageType uint8

const (
	// MsgPreVote asks whether a vote would be granted in Term (thesis §9.6).
	// Term is the term that the candidate would stand in, not one it has.
	MsgPreVote MessageType = 1
	// MsgPreVoteReply answers it: if granted, Term is the term asked for, else
	// the term of the replica that refuses. A refusal with LogTerm set offers the
	// voter's log, which ends at (Index, LogTerm): see catchUp.
	MsgPreVoteReply MessageType = 2
	// MsgVote asks for a vote (Raft §5.2).
	MsgVote      MessageType = 3
	MsgVoteReply MessageType = 4
	// MsgAppend carries entries after (Index, LogTerm); without entries it
	// probes or moves the commit index (Raft §5.3).
	MsgAppend MessageType = 5
	// MsgAppendReply acknowledges everything up to Index, or rejects with a
	// hint. It is sent only when what it speaks of is persisted.
	MsgAppendReply MessageType = 6
	// MsgHeartbeat keeps a leader in office and carries a read-index round in
	// Round (thesis §6.4). Its Commit never exceeds the follower's match. Index
	// is what the leader had sent to the follower one heartbeat before: one that
	// knows of less has lost an append. With Round zero it only moves the commit
	// index and is not answered. With Rest set, (Index, LogTerm) is where the
	// leader's log ends: see rest.
	MsgHeartbeat MessageType = 7
	// MsgHeartbeatReply returns Round. Index acknowledges as MsgAppendReply's
	// does. Reject says that an append was lost: ConflictIndex is the first
	// index that the follower does not know to match. Rest says that the follower
	// rests.
	MsgHeartbeatReply MessageType = 8
	// MsgTimeoutNow tells a follower to stand for election at once (thesis
	// §3.10).
	MsgTimeoutNow MessageType = 9
	// MsgSnapshot tells a follower that it needs the snapshot at (Index,
	// LogTerm), or a later one: the log before it is gone. The image travels
	// elsewhere; MsgAppendReply acknowledges it.
	MsgSnapshot MessageType = 10
	// MsgSuffixAsk asks a voter that has offered its longer log, in the refusal
	// of a pre-vote, for the entries after (Index, LogTerm), which is an entry of
	// the candidate's log. Round numbers the asks. See catchUp.
	MsgSuffixAsk MessageType = 11
	// MsgSuffix answers it with Entries after (Index, LogTerm), which is at or
	// before what was asked for, of a log that ends at (ConflictIndex,
	// ConflictTerm). It is never acknowledged. Term, of this and of MsgSuffixAsk,
	// is the sender's and changes nothing.
	MsgSuffix MessageType = 12
	// MsgPromise goes with a MsgHeartbeatReply of the same Round: for Index
	// nanoseconds from the heartbeat on its sender votes for nobody but the leader.
	// See lease.
	MsgPromise MessageType = 13
)

// MessageTypes are all types of messages.
func MessageTypes() []MessageType {
	var all []MessageType
	for t := MsgPreVote; t <= MsgPromise; t++ {
		all = append(all, t)
	}
	return all
}

var messageNames = [...]string{
	"?", "pre-vote", "pre-vote-reply", "vote", "vote-reply", "append", "append-reply",
	"heartbeat", "heartbeat-reply", "timeout-now", "snapshot", "suffix-ask", "suffix", "promise",
}

func (t MessageType) String() string {
	if int(t) < len(messageNames) {
		return messageNames[t]
	}
	return fmt.Sprintf("message-%d", uint8(t))
}

// Message is what replicas of a group say to each other. Which fields a type
// uses is said at the type; the others are zero.
type Message struct {
	Type     MessageType
	Group    smr.GroupID
	From, To smr.ReplicaID
	// Term of the sender, but for the pre-vote (see there).
	Term uint64
	// Index and LogTerm: of the entry before Entries (MsgAppend); of the
	// candidate's last entry (votes); of the voter's last entry (a refused
	// pre-vote that offers it); the acknowledged index (MsgAppendReply,
	// Reject unset) or the index of the rejected append (Reject set).
	Index, LogTerm uint64
	// Commit index of the leader.
	Commit uint64
	// Round numbers the leader's rounds of heartbeats within its term, or a
	// candidate's asks for a suffix; a reply returns it.
	Round uint64
	// Reject says that a vote is refused or an append does not match.
	Reject bool
	// ConflictIndex and ConflictTerm are the hint of a rejected append (Raft
	// §5.3, last paragraph but two): the term of the conflicting entry and the
	// first index that the follower stores for that term; ConflictTerm zero
	// with the follower's last index + 1 when its log is too short. In a
	// MsgSuffix they are the last entry of the sender's log.
	ConflictIndex, ConflictTerm uint64
	// Force marks a vote request of a leadership transfer, which is answered
	// although a leader is heard (thesis §4.2.3).
	Force bool
	// Rest marks the heartbeats that let a group rest, and their answers.
	Rest bool
	// Entries of an append. Their Data is lent, and may share the memory of the
	// frame that they came in.
	Entries []smr.Entry
}

// RoleState is the role that a replica plays at the moment.
type RoleState uint8

const (
	Follower     RoleState = 0
	PreCandidate RoleState = 1
	Candidate    RoleState = 2
	Leader       RoleState = 3
)

func (s RoleState) String() string {
	return [...]string{"follower", "pre-candidate", "candidate", "leader"}[s]
}

// Config is fixed for the life of a core. The zero value of a limit means its
// default.
type Config struct {
	Group smr.GroupID
	ID    smr.ReplicaID
	// ElectionTimeout is the least time without a leader after which a replica
	// stands; the time used is drawn from [ElectionTimeout, 2·ElectionTimeout)
	// (Raft §5.2). Default 150 ms. A leader that has not heard from a quorum
	// for one ElectionTimeout steps down (check-quorum, thesis §6.2).
	ElectionTimeout time.Duration
	// HeartbeatInterval of a leader. Default ElectionTimeout / 5.
	HeartbeatInterval time.Duration
	// Seed of the randomised timeouts. Two replicas need different ones.
	Seed uint64

	// AppendBytesMax bounds the entries of one append, which holds at least
	// one. Default 512 KiB: a large batch travels in pieces, so that a follower
	// is at work on the first one while the others come.
	AppendBytesMax int
	// AppendEntriesMax bounds them by number. Default 65536. One entry a
	// message is what finds Figure 8 fastest.
	AppendEntriesMax int
	// InflightBytesMax and InflightMessagesMax bound what is sent to one
	// follower and not yet acknowledged. Defaults 8 MiB and 256.
	InflightBytesMax    int
	InflightMessagesMax int
	// UncommittedBytesMax bounds what a leader has accepted and not committed.
	// Default 64 MiB. Past it Propose returns ErrBusy.
	UncommittedBytesMax int
	// CommittedBytesMax bounds the entries of one Output.Committed, and what
	// was handed out and is not yet Applied. Defaults 4 MiB and 16 MiB.
	CommittedBytesMax    int
	ApplyBacklogBytesMax int
	// TailBytesMax bounds the recent entries kept in memory once they are
	// persisted and applied. Default 4 MiB. Older ones are asked for through
	// Output.Fetches.
	TailBytesMax int
	// ReadTicketsMax bounds the read tickets that wait for an answer. Default
	// 4096. Past it ReadIndex returns ErrBusy.
	ReadTicketsMax int

	// LeaderLease has reads answered without a round of heartbeats while a quorum has
	// promised to elect nobody else (thesis §6.4.1); ReadIndex falls back to a round by
	// itself. Whoever sets it calls Clock. All members of a group should have it, and the
	// same ElectionTimeout: a leader does not count the promises of those with a smaller
	// one. In return a leader that is lost is replaced no sooner than after an
	// ElectionTimeout. Default: not.
	LeaderLease bool
	// ClockDriftMax is by how much the host's clock may be slower or faster than true
	// time, in parts per million. Reads under a lease are linearizable only if no clock
	// of a member exceeds it. Default 100,000: a tenth.
	ClockDriftMax int

	// Rest lets the group rest when nothing happens in it: no timer runs and no
	// message is sent. Whoever sets it must vouch for the hosts of the members, and
	// call LeaderLost, Unreachable and Reachable when one falls silent or is heard
	// again. Default: not.
	Rest bool
	// RestRenewal is how often a leader renews a rest, at most; a follower that
	// was not renewed for three times as long wakes. Default 1000 ElectionTimeouts.
	RestRenewal time.Duration

	// EagerStart has a replica that begins stand soon, and again and again until
	// one ElectionTimeout has passed, where it would wait for a whole timeout: after
	// all have crashed, nobody leads. It asks for pre-votes, which voters that hear
	// a leader refuse, so a leader is not disturbed. A host sets it.
	EagerStart bool

	// Memory is shared by the cores that one goroutine runs. Nil: this core has
	// one of its own.
	Memory *Memory
}

// Start is what a replica knows when it begins.
type Start struct {
	// LogState is what it had on disk.
	smr.LogState
	// Applied is the index that its state machine already holds durably, at
	// least Snapshot.Index.
	Applied uint64
}

// Output is everything that a core wants done. It is owned by the caller and
// reused: its contents are valid until the next Take, the Data of its entries
// included, but for that of Committed, which is valid until Applied. Then the
// core uses that memory again: whoever needs the bytes for longer copies them.
//
// Three promises (see the package comment):
//
//  1. Messages may be sent at once, before Append is on disk.
//  2. Append is acknowledged by its Seq alone.
//  3. Committed never runs ahead of what this replica has persisted.
type Output struct {
	Messages []Message
	Append   Append
	// Committed are to be applied in order, following those of the Output
	// before without a gap.
	Committed []smr.Entry
	// Reads are read tickets whose index is now known.
	Reads []ReadReady
	// ReadsFailed are tickets that will not be answered: the replica lost
	// leadership. They may be asked again, of the new leader.
	ReadsFailed []uint64
	// Fetches are entries that the core needs back from the log on disk.
	Fetches []Fetch
	// Snapshots are followers that need a snapshot: the log does not reach
	// back to them. The core waits for SnapshotDone.
	Snapshots []smr.ReplicaID
	// Restore, if not nil, is a snapshot that the state machine and the log are
	// to be set to; Append then follows it.
	Restore *smr.SnapshotMeta
	// Changed says that Role, Term, Leader or Configuration differ from before.
	Changed bool
	// More says that another Take has something to hand out already, because a
	// limit of this one was reached.
	More bool
}

// Append is one numbered write. An empty one (Seq zero) is no write.
type Append struct {
	// Seq numbers the writes of a core from 1 without a gap.
	Seq uint64
	// HardState is to be written if HardStateSet. MustSync says that the write
	// may not wait for a later one; a commit index alone may.
	HardState    smr.HardState
	HardStateSet bool
	MustSync     bool
	// Entries are to be written at their indexes; whatever the log holds from
	// the first one's index on is truncated by them.
	Entries []smr.Entry
}

// ReadReady says that a read under Ticket is linearizable once the state
// machine has applied Index.
type ReadReady struct{ Ticket, Index uint64 }

// Fetch asks for entries [First, First+n) from disk, not beyond Last, of at
// most BytesMax together (as smr.Entry.Size counts) but at least one, to be
// passed to Fetched with the same To. To is a follower, a candidate that catches
// up, or the replica itself when it is to apply them. There is at most one Fetch open for each To.
type Fetch struct {
	To       smr.ReplicaID
	First    uint64
	Last     uint64
	BytesMax int
}

// Status is a replica's view, for people and tests.
type Status struct {
	Group         smr.GroupID
	ID            smr.ReplicaID
	Role          RoleState
	Leader        smr.ReplicaID // zero: unknown
	HardState     smr.HardState
	First, Last   uint64 // indexes that the log holds; Last < First: none
	LastTerm      uint64
	Persisted     uint64
	Applied       uint64
	Configuration smr.Configuration
	Resting       bool
	Transferee    smr.ReplicaID    // whom leadership is being handed to; zero: nobody
	LeaseUntil    smr.Instant      // until when this leader holds a lease, by what Clock tells; zero: it has none
	Progress      []ProgressStatus // leader only, in the configuration's order
}

// ProgressStatus is what a leader knows of one member.
type ProgressStatus struct {
	ID          smr.ReplicaID
	Match, Next uint64
	State       string // "probe", "replicate", "fetch" or "snapshot"
	Inflight    int    // bytes sent and not acknowledged
	Active      bool   // heard from within the last election timeout
}
