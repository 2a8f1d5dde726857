package raft

import (
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
)

func resting(c *Config, _ *Start) { c.Rest = true }

// restingGroup is a group of n that rests, led by replica 1.
func restingGroup(t *testing.T, n int) (*lockstep, *Raft) {
	t.Helper()
	l := newLockstep(t, n, resting, Poison(), Paranoid())
	l.record = true
	r := l.elect(1)
	l.propose(r, 3, 8)
	l.untilRest()
	return l, r
}

// untilRest lets the time of five heartbeats pass, which must do.
func (l *lockstep) untilRest() {
	l.t.Helper()
	l.pass(5 * l.cores[0].cfg.HeartbeatInterval)
	for i, r := range l.cores {
		if !l.down[i] && !r.Resting() {
			l.t.Fatalf("replica %d does not rest: %+v", i+1, r.Status())
		}
	}
}

func (l *lockstep) messages() (n int) {
	for _, k := range l.sent {
		n += k
	}
	return n
}

func TestAGroupWithoutWorkRests(t *testing.T) {
	l, r := restingGroup(t, 3)
	sent := l.messages()
	l.pass(r.cfg.RestRenewal / 2)
	if n := l.messages() - sent; n != 0 {
		t.Errorf("%d messages of a group that rests", n)
	}
	for _, c := range l.cores {
		if s := c.State(); s.Leader != 1 || s.Commit != s.Last || !c.hearsLeader() {
			t.Errorf("at rest: %+v", s)
		}
		if c.Deadline() < l.now.Add(time.Second) && c == r {
			t.Errorf("a leader at rest wants a tick in %v", c.Deadline().Sub(l.now))
		}
	}
	// A renewal is one round of heartbeats, and gives memory back.
	l.pass(r.cfg.RestRenewal)
	if n := l.messages() - sent; n == 0 || n > 12 {
		t.Errorf("%d messages of three renewals at most", n)
	}
	l.untilRest()
	for i, c := range l.cores {
		if c.log.ring != nil {
			t.Errorf("replica %d keeps a ring of %d", i+1, len(c.log.ring))
		}
	}
	if r.hard.Term != 1 {
		t.Errorf("term %d", r.hard.Term)
	}
	l.propose(r, 2, 8)
	l.settle()
	if r.hard.Commit != r.log.last {
		t.Error("what is proposed after a renewal is not committed")
	}
}

// Without Config.Rest nothing of this is ever said: a core whose host vouches for
// nobody must prove that it lives.
func TestRestIsOffByDefault(t *testing.T) {
	l := newLockstep(t, 3, nil)
	l.drop = func(m *Message) bool {
		if m.Rest {
			t.Errorf("%+v", m)
		}
		return false
	}
	r := l.elect(1)
	l.pass(20 * r.cfg.HeartbeatInterval)
	if r.Resting() {
		t.Error("it rests")
	}
}

// A leader rests only with followers that rest: one that cannot keeps it awake.
func TestOneThatCannotRestKeepsTheLeaderAwake(t *testing.T) {
	l := newLockstep(t, 3, func(c *Config, _ *Start) { c.Rest = c.ID != 3 }, Paranoid())
	r := l.elect(1)
	l.pass(20 * r.cfg.HeartbeatInterval)
	if r.Resting() || !l.cores[1].Resting() || l.cores[2].Resting() {
		t.Error("1 must stay awake for 3, while 2 may rest")
	}
	if r.hard.Term != 1 || l.cores[1].role != Follower {
		t.Errorf("%+v", l.cores[1].State())
	}
}

