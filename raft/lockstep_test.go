package raft

import (
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
)

// lockstep is a group whose messages arrive at once and whose disks are as fast
// as memory: for benchmarks, and for tests that count round trips.
type lockstep struct {
	t     testing.TB
	now   smr.Instant
	cores []*Raft
	outs  []Output
	down  []bool
	// keep[i]: replica i's writes are not acknowledged.
	keep    []bool
	applied []uint64
	logs    [][]smr.Entry // what has been handed out, if record is set
	record  bool
	reads   []ReadReady
	failed  []uint64
	fetches []Fetch
	rounds  int
	sent    map[MessageType]int
	drop    func(m *Message) bool
}

func newLockstep(t testing.TB, n int, change func(*Config, *Start), opts ...Option) *lockstep {
	l := &lockstep{
		t: t, cores: make([]*Raft, n), outs: make([]Output, n), down: make([]bool, n), keep: make([]bool, n),
		applied: make([]uint64, n), logs: make([][]smr.Entry, n), sent: map[MessageType]int{},
	}
	var ids []smr.ReplicaID
	for i := range n {
		ids = append(ids, smr.ReplicaID(i+1))
	}
	for i := range n {
		cfg := Config{Group: test, ID: ids[i], Seed: uint64(i + 1), ElectionTimeout: 100 * time.Millisecond}
		var start Start
		start.Snapshot.Configuration = voters(ids...)
		if change != nil {
			change(&cfg, &start)
		}
		r, err := New(cfg, start, 0, opts...)
		if err != nil {
			t.Fatal(err)
		}
		l.cores[i] = r
	}
	return l
}

// turn lets each replica Take once, and delivers what comes out. It reports
// whether there was anything.
func (l *lockstep) turn() (busy bool) {
	for i, r := range l.cores {
		if l.down[i] {
			continue
		}
		out := &l.outs[i]
		r.Take(out)
		if out.Append.Seq > 0 && !l.keep[i] {
			r.Persisted(out.Append.Seq)
			busy = true
		}
		if n := len(out.Committed); n > 0 {
			l.applied[i] = out.Committed[n-1].Index
			if l.record {
				l.logs[i] = append(l.logs[i], cloned(out.Committed)...)
			}
			r.Applied(l.applied[i])
			busy = true
		}
		l.reads = append(l.reads, out.Reads...)
		l.failed = append(l.failed, out.ReadsFailed...)
		l.fetches = append(l.fetches, out.Fetches...)
		for k := range out.Messages {
			busy = true
			m := &out.Messages[k]
			to := int(m.To) - 1
			if l.record {
				l.sent[m.Type]++
			}
			if to < len(l.cores) && !l.down[to] && (l.drop == nil || !l.drop(m)) {
				l.cores[to].Step(l.now, m)
			}
		}
	}
	l.rounds++
	return busy
}

// settle takes turns until nothing moves.
func (l *lockstep) settle() {
	l.t.Helper()
	for range 10000 {
		if !l.turn() {
			return
		}
	}
	l.t.Fatal("the group does not come to rest")
}

// pass lets time go by, in steps of one deadline each.
func (l *lockstep) pass(d time.Duration) {
	end := l.now + smr.Instant(d)
	for {
		next := end
		for i, r := range l.cores {
			if !l.down[i] {
				next = min(next, r.Deadline())
			}
		}
		l.now = max(l.now, next)
		for i, r := range l.cores {
			if !l.down[i] {
				r.Tick(l.now)
			}
		}
		l.settle()
		if next >= end {
			return
		}
	}
}

// elect makes replica id the leader.
func (l *lockstep) elect(id smr.ReplicaID) *Raft {
	l.t.Helper()
	r := l.cores[id-1]
	l.now += smr.Instant(time.Second) // nobody has heard of a leader for long
	r.Campaign(l.now)
	l.settle()
	if r.role != Leader {
		l.t.Fatalf("replica %d is a %v after its election", id, r.role)
	}
	return r
}

func (l *lockstep) propose(r *Raft, n, size int) {
	l.t.Helper()
	entries := make([]smr.Entry, n)
	for i := range entries {
		entries[i] = smr.Entry{Kind: smr.KindCommand, Data: make([]byte, size)}
	}
	if err := r.Propose(l.now, entries); err != nil {
		l.t.Fatal(err)
	}
}

// restart replaces replica id by what its disk holds.
func (l *lockstep) restart(id smr.ReplicaID) {
	l.t.Helper()
	old := l.cores[id-1]
	d := disk{hard: old.hard.HardState, snapshot: old.log.snapshot}
	for i := old.log.first; i <= old.log.persisted; i++ {
		d.entries = append(d.entries, *old.log.at(i))
	}
	r, err := New(old.cfg, Start{LogState: d.state(len(d.entries)), Applied: old.log.snapshot.Index}, l.now, Option{off: old.off})
	if err != nil {
		l.t.Fatal(err)
	}
	l.cores[id-1], l.down[id-1], l.logs[id-1], l.applied[id-1] = r, false, nil, old.log.snapshot.Index
}

// withLogs returns a change that gives each replica its log, by terms.
func withLogs(term uint64, logs ...[]uint64) func(*Config, *Start) {
	return func(c *Config, s *Start) {
		configuration := s.Snapshot.Configuration
		s.LogState = stateOf(term, logs[c.ID-1])
		s.Snapshot.Configuration = configuration
	}
}

// termsOf returns the terms of a replica's log.
func termsOf(r *Raft) (terms []uint64) {
	for i := r.log.snapshot.Index + 1; i <= r.log.last; i++ {
		t, _ := r.log.term(i)
		terms = append(terms, t)
	}
	return terms
}
