package raft

import "errors"

// The errors of this package. None of them means that something was done in
// part: a call that returns one of them has changed nothing.
var (
	// ErrNotLeader: only the leader can do this. Ask State().Leader.
	ErrNotLeader = errors.New("this replica does not lead the group; ask the leader")
	// ErrBusy: a limit of Config is reached. Try again when what is in flight
	// has been committed.
	ErrBusy = errors.New("busy: a limit of the core is reached, nothing was done; try again later")
	// ErrTransferring: leadership is being handed over. Hold the request, and
	// ask the new leader, or this one if the transfer fails; it ends within one
	// election timeout.
	ErrTransferring = errors.New("leadership is being handed over; ask again when the leader is known")
	// ErrConfig is wrapped by every error about a Config or an Option.
	ErrConfig = errors.New("bad raft configuration")
	// ErrStart is wrapped by every error about a Start that cannot be: the log
	// is damaged or belongs to something else. Do not go on with it.
	ErrStart = errors.New("the state on disk cannot be that of a replica")
	// ErrCompacted: the log does not reach back to that index. Use a snapshot.
	ErrCompacted = errors.New("the log has been compacted past that index")
	// ErrNotApplied: the log cannot be compacted past what is applied and
	// persisted.
	ErrNotApplied = errors.New("the log cannot be compacted past what is applied and persisted")
	// ErrUnknownReplica: the replica is not a member that could do this.
	ErrUnknownReplica = errors.New("no such voter in the group")
	// ErrConfigurationPending: a membership change is under way, or the leader
	// has not committed an entry of its own term yet. Try again later.
	ErrConfigurationPending = errors.New("a membership change is under way, or this leader is too new for one; try again later")
	// ErrConfiguration is wrapped by every error about a configuration that no
	// group can have.
	ErrConfiguration = errors.New("bad configuration of members")
)
