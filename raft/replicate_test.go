package raft

import (
	"errors"
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
)

// Raft Figure 7: "When the leader at the top comes to power, it is possible that
// any of scenarios (a-f) could occur in follower logs."
//
//	index   1 2 3 4 5 6 7 8 9 10 11 12
//	leader  1 1 1 4 4 5 5 6 6 6
//	(a)     1 1 1 4 4 5 5 6 6
//	(b)     1 1 1 4
//	(c)     1 1 1 4 4 5 5 6 6 6  6
//	(d)     1 1 1 4 4 5 5 6 6 6  7  7
//	(e)     1 1 1 4 4 4 4
//	(f)     1 1 1 2 2 2 3 3 3 3  3
func TestFigure7(t *testing.T) {
	for _, without := range []string{"", "conflict-hint"} {
		var opts []Option
		if without != "" {
			o, _ := Without(without)
			opts = append(opts, o)
		}
		l := newLockstep(t, 7, withLogs(7,
			[]uint64{1, 1, 1, 4, 4, 5, 5, 6, 6, 6},
			[]uint64{1, 1, 1, 4, 4, 5, 5, 6, 6},
			[]uint64{1, 1, 1, 4},
			[]uint64{1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6},
			[]uint64{1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7},
			[]uint64{1, 1, 1, 4, 4, 4, 4},
			[]uint64{1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3},
		), append(opts, Paranoid())...)
		l.record = true
		rejects := map[smr.ReplicaID]int{}
		l.drop = func(m *Message) bool {
			if m.Type == MsgAppendReply && m.Reject {
				rejects[m.From]++
			}
			return false
		}
		l.elect(1)
		for i, r := range l.cores {
			if got, want := sprint(termsOf(r)), "[1 1 1 4 4 5 5 6 6 6 8]"; got != want {
				t.Errorf("replica %d: log %s, want %s", i+1, got, want)
			}
			if len(l.logs[i]) != 11 || sprint(l.logs[i]) != sprint(l.logs[0]) {
				t.Errorf("replica %d has applied %v", i+1, l.logs[i])
			}
		}
		// (c) and (d) match at once: what they have too much is cut off.
		want := "map[2:1 3:1 6:2 7:1]"
		if without != "" {
			want = "map[2:1 3:6 6:5 7:7]"
		}
		if got := sprint(rejects); got != want {
			t.Errorf("without %q: rejections %s, want %s", without, got, want)
		}
	}
}

// Raft §5.3: "With this optimization, one AppendEntries RPC will be required for
// each term with conflicting entries, rather than one RPC per entry."
func TestRepairTakesRoundTripsInTerms(t *testing.T) {
	const run = 100
	for terms := 1; terms <= 6; terms++ {
		mine, other := []uint64{1}, []uint64{1}
		for k := range terms {
			for range run {
				mine = append(mine, uint64(2*k+3))
				other = append(other, uint64(2*k+2))
			}
		}
		count := func(opts ...Option) (rejects int) {
			l := newLockstep(t, 3, withLogs(50, mine, other, mine), opts...)
			l.drop = func(m *Message) bool {
				if m.From == 2 && m.Type == MsgAppendReply && m.Reject {
					rejects++
				}
				return false
			}
			l.elect(1)
			if sprint(termsOf(l.cores[1])) != sprint(termsOf(l.cores[0])) {
				t.Error("the logs have not converged")
			}
			return rejects
		}
		if n := count(); n > terms {
			t.Errorf("%d conflicting terms: %d round trips", terms, n)
		}
		off, _ := Without("conflict-hint")
		if n := count(off); n != terms*run {
			t.Errorf("without the hint, %d conflicting entries: %d round trips", terms*run, n)
		}
	}
}

