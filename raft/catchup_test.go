package raft

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
)

// starOf cuts every link but those of the middle.
func starOf(middle smr.ReplicaID) func(m *Message) bool {
	return func(m *Message) bool { return m.From != middle && m.To != middle }
}

// firstLeader lets time pass until somebody leads, and returns it with the time
// that took; nil after the limit.
func (l *lockstep) firstLeader(limit time.Duration) (*Raft, time.Duration) {
	for began := l.now; l.now.Sub(began) < limit; l.pass(time.Millisecond) {
		for i, r := range l.cores {
			if !l.down[i] && r.role == Leader {
				return r, l.now.Sub(began)
			}
		}
	}
	return nil, limit
}

// "A voter that refuses a pre-vote because the candidate's log is behind, and
// that hears no leader, offers its log suffix": the only replica that reaches a
// quorum then leads, whatever the logs are like, and in messages of any size.
func TestConstrainedElection(t *testing.T) {
	logs := map[string][2][]uint64{ // the middle's log, and that of all others
		"missing one":      {{1, 1}, {1, 1, 1}},
		"empty":            {nil, {1, 1, 2, 2, 3}},
		"missing many":     {{1}, slices.Repeat([]uint64{2}, 40)},
		"longer, old term": {{1, 2, 2, 2, 2, 2, 2}, {1, 2, 3}},
		// Raft Figure 7 (e) and (f), beside the leader's log at the top.
		"figure 7 (e)":  {{1, 1, 1, 4, 4, 4, 4}, {1, 1, 1, 4, 4, 5, 5, 6, 6, 6}},
		"figure 7 (f)":  {{1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3}, {1, 1, 1, 4, 4, 5, 5, 6, 6, 6}},
		"nothing alike": {{2, 2, 2, 4, 4, 4}, {1, 1, 3, 3, 5}},
	}
	logs["missing many"][1][0] = 1
	for name, l := range logs {
		for _, entriesMax := range []int{1, 3, 0} {
			for _, without := range []string{"", "election-catch-up"} {
				t.Run(fmt.Sprintf("%s/%d/%s", name, entriesMax, without), func(t *testing.T) {
					opts := []Option{Poison(), Paranoid()}
					if without != "" {
						off, _ := Without(without)
						opts = append(opts, off)
					}
					base := withLogs(6, l[0], l[1], l[1], l[1], l[1])
					g := newLockstep(t, 5, func(c *Config, s *Start) {
						c.AppendEntriesMax = entriesMax
						base(c, s)
					}, opts...)
					g.drop = starOf(1)
					r, took := g.firstLeader(20 * timeout)
					if without != "" {
						if r != nil {
							t.Fatalf("replica %d leads after %v", r.cfg.ID, took)
						}
						return
					}
					if r != g.cores[0] || took > 5*timeout {
						t.Fatalf("after %v the leader is %v", took, r)
					}
					g.pass(timeout)
					for _, c := range g.cores {
						if got := termsOf(c); !slices.Equal(got[:len(l[1])], l[1]) || c.hard.Commit != r.log.last {
							t.Errorf("replica %d: terms %v, commit %d", c.cfg.ID, got, c.hard.Commit)
						}
					}
				})
			}
		}
	}
}

// All of what is said, output by output: nothing is acknowledged, and nobody is
// taken for a leader.
func TestCatchUpOutputByOutput(t *testing.T) {
	s := newSingle(t, 3, 5, []uint64{1, 2, 2}, func(c *Config, _ *Start) { c.AppendEntriesMax = 2 })
	s.Campaign(at(1000))
	s.take()
	deadline := s.Deadline()
	s.step(at(1001), Message{Type: MsgPreVoteReply, From: 2, Term: 5, Reject: true, Index: 6, LogTerm: 4})
	s.want("ask", Output{Messages: []Message{{Type: MsgSuffixAsk, To: 2, Term: 5, Index: 3, LogTerm: 2, Round: 1}}})
	s.step(at(1002), Message{Type: MsgPreVoteReply, From: 3, Term: 5, Reject: true, Index: 5, LogTerm: 4})
	s.want("a worse offer is left alone; the pre-vote is lost", Output{Changed: true})
	answer := Message{Type: MsgSuffix, From: 2, Term: 5, Index: 2, LogTerm: 2, Round: 1, ConflictIndex: 6, ConflictTerm: 4, Entries: entriesOf(3, 3, 4)}
	for name, change := range map[string]func(m *Message){
		"a term above this one":    func(m *Message) { m.Term, m.ConflictTerm = 9, 9 },
		"a log that is not better": func(m *Message) { m.ConflictIndex, m.ConflictTerm, m.Entries = 3, 2, entriesOf(3, 2) },
		"entries behind the end":   func(m *Message) { m.ConflictIndex = 3 },
		"an end of another term":   func(m *Message) { m.ConflictIndex, m.ConflictTerm = 4, 5 },
		"no entries":               func(m *Message) { m.Entries = nil },
	} {
		m := answer
		change(&m)
		s.step(at(1003), m)
		s.want(name, Output{})
	}
	s.step(at(1004), answer)
	o := s.take()
	if len(o.Append.Entries) != 2 || o.Append.Entries[0].Index != 3 || o.Append.HardStateSet {
		t.Fatalf("taken over: %s", show(o))
	}
	if want := []Message{{Type: MsgSuffixAsk, To: 2, Term: 5, Index: 4, LogTerm: 4, Round: 2}}; fmt.Sprint(o.Messages) != fmt.Sprint(want) {
		t.Fatalf("asks %s", show(o))
	}
	s.Persisted(o.Append.Seq)
	s.want("persisted, and nothing to say", Output{})
	s.step(at(1005), answer) // again
	s.want("a repetition", Output{})
	if s.Deadline() != deadline || s.leader != 0 || s.hearsLeader() {
		t.Error("it must not refresh the leader timer")
	}
	s.step(at(1006), Message{Type: MsgSuffix, From: 2, Term: 5, Index: 4, LogTerm: 4, Round: 2, ConflictIndex: 6, ConflictTerm: 4, Entries: entriesOf(5, 4, 4)})
	s.settle(at(1006))
	if d := s.Deadline().Sub(at(1006)); d < timeout/4 || d >= timeout/4+timeout/8 {
		t.Errorf("it stands after %v", d)
	}
	if s.follow.matched != 0 || s.follow.acked != 0 {
		t.Errorf("%+v", s.follow)
	}
	s.Tick(s.Deadline())
	s.want("it stands", Output{Changed: true, Messages: []Message{
		{Type: MsgPreVote, To: 2, Term: 6, Index: 6, LogTerm: 4}, {Type: MsgPreVote, To: 3, Term: 6, Index: 6, LogTerm: 4},
	}})
}

