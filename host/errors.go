package host

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// The errors of this package. Each says whether the command may have taken
// effect, because that decides what the caller may do next: Retryable tells the
// two apart.
var (
	// ErrBusy: a queue is full. Not done; try again after a pause.
	ErrBusy = errors.New("busy: a queue is full, nothing was done; try again after a pause")
	// ErrNoLeader: the group had no leader until the deadline. Not done.
	ErrNoLeader = errors.New("no leader: the group had none that this replica could reach before the deadline, nothing was done; check that a majority of its members runs and is connected")
	// ErrApplyLag: a read's index was known, but this replica's state machine
	// had not applied it before the deadline. Nothing to undo; read again, or
	// from another replica.
	ErrApplyLag = errors.New("this replica's state machine lags: it had not applied what the read must see before the deadline; read again, or from another replica")
	// ErrTooLarge: the command exceeds Config.CommandBytesMax. Not done.
	ErrTooLarge = errors.New("command too large")
	// ErrOutcomeUnknown: the command was proposed, and whether it takes effect
	// was not known before the deadline. A retry may apply it twice unless it
	// belongs to a session.
	ErrOutcomeUnknown = errors.New("outcome unknown: the command was proposed but not seen applied before the deadline; it may still take effect")
	// ErrStopped: the host or the group was closed. Not done, unless it comes
	// together with ErrOutcomeUnknown.
	ErrStopped = errors.New("stopped")
	// ErrGroupFailed: this replica of the group has stopped because its state
	// machine or its core found something that must not be. Other groups and
	// the group's other replicas go on. The cause is wrapped beside it.
	ErrGroupFailed = errors.New("this replica of the group has failed")
	// ErrLogFailed: the write-ahead log could not be written. What was not
	// acknowledged counts as not written; the host must be opened again.
	ErrLogFailed = errors.New("the write-ahead log failed")
	// ErrDiskFull: the disk of this host's log, or of a state machine, has no room.
	// Not done. The host hands its leaderships over, goes on answering reads, and
	// takes commands again by itself when there is room. A leader elsewhere could take
	// the command, but its result is known here only once this host has kept it.
	ErrDiskFull = errors.New("this host's disk is full, nothing was done; free some space there, or send the command to another host")
	// ErrDiskStalled: the disk of this host's log has not answered for
	// Config.DiskStallTimeout. Not done. As with a full disk the host hands over, and
	// takes commands again by itself when the disk works.
	ErrDiskStalled = errors.New("the disk of this host's log has stalled, nothing was done; look at the disk, or send the command to another host")
	// ErrGroupExists: StartGroup with the id of a running group.
	ErrGroupExists = errors.New("group runs already")
	// ErrUnknownGroup: no group of that id runs on this host.
	ErrUnknownGroup = errors.New("unknown group")
	// ErrDamaged: the log and the state machine of a replica do not belong
	// together, or the log is gone. The replica must not go on: it may have voted
	// and acknowledged what it no longer knows.
	ErrDamaged = errors.New("log and state of this replica do not belong together, or the log is gone: it may have forgotten votes and acknowledged commands; put a whole copy of both back, or replace it by a replica with another id")
	// ErrConfig is wrapped by every error about a Config or GroupConfig.
	ErrConfig = errors.New("bad configuration")
	// ErrNotLeader: the operation is one that only the leader can do.
	ErrNotLeader = errors.New("this replica does not lead the group")
	// ErrTransferring: leadership is being handed over to another replica. Not
	// done; ask again when it is known who leads.
	ErrTransferring = errors.New("leadership is being handed over to another replica, nothing was done; ask again when it is known who leads")
)

// panicError is a panic of a core or of a state machine. Clients are told what it
// says; where it happened is for the log.
type panicError struct {
	what  string // what panicked, and on what
	value any
	stack []byte
}

// newPanicError is called by the deferred function that recovered value.
func newPanicError(what string, value any) *panicError {
	return &panicError{what: what, value: value, stack: debug.Stack()}
}

func (e *panicError) Error() string { return fmt.Sprintf("%s panicked: %v", e.what, e.value) }

// Retryable reports whether err says that the command has certainly not taken
// effect and never will, so that it can be sent again without a session.
func Retryable(err error) bool {
	if err == nil || errors.Is(err, ErrOutcomeUnknown) {
		return false
	}
	return errors.Is(err, ErrBusy) || errors.Is(err, ErrNoLeader) || errors.Is(err, ErrStopped) ||
		errors.Is(err, ErrTooLarge) || errors.Is(err, ErrDiskFull) || errors.Is(err, ErrDiskStalled)
}