// Raft Figure 8, as drawn: "A time sequence showing why a leader cannot determine
// commitment using log entries from older terms."
func TestFigure8(t *testing.T) {
	play := func(opts ...Option) (s1commit uint64, l *lockstep) {
		one := []uint64{1}
		logs := withLogs(1, one, one, one, one, one)
		l = newLockstep(t, 5, func(c *Config, s *Start) { logs(c, s); c.AppendEntriesMax = 1 }, opts...)
		l.record = true
		holds := func(m *Message, index uint64) bool {
			return m.Type == MsgAppend && len(m.Entries) > 0 && m.Entries[0].Index >= index
		}
		// (a) S1 is leader and partially replicates the log entry at index 2.
		l.drop = func(m *Message) bool { return holds(m, 2) && m.To != 2 }
		l.elect(1)
		// (b) S1 crashes; S5 is elected leader for term 3 with votes from S3,
		// S4, and itself, and accepts a different entry at log index 2.
		l.down[0] = true
		l.drop = func(m *Message) bool { return holds(m, 2) || m.To == 2 }
		l.elect(5)
		// (c) S5 crashes; S1 restarts, is elected leader, and continues
		// replication. The log entry from term 2 is on a majority, but it is
		// not committed.
		l.down[4] = true
		l.restart(1)
		l.cores[0].becomeFollower(3, 0) // it has heard of term 3
		l.drop = func(m *Message) bool {
			if m.To == 3 && l.cores[2].log.last == 1 {
				return false // does not match, and so asks for what is missing
			}
			if m.To == 2 && holds(m, 3) {
				m.Entries = nil // the leader learns what S2 has, S2 gets no more
			}
			return holds(m, 3) || m.To == 4 && holds(m, 2) || m.Type == MsgHeartbeat && m.Commit > 1
		}
		l.elect(1)
		if got := sprint(termsOf(l.cores[0]), termsOf(l.cores[1]), termsOf(l.cores[2]), termsOf(l.cores[3]), termsOf(l.cores[4])); got != "[1 2 4] [1 2] [1 2] [1] [1 3]" {
			t.Fatalf("(c) is not as drawn: %s", got)
		}
		return l.cores[0].hard.Commit, l
	}

	commit, l := play()
	if commit != 0 {
		t.Fatalf("(c): S1 has committed up to %d", commit)
	}
	// (d) If S1 crashes, S5 could be elected leader (with votes from S2, S3, and
	// S4) and overwrite the entry with its own entry from term 3.
	l.down[0] = true
	l.drop = nil
	l.restart(5)
	l.cores[4].becomeFollower(4, 0)
	l.elect(5)
	l.restart(1)
	l.pass(timeout)
	for i, r := range l.cores {
		if got := sprint(termsOf(r)); got != "[1 3 5]" {
			t.Errorf("(d): the log of S%d is %s", i+1, got)
		}
	}

	// (e) However, if S1 replicates an entry from its current term on a majority
	// of the servers before crashing, then this entry is committed (S5 cannot
	// win an election).
	_, l = play()
	l.drop = func(m *Message) bool { return m.To >= 4 }
	l.pass(timeout / 2)
	if l.cores[0].hard.Commit != 3 {
		t.Fatalf("(e): S1 has committed up to %d", l.cores[0].hard.Commit)
	}
	l.down[0], l.drop = true, nil
	l.restart(5)
	l.cores[4].becomeFollower(4, 0)
	l.now += smr.Instant(time.Second)
	l.cores[4].Campaign(l.now)
	l.settle()
	if l.cores[4].role == Leader {
		t.Error("(e): S5 wins an election")
	}

	// Without the rule, S1 commits in (c) what S5 overwrites in (d).
	off, _ := Without("own-term-commit")
	commit, l = play(off)
	if commit != 2 || len(l.logs[0]) != 2 || l.logs[0][1].Term != 2 {
		t.Fatalf("without own-term-commit, (c): S1 has committed up to %d: %v", commit, l.logs[0])
	}
	l.down[0], l.drop = true, nil
	l.restart(5)
	l.cores[4].becomeFollower(4, 0)
	l.elect(5)
	if len(l.logs[4]) < 2 || l.logs[4][1].Term != 3 {
		t.Errorf("without own-term-commit, (d): the committed entry must be lost: %v", l.logs[4])
	}
}

