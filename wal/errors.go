package wal

import (
	"errors"
	"fmt"
	"strings"

	"github.com/quorate/quorate/smr"
)

// The errors of this package.
var (
	// ErrFailed is wrapped by everything that a log returns after a write or a
	// sync has failed, beside the cause. What was not acknowledged counts as
	// not written, whatever a second sync would say. Close the log and open it
	// again: it then holds what is on disk.
	ErrFailed = errors.New("the log has failed; what was not acknowledged counts as not written, close it and open it again")
	// ErrNoSpace: the disk is full, and the batch is not written. The log has
	// not failed: it keeps the batch, and the next Sync tries again.
	ErrNoSpace = errors.New("no space left on the log's disk; the batch is kept and the next sync tries again, free some space")
	// ErrForeign: the directory holds the log of another replica.
	ErrForeign = errors.New("the directory holds the log of another replica; check the data directory and the ids in the settings")
	// ErrMissing: there is no log, and Options.MustExist says that there was one.
	ErrMissing = errors.New("the log is missing")
	// ErrCompacted: entries below the first index were asked for.
	ErrCompacted = errors.New("entries are compacted")
	// ErrUnavailable: entries above the last synced index, or of an unknown
	// group, were asked for.
	ErrUnavailable = errors.New("entries are not in the log")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("the log is closed")
	// ErrMisuse: the caller broke the contract (a gap between entries, a group
	// that was never created). The log fails with it, since going on would write
	// a log that cannot be read back.
	ErrMisuse = errors.New("the log was misused")
)

// Lost is what a CorruptionError knows about damaged records: the group and, if
// they were entries, their indexes. First zero: not entries, or not known.
type Lost struct {
	Group       smr.GroupID
	First, Last uint64
}

// CorruptionError says that the log is damaged where it had been synced: what
// was acknowledged cannot be read back. The log is left as it is. The replica
// must not speak for the entries named; its peers may have them. It wraps
// smr.ErrCorrupt.
type CorruptionError struct {
	File   string
	Offset int64
	// Reason says what is wrong there, and what proves that it had been synced.
	Reason string
	// Lost are the damaged records, as far as they can still be told.
	Lost []Lost
}

func (e *CorruptionError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "log corrupt in %s at offset %d: %s", e.File, e.Offset, e.Reason)
	for i, l := range e.Lost {
		if i == 8 {
			fmt.Fprintf(&b, "; and %d more", len(e.Lost)-i)
			break
		}
		if l.First != 0 {
			fmt.Fprintf(&b, "; group %d: entries %d to %d", l.Group, l.First, l.Last)
		} else {
			fmt.Fprintf(&b, "; group %d", l.Group)
		}
	}
	b.WriteString("; nothing was changed, restore the replica from its peers or a backup")
	return b.String()
}

// Unwrap makes errors.Is(err, smr.ErrCorrupt) true.
func (e *CorruptionError) Unwrap() error { return smr.ErrCorrupt }
