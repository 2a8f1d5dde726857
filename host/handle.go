package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// Group is a replica of a group on this host. Its methods may be called by any
// goroutine.
type Group struct {
	rt   *Runtime
	host *Host // nil in a simulation
	g    *group
}

// ID of the group.
func (g *Group) ID() smr.GroupID { return g.g.id }

// Propose replicates a command, and returns its result once this replica has
// applied it: whatever is read here afterwards has seen it. It can be called on
// any replica; the leader need not be known. Without a deadline in ctx it waits
// for Config.RequestTimeout.
//
// The command must not be changed any more, not even after an error.
//
// Errors: ErrBusy, ErrNoLeader, ErrTooLarge, ErrDiskFull, ErrDiskStalled, ErrStopped
// (not done, see Retryable); ErrOutcomeUnknown, also when ctx ends first;
// ErrGroupFailed.
func (g *Group) Propose(ctx context.Context, command []byte) (smr.Result, error) {
	if err := g.checkSize(command); err != nil {
		return smr.Result{}, err
	}
	w := getWaiter()
	w.group, w.deadline = g.g, g.deadline(ctx)
	w.entry = smr.Entry{Kind: smr.KindCommand, Data: command}
	return g.wait(ctx, w, ErrOutcomeUnknown)
}

func (g *Group) checkSize(command []byte) error {
	if max := g.rt.cfg.CommandBytesMax; len(command) > max {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(command), max)
	}
	return nil
}

// Barrier returns once this replica's state machine has applied everything that
// was committed when Barrier was called: what is then read from it is
// linearizable (thesis §6.4). It can be called on any replica.
//
// Errors: ErrBusy, ErrNoLeader, ErrApplyLag, ErrStopped, ErrGroupFailed, or
// ctx's.
func (g *Group) Barrier(ctx context.Context) error {
	w := getWaiter()
	w.group, w.deadline, w.read = g.g, g.deadline(ctx), true
	_, err := g.wait(ctx, w, nil)
	return err
}

// Read answers a query from the state machine, linearizably: Barrier, then the
// state machine's Lookup on the caller's goroutine.
func (g *Group) Read(ctx context.Context, query []byte) ([]byte, error) {
	if err := g.Barrier(ctx); err != nil {
		return nil, err
	}
	return g.g.machine.Lookup(query)
}

// ReadLocal answers a query from what this replica happens to have applied: it
// may be old, and never waits.
func (g *Group) ReadLocal(query []byte) ([]byte, error) { return g.g.machine.Lookup(query) }

// wait puts w into the shard's inbox and waits for the answer. left is what the
// caller must be told when ctx ends first.
func (g *Group) wait(ctx context.Context, w *waiter, left error) (smr.Result, error) {
	if err := ctx.Err(); err != nil {
		w.release()
		return smr.Result{}, fmt.Errorf("nothing was sent: %w", err)
	}
	if err := g.g.shard.inbox.request(w); err != nil {
		w.release()
		return smr.Result{}, err
	}
	if ended := ctx.Done(); ended == nil {
		<-w.answered // without a select, which costs as much as all the rest here
	} else {
		select {
		case <-w.answered:
		case <-ended:
			if w.abandon() {
				if left != nil {
					return smr.Result{}, fmt.Errorf("%w: %w", left, ctx.Err())
				}
				return smr.Result{}, ctx.Err()
			}
			<-w.answered
		}
	}
	result, err := w.result, w.err
	w.release()
	return result, err
}

// deadline is when the shard gives up a request.
func (g *Group) deadline(ctx context.Context) smr.Instant {
	if at, ok := ctx.Deadline(); ok {
		// The shard gives up a little earlier than ctx ends, so that the caller
		// gets the shard's answer, which knows more.
		left := time.Until(at)
		return g.host.now().Add(left - left/16)
	}
	return g.host.now().Add(g.rt.cfg.RequestTimeout)
}