// An acknowledgement by (index, term) would take the first write of an entry for
// its second. Entry (2, 1) is written, overwritten by (2, 2), and written again.
func TestNumberedWritesHaveNoABA(t *testing.T) {
	s := newSingle(t, 5, 1, []uint64{1}, nil)
	append2 := func(now int, from smr.ReplicaID, term, entryTerm uint64) uint64 {
		s.step(at(now), Message{Type: MsgAppend, From: from, Term: term, Index: 1, LogTerm: 1, Entries: entriesOf(2, entryTerm)})
		return s.take().Append.Seq
	}
	w1 := append2(10, 2, 1, 1)
	w2 := append2(20, 3, 2, 2)
	w3 := append2(30, 4, 3, 1)
	if w1 != 1 || w2 != 2 || w3 != 3 {
		t.Fatalf("writes %d, %d, %d", w1, w2, w3)
	}
	s.Persisted(w1)
	s.Persisted(w2)
	if s.State().Persisted != 1 {
		t.Fatalf("persisted %d after the writes of what is overwritten", s.State().Persisted)
	}
	if o := s.take(); len(o.Messages) != 0 {
		t.Fatalf("acknowledged too early: %+v", o.Messages)
	}
	s.Persisted(w3)
	s.want("acknowledged", Output{Messages: []Message{{Type: MsgAppendReply, To: 4, Term: 3, Index: 2}}})
}

// Acknowledgements of a turn are one, of what is persisted, and messages may be
// doubled and reordered.
func TestFollowerAcknowledgesWhatIsPersisted(t *testing.T) {
	s := newSingle(t, 3, 1, nil, nil)
	a := Message{Type: MsgAppend, From: 2, Term: 1, Entries: entriesOf(1, 1, 1)}
	b := Message{Type: MsgAppend, From: 2, Term: 1, Index: 2, LogTerm: 1, Entries: entriesOf(3, 1), Commit: 3}
	s.step(at(1), a)
	w1 := s.want("first write", Output{Changed: true, Append: Append{Entries: entriesOf(1, 1, 1)}})
	s.step(at(2), b)
	w2 := s.want("second write", Output{Append: Append{Entries: entriesOf(3, 1)}})
	s.step(at(3), a)
	s.want("a repetition of what is not on disk", Output{})
	s.Persisted(w1)
	// Promise 3: Committed never runs ahead of what is persisted.
	s.want("first acknowledgement", Output{Committed: entriesOf(1, 1, 1), Messages: []Message{{Type: MsgAppendReply, To: 2, Term: 1, Index: 2}}})
	s.Persisted(w2)
	s.want("second acknowledgement", Output{Committed: entriesOf(3, 1), Messages: []Message{{Type: MsgAppendReply, To: 2, Term: 1, Index: 3}}})
	s.step(at(4), b)
	s.step(at(4), a)
	s.want("one answer to repetitions", Output{Messages: []Message{{Type: MsgAppendReply, To: 2, Term: 1, Index: 3}}})
	s.step(at(5), Message{Type: MsgAppend, From: 2, Term: 1, Index: 5, LogTerm: 1, Entries: entriesOf(6, 1)})
	s.want("a gap", Output{Messages: []Message{{Type: MsgAppendReply, To: 2, Term: 1, Index: 5, Reject: true, ConflictIndex: 4}}})
}

