package host

import (
	"sync"

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
}

// HasWork reports whether Turn would do something.
func (s *Syncer) HasWork() bool { return s.err == nil && s.shard.log.Pending() }

// Turn writes and syncs what waits, tells the shard, and reports whether there
// was anything. After an error the shard stops, and Turn does nothing more: what
// the log says after a failed sync cannot be believed.
func (s *Syncer) Turn() bool {
	if !s.HasWork() {
		return false
	}
	s.acks, s.err = s.shard.log.Sync(s.acks[:0])
	s.shard.inbox.acked(s.acks, s.err)
	return true
}

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
