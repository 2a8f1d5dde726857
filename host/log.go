package host

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wal"
)

// Syncer writes what the turns of its shard have put into the log: one write and
// one sync for all that came since the last one. Turn is called by one goroutine
// at a time.
type Syncer struct {
	shard *Shard
	wake  func()
	acks  []wal.Ack
	err   error
	// noSpace is what the newest Sync came to.
	noSpace bool
	// full: the disk had no room for the last batch, which the log has kept. It
	// is tried again when the shard says so.
	full, retry atomic.Bool
}

// HasWork reports whether Turn would do something.
func (s *Syncer) HasWork() bool {
	return s.err == nil && (!s.full.Load() || s.retry.Load()) && s.shard.log.Pending()
}

// Turn writes and syncs what waits, tells the shard, and reports whether there
// was anything. A full disk is tried again later. After any other error the
// shard stops, and Turn does nothing more: what the log says after a failed sync
// cannot be believed.
func (s *Syncer) Turn() bool {
	if !s.Sync() {
		return false
	}
	s.Tell()
	return true
}

// Sync is the first half of Turn. Tell must follow before the next Sync. The shard
// may take turns between the two, as it does while a disk works: what it writes
// then is not covered.
func (s *Syncer) Sync() bool {
	if !s.HasWork() {
		return false
	}
	s.retry.Store(false)
	acks, err := s.shard.log.Sync(s.acks[:0])
	s.acks = acks
	s.noSpace = errors.Is(err, wal.ErrNoSpace)
	s.full.Store(s.noSpace)
	if !s.noSpace {
		s.err = err
	}
	return true
}

// Tell is the second half of Turn: it tells the shard what came of Sync.
func (s *Syncer) Tell() { s.shard.inbox.synced(s.acks, s.noSpace, s.err) }

// fetchJob is entries that a core wants back from disk.
type fetchJob struct {
	group   *group
	want    raft.Fetch
	entries []smr.Entry
	err     error
}

// Fetcher reads old entries back from the log, for followers that lag behind and
// for state machines that do. Turn is called by one goroutine at a time.
type Fetcher struct {
	shard *Shard
	wake  func()

	mu    sync.Mutex
	queue []*fetchJob

	taken []*fetchJob // owned by Turn
}

func (f *Fetcher) push(job *fetchJob) {
	f.mu.Lock()
	f.queue = append(f.queue, job)
	f.mu.Unlock()
	f.wake()
}

// HasWork reports whether Turn would do something.
func (f *Fetcher) HasWork() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.queue) > 0
}

// Turn reads what is wanted, hands it to the shard, and reports whether there
// was anything.
func (f *Fetcher) Turn() bool {
	f.mu.Lock()
	f.taken, f.queue = f.queue, f.taken[:0]
	f.mu.Unlock()
	for i, job := range f.taken {
		f.taken[i] = nil
		job.entries, job.err = f.shard.log.Read(job.group.id, job.want.First, job.want.Last, job.want.BytesMax, nil)
		f.shard.inbox.put(func(l *letters) { l.fetched = append(l.fetched, job) })
	}
	return len(f.taken) > 0
}