// Raft Figure 2: "If leaderCommit > commitIndex, set commitIndex =
// min(leaderCommit, index of last new entry)". The follower's log is longer than
// the append, and what is beyond it conflicts with the leader's.
func TestCommitIsNotBeyondTheLastNewEntry(t *testing.T) {
	s := newSingle(t, 3, 3, []uint64{1, 1, 2, 2, 2}, nil)
	s.step(at(1), Message{Type: MsgAppend, From: 2, Term: 3, Index: 1, LogTerm: 1, Entries: entriesOf(2, 1), Commit: 5})
	if s.hard.Commit != 2 {
		t.Errorf("commit index %d, want 2", s.hard.Commit)
	}
	s.step(at(1), Message{Type: MsgAppend, From: 2, Term: 3, Index: 1, LogTerm: 1, Commit: 5})
	s.step(at(1), Message{Type: MsgHeartbeat, From: 2, Term: 3, Commit: 5, Round: 1})
	if s.hard.Commit != 2 {
		t.Errorf("commit index %d after a heartbeat, want 2", s.hard.Commit)
	}
	s.step(at(1), Message{Type: MsgAppend, From: 2, Term: 3, Index: 2, LogTerm: 1, Entries: entriesOf(3, 3), Commit: 5})
	if got := sprint(termsOf(s.Raft)); got != "[1 1 3]" || s.hard.Commit != 3 {
		t.Errorf("log %s, commit index %d", got, s.hard.Commit)
	}
}

// streaming returns a leader of three whose followers have acknowledged the
// empty entry, at index 1.
func streaming(t *testing.T, change func(*Config), opts ...Option) *single {
	s := newSingle(t, 3, 0, nil, func(c *Config, _ *Start) {
		if change != nil {
			change(c)
		}
	}, opts...)
	s.elect(at(1000))
	for id := smr.ReplicaID(2); id <= 3; id++ {
		s.step(at(1000), Message{Type: MsgAppendReply, From: id, Term: 1, Index: 1})
	}
	s.settle(at(1000))
	s.Applied(1)
	return s
}

func (s *single) propose(n int) error {
	return s.Propose(s.now, make([]smr.Entry, n))
}

// Proposals of one turn are one write and one message to each follower.
func TestProposalsOfATurnShareOneMessage(t *testing.T) {
	s := streaming(t, nil)
	var want []smr.Entry
	for i := range 64 {
		e := []smr.Entry{{Kind: smr.KindCommand, Request: uint64(i)}}
		if err := s.Propose(s.now, e); err != nil {
			t.Fatal(err)
		}
		want = append(want, e...)
	}
	w := hard(1, 1, 1)
	w.Entries = want
	m := Message{Type: MsgAppend, To: 2, Term: 1, Index: 1, LogTerm: 1, Commit: 1, Entries: want}
	m3 := m
	m3.To = 3
	s.want("one message each", Output{Append: w, Messages: []Message{m, m3}})
	off, _ := Without("batching")
	s = streaming(t, nil, off)
	_ = s.propose(64)
	if n := len(ofType(s.take(), MsgAppend)); n != 128 {
		t.Errorf("without batching: %d messages", n)
	}
}