// Submit is Propose without waiting: done is called once with the outcome, at
// deadline at the latest, from a goroutine of the host that it must not hold up.
// An error that Submit returns itself: done is not called, nothing was done.
func (g *Group) Submit(command []byte, deadline smr.Instant, done func(smr.Result, error)) error {
	if err := g.checkSize(command); err != nil {
		return err
	}
	w := getWaiter()
	w.group, w.deadline, w.done = g.g, deadline, done
	w.entry = smr.Entry{Kind: smr.KindCommand, Data: command}
	return g.send(w)
}

// SubmitBarrier is Barrier without waiting, as Submit is Propose. The result's
// Value is the read index.
func (g *Group) SubmitBarrier(deadline smr.Instant, done func(smr.Result, error)) error {
	w := getWaiter()
	w.group, w.deadline, w.read, w.done = g.g, deadline, true, done
	return g.send(w)
}

func (g *Group) send(w *waiter) error {
	if err := g.g.shard.inbox.request(w); err != nil {
		w.release()
		return err
	}
	return nil
}

// Status is what this replica knew at the end of its last turn.
type Status struct {
	Role          raft.RoleState
	Term          uint64
	Leader        smr.ReplicaID // zero: none known
	Commit        uint64
	Applied       uint64
	First         uint64 // first index that the log holds; above Last: none
	Last          uint64
	Persisted     uint64
	LeaderChanges uint64 // seen since the start
	// DiskFull: commands are refused with ErrDiskFull.
	DiskFull bool
}

// Status is cheap and asks nobody.
func (g *Group) Status() Status {
	v := &g.g.view
	return Status{
		Role: raft.RoleState(v.role.Load()), Term: v.term.Load(), Leader: smr.ReplicaID(v.leader.Load()),
		Commit: v.commit.Load(), Applied: v.applied.Load(), First: v.first.Load(), Last: v.last.Load(), Persisted: v.persisted.Load(),
		LeaderChanges: v.leaderChanges.Load(), DiskFull: g.g.shard.diskFull.Load(),
	}
}

// Core is the core's own status, with the progress of the followers. In a
// simulation it may be called between turns.
func (g *Group) Core() raft.Status { return g.g.core.Status() }

// Inspect is Core for a host that runs.
func (g *Group) Inspect(ctx context.Context) (raft.Status, error) {
	// A turn that comes after ctx has ended still answers, to nobody.
	answer := make(chan raft.Status, 1)
	err := g.control(ctx, func(smr.Instant) error {
		answer <- g.g.core.Status()
		return g.g.failed
	})
	select {
	case st := <-answer:
		return st, err
	default:
		return raft.Status{}, err
	}
}

// Transfer hands leadership to another voter (thesis §3.10) and returns once it
// was asked to stand; Inspect says whether the core still waits for it. Handing
// over to the leader itself is done at once. ErrNotLeader if this replica does not
// lead, ErrTransferring while it hands over to another one.
func (g *Group) Transfer(ctx context.Context, to smr.ReplicaID) error {
	return g.control(ctx, func(now smr.Instant) error {
		if g.g.failed != nil {
			return g.g.failed
		}
		if to == g.g.shard.id && g.g.core.State().Role == raft.Leader {
			return nil
		}
		g.g.shard.activate(g.g)
		err := g.g.core.Transfer(now, to)
		switch {
		case errors.Is(err, raft.ErrNotLeader):
			return ErrNotLeader
		case errors.Is(err, raft.ErrTransferring):
			return ErrTransferring
		}
		return err
	})
}

// control runs f within a turn of the group's shard.
func (g *Group) control(ctx context.Context, f func(now smr.Instant) error) error {
	return g.g.shard.run(ctx, f)
}

// run runs f within a turn and waits for it.
func (s *Shard) run(ctx context.Context, f func(now smr.Instant) error) error {
	answer := make(chan error, 1)
	s.inbox.put(func(l *letters) {
		l.control = append(l.control, func(now smr.Instant) { answer <- f(now) })
	})
	select {
	case err := <-answer:
		return err
	case <-s.closed:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}
