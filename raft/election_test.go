package raft

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
)

func sprint(v ...any) string { return strings.TrimSuffix(fmt.Sprintln(v...), "\n") }

// Raft §5.4.1: "the voter denies its vote if its own log is more up-to-date than
// that of the candidate", and Figure 2: "If votedFor is null or candidateId,
// and candidate's log is at least as up-to-date as receiver's log, grant vote".
func TestVoteRules(t *testing.T) {
	for _, c := range []struct {
		name       string
		vote       smr.ReplicaID
		index, lt  uint64
		term       uint64
		granted    bool
		wantTerm   uint64
		writesVote bool
	}{
		{"equal logs", 0, 3, 2, 5, true, 5, true},
		{"longer log", 0, 4, 2, 5, true, 5, true},
		{"later last term, shorter log", 0, 1, 3, 5, true, 5, true},
		{"shorter log", 0, 2, 2, 5, false, 5, false},
		{"earlier last term, longer log", 0, 9, 1, 5, false, 5, false},
		{"voted for it before", 2, 3, 2, 5, true, 5, false},
		{"voted for another", 3, 3, 2, 5, false, 5, false},
		{"voted for another in an older term", 3, 3, 2, 6, true, 6, true},
		{"newer term, shorter log: only the term is taken over", 3, 2, 2, 6, false, 6, true},
		{"older term: learns of the newer one", 0, 3, 2, 4, false, 5, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSingle(t, 3, 5, []uint64{1, 2, 2}, func(_ *Config, st *Start) { st.HardState.Vote = c.vote })
			s.step(at(500), Message{Type: MsgVote, From: 2, Term: c.term, Index: c.index, LogTerm: c.lt})
			reply := Message{Type: MsgVoteReply, To: 2, Term: c.wantTerm, Reject: !c.granted}
			if !c.writesVote {
				s.want("reply", Output{Messages: []Message{reply}, Changed: false})
				return
			}
			var vote smr.ReplicaID
			if c.granted {
				vote = 2
			}
			// Raft §5.1, Figure 2: "Updated on stable storage before responding
			// to RPCs".
			seq := s.want("write", Output{Append: hard(c.wantTerm, vote, 0), Changed: c.wantTerm != 5})
			s.want("nothing before it is on disk", Output{})
			s.Persisted(seq)
			s.want("reply", Output{Messages: []Message{reply}})
		})
	}
}

// Thesis §9.6: "a candidate only increments its term if it first learns from a
// majority of the cluster that they would be willing to grant the candidate
// their votes (if the candidate's log is sufficiently up-to-date, and the voters
// have not received heartbeats from a valid leader for at least a baseline
// election timeout)."
func TestPreVoteRules(t *testing.T) {
	for _, c := range []struct {
		name      string
		now       int
		heard     bool
		term      uint64
		index, lt uint64
		granted   bool
	}{
		{"no leader, equal log", 500, false, 6, 3, 2, true},
		{"no leader, old log", 500, false, 6, 2, 2, false},
		{"leader heard just now", 50, true, 6, 3, 2, false},
		{"leader heard 99 ms ago", 99, true, 6, 3, 2, false},
		{"leader heard an election timeout ago", 100, true, 6, 3, 2, true},
		{"term that is over", 500, false, 4, 3, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSingle(t, 3, 5, []uint64{1, 2, 2}, nil)
			if c.heard {
				s.step(at(0), Message{Type: MsgHeartbeat, From: 3, Term: 5})
				s.take()
			}
			before := s.Deadline()
			s.step(at(c.now), Message{Type: MsgPreVote, From: 2, Term: c.term, Index: c.index, LogTerm: c.lt})
			reply := Message{Type: MsgPreVoteReply, To: 2, Term: 5, Reject: true}
			switch {
			case c.granted:
				reply.Term, reply.Reject = c.term, false
			case c.index < 3:
				reply.Index, reply.LogTerm = 3, 2 // the offer of a longer log
			}
			s.want("reply", Output{Messages: []Message{reply}})
			if s.Deadline() != before || s.hard.Term != 5 {
				t.Error("a pre-vote must change nothing")
			}
		})
	}
}

