package raft

import (
	"errors"
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
)

func TestConfigsThatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no id":               func(c *Config) { c.ID = 0 },
		"no group":            func(c *Config) { c.Group = 0 },
		"long heartbeat":      func(c *Config) { c.HeartbeatInterval = 60 * time.Millisecond },
		"negative heartbeat":  func(c *Config) { c.HeartbeatInterval = -1 },
		"negative limit":      func(c *Config) { c.TailBytesMax = -1 },
		"negative timeout":    func(c *Config) { c.ElectionTimeout = -1 },
		"negative in flight":  func(c *Config) { c.InflightBytesMax = -5 },
		"negative read limit": func(c *Config) { c.ReadTicketsMax = -5 },
	} {
		cfg := Config{Group: 1, ID: 1, ElectionTimeout: timeout}
		change(&cfg)
		var start Start
		start.Snapshot.Configuration = voters(1)
		if _, err := New(cfg, start, 0); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStartsThatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*Start){
		"term behind the log":        func(s *Start) { s.HardState.Term = 1 },
		"commit beyond the log":      func(s *Start) { s.HardState.Commit = 5 },
		"applied beyond the log":     func(s *Start) { s.Applied = 5 },
		"applied before the log":     func(s *Start) { s.Snapshot.Index, s.Applied = 2, 1 },
		"last before the snapshot":   func(s *Start) { s.Snapshot.Index = 9 },
		"no runs":                    func(s *Start) { s.Terms = nil },
		"runs that do not begin":     func(s *Start) { s.Terms[0].First = 2 },
		"runs that descend":          func(s *Start) { s.Terms[1].Term = 1 },
		"runs beyond the end":        func(s *Start) { s.Terms[1].First = 5 },
		"tail of another term":       func(s *Start) { s.Tail[3].Term = 3 },
		"tail of another index":      func(s *Start) { s.Tail[3].Index = 3 },
		"tail longer than the log":   func(s *Start) { s.Tail = append(s.Tail, s.Tail...) },
		"no members":                 func(s *Start) { s.Snapshot.Configuration = smr.Configuration{} },
		"configuration out of order": func(s *Start) { s.Configurations = []smr.Entry{configurationEntry(9, 2, voters(1))} },
		"not a configuration":        func(s *Start) { s.Configurations = []smr.Entry{entry(2, 1)} },
		"bad configuration":          func(s *Start) { s.Configurations = []smr.Entry{{Index: 2, Term: 1, Kind: smr.KindConfiguration}} },
	} {
		var start Start
		start.LogState = stateOf(2, []uint64{1, 1, 2, 2})
		start.Snapshot.Configuration = voters(1, 2, 3)
		change(&start)
		if _, err := New(Config{Group: 1, ID: 1}, start, 0); !errors.Is(err, ErrStart) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A restart keeps term and vote, hands out again what the state machine has not
// kept, and fetches what is not in the tail.
func TestRestart(t *testing.T) {
	s := newSingle(t, 3, 4, []uint64{1, 1, 2, 2, 4, 4}, func(c *Config, st *Start) {
		st.HardState = smr.HardState{Term: 4, Vote: 3, Commit: 5}
		st.Tail = st.Tail[4:] // 5 and 6
		st.Applied = 1
		c.CommittedBytesMax = 2 * smr.EntryOverhead
	})
	s.want("fetch", Output{Fetches: []Fetch{{To: 1, First: 2, Last: 4, BytesMax: 160}}})
	s.want("one fetch at a time", Output{})
	s.Fetched(1, nil, errors.New("busy"))
	s.want("not again at once", Output{})
	s.Tick(s.Deadline())
	s.want("fetch again", Output{Fetches: []Fetch{{To: 1, First: 2, Last: 4, BytesMax: 160}}})
	s.Fetched(1, entriesOf(2, 1, 2), nil)
	s.want("fetched entries", Output{Committed: entriesOf(2, 1, 2), More: true})
	s.want("fetch", Output{Fetches: []Fetch{{To: 1, First: 4, Last: 4, BytesMax: 160}}})
	s.Fetched(1, entriesOf(4, 1), nil)
	s.want("entries that are not those of the log are not taken", Output{Fetches: []Fetch{{To: 1, First: 4, Last: 4, BytesMax: 160}}})
	s.Fetched(1, entriesOf(4, 2), nil)
	s.want("fetched", Output{Committed: entriesOf(4, 2), More: true})
	s.want("from the tail", Output{Committed: entriesOf(5, 4)})
	s.step(at(500), Message{Type: MsgVote, From: 2, Term: 4, Index: 9, LogTerm: 4})
	s.want("the vote is remembered", Output{Messages: []Message{{Type: MsgVoteReply, To: 2, Term: 4, Reject: true}}})
}

// What is handed out and not applied is bounded, and so is one Output.
func TestApplyBacklog(t *testing.T) {
	terms := make([]uint64, 20)
	for i := range terms {
		terms[i] = 1
	}
	size := entriesOf(1, 1)[0].Size()
	s := newSingle(t, 3, 1, terms, func(c *Config, st *Start) {
		st.HardState.Commit = 20
		c.CommittedBytesMax, c.ApplyBacklogBytesMax = 3*size, 5*size
	})
	s.want("one output's worth", Output{Committed: entriesOf(1, 1, 1, 1), More: true})
	s.want("up to the backlog", Output{Committed: entriesOf(4, 1, 1)})
	s.want("no more", Output{})
	s.Applied(3)
	s.want("as much as was applied", Output{Committed: entriesOf(6, 1, 1, 1)})
	func() {
		defer func() {
			if e, ok := recover().(*InvariantError); !ok || e.Number != 21 {
				t.Error("Applied beyond what was handed out must be found")
			}
		}()
		s.Applied(9)
	}()
	func() {
		defer func() {
			if e, ok := recover().(*InvariantError); !ok || e.Number != 20 {
				t.Error("a write that was never asked for must be found")
			}
		}()
		s.Persisted(77)
	}()
}

// The tail is bounded; a follower further back is served from disk.
func TestFetchForAFollower(t *testing.T) {
	s := streaming(t, func(c *Config) { c.TailBytesMax = 3 * smr.EntryOverhead })
	for range 5 {
		_ = s.propose(2)
		s.settle(s.now)
		s.step(s.now, Message{Type: MsgAppendReply, From: 2, Term: 1, Index: s.log.last})
		s.settle(s.now)
		s.Applied(s.apply.handed)
	}
	if s.log.bytes() > 3*smr.EntryOverhead || s.log.first != 9 {
		t.Fatalf("the tail holds [%d, %d) of %d bytes", s.log.first, s.log.next, s.log.bytes())
	}
	s.Unreachable(at(0), 3)
	s.take()
	if o := s.take(); len(o.Messages)+len(o.Fetches) != 0 {
		t.Fatalf("one probe at a time: %+v", o)
	}
	s.step(s.now, Message{Type: MsgAppendReply, From: 3, Term: 1, Index: 1})
	s.want("fetch", Output{Fetches: []Fetch{{To: 3, First: 2, Last: 8, BytesMax: 1 << 20}}})
	if p := s.Status().Progress[2]; p.State != "fetch" {
		t.Errorf("state %q", p.State)
	}
	var old []smr.Entry
	for i := uint64(2); i <= 8; i++ {
		old = append(old, smr.Entry{Index: i, Term: 1})
	}
	s.Fetched(3, old[:4], nil)
	o := s.take()
	if a := ofType(o, MsgAppend); len(a) != 1 || a[0].Index != 1 || len(a[0].Entries) != 4 || len(o.Fetches) != 1 || o.Fetches[0].First != 6 {
		t.Fatalf("sent from disk, and on to the next: %+v", o)
	}
	s.Fetched(3, nil, errors.New("busy"))
	if o = s.take(); len(o.Fetches) != 0 {
		t.Fatal("asked again at once")
	}
	s.Tick(s.Deadline())
	if o = s.take(); len(o.Fetches) != 1 {
		t.Fatal("not asked again with the heartbeat")
	}
	s.Fetched(3, old[4:], nil)
	o = s.take()
	if a := ofType(o, MsgAppend); len(a) != 2 || a[1].Index != 8 || len(a[1].Entries) != 3 {
		t.Fatalf("the rest from disk, then from memory: %+v", o)
	}
}

// A log that is compacted; a follower that needs the snapshot; one that gets it.
func TestSnapshot(t *testing.T) {
	l := newLockstep(t, 3, nil, Paranoid())
	l.record = true
	r := l.elect(1)
	l.down[2] = true
	l.propose(r, 10, 8)
	l.settle()
	if err := r.Compact(12); !errors.Is(err, ErrNotApplied) {
		t.Errorf("compacting what is not there: %v", err)
	}
	meta, err := r.SnapshotMeta(8)
	if err != nil || meta.Index != 8 || meta.Term != 1 || len(meta.Configuration.Members) != 3 {
		t.Fatal(meta, err)
	}
	if err := r.Compact(8); err != nil {
		t.Fatal(err)
	}
	if err := r.Compact(7); !errors.Is(err, ErrCompacted) {
		t.Errorf("compacting twice: %v", err)
	}
	if s := r.State(); s.First != 9 || s.Last != 11 {
		t.Errorf("%+v", s)
	}
	// Replica 3 has nothing.
	l.cores[2], _ = New(l.cores[2].cfg, Start{LogState: smr.LogState{Snapshot: smr.SnapshotMeta{Configuration: voters(1, 2, 3)}}}, l.now, Paranoid())
	l.down[2] = false
	asked := 0
	for range 20 {
		l.pass(r.cfg.HeartbeatInterval / 2)
		asked += len(l.outs[0].Snapshots)
		if r.members.peer(3).state == snapshotting {
			break
		}
	}
	if p := r.Status().Progress[2]; p.State != "snapshot" || l.sent[MsgSnapshot] != 1 {
		t.Fatalf("%+v, %d messages", p, l.sent[MsgSnapshot])
	}
	c := l.cores[2]
	if !c.Restored(l.now, meta) {
		t.Fatal("the snapshot is not wanted")
	}
	out := &l.outs[2]
	c.Take(out)
	if out.Restore == nil || out.Restore.Index != 8 || out.Append.Seq == 0 || out.Append.HardState.Commit != 8 {
		t.Fatalf("%+v", out)
	}
	if c.Restored(l.now, meta) {
		t.Error("the same snapshot again")
	}
	c.Persisted(out.Append.Seq)
	r.SnapshotDone(3, 8, true)
	l.pass(2 * r.cfg.HeartbeatInterval)
	if c.hard.Commit != 11 || l.applied[2] != 11 {
		t.Errorf("%+v", c.State())
	}
	// A snapshot that failed is asked for again, with the next heartbeat.
	r.members.peer(3).state = snapshotting
	r.SnapshotDone(3, 0, false)
	if p := r.members.peer(3); p.state != probing || !p.paused {
		t.Errorf("%+v", p)
	}
}

// Raft Figure 13: "If existing log entry has same index and term as snapshot's
// last included entry, retain log entries following it".
func TestSnapshotOfWhatTheLogHas(t *testing.T) {
	s := newSingle(t, 3, 1, []uint64{1, 1, 1}, nil)
	if s.Restored(at(1), smr.SnapshotMeta{Index: 2, Term: 1, Configuration: voters(1, 2, 3)}) {
		t.Error("the log has it all")
	}
	s.want("applied from the log", Output{Committed: entriesOf(1, 1, 1)})
}

func TestSwitches(t *testing.T) {
	if _, err := Without("pre-vote", "gravity"); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
	seen := map[switches]bool{}
	for _, s := range Switches() {
		o, err := Without(s.Name)
		if err != nil || o.off == 0 || seen[o.off] || s.Meaning == "" {
			t.Errorf("%+v: %v, %v", s, o, err)
		}
		seen[o.off] = true
	}
	o, _ := Without("own-term-config", "pre-vote")
	if !o.off.has(offOwnTermConfig) || !o.off.has(offPreVote) || o.off.has(offSync) {
		t.Errorf("%b", o.off)
	}
}

// Poison finds whoever keeps a slice of an Output.
func TestPoison(t *testing.T) {
	s := streaming(t, nil)
	_ = s.propose(2)
	var out Output
	s.Take(&out)
	messages, entries := out.Messages, out.Append.Entries
	if len(messages) != 2 || entries[1].Index != 3 {
		t.Fatalf("%+v", out)
	}
	s.Take(&out)
	if messages[0].Type != 255 || entries[1].Index != poisonIndex {
		t.Error("an Output outlives the next Take")
	}
	if e := s.log.at(3); e.Index != 3 {
		t.Error("the log itself is poisoned")
	}
}

// "Data is valid until the next Take, but for that of Committed, which is valid
// until Applied. Then the core uses that memory again." What has left the tail
// is poisoned then, and not before.
func TestPoisonedData(t *testing.T) {
	l := newLockstep(t, 1, func(c *Config, _ *Start) { c.TailBytesMax = 1 }, Poison(), Paranoid())
	r := l.elect(1)
	out := &l.outs[0]
	l.propose(r, 4, chunkDataMax)
	r.Take(out)
	written := out.Append.Entries[0].Data
	r.Persisted(out.Append.Seq)
	r.Take(out)
	committed := out.Committed[0].Data
	if len(committed) != chunkDataMax {
		t.Fatalf("%d bytes", len(committed))
	}
	l.propose(r, 8, chunkDataMax) // enough to begin another chunk
	r.Take(out)
	r.Persisted(out.Append.Seq)
	r.Take(out)
	if committed[0] == poisonByte {
		t.Fatal("committed Data is used again before it is applied")
	}
	r.Applied(r.apply.handed)
	if r.log.first <= 5 || committed[0] == poisonByte {
		t.Fatalf("the tail begins at %d; Data is used again before Take", r.log.first)
	}
	r.Take(out)
	if committed[0] != poisonByte || written[0] != poisonByte {
		t.Error("Data outlives its entry")
	}
}

// Data that is slow to be applied is left to whoever applies it, however much of
// the log has gone by.
func TestDataOfASlowMachine(t *testing.T) {
	l := newLockstep(t, 1, func(c *Config, _ *Start) { c.TailBytesMax, c.ApplyBacklogBytesMax = 1, 1 }, Poison(), Paranoid())
	r := l.elect(1)
	out := &l.outs[0]
	l.propose(r, 1, chunkDataMax)
	var lent []smr.Entry
	for len(lent) == 0 {
		r.Take(out)
		r.Persisted(out.Append.Seq)
		lent = append(lent, out.Committed...)
	}
	data := lent[len(lent)-1].Data
	for range 64 {
		l.propose(r, 1, chunkDataMax)
		r.Take(out)
		r.Persisted(out.Append.Seq)
	}
	if r.log.first <= lent[len(lent)-1].Index || len(r.log.arena.chunks) > 16 {
		t.Fatalf("the tail begins at %d, its Data is in %d chunks", r.log.first, len(r.log.arena.chunks))
	}
	if len(data) != chunkDataMax || data[0] != 0 {
		t.Error("Data is used again before it is applied")
	}
}

// After all have crashed nobody leads: replicas that begin eagerly elect one of
// them within half a timeout, although the first that stands has nobody to talk to
// yet. One that restarts alone does not disturb its leader, since it asks for
// pre-votes, and whoever hears the leader refuses (thesis §9.6).
func TestEagerStart(t *testing.T) {
	for seed := range uint64(50) {
		l := newLockstep(t, 3, func(c *Config, _ *Start) { c.EagerStart, c.Seed = true, 3*seed+uint64(c.ID) })
		for i, r := range l.cores {
			if d := r.Deadline().Sub(0); d < timeout/4 || d >= timeout/4+timeout/8 {
				t.Fatalf("replica %d stands in %v", i+1, d)
			}
		}
		// The others begin when the first has stood in vain.
		l.down[1], l.down[2] = true, true
		l.pass(timeout / 2)
		l.down[1], l.down[2] = false, false
		led := func() *Raft {
			for _, r := range l.cores {
				if r.role == Leader {
					return r
				}
			}
			return nil
		}
		for began := l.now; led() == nil; l.pass(time.Millisecond) {
			if l.now.Sub(began) > timeout/2 {
				t.Fatalf("seed %d: no leader %v after the second one began", seed, l.now.Sub(began))
			}
		}
		r := led()
		term := r.hard.Term
		l.pass(2 * timeout)
		other := smr.ReplicaID(1)
		if r.cfg.ID == other {
			other = 2
		}
		l.restart(other)
		l.pass(2 * timeout)
		if r.role != Leader || r.hard.Term != term {
			t.Fatalf("seed %d: a replica that restarted has deposed its leader: %+v", seed, r.State())
		}
	}
}