// Appends follow each other within a window of messages and bytes.
func TestWindow(t *testing.T) {
	sent := func(s *single, size int) (n int) {
		for range 20 {
			_ = s.Propose(s.now, []smr.Entry{{Kind: smr.KindCommand, Data: make([]byte, size)}})
			for _, m := range ofType(s.take(), MsgAppend) {
				if m.To == 2 {
					n++
				}
			}
		}
		return n
	}
	s := streaming(t, func(c *Config) { c.InflightMessagesMax = 3 })
	if n := sent(s, 10); n != 3 {
		t.Errorf("%d messages in flight, want 3", n)
	}
	s.step(s.now, Message{Type: MsgAppendReply, From: 2, Term: 1, Index: 3})
	if o := ofType(s.take(), MsgAppend); len(o) != 1 || len(o[0].Entries) != 17 {
		t.Errorf("after two were acknowledged, all that waits goes in one: %+v", o)
	}
	s = streaming(t, func(c *Config) { c.InflightBytesMax = 1000 })
	if n := sent(s, 320); n != 3 { // of 400 bytes: the third one crosses the limit
		t.Errorf("%d messages in flight, want 3", n)
	}
	s = streaming(t, func(c *Config) { c.AppendBytesMax = 1000 })
	_ = s.Propose(s.now, []smr.Entry{{Data: make([]byte, 5000)}, {Data: make([]byte, 320)}, {Data: make([]byte, 320)}, {Data: make([]byte, 320)}})
	var sizes []int
	for _, m := range ofType(s.take(), MsgAppend) {
		if m.To == 2 {
			sizes = append(sizes, len(m.Entries))
		}
	}
	if sprint(sizes) != "[1 2 1]" {
		t.Errorf("appends of %v entries", sizes)
	}
	off, _ := Without("pipelining")
	if n := sent(streaming(t, nil, off), 10); n != 1 {
		t.Errorf("without pipelining: %d messages in flight", n)
	}
}

func TestBusy(t *testing.T) {
	s := streaming(t, func(c *Config) { c.UncommittedBytesMax = 10 * smr.EntryOverhead })
	if err := s.propose(20); err != nil {
		t.Fatalf("a batch of any size is taken if nothing else is uncommitted: %v", err)
	}
	if err := s.propose(1); !errors.Is(err, ErrBusy) {
		t.Fatalf("past the limit: %v", err)
	}
	last := s.log.last
	s.settle(s.now)
	s.step(s.now, Message{Type: MsgAppendReply, From: 2, Term: 1, Index: last})
	s.settle(s.now)
	if err := s.propose(10); err != nil {
		t.Fatalf("after the commit: %v", err)
	}
	if err := s.propose(1); !errors.Is(err, ErrBusy) || s.log.last != last+10 {
		t.Fatalf("all or nothing: %v, last %d", err, s.log.last)
	}
	if err := s.Propose(s.now, []smr.Entry{{Kind: smr.KindConfiguration}}); !errors.Is(err, ErrConfiguration) {
		t.Errorf("a configuration: %v", err)
	}
	f := newSingle(t, 3, 1, nil, nil)
	if err := f.propose(1); !errors.Is(err, ErrNotLeader) {
		t.Errorf("at a follower: %v", err)
	}
}

// A lost append is found by the heartbeats: within two of them, and without
// sending anything twice when nothing was lost.
func TestLostAppendIsFoundByHeartbeats(t *testing.T) {
	l := newLockstep(t, 3, nil)
	r := l.elect(1)
	l.record = true
	l.drop = func(m *Message) bool { return m.To == 2 && m.Type == MsgAppend }
	l.propose(r, 5, 8)
	l.settle()
	l.drop = nil
	l.pass(2 * r.cfg.HeartbeatInterval)
	if l.applied[1] != 6 {
		t.Errorf("replica 2 has applied up to %d", l.applied[1])
	}
	appends := l.sent[MsgAppend]
	l.pass(10 * r.cfg.HeartbeatInterval)
	if n := l.sent[MsgAppend] - appends; n != 0 {
		t.Errorf("%d appends of a group at rest", n)
	}
	// Lost answers heal too.
	l.drop = func(m *Message) bool { return m.Type == MsgAppendReply }
	l.propose(r, 5, 8)
	l.pass(2 * r.cfg.HeartbeatInterval)
	if r.hard.Commit != 11 {
		t.Errorf("commit index %d", r.hard.Commit)
	}
}