// Thesis §4.2.3: "if a server receives a RequestVote request within the minimum
// election timeout of hearing from a current leader, it does not update its term
// or grant its vote." A transfer is the exception: its requests "can include a
// special flag".
func TestVotesWhileALeaderIsHeard(t *testing.T) {
	for _, force := range []bool{false, true} {
		s := newSingle(t, 3, 5, []uint64{1}, nil)
		s.step(at(0), Message{Type: MsgHeartbeat, From: 3, Term: 5})
		s.take()
		s.step(at(99), Message{Type: MsgVote, From: 2, Term: 6, Index: 9, LogTerm: 5, Force: force})
		if !force {
			s.want("ignored", Output{})
			s.step(at(100), Message{Type: MsgVote, From: 2, Term: 6, Index: 9, LogTerm: 5})
		}
		s.want("vote", Output{Append: hard(6, 2, 0), Changed: true})
	}
	l := newSingle(t, 3, 5, nil, nil)
	l.elect(at(1000))
	l.step(at(1099), Message{Type: MsgPreVote, From: 2, Term: 7, Index: 9, LogTerm: 6})
	l.want("a leader that reaches a quorum refuses", Output{Messages: []Message{{Type: MsgPreVoteReply, To: 2, Term: 6, Reject: true}}})
}

// The whole of an election, output by output.
func TestElection(t *testing.T) {
	s := newSingle(t, 3, 1, []uint64{1}, nil)
	if d := s.Deadline(); d < at(100) || d >= at(200) {
		t.Fatalf("stands at %v, want within [100ms, 200ms)", time.Duration(d))
	}
	s.Tick(s.Deadline() - 1)
	s.want("too early", Output{})
	now := s.Deadline()
	s.Tick(now)
	// The term goes up only after the pre-vote.
	s.want("pre-vote", Output{Changed: true, Messages: []Message{
		{Type: MsgPreVote, To: 2, Term: 2, Index: 1, LogTerm: 1},
		{Type: MsgPreVote, To: 3, Term: 2, Index: 1, LogTerm: 1},
	}})
	s.step(now, Message{Type: MsgPreVoteReply, From: 2, Term: 2})
	// Raft §5.2: "It then votes for itself and issues RequestVote RPCs", and by
	// Figure 2 the vote is on disk first.
	seq := s.want("own vote", Output{Append: hard(2, 1, 0), Changed: true})
	s.step(now, Message{Type: MsgPreVoteReply, From: 3, Term: 2})
	s.want("nothing before it is on disk", Output{})
	s.Persisted(seq)
	s.want("requests", Output{Messages: []Message{
		{Type: MsgVote, To: 2, Term: 2, Index: 1, LogTerm: 1},
		{Type: MsgVote, To: 3, Term: 2, Index: 1, LogTerm: 1},
	}})
	s.step(now, Message{Type: MsgVoteReply, From: 3, Term: 2, Reject: true})
	s.want("one vote for, one against", Output{})
	s.step(now, Message{Type: MsgVoteReply, From: 2, Term: 2})
	empty := []smr.Entry{{Index: 2, Term: 2, Kind: smr.KindEmpty}}
	// Raft §8: "by having each leader commit a blank no-op entry into the log at
	// the start of its term". Sent at once, beside the leader's own write.
	seq = s.want("empty entry", Output{Changed: true, Append: Append{Entries: empty}, Messages: []Message{
		{Type: MsgAppend, To: 2, Term: 2, Index: 1, LogTerm: 1, Entries: empty},
		{Type: MsgAppend, To: 3, Term: 2, Index: 1, LogTerm: 1, Entries: empty},
	}})
	s.step(now, Message{Type: MsgAppendReply, From: 2, Term: 2, Index: 2})
	s.want("one disk of three is no quorum", Output{})
	s.Persisted(seq)
	s.want("committed", Output{
		Committed: append(entriesOf(1, 1), empty...),
		Messages:  []Message{{Type: MsgHeartbeat, To: 2, Term: 2, Commit: 2}},
	})
}

