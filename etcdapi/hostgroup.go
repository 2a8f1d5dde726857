package etcdapi

import (
	"context"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
)

// HostGroup returns a host's group as a Group. Its state machine is
// Config.Store.
func HostGroup(g *host.Group) Group { return hostGroup{g} }

type hostGroup struct{ *host.Group }

// Status implements Group.
func (h hostGroup) Status() Status {
	st := h.Group.Status()
	return Status{Leader: st.Leader, Term: st.Term, Commit: st.Commit, Applied: st.Applied, LeaderChanges: st.LeaderChanges, DiskFull: st.DiskFull}
}

// movePoll is how often MoveLeader looks whether the new leader is there.
const movePoll = 2 * time.Millisecond

// MoveLeader implements LeaderMover: the host's Transfer returns once the target
// was asked to stand, and this waits until it leads, or until the core gives it up.
func (h hostGroup) MoveLeader(ctx context.Context, target smr.ReplicaID) error {
	if err := h.Transfer(ctx, target); err != nil {
		return err
	}
	tick := time.NewTicker(movePoll)
	defer tick.Stop()
	for h.Group.Status().Leader != target {
		st, err := h.Inspect(ctx)
		if err != nil {
			return err
		}
		if st.Leader == st.ID && st.ID != target && st.Transferee != target {
			return ErrNotMoved
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