func TestUnreachableFallsBackToProbing(t *testing.T) {
	s := streaming(t, nil)
	_ = s.propose(3)
	s.take()
	s.Unreachable(at(0), 2)
	o := s.take()
	if a := ofType(o, MsgAppend); len(a) != 1 || a[0].Index != 1 || len(a[0].Entries) != 3 {
		t.Fatalf("a probe from what is acknowledged: %+v", o.Messages)
	}
	_ = s.propose(1)
	for _, m := range ofType(s.take(), MsgAppend) {
		if m.To == 2 {
			t.Error("a second append while probing")
		}
	}
	if p := s.Status().Progress[1]; p.State != "probe" || p.Match != 1 || p.Next != 2 {
		t.Errorf("%+v", p)
	}
	s.Tick(s.Deadline())
	if a := ofType(s.take(), MsgAppend); len(a) != 1 || a[0].To != 2 {
		t.Errorf("the probe is sent again with the heartbeat: %+v", a)
	}
}

// Thesis §10.2.1: "The leader may even commit an entry before it has been written
// to its own disk, if a majority of followers have written it to their disks".
func TestLeaderWritesInParallel(t *testing.T) {
	s := streaming(t, nil)
	_ = s.propose(1)
	o := s.take()
	if len(ofType(o, MsgAppend)) != 2 {
		t.Fatalf("sent before the write: %+v", o.Messages)
	}
	s.step(s.now, Message{Type: MsgAppendReply, From: 2, Term: 1, Index: 2})
	s.step(s.now, Message{Type: MsgAppendReply, From: 3, Term: 1, Index: 2})
	if o = s.take(); s.hard.Commit != 2 || len(o.Committed) != 0 {
		t.Errorf("commit index %d, handed out %v: want committed by the followers, not applied", s.hard.Commit, o.Committed)
	}
	s.Persisted(s.log.seq)
	if o = s.take(); len(o.Committed) != 1 {
		t.Errorf("after the write: %v", o.Committed)
	}
	off, _ := Without("parallel-write")
	s = streaming(t, nil, off)
	_ = s.propose(1)
	if o := s.take(); len(ofType(o, MsgAppend)) != 0 {
		t.Error("without parallel-write: sent before the write")
	}
	s.Persisted(s.log.seq)
	if o := s.take(); len(ofType(o, MsgAppend)) != 2 {
		t.Error("without parallel-write: not sent after the write")
	}
}

// Answers to appends of long ago change nothing.
func TestStaleRejectionsAreIgnored(t *testing.T) {
	s := streaming(t, nil)
	_ = s.propose(4)
	s.take()
	reject := func(index uint64) {
		s.step(s.now, Message{Type: MsgAppendReply, From: 2, Term: 1, Index: index, Reject: true, ConflictIndex: 1})
	}
	for _, index := range []uint64{0, 1, 6, 99} { // match is 1, next 6
		reject(index)
		if p := s.Status().Progress[1]; p.State != "replicate" || p.Next != 6 {
			t.Errorf("a rejection at %d: %+v", index, p)
		}
	}
	reject(5)
	if p := s.Status().Progress[1]; p.State != "probe" || p.Next != 2 {
		t.Errorf("the follower has lost something: %+v", p)
	}
	s.take()
	reject(3)
	if p := s.members.peer(2); !p.paused {
		t.Error("a rejection of another append than the probe sends a second one")
	}
}

// A heartbeat of round zero only tells of a commit.
func TestRoundZeroIsNotAnswered(t *testing.T) {
	s := newSingle(t, 3, 1, []uint64{1}, nil)
	s.step(at(1), Message{Type: MsgAppend, From: 2, Term: 1, Index: 1, LogTerm: 1})
	s.want("acknowledged", Output{Changed: true, Messages: []Message{{Type: MsgAppendReply, To: 2, Term: 1, Index: 1}}})
	s.step(at(2), Message{Type: MsgHeartbeat, From: 2, Term: 1, Commit: 1})
	s.want("committed, without an answer", Output{Committed: entriesOf(1, 1)})
	s.step(at(3), Message{Type: MsgHeartbeat, From: 2, Term: 1, Round: 1, Index: 1, Commit: 1})
	s.want("an answer", Output{Messages: []Message{{Type: MsgHeartbeatReply, To: 2, Term: 1, Round: 1, Index: 1}}})
}

