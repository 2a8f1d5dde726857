package host

import (
	"sync"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/transport"
	"github.com/quorate/quorate/wal"
)

// inbox is what waits for a shard: filled from any goroutine, drained whole by
// each turn. Its two slabs of memory take turns, so that nothing is allocated
// and the mutex is held for an append or a swap alone.
//
// Invariant: requestBytes and frameBytes are the sizes of what is in filling,
// and neither exceeds bytesMax, but for the last frame: a large one would be sent
// again for ever if it never came upon an inbox that is nearly empty.
type inbox struct {
	bytesMax int
	wake     func() // called when filling becomes non-empty

	mu           sync.Mutex
	filling      letters
	requestBytes int
	frameBytes   int
	stopped      error // refuses requests from now on
}

// letters is the contents of an inbox, by kind.
type letters struct {
	frames   []frameLetter
	requests []*waiter
	acks     []wal.Ack
	applied  []*applyJob
	fetched  []*fetchJob
	control  []func(now smr.Instant)
	// synced: the syncer has been at work, with these results.
	synced, diskFull bool
	logErr           error
}

// frameLetter is a frame of a peer. The turn that reads it releases it.
type frameLetter struct {
	from smr.ReplicaID
	transport.Frame
}

func (l *letters) empty() bool {
	return len(l.frames)+len(l.requests)+len(l.acks)+len(l.applied)+len(l.fetched)+len(l.control) == 0 && !l.synced
}

// reset empties l, keeps its memory, and drops what its memory points to.
func (l *letters) reset() {
	clear(l.frames)
	clear(l.requests)
	clear(l.applied)
	clear(l.fetched)
	clear(l.control)
	*l = letters{frames: l.frames[:0], requests: l.requests[:0], acks: l.acks[:0], applied: l.applied[:0], fetched: l.fetched[:0], control: l.control[:0]}
}

// put runs fill under the lock and wakes the shard if there was nothing before.
func (in *inbox) put(fill func(*letters)) {
	in.mu.Lock()
	was := in.filling.empty()
	fill(&in.filling)
	in.mu.Unlock()
	if was {
		in.wake()
	}
}

// request puts a client's request. ErrBusy or the reason of stop: w stays the
// caller's.
func (in *inbox) request(w *waiter) error {
	size := w.entry.Size()
	in.mu.Lock()
	if in.stopped != nil {
		in.mu.Unlock()
		return in.stopped
	}
	if in.requestBytes+size > in.bytesMax {
		in.mu.Unlock()
		return ErrBusy
	}
	was := in.filling.empty()
	in.requestBytes += size
	in.filling.requests = append(in.filling.requests, w)
	in.mu.Unlock()
	if was {
		in.wake()
	}
	return nil
}

// frame puts a peer's frame. ErrBusy: it is to be dropped, as a network may do,
// and stays the caller's.
func (in *inbox) frame(from smr.ReplicaID, f transport.Frame) error {
	in.mu.Lock()
	if in.frameBytes >= in.bytesMax {
		in.mu.Unlock()
		return ErrBusy
	}
	was := in.filling.empty()
	in.frameBytes += len(f.B)
	in.filling.frames = append(in.filling.frames, frameLetter{from, f})
	in.mu.Unlock()
	if was {
		in.wake()
	}
	return nil
}

// synced puts what the syncer wrote, whether the disk is full, and the error that
// ended it.
func (in *inbox) synced(acks []wal.Ack, full bool, err error) {
	in.put(func(l *letters) {
		l.acks = append(l.acks, acks...)
		l.synced, l.diskFull, l.logErr = true, full, err
	})
}

// stop refuses requests from now on, with err.
func (in *inbox) stop(err error) {
	in.mu.Lock()
	in.stopped = err
	in.mu.Unlock()
}

// swap exchanges the contents with an emptied set of letters; frames stay if they
// are to be kept.
func (in *inbox) swap(into *letters, keepFrames bool) {
	into.reset()
	in.mu.Lock()
	in.filling, *into = *into, in.filling
	in.requestBytes = 0
	if keepFrames {
		in.filling.frames, into.frames = into.frames, in.filling.frames
	} else {
		in.frameBytes = 0
	}
	in.mu.Unlock()
}

// empty reports whether a turn would find nothing.
func (in *inbox) empty() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.filling.empty()
}
