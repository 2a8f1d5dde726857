package raft

import (
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
)

// real is what the host's own clock shows, which has nothing to do with now.
func real(ms int) smr.Instant { return at(ms + 1_000_000) }

func leased(c *Config) { c.LeaderLease, c.ClockDriftMax = true, 100_000 }

// beatAt lets a leader begin a round of heartbeats, and returns its number.
func (s *single) beatAt(ms int) uint64 {
	s.t.Helper()
	s.Clock(real(ms))
	s.lead.beatDue = true
	beats := ofType(s.take(), MsgHeartbeat)
	if len(beats) != 2 {
		s.t.Fatalf("%d heartbeats", len(beats))
	}
	return beats[0].Round
}

func (s *single) promised(from smr.ReplicaID, round uint64, d time.Duration) {
	s.step(s.now, Message{Type: MsgPromise, From: from, Term: s.hard.Term, Round: round, Index: uint64(d)})
	s.take()
}

// Thesis §6.4.1: "Once the leader's heartbeats were acknowledged by a majority of the
// cluster, it would extend its lease to start + election timeout / clock drift bound,
// since the followers shouldn't time out before then. While the leader held its lease,
// it would service read-only queries without communication."
func TestLease(t *testing.T) {
	s := streaming(t, leased)
	round := s.beatAt(0)
	s.step(s.now, Message{Type: MsgHeartbeatReply, From: 2, Term: 1, Round: round, Index: 1})
	s.take()
	if s.HoldsLease(real(0)) {
		t.Fatal("an answer without a promise gives a lease")
	}
	s.promised(3, round, timeout-1)
	if s.HoldsLease(real(0)) {
		t.Fatal("a promise for less than an election timeout gives a lease")
	}
	s.promised(2, round, timeout)
	// A clock that is a tenth too slow shows 81 ms while one that is a tenth too fast
	// shows 100.
	const length = 100 * 9 / 11
	for _, c := range []struct {
		ms    int
		holds bool
	}{{0, true}, {length, true}, {length + 1, false}, {1000, false}} {
		if got := s.HoldsLease(real(c.ms)); got != c.holds {
			t.Errorf("%d ms after the round began it holds a lease: %v", c.ms, got)
		}
	}
	s.Clock(real(length))
	if err := s.ReadIndex(s.now, 7); err != nil {
		t.Fatal(err)
	}
	s.want("answered at once, nobody is asked", Output{Reads: []ReadReady{{7, 1}}})
	s.Clock(real(length + 1))
	if err := s.ReadIndex(s.now, 8); err != nil {
		t.Fatal(err)
	}
	if out := s.take(); len(out.Reads) != 0 || len(ofType(out, MsgHeartbeat)) != 2 {
		t.Errorf("when the lease is over a round is asked for, as without one: %+v", out)
	}
}

// A lease counts from when its round began, although many rounds are under way.
func TestLeaseCountsFromTheRound(t *testing.T) {
	s := streaming(t, leased)
	var rounds []uint64
	for i := range 3 * leaseRounds {
		rounds = append(rounds, s.beatAt(i))
	}
	s.promised(2, rounds[5], timeout)
	if !s.HoldsLease(real(5+81)) || s.HoldsLease(real(5+82)) {
		t.Errorf("the lease of a round that began at 5 ms ends at %v", s.lease.until.Sub(real(0)))
	}
	s.promised(2, rounds[len(rounds)-1], timeout)
	if s.HoldsLease(real(leaseRounds - 1 + 82)) {
		t.Error("a round whose beginning is not remembered counts from a later one")
	}
	if s.beatAt(200); len(s.lease.begun) != 1 {
		t.Errorf("%d rounds under way", len(s.lease.begun))
	}
}

