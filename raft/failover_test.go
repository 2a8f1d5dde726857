package raft

import (
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
)

// A leader is killed, and its connections break for the others at different
// moments. Whatever the order in which they notice, and whichever log is the
// longer one, a new leader is there in a fraction of an election timeout: a
// pre-vote that was refused is tried again soon, and a voter that refuses one for
// its own longer log stands itself.
func TestFailoverDoesNotWaitForATimeout(t *testing.T) {
	for _, longer := range []smr.ReplicaID{0, 2, 3} {
		for _, lag := range []time.Duration{0, timeout / 16, timeout / 8, timeout / 3} {
			l := newLockstep(t, 3, nil)
			r := l.elect(1)
			l.pass(timeout)
			if longer != 0 {
				// Only one follower has the newest entry.
				l.drop = func(m *Message) bool { return m.Type == MsgAppend && m.To != longer }
				l.propose(r, 1, 10)
				l.turn()
			}
			l.down[0] = true
			l.drop = nil
			began := l.now
			l.cores[1].LeaderLost(l.now, 1)
			l.pass(lag)
			l.cores[2].LeaderLost(l.now, 1)
			for l.cores[1].role != Leader && l.cores[2].role != Leader && l.now.Sub(began) < 3*timeout {
				l.pass(time.Millisecond)
			}
			if took := l.now.Sub(began); took > lag+timeout/2 {
				t.Errorf("replica %d has the longer log, the other notices %v later: a new leader after %v", longer, lag, took)
			}
			if longer != 0 && l.cores[longer-1].role != Leader {
				t.Errorf("replica %d has the longer log and does not lead", longer)
			}
		}
	}
}

// A sole voter has nobody to wait for.
func TestSoleVoterLeadsAtOnce(t *testing.T) {
	l := newLockstep(t, 1, nil)
	l.pass(0)
	if l.cores[0].role != Leader {
		t.Errorf("%+v after no time", l.cores[0].State())
	}
}