// A state machine that does not keep up does not fill the memory.
func TestTailIsBoundedWithoutApplying(t *testing.T) {
	s := streaming(t, func(c *Config) {
		c.TailBytesMax, c.ApplyBacklogBytesMax = 4*smr.EntryOverhead, 3*smr.EntryOverhead
	})
	for range 50 {
		_ = s.propose(1)
		s.settle(s.now)
		for id := smr.ReplicaID(2); id <= 3; id++ {
			s.step(s.now, Message{Type: MsgAppendReply, From: id, Term: 1, Index: s.log.last})
		}
		s.settle(s.now)
	}
	if n := s.log.bytes(); n > 9*smr.EntryOverhead {
		t.Errorf("%d bytes in memory", n)
	}
	s.Applied(s.apply.handed)
	if o := s.take(); len(o.Fetches) != 1 || o.Fetches[0].First != s.apply.handed+1 {
		t.Errorf("the state machine is served from disk: %+v", o)
	}
}

// "What comes after is wanted in a moment": what has not been sent yet to a follower
// that is streamed to stays in memory, though it is more than TailBytesMax.
func TestTailKeepsWhatIsNotSent(t *testing.T) {
	s := streaming(t, func(c *Config) {
		c.TailBytesMax, c.InflightMessagesMax = 4*smr.EntryOverhead, 2
	})
	for range 20 {
		_ = s.propose(1)
		s.settle(s.now)
		s.step(s.now, Message{Type: MsgAppendReply, From: 2, Term: 1, Index: s.log.last})
		s.settle(s.now)
		s.Applied(s.apply.handed)
	}
	p := s.members.peer(3)
	if p.next+10 > s.log.last || s.log.bytes() <= 4*smr.EntryOverhead {
		t.Fatalf("follower 3 wants %d of %d, %d bytes are held: it is not behind", p.next, s.log.last, s.log.bytes())
	}
	next := p.next
	s.step(s.now, Message{Type: MsgAppendReply, From: 3, Term: 1, Index: next - 1})
	o := s.take()
	if m := ofType(o, MsgAppend); len(o.Fetches) != 0 || len(m) != 1 || m[0].Index != next-1 || len(m[0].Entries) != int(s.log.last+1-next) {
		t.Errorf("the follower is served from memory: %+v", o)
	}
	s.step(s.now, Message{Type: MsgAppendReply, From: 3, Term: 1, Index: s.log.last})
	s.settle(s.now)
	_ = s.propose(1)
	s.settle(s.now)
	if n := s.log.bytes(); n > 4*smr.EntryOverhead {
		t.Errorf("%d bytes are held after everything was sent", n)
	}
}

// "… or a follower by two windows": one that has stopped does not fill the memory,
// and if the cores hold too much together, nothing is kept for it.
func TestTailIsBoundedWithoutSending(t *testing.T) {
	const size = 20_000
	for _, c := range []struct{ shared, want int }{{0, 4 + 2*3}, {size, tailShareMin / size}} {
		s := streaming(t, func(cfg *Config) {
			cfg.TailBytesMax, cfg.InflightBytesMax, cfg.InflightMessagesMax = 4*size, 3*size, 2
			cfg.Memory = &Memory{TailBytesMax: c.shared}
		})
		for range 50 {
			_ = s.Propose(s.now, []smr.Entry{{Data: make([]byte, size-smr.EntryOverhead)}})
			s.settle(s.now)
			s.step(s.now, Message{Type: MsgAppendReply, From: 2, Term: 1, Index: s.log.last})
			s.settle(s.now)
			s.Applied(s.apply.handed)
		}
		if n := s.log.bytes(); n != c.want*size {
			t.Errorf("%d bytes are held for a follower that has stopped, want %d", n, c.want*size)
		}
	}
}