func TestWhatWakes(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(l *lockstep, r *Raft)
		same bool // the leader and its term stay
	}{
		{"proposal", func(l *lockstep, r *Raft) { _ = r.Propose(l.now, []smr.Entry{{Kind: smr.KindCommand}}) }, true},
		{"read", func(l *lockstep, r *Raft) { _ = r.ReadIndex(l.now, 7) }, true},
		{"membership change", func(l *lockstep, r *Raft) { _ = r.ProposeConfiguration(l.now, voters(1, 2, 3, 4)) }, true},
		{"transfer", func(l *lockstep, r *Raft) { _ = r.Transfer(l.now, 2) }, false},
		{"a follower's host", func(l *lockstep, _ *Raft) { l.cores[1].Wake(l.now) }, true},
		// Thesis §9.6: a pre-vote of a member that hears nobody. "Servers … have not
		// received a valid message from the leader" is not so here.
		{"pre-vote at the leader", func(l *lockstep, r *Raft) {
			r.Step(l.now, &Message{Type: MsgPreVote, Group: test, From: 3, To: 1, Term: 2, Index: 9, LogTerm: 1})
		}, true},
		{"pre-vote at a follower", func(l *lockstep, _ *Raft) {
			l.cores[1].Step(l.now, &Message{Type: MsgPreVote, Group: test, From: 3, To: 2, Term: 2, Index: 9, LogTerm: 1})
		}, true},
		{"campaign", func(l *lockstep, _ *Raft) { l.cores[1].Campaign(l.now) }, true},
		{"two lost hosts", func(l *lockstep, r *Raft) { r.Unreachable(l.now, 2); r.Unreachable(l.now, 3) }, true},
		{"expiry", func(l *lockstep, _ *Raft) { l.cores[1].Tick(l.cores[1].Deadline()) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, r := restingGroup(t, 3)
			l.now = l.now.Add(10 * time.Second)
			c.do(l, r)
			l.settle()
			if r.Resting() {
				t.Fatal("the leader rests")
			}
			l.pass(r.cfg.HeartbeatInterval / 2)
			for i, o := range l.cores {
				if o.Resting() {
					t.Errorf("replica %d rests while its leader is awake", i+1)
				}
			}
			l.pass(3 * r.cfg.ElectionTimeout)
			if c.same && (r.role != Leader || r.hard.Term != 1) {
				t.Errorf("after it: %+v", r.State())
			}
			if c.name == "membership change" {
				r.Unreachable(l.now, 4) // which does not exist
			}
			l.untilRest()
		})
	}
}

// A host that dies at rest: its silence is told by the hosts that remain.
func TestLeaderDiesAtRest(t *testing.T) {
	l, r := restingGroup(t, 3)
	l.now = l.now.Add(10 * time.Second)
	l.down[0] = true
	l.pass(4 * r.cfg.ElectionTimeout)
	if l.cores[1].hard.Term != 1 {
		t.Fatal("nobody has been told, and somebody stands")
	}
	// One of the two learns of it first; the other refuses, and wakes.
	l.cores[1].LeaderLost(l.now, 1)
	l.pass(r.cfg.ElectionTimeout / 2)
	l.cores[2].LeaderLost(l.now, 1)
	l.pass(r.cfg.ElectionTimeout)
	if l.cores[1].role != Leader && l.cores[2].role != Leader {
		t.Fatalf("no leader: %+v %+v", l.cores[1].State(), l.cores[2].State())
	}
	l.cores[1].Unreachable(l.now, 1)
	l.cores[2].Unreachable(l.now, 1)
	l.untilRest() // with replica 1 silent
}

// The leader's replica alone is dead on a host that lives: nobody is told, but
// whoever needs the group finds out.
func TestReplicaOfTheLeaderDiesAlone(t *testing.T) {
	l, r := restingGroup(t, 3)
	l.now = l.now.Add(10 * time.Second)
	l.down[0] = true
	l.cores[1].Wake(l.now) // a request is forwarded
	l.pass(6 * r.cfg.ElectionTimeout)
	if l.cores[1].role != Leader && l.cores[2].role != Leader {
		t.Fatalf("no leader: %+v %+v", l.cores[1].State(), l.cores[2].State())
	}
}

// A follower whose host is silent does not keep the group awake, and is caught up
// with when that is heard again. One that only does not answer does keep it awake.
func TestAbsentMember(t *testing.T) {
	l, r := restingGroup(t, 3)
	l.down[2] = true
	l.propose(r, 5, 8)
	l.pass(4 * r.cfg.ElectionTimeout)
	if r.Resting() {
		t.Error("it rests while one that may hear it does not answer")
	}
	r.Unreachable(l.now, 3)
	l.settle()
	l.untilRest()
	if p := r.Status().Progress[2]; p.Active || p.Match == r.log.last {
		t.Errorf("the absent one: %+v", p)
	}
	if !r.Heard(l.now.Add(time.Hour), 2) || r.Heard(l.now, 3) {
		t.Error("a member of a resting leader is heard unless it is absent")
	}
	l.down[2] = false
	l.now = l.now.Add(10 * time.Second)
	r.Reachable(l.now, 2) // not absent: nothing
	if !r.Resting() {
		t.Fatal("woken for a member that lacks nothing")
	}
	r.Reachable(l.now, 3)
	l.settle()
	l.untilRest()
	if l.cores[2].log.last != r.log.last {
		t.Error("it was not caught up with")
	}
	// One that rests already and cannot be reached any more costs nothing: the
	// others are a quorum.
	r.Unreachable(l.now, 3)
	if !r.Resting() || r.Status().Progress[2].Active {
		t.Error("woken for a member of which nothing is wanted")
	}
}

