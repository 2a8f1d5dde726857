package smr

import "errors"

// Committed is one committed entry on its way into a state machine.
type Committed struct {
	Entry
	// Wanted says that a client of this host waits for the result. A state
	// machine may leave Result empty if it is not set and Session is zero; it
	// must not let it influence the state.
	Wanted bool
	// Result is set by Apply. The runtime hands it to the waiting client.
	Result Result
}

// Result is what applying a command returns to the client that proposed it.
type Result struct {
	// Value is for state machines whose answer is a number.
	Value uint64
	// Data is owned by the receiver once Apply has returned.
	Data []byte
}

// StateMachine is replicated by a group. All its replicas apply the same
// entries in the same order and must reach the same state: Apply is a function
// of the state and the entries alone; time, randomness and identifiers are
// chosen by the proposer and travel in the command.
type StateMachine interface {
	// Open is called once, before anything else, and returns the index of the
	// last entry whose effect is durable: zero for a state machine in memory,
	// whose log is replayed whole.
	Open() (applied uint64, err error)
	// Apply applies a batch in order. It is called by one goroutine at a time,
	// with ascending indexes without a gap, each exactly once between two
	// Opens; entries of other kinds than KindCommand are passed too, so that
	// the applied index can be kept, and have no effect otherwise. A bad
	// command is a result, not an error: an error stops this replica of the
	// group and no other. One that wraps ErrNoSpace does not: it says that
	// nothing of the batch was applied, and the same batch comes again later.
	//
	// The batch, and the Data of its entries, are lent until Apply returns: the
	// memory is then used for other entries. What the state machine keeps, and
	// what it answers, it copies.
	Apply(batch []Committed) error
	// Lookup answers a query from the applied state. It runs concurrently with
	// Apply and with itself. Its linearizability is the runtime's work.
	Lookup(query []byte) ([]byte, error)
	// Digest returns a digest of the state after the last applied entry. Equal
	// states have equal digests on every replica. It is called between two
	// Applies by the same goroutine, and must be cheap: kept incrementally.
	Digest() (applied uint64, digest [16]byte)
	// Close releases what Open took. Nothing is called after it.
	Close() error
}

// Roomed is a StateMachine on a disk that may be full.
type Roomed interface {
	StateMachine
	// DiskFull reports whether what was applied cannot be made durable for lack of
	// room. The host then takes no commands and hands over what it leads. It asks
	// after each Apply, and about every 100 ms while the answer is yes; each
	// question is the moment to try again. Any goroutine.
	DiskFull() bool
}

// Idler is a StateMachine with work that may wait until nothing is to be applied.
type Idler interface {
	StateMachine
	// Idle does a piece of that work, in less than about a millisecond, and reports
	// whether more is left. It is called after an Apply, by its goroutine, when
	// nothing else waits for that. It changes no state that a query or Digest shows.
	// An error stops this replica of the group, as one of Apply does.
	Idle() (more bool, err error)
}

// ErrNoSpace is wrapped by errors of Apply and Flush that say that the disk of the
// state is full. Nothing is broken or lost: it is tried again.
var ErrNoSpace = errors.New("no room on the disk of the state; free some space there")

// ErrCorrupt is wrapped by every error that says that bytes on disk or wire
// are not what was written.
var ErrCorrupt = errors.New("corrupt data")