func TestSingleVoterCommitsAfterItsOwnWrite(t *testing.T) {
	s := newSingle(t, 1, 0, nil, nil)
	s.Tick(s.Deadline())
	seq := s.want("vote", Output{Append: hard(1, 1, 0), Changed: true})
	s.want("no leader before its vote is on disk", Output{})
	s.Persisted(seq)
	empty := []smr.Entry{{Index: 1, Term: 1}}
	seq = s.want("leader", Output{Changed: true, Append: Append{Entries: empty}})
	s.want("no commit before its entry is on disk", Output{})
	s.Persisted(seq)
	s.want("commit", Output{Committed: empty})
	if s.Deadline() != smr.Never {
		t.Error("a group of one has nothing to do by itself")
	}
	mine := []smr.Entry{{Kind: smr.KindCommand, Data: []byte("x")}}
	if err := s.Propose(at(500), mine); err != nil || mine[0].Index != 2 || mine[0].Term != 1 {
		t.Fatal(err, mine)
	}
	// The commit index goes with the next write, as no write of its own.
	w := hard(1, 1, 1)
	w.Entries = mine
	seq = s.want("write", Output{Append: w})
	s.Persisted(seq)
	s.want("commit", Output{Committed: mine})
}

// Raft §5.2: "election timeouts are chosen randomly from a fixed interval", and
// each time anew.
func TestTimeoutsAreDrawnAnew(t *testing.T) {
	draw := func(seed uint64, opts ...Option) (d []smr.Instant) {
		s := newSingle(t, 3, 1, nil, func(c *Config, _ *Start) { c.Seed = seed }, opts...)
		for range 20 {
			s.Tick(s.Deadline())
			d = append(d, s.Deadline()-s.now)
			s.take()
		}
		return d
	}
	a := draw(1)
	distinct := map[smr.Instant]bool{}
	for _, d := range a {
		distinct[d] = true
		if d < at(100) || d >= at(200) {
			t.Errorf("timeout of %v", time.Duration(d))
		}
	}
	if len(distinct) < 15 {
		t.Errorf("only %d different timeouts of 20", len(distinct))
	}
	if sprint(a) != sprint(draw(1)) {
		t.Error("the same seed must give the same timeouts")
	}
	if sprint(a) == sprint(draw(2)) {
		t.Error("another seed gives the same timeouts")
	}
	off, _ := Without("randomisation")
	for _, d := range draw(1, off) {
		if d != at(100) {
			t.Errorf("without randomisation: %v", time.Duration(d))
		}
	}
}

// Thesis §6.2: "a leader steps down if an election timeout elapses without a
// successful round of heartbeats to a majority of its cluster; this allows
// clients to retry their requests with another server." Reads fail with it.
func TestCheckQuorum(t *testing.T) {
	for _, off := range []bool{false, true} {
		var opts []Option
		if off {
			o, _ := Without("check-quorum")
			opts = append(opts, o)
		}
		l := newLockstep(t, 5, nil, opts...)
		r := l.elect(1)
		l.pass(timeout)
		if err := r.ReadIndex(l.now, 5); err != nil {
			t.Fatal(err)
		}
		for i := 2; i < 5; i++ {
			l.down[i] = true
		}
		before := l.now
		l.propose(r, 1, 8)
		for l.now < before+smr.Instant(2*timeout) && r.role == Leader {
			l.pass(10 * time.Millisecond)
		}
		if off {
			if r.role != Leader {
				t.Error("without check-quorum the old leader goes on for ever")
			}
			continue
		}
		if took := l.now.Sub(before); r.role == Leader || took > timeout+10*time.Millisecond {
			t.Errorf("still %v after %v", r.role, took)
		}
		if len(l.failed) != 1 || l.failed[0] != 5 {
			t.Errorf("failed reads: %v", l.failed)
		}
		if err := r.Propose(l.now, []smr.Entry{{}}); err != ErrNotLeader {
			t.Errorf("a proposal to it: %v", err)
		}
	}
}

