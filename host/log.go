package host

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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

// fetched hands the core what was read back for it. What is damaged, or cannot be
// read, stays so: the core asks again, but an operator must know, and where others
// have what is lost here, they go on without this replica. If it is wanted for the
// state machine, that can never go on, and the replica stops. If it is wanted for a
// follower, another voter that has it is to lead.
func (g *group) fetched(now smr.Instant, job *fetchJob) {
	if err := job.err; damage(err) {
		g.damaged(now, job.want.To, err)
		if errors.Is(err, smr.ErrCorrupt) && job.want.To == g.shard.id {
			g.fail(err)
			return
		}
		g.giveAway(now, job)
	}
	g.guard(func() { g.core.Fetched(job.want.To, job.entries, job.err) })
}

// damage reports whether a read failed because of what is on disk. Entries that
// were compacted or truncated since are not damaged, and a log that has failed or
// is closed says so by itself.
func damage(err error) bool {
	return err != nil && !errors.Is(err, wal.ErrCompacted) && !errors.Is(err, wal.ErrUnavailable) &&
		!errors.Is(err, wal.ErrFailed) && !errors.Is(err, wal.ErrClosed)
}

// damagedEvery is how often an operator is told that the same group's log cannot
// be read.
const damagedEvery = time.Minute

func (g *group) damaged(now smr.Instant, to smr.ReplicaID, err error) {
	s := g.shard
	s.metrics.damagedReads.Add(1)
	if g.damagedAt != 0 && now.Sub(g.damagedAt) < damagedEvery {
		return
	}
	g.damagedAt = now
	s.cfg.Logger.Error("the log is damaged: entries that were synced do not come back; run quorate check and replace this replica",
		"group", g.id, "wanted_by", to.String(), "err", err)
}

// giveAway hands leadership to the voter that has most of what this leader cannot
// read any more, if there is one. It is tried anew after a while only: proposals
// wait meanwhile.
func (g *group) giveAway(now smr.Instant, job *fetchJob) {
	const pause = 10 // election timeouts
	st := g.core.Status()
	if st.Role != raft.Leader || g.gaveAwayAt != 0 && now.Sub(g.gaveAwayAt) < pause*g.shard.cfg.ElectionTimeout {
		return
	}
	lost := job.want.First
	if c := (*wal.CorruptionError)(nil); errors.As(job.err, &c) && len(c.Lost) > 0 {
		lost = max(lost, c.Lost[0].First)
	}
	var best raft.ProgressStatus
	for _, p := range st.Progress {
		voter := slices.Contains(st.Configuration.Members, smr.Member{ID: p.ID, Role: smr.Voter})
		if voter && p.ID != g.shard.id && p.Active && p.Match >= lost && p.Match > best.Match {
			best = p
		}
	}
	if best.ID == 0 {
		return
	}
	g.gaveAwayAt = now
	g.guard(func() {
		if err := g.core.Transfer(now, best.ID); err == nil {
			g.shard.cfg.Logger.Warn("leadership is handed over because of the damage", "group", g.id, "to", best.ID.String())
		}
	})
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
