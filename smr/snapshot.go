package smr

import "io"

// Snapshotter is a state machine whose state can be taken and set as a whole:
// what a group needs to drop the old part of its log. It is the interface for a
// state in memory; a state on disk implements Durable as well.
//
// The bytes of a state are its own format: another replica of the same group
// reads what this one wrote, now and after an upgrade.
type Snapshotter interface {
	StateMachine
	// View returns an immutable view of the state after the last applied entry,
	// at once: it copies nothing that grows with the state. It is called by the
	// goroutine of Apply, between two of its calls; the view is read and closed
	// by another one, while Apply goes on. Several views may be open at a time.
	View() (View, error)
	// BeginRestore begins to take a state in. The present state stays what it
	// is, and is applied to and read, until Commit. At most one restoration is
	// open at a time. It is called by any goroutine.
	BeginRestore() (Restoration, error)
}

// View is a state at one index, to be read once from front to end. Its methods
// are called by one goroutine, which need not be that of Apply.
type View interface {
	// Applied is the index of the last entry that the state contains, Digest
	// what StateMachine.Digest returned there.
	Applied() uint64
	Digest() [16]byte
	// Reader yields the bytes of the state. Equal states need not have equal
	// bytes.
	io.Reader
	// Close releases the view; it may be called before all was read.
	io.Closer
}

// Restoration takes a state in, beside the present one.
type Restoration interface {
	// Writer takes the bytes of a View in their order, in pieces of any size. It
	// is called by one goroutine, which need not be that of Apply.
	io.Writer
	// Finish is called once after the last byte, before Commit, by the goroutine
	// of Write: whatever can be done before the state is exchanged. An error
	// that wraps ErrCorrupt says that the bytes are no state. On disk the new
	// state is durable when it returns.
	Finish() error
	// Commit puts the new state in the place of the old one: afterwards Digest
	// returns the index and the digest of the view. It is called by the
	// goroutine of Apply, and must be quick: everything slow belongs into
	// Finish. On disk it is atomic: after a crash Open finds the old state or
	// the new one, whole. After an error the state machine counts as broken.
	Commit() error
	// Close ends a restoration; without Commit the new state is dropped. It may
	// be called at any time after which nothing else is, by any goroutine.
	Close() error
}

// Durable is a Snapshotter that keeps its state on disk by itself. Its log is
// replayed from what Durable reports on, and no snapshot files are written for
// its own restart.
type Durable interface {
	Snapshotter
	// Durable returns the index that Open would return after a crash now. It may
	// be called by any goroutine, beside Apply.
	Durable() (applied uint64, err error)
	// Flush makes what was applied before the call durable. It may be called by
	// any goroutine beside Apply, and may take its time. It does not wait for room
	// on a full disk, but returns an error that wraps ErrNoSpace.
	Flush() error
}