// Pre-vote alone would never elect here: replica 2 hears the old leader 1, which
// reaches no quorum, and so refuses its pre-vote for ever. With check-quorum the
// old leader steps down, and 2 stops refusing.
func TestLeaderHeardByOneOnly(t *testing.T) {
	leaders := func(opts ...Option) (fresh bool) {
		l := newLockstep(t, 5, nil, opts...)
		l.elect(1)
		l.pass(timeout)
		// Replica 2 is connected to all, the others to 2 alone.
		l.drop = func(m *Message) bool { return m.From != 2 && m.To != 2 }
		l.pass(8 * timeout)
		for i, r := range l.cores {
			if i > 0 && r.role == Leader && r.hard.Commit >= r.lead.termStart {
				fresh = true
			}
		}
		return fresh
	}
	if !leaders() {
		t.Error("no leader although replica 2 reaches everybody")
	}
	off, _ := Without("check-quorum")
	if leaders(off) {
		t.Error("without check-quorum there must be no leader: is the case still what it says?")
	}
}

// A leader that sends but hears nothing.
func TestLeaderThatIsDeaf(t *testing.T) {
	l := newLockstep(t, 3, nil)
	r := l.elect(1)
	l.drop = func(m *Message) bool { return m.To == 1 }
	l.pass(6 * timeout)
	if r.role == Leader || l.cores[1].role != Leader && l.cores[2].role != Leader {
		t.Errorf("roles %v, %v, %v", r.role, l.cores[1].role, l.cores[2].role)
	}
}

// Thesis §9.6: "The Pre-Vote algorithm solves the issue of a partitioned server
// disrupting the cluster when it rejoins."
func TestReturningReplicaDisturbsNobody(t *testing.T) {
	disturbed := func(opts ...Option) bool {
		l := newLockstep(t, 3, nil, opts...)
		r := l.elect(1)
		term := r.hard.Term
		l.drop = func(m *Message) bool { return m.From == 3 || m.To == 3 }
		l.pass(10 * timeout)
		l.drop = nil
		l.pass(5 * timeout)
		return r.role != Leader || r.hard.Term != term
	}
	if disturbed() {
		t.Error("the leader was deposed")
	}
	off, _ := Without("pre-vote")
	if !disturbed(off) {
		t.Error("without pre-vote the leader must be deposed: is the case still what it says?")
	}
}

// A candidate that is alone with a higher term makes itself heard: the leader of
// the older term learns of it from the answer to its heartbeat.
func TestOldLeaderLearnsOfTheNewerTerm(t *testing.T) {
	s := newSingle(t, 3, 7, nil, nil)
	for _, typ := range []MessageType{MsgAppend, MsgHeartbeat, MsgSnapshot} {
		s.step(at(10), Message{Type: typ, From: 2, Term: 5, Index: 4})
		s.want("answer", Output{Messages: []Message{{Type: MsgAppendReply, To: 2, Term: 7, Index: 4, Reject: true}}})
	}
	s.step(at(10), Message{Type: MsgPreVote, From: 2, Term: 6, Index: 4, LogTerm: 5})
	s.want("answer", Output{Messages: []Message{{Type: MsgPreVoteReply, To: 2, Term: 7, Reject: true}}})

	l := newSingle(t, 3, 7, nil, nil)
	l.elect(at(1000))
	l.step(at(1001), Message{Type: MsgAppendReply, From: 2, Term: 9, Reject: true})
	if l.role != Follower || l.hard.Term != 9 {
		t.Errorf("%+v", l.State())
	}
}