// What ends a lease, besides time.
func TestLeaseIsVoid(t *testing.T) {
	for name, end := range map[string]func(s *single){
		"a clock that goes back": func(s *single) { s.Clock(real(-1)) },
		"a transfer": func(s *single) {
			if err := s.Transfer(s.now, 3); err != nil {
				t.Fatal(err)
			}
			if out := s.take(); len(ofType(out, MsgTimeoutNow)) != 1 {
				t.Fatalf("%+v", out)
			}
		},
		"another configuration": func(s *single) {
			if err := s.ProposeConfiguration(s.now, voters(1, 2, 3, 4)); err != nil {
				t.Fatal(err)
			}
		},
		"another leader": func(s *single) { s.step(s.now, Message{Type: MsgHeartbeat, From: 2, Term: 2, Round: 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := streaming(t, leased)
			s.promised(2, s.beatAt(0), timeout)
			if !s.HoldsLease(real(1)) {
				t.Fatal("no lease")
			}
			end(s)
			if s.HoldsLease(real(1)) {
				t.Error("there still is a lease")
			}
		})
	}
}

// A target that was told to stand may do so at any time: there is no lease for the rest
// of the term, whatever is promised after the transfer was given up.
func TestNoLeaseAfterATransfer(t *testing.T) {
	s := streaming(t, leased)
	if err := s.Transfer(s.now, 3); err != nil {
		t.Fatal(err)
	}
	s.take()
	later := s.now.Add(timeout)
	s.step(later-1, Message{Type: MsgAppendReply, From: 2, Term: 1, Index: 1})
	s.Tick(later)
	s.take()
	s.promised(2, s.beatAt(0), timeout)
	if s.role != Leader || s.HoldsLease(real(1)) {
		t.Errorf("a %v holds a lease: %v", s.role, s.HoldsLease(real(1)))
	}
}

// promising is a follower that has promised replica 3, leading term 5, at now 0.
func promising(t *testing.T) *single {
	s := newSingle(t, 3, 5, []uint64{1}, func(c *Config, _ *Start) { leased(c) })
	s.Clock(real(-1000))
	s.Clock(real(0))
	s.step(at(0), Message{Type: MsgHeartbeat, From: 3, Term: 5, Round: 4})
	out := s.take()
	want := Message{Type: MsgPromise, Group: test, From: 1, To: 3, Term: 5, Round: 4, Index: uint64(timeout)}
	if p := ofType(out, MsgPromise); len(p) != 1 || p[0].Round != want.Round || p[0].Index != want.Index || p[0].To != want.To {
		t.Fatalf("%+v", out.Messages)
	}
	return s
}

// Whoever has promised votes for nobody else and does not stand, although it has lost
// its connection to the leader, until an election timeout has passed by both clocks.
func TestPromiseIsKept(t *testing.T) {
	vote := Message{Type: MsgVote, From: 2, Term: 6, Index: 9, LogTerm: 5}
	preVote := Message{Type: MsgPreVote, From: 2, Term: 6, Index: 9, LogTerm: 5}
	for _, c := range []struct {
		name      string
		now, real int
		bound     bool
	}{
		{"at once", 0, 0, true},
		{"at the end", 99, 99, true},
		{"the host's clock jumps", 20, 5000, true},
		{"the groups' time was held up", 99, 300, true},
		{"the host's clock is read late", 200, 99, true},
		{"over", 100, 100, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := promising(t)
			s.LeaderLost(at(0), 3)
			s.Clock(real(c.real))
			s.step(at(c.now), preVote)
			if p := ofType(s.take(), MsgPreVoteReply); len(p) != 1 || p[0].Reject != c.bound {
				t.Errorf("pre-vote: %+v", p)
			}
			s.Campaign(at(c.now))
			if stands := s.role != Follower; stands == c.bound {
				t.Errorf("it stands: %v", stands)
			}
			s.take()
			s.step(at(c.now), vote)
			if votes := s.hard.Vote == 2; votes == c.bound {
				t.Errorf("it votes: %v", votes)
			}
		})
	}
	s := promising(t)
	s.step(at(1), Message{Type: MsgVote, From: 2, Term: 6, Index: 9, LogTerm: 5, Force: true})
	if s.hard.Vote != 2 {
		t.Error("the leader's own wish to hand over is refused")
	}
	s = promising(t)
	s.LeaderLost(at(0), 3)
	s.step(at(1), Message{Type: MsgVote, From: 3, Term: 6, Index: 9, LogTerm: 5})
	if s.hard.Vote != 3 {
		t.Error("the leader that it promised its vote is refused it")
	}
}

// Nothing of a promise is on disk, so whoever begins keeps those that it may have made.
func TestPromiseOfAnEarlierLife(t *testing.T) {
	for _, c := range []struct {
		now, real int
		vote      smr.ReplicaID
	}{{0, 0, 0}, {99, 99, 0}, {99, 100, 0}, {100, 99, 0}, {100, 100, 2}} {
		s := newSingle(t, 3, 5, []uint64{1}, func(cfg *Config, _ *Start) { leased(cfg) })
		s.Clock(real(0))
		s.Clock(real(c.real))
		s.step(at(c.now), Message{Type: MsgVote, From: 2, Term: 6, Index: 9, LogTerm: 5})
		if s.hard.Vote != c.vote {
			t.Errorf("at %d and %d ms it votes for %d", c.now, c.real, s.hard.Vote)
		}
	}
}
