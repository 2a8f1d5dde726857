package raft

import (
	"errors"
	"testing"

	"github.com/quorate/quorate/smr"
)

// Thesis §6.4, step 1: "If the leader has not yet marked an entry from its
// current term committed, it waits until it has done so." Step 3: "It issues
// a new round of heartbeats and waits for their acknowledgments from a majority
// of the cluster."
func TestReadIndexWaitsForAnEntryOfItsOwnTerm(t *testing.T) {
	s := newSingle(t, 3, 1, []uint64{1}, nil)
	s.elect(at(1000))
	if err := s.ReadIndex(at(1000), 7); err != nil {
		t.Fatal(err)
	}
	s.want("held back", Output{})
	s.step(at(1001), Message{Type: MsgAppendReply, From: 2, Term: 2, Index: 2})
	beat := func(to smr.ReplicaID, round, mark, commit uint64) Message {
		return Message{Type: MsgHeartbeat, To: to, Term: 2, Round: round, Index: mark, Commit: commit}
	}
	s.want("committed, a round begins", Output{
		Committed: []smr.Entry{entry(1, 1), {Index: 2, Term: 2}},
		Messages:  []Message{beat(2, 2, 2, 2), beat(3, 2, 0, 0)},
	})
	s.step(at(1002), Message{Type: MsgHeartbeatReply, From: 2, Term: 1, Round: 2, Index: 2})
	s.want("an answer of an older term", Output{})
	s.step(at(1002), Message{Type: MsgHeartbeatReply, From: 2, Term: 2, Round: 1, Index: 2})
	s.want("an answer to an older round", Output{})
	s.step(at(1002), Message{Type: MsgHeartbeatReply, From: 2, Term: 2, Round: 2, Index: 2})
	s.want("confirmed by two of three", Output{Reads: []ReadReady{{7, 2}}})
}

// Thesis §6.4: "To improve efficiency further, the leader can amortize the cost
// of confirming its leadership: it can use a single round of heartbeats for any
// number of read-only queries that it has accumulated." A later round confirms
// the earlier ones.
func TestTicketsOfATurnShareARound(t *testing.T) {
	s := streaming(t, nil)
	for i := range uint64(10) {
		_ = s.ReadIndex(s.now, i)
	}
	if n := len(ofType(s.take(), MsgHeartbeat)); n != 2 {
		t.Fatalf("%d heartbeats for the tickets of one turn", n)
	}
	_ = s.ReadIndex(s.now, 10)
	s.take()
	s.step(s.now, Message{Type: MsgHeartbeatReply, From: 3, Term: 1, Round: 2, Index: 1})
	if n := len(s.take().Reads); n != 10 {
		t.Fatalf("%d reads after the first round, want 10", n)
	}
	for i := range uint64(5) {
		_ = s.ReadIndex(s.now, 20+i)
		s.take()
	}
	s.step(s.now, Message{Type: MsgHeartbeatReply, From: 2, Term: 1, Round: 8, Index: 1})
	if n := len(s.take().Reads); n != 6 {
		t.Fatalf("%d reads after the last round, want all 6", n)
	}
}

func TestReadsOfASingleVoterAndLimits(t *testing.T) {
	s := newSingle(t, 1, 0, nil, func(c *Config, _ *Start) { c.ReadTicketsMax = 2 })
	if err := s.ReadIndex(0, 1); !errors.Is(err, ErrNotLeader) {
		t.Error(err)
	}
	s.elect(at(1000))
	s.settle(s.now)
	_, _ = s.ReadIndex(s.now, 1), s.ReadIndex(s.now, 2)
	if err := s.ReadIndex(s.now, 3); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	s.want("at once", Output{Reads: []ReadReady{{1, 1}, {2, 1}}})
}

// A leader that is deposed answers its reads with a failure, and one that is
// elected again does not answer them by rounds of its new term.
func TestReadsFailWithTheLeader(t *testing.T) {
	s := streaming(t, nil)
	_ = s.ReadIndex(s.now, 1)
	s.take()
	_ = s.ReadIndex(s.now, 2)
	s.step(s.now, Message{Type: MsgHeartbeat, From: 2, Term: 5, Round: 9})
	if o := s.take(); sprint(o.ReadsFailed) != "[1 2]" || len(o.Reads) != 0 {
		t.Errorf("failed %v, answered %v", o.ReadsFailed, o.Reads)
	}
	if o := s.take(); len(o.ReadsFailed) != 0 {
		t.Errorf("failed again: %v", o.ReadsFailed)
	}
}

// An old leader that is cut off does not know of the new one's commits. The
// quorum keeps it from answering; without it the read is stale.
func TestNoStaleReadFromAnOldLeader(t *testing.T) {
	stale := func(opts ...Option) bool {
		l := newLockstep(t, 3, nil, opts...)
		old := l.elect(1)
		l.drop = func(m *Message) bool { return m.From == 1 || m.To == 1 }
		// The others lost their connections to it, and elect another at once.
		l.cores[1].LeaderLost(l.now, 1)
		l.cores[2].LeaderLost(l.now, 1)
		l.cores[1].Campaign(l.now)
		l.settle()
		if l.cores[1].role != Leader || old.role != Leader {
			t.Fatal("want two leaders, of different terms")
		}
		l.propose(l.cores[1], 1, 8)
		l.settle()
		if err := old.ReadIndex(l.now, 1); err != nil {
			t.Fatal(err)
		}
		l.settle()
		return len(l.reads) > 0 && l.reads[0].Index < l.cores[1].hard.Commit
	}
	if stale() {
		t.Error("a stale read")
	}
	off, _ := Without("read-quorum")
	if !stale(off) {
		t.Error("without read-quorum the read must be stale: is the case still what it says?")
	}
}