// Thesis §6.2: "a leader … steps down if an election timeout elapses without a
// successful round of heartbeats to a majority of its cluster"; at rest, after
// its host has found the others silent.
func TestLeaderCutOffAtRestStepsDown(t *testing.T) {
	l, r := restingGroup(t, 3)
	l.now = l.now.Add(10 * time.Second)
	l.down[1], l.down[2] = true, true
	r.Unreachable(l.now, 2)
	r.Unreachable(l.now, 3)
	l.pass(r.cfg.ElectionTimeout + 1)
	if r.role == Leader {
		t.Error("it leads without a quorum")
	}
}

// A follower rests only where its log ends as the leader's does, committed and on
// disk (Z1, Z4).
func TestWhoMayRest(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(s *single)
		m    Message
		want bool
	}{
		{"all is there", nil, Message{Index: 2, LogTerm: 1, Commit: 2}, true},
		{"the leader's log is longer", nil, Message{Index: 3, LogTerm: 1, Commit: 2}, false},
		{"of another term", nil, Message{Index: 2, LogTerm: 2, Commit: 2}, false},
		{"not committed", nil, Message{Index: 2, LogTerm: 1, Commit: 1}, false},
		{"not applied", func(s *single) { s.apply.applied = 1 }, Message{Index: 2, LogTerm: 1, Commit: 2}, false},
		{"not persisted", func(s *single) {
			s.step(0, Message{Type: MsgAppend, From: 2, Term: 3, Index: 2, LogTerm: 1, Commit: 3, Entries: entriesOf(3, 3)})
			s.take()
		}, Message{Index: 3, LogTerm: 3, Commit: 3}, false},
	} {
		s := newSingle(t, 3, 3, []uint64{1, 1}, resting)
		s.step(0, Message{Type: MsgAppend, From: 2, Term: 3, Index: 2, LogTerm: 1, Commit: c.m.Commit})
		for o := s.take(); o.Append.Seq > 0 || len(o.Committed) > 0; o = s.take() {
			s.Persisted(s.log.seq)
			if n := len(o.Committed); n > 0 {
				s.Applied(o.Committed[n-1].Index)
			}
		}
		if c.do != nil {
			c.do(s)
		}
		m := c.m
		m.Type, m.From, m.Term, m.Round, m.Rest = MsgHeartbeat, 2, 3, 1, true
		s.step(0, m)
		replies := ofType(s.take(), MsgHeartbeatReply)
		if len(replies) != 1 || replies[0].Rest != c.want || s.Resting() != c.want {
			t.Errorf("%s: %+v, rests: %v", c.name, replies, s.Resting())
		}
	}
}

// Answers of an earlier rest do not count for a later one.
func TestOldAnswersDoNotLetALeaderRest(t *testing.T) {
	l, r := restingGroup(t, 3)
	_ = r.Propose(l.now, []smr.Entry{{Kind: smr.KindCommand}})
	old := Message{Type: MsgHeartbeatReply, Group: test, From: 2, To: 1, Term: 1, Round: r.reads.round, Index: r.log.last, Rest: true}
	l.settle()
	l.drop = func(m *Message) bool { return m.Type == MsgHeartbeatReply && m.Rest && m.From == 2 }
	for range 4 {
		l.pass(r.cfg.HeartbeatInterval)
		r.Step(l.now, &old)
		l.settle()
	}
	if r.Resting() {
		t.Error("an answer to an earlier round let it rest")
	}
	l.drop = nil
	l.untilRest()
}

// One that was removed and does not know it asks for ever, and wakes nobody.
func TestStrangerWakesNobody(t *testing.T) {
	l, r := restingGroup(t, 3)
	for i, c := range l.cores {
		c.Step(l.now, &Message{Type: MsgPreVote, Group: test, From: 9, To: smr.ReplicaID(i + 1), Term: 5, Index: 99, LogTerm: 4})
	}
	l.settle()
	if !r.Resting() || !l.cores[1].Resting() {
		t.Error("woken by a replica that is no member")
	}
	// But a leader of a newer term is followed, whoever it is.
	l.cores[1].Step(l.now, &Message{Type: MsgHeartbeat, Group: test, From: 9, To: 2, Term: 5, Round: 1})
	if l.cores[1].Resting() || l.cores[1].leader != 9 {
		t.Error("a newer leader is not followed")
	}
}

func TestBadRestRenewal(t *testing.T) {
	cfg := Config{Group: 1, ID: 1, Rest: true, ElectionTimeout: time.Second, RestRenewal: time.Second}
	if err := cfg.complete(); err == nil {
		t.Error("a renewal within an election timeout")
	}
}