// LeaderLost makes a follower stand soon, and others refuse while they hear the
// leader themselves.
func TestLeaderLost(t *testing.T) {
	l := newLockstep(t, 3, nil)
	r := l.elect(1)
	term := r.hard.Term
	l.pass(timeout)
	l.cores[1].LeaderLost(l.now, 1)
	if d := l.cores[1].Deadline().Sub(l.now); d < 0 || d >= timeout/8 {
		t.Errorf("stands in %v", d)
	}
	l.pass(timeout)
	if r.role != Leader || r.hard.Term != term {
		t.Error("one broken connection must not depose a leader")
	}
	l.down[0] = true
	before := l.now
	l.cores[1].LeaderLost(l.now, 1)
	l.cores[2].LeaderLost(l.now, 1)
	for l.cores[1].role != Leader && l.cores[2].role != Leader && l.now.Sub(before) < timeout {
		l.pass(time.Millisecond)
	}
	if took := l.now.Sub(before); took > timeout/4 {
		t.Errorf("a new leader took %v", took)
	}
	l.cores[1].LeaderLost(l.now, 77) // not the leader: nothing
}

// Thesis §3.10: "The prior leader sends a TimeoutNow request to the target
// server. This request has the same effect as the target server's election timer
// firing: the target server starts a new election".
func TestTransfer(t *testing.T) {
	l := newLockstep(t, 3, nil)
	r := l.elect(1)
	l.propose(r, 10, 8)
	if err := r.Transfer(l.now, 2); err != nil {
		t.Fatal(err)
	}
	if err := r.Propose(l.now, []smr.Entry{{Kind: smr.KindCommand}}); err != ErrTransferring {
		t.Errorf("a proposal meanwhile: %v", err)
	}
	l.settle()
	if l.cores[1].role != Leader || l.cores[1].hard.Commit != l.cores[1].log.last {
		t.Errorf("%+v", l.cores[1].State())
	}
	// To one that is cut off: given up after an election timeout.
	r = l.cores[1]
	l.pass(timeout)
	l.drop = func(m *Message) bool { return m.To == 3 || m.From == 3 }
	l.propose(r, 1, 8)
	if err := r.Transfer(l.now, 3); err != nil {
		t.Fatal(err)
	}
	if err := r.Transfer(l.now, 1); err != ErrTransferring {
		t.Errorf("a second transfer: %v", err)
	}
	l.pass(timeout + time.Millisecond)
	if err := r.Propose(l.now, []smr.Entry{{Kind: smr.KindCommand}}); err != nil {
		t.Errorf("a proposal after the transfer was given up: %v", err)
	}
	if err := r.Transfer(l.now, 9); err != ErrUnknownReplica {
		t.Errorf("a transfer to nobody: %v", err)
	}
}

// A learner gets the log, never stands, and its vote does not count.
func TestLearner(t *testing.T) {
	l := newLockstep(t, 3, func(_ *Config, s *Start) { s.Snapshot.Configuration.Members[2].Role = smr.Learner })
	if l.cores[2].Deadline() != smr.Never {
		t.Error("a learner has a time to stand")
	}
	l.cores[2].Campaign(l.now)
	if l.cores[2].role != Follower {
		t.Error("a learner stands")
	}
	l.record = true
	r := l.elect(1)
	if l.sent[MsgVote] != 1 {
		t.Errorf("%d requests for votes, want one, to the other voter", l.sent[MsgVote])
	}
	l.propose(r, 5, 8)
	l.settle()
	if len(l.logs[2]) != 6 {
		t.Errorf("the learner has %d entries", len(l.logs[2]))
	}
	l.down[1] = true
	commit := r.hard.Commit
	l.propose(r, 1, 8)
	l.settle()
	if r.hard.Commit != commit {
		t.Error("a learner's disk counted in a commit")
	}
}