// The voter's side: it answers what it is asked, not to a leader's disadvantage.
func TestSuffixIsGiven(t *testing.T) {
	s := newSingle(t, 3, 5, []uint64{1, 1, 3, 3, 4}, nil)
	suffix := func(prev, term, round uint64, terms ...uint64) Output {
		return Output{Messages: []Message{{Type: MsgSuffix, To: 2, Term: 5, Index: prev, LogTerm: term, Round: round, ConflictIndex: 5, ConflictTerm: 4, Entries: entriesOf(prev+1, terms...)}}}
	}
	ask := func(now int, index, term, round uint64) {
		s.step(at(now), Message{Type: MsgSuffixAsk, From: 2, Term: 2, Index: index, LogTerm: term, Round: round})
	}
	ask(500, 3, 3, 7)
	s.want("after an entry that both have", suffix(3, 3, 7, 3, 4))
	ask(500, 4, 2, 8)
	s.want("before one that they cannot both have", suffix(2, 1, 8, 3, 3, 4))
	ask(500, 9, 9, 9)
	s.want("it has no more", Output{})
	s.step(at(500), Message{Type: MsgHeartbeat, From: 3, Term: 5})
	s.take()
	ask(599, 3, 3, 10)
	s.want("a leader is heard", Output{})
}

// What is no longer in memory is fetched from disk, once at a time.
func TestSuffixFromDisk(t *testing.T) {
	terms := []uint64{1, 1, 2, 2, 2}
	s := newSingle(t, 3, 5, terms, func(_ *Config, st *Start) { st.Tail = st.Tail[4:] })
	ask := Message{Type: MsgSuffixAsk, From: 2, Term: 5, Index: 1, LogTerm: 1, Round: 1}
	s.step(at(500), ask)
	fetch := Fetch{To: 2, First: 2, Last: 4, BytesMax: 1 << 20}
	s.want("fetch", Output{Fetches: []Fetch{fetch}})
	ask.Round = 2
	s.step(at(501), ask)
	s.want("one is open", Output{})
	s.Fetched(2, nil, ErrCompacted)
	s.want("gone: the candidate asks again", Output{})
	ask.Round = 3
	s.step(at(502), ask)
	s.want("fetch again", Output{Fetches: []Fetch{fetch}})
	s.Fetched(2, entriesOf(2, 1, 2, 2), nil)
	s.want("given", Output{Messages: []Message{{Type: MsgSuffix, To: 2, Term: 5, Index: 1, LogTerm: 1, Round: 3, ConflictIndex: 5, ConflictTerm: 2, Entries: entriesOf(2, 1, 2, 2)}}})
}

// (K3): what agrees with the leader of the term, and was acknowledged to it,
// stays; unless a quorum hears no leader, and the term is left behind.
func TestCatchUpKeepsWhatTheLeaderOfTheTermCounts(t *testing.T) {
	for _, leaderless := range []bool{false, true} {
		s := newSingle(t, 5, 7, []uint64{1, 1}, nil)
		// The leader of term 7 repairs this log, and is gone before its own entry.
		s.step(at(0), Message{Type: MsgAppend, From: 3, Term: 7, Index: 2, LogTerm: 1, Commit: 1, Entries: entriesOf(3, 2, 2)})
		s.settle(at(0))
		s.Campaign(at(1000))
		s.take()
		s.step(at(1001), Message{Type: MsgPreVoteReply, From: 2, Term: 6, Reject: true, Index: 5, LogTerm: 3})
		if leaderless {
			s.step(at(1001), Message{Type: MsgPreVoteReply, From: 4, Term: 8})
		}
		s.take()
		suffix := Message{Type: MsgSuffix, From: 2, Term: 6, Index: 1, LogTerm: 1, Round: 1, ConflictIndex: 5, ConflictTerm: 3, Entries: entriesOf(2, 3, 3, 3, 3)}
		s.step(at(1002), suffix)
		want := []uint64{1, 1, 2, 2}
		if leaderless {
			want = []uint64{1, 3, 3, 3, 3}
		}
		if got := termsOf(s.Raft); !slices.Equal(got, want) {
			t.Errorf("leaderless %v: terms %v, want %v", leaderless, got, want)
		}
		if left := s.hard.Term == 8; left != leaderless {
			t.Errorf("leaderless %v: term %d", leaderless, s.hard.Term)
		}
		// What is committed stays in any case.
		s.step(at(1003), Message{Type: MsgSuffix, From: 2, Term: 6, Round: 2, ConflictIndex: 6, ConflictTerm: 3, Entries: entriesOf(1, 3)})
		if got := termsOf(s.Raft); !slices.Equal(got, want) {
			t.Errorf("leaderless %v: a committed entry is replaced: %v", leaderless, got)
		}
	}
}
