package etcdapi

import (
	"context"
	"errors"

	"github.com/quorate/quorate/smr"
)

// Group is the group that replicates the store, seen from this member. All
// methods may be called concurrently. Errors are the sentinels of package host.
//
// Propose and Barrier return by the deadline of their context at the latest, by
// a clock of their own: the context's Done need not be closed then.
type Group interface {
	// Propose replicates command and returns its result once this member has
	// applied it. A member that does not lead forwards it. The group keeps
	// command: the caller must not write to it any more.
	Propose(ctx context.Context, command []byte) (smr.Result, error)
	// Barrier returns once this member has applied everything that was
	// committed when it was called (read index, thesis §6.4): a local read
	// after it is linearizable.
	Barrier(ctx context.Context) error
	// Status returns this member's view. It is called once per request: it must
	// neither block nor allocate.
	Status() Status
}

// ErrNotMoved: the member that was to lead did not take over in time, and the old
// leader leads on.
var ErrNotMoved = errors.New("leader transfer took too long")

// LeaderMover is a Group that can hand its leadership over.
type LeaderMover interface {
	// MoveLeader returns once target leads, at once if it does already, or
	// ErrNotMoved. It is called on the leader only.
	MoveLeader(ctx context.Context, target smr.ReplicaID) error
}

// Status is a member's view of its group.
type Status struct {
	// Leader is zero if none is known.
	Leader smr.ReplicaID
	Term   uint64
	// Commit and Applied are indexes of the replicated log; Applied <= Commit.
	Commit, Applied uint64
	// LeaderChanges counts how often this member has seen a new leader.
	LeaderChanges uint64
	// IsLearner says that this member has no vote.
	IsLearner bool
	// DiskFull says that this member takes no commands (host.ErrDiskFull).
	DiskFull bool
}

// Member is one member of the cluster, as clients see it.
type Member struct {
	ID                   uint64
	Name                 string
	PeerURLs, ClientURLs []string
	IsLearner            bool
}
