package raft

import (
	"errors"
	"testing"

	"github.com/quorate/quorate/smr"
)

func configurationEntry(index, term uint64, c smr.Configuration) smr.Entry {
	return smr.Entry{Index: index, Term: term, Kind: smr.KindConfiguration, Data: smr.AppendConfiguration(nil, &c)}
}

// Thesis §4.1: "The new configuration takes effect on each server as soon as it
// is added to that server's log", and: "a server must be prepared to fall back to
// the previous configuration in its log" when it is truncated.
func TestConfigurationsAreActiveOnAppendAndRevert(t *testing.T) {
	s := newSingle(t, 3, 1, []uint64{1}, nil)
	joint := jointOf(voters(1, 2, 3), voters(2, 3, 4))
	s.step(at(1), Message{Type: MsgAppend, From: 2, Term: 1, Index: 1, LogTerm: 1, Entries: []smr.Entry{
		configurationEntry(2, 1, joint), configurationEntry(3, 1, voters(2, 3, 4)),
	}})
	if o := s.take(); !o.Changed || sprint(s.Status().Configuration) != sprint(voters(2, 3, 4)) {
		t.Errorf("changed %v: %v", o.Changed, s.Status().Configuration)
	}
	s.step(at(2), Message{Type: MsgAppend, From: 3, Term: 2, Index: 2, LogTerm: 1, Entries: entriesOf(3, 2)})
	if got := s.Status().Configuration; sprint(got) != sprint(joint) {
		t.Errorf("after the truncation: %v", got)
	}
	s.step(at(3), Message{Type: MsgAppend, From: 3, Term: 3, Index: 1, LogTerm: 1, Entries: entriesOf(2, 3)})
	if o := s.take(); !o.Changed || sprint(s.Status().Configuration) != sprint(voters(1, 2, 3)) {
		t.Errorf("after both are gone: %v", s.Status().Configuration)
	}
}

// A configuration that cannot be decoded is not taken from anybody.
func TestBadConfigurationsAreIgnored(t *testing.T) {
	for _, data := range [][]byte{nil, {9}, {0, 0}, append(smr.AppendConfiguration(nil, &smr.Configuration{Members: voters(1).Members}), 0)} {
		s := newSingle(t, 3, 1, nil, nil)
		s.step(at(1), Message{Type: MsgAppend, From: 2, Term: 1, Entries: []smr.Entry{{Index: 1, Term: 1, Kind: smr.KindConfiguration, Data: data}}})
		if s.log.last != 0 {
			t.Errorf("configuration %v was taken", data)
		}
	}
}

// A whole change: three voters become three others, of which one stays.
func TestMembershipChange(t *testing.T) {
	l := newLockstep(t, 5, func(_ *Config, s *Start) { s.Snapshot.Configuration = voters(1, 2, 3) }, Paranoid())
	l.record = true
	r := l.elect(1)
	l.propose(r, 3, 8)
	l.settle()
	if err := r.ProposeConfiguration(l.now, voters(3, 4, 5)); err != nil {
		t.Fatal(err)
	}
	if err := r.ProposeConfiguration(l.now, voters(1, 2)); !errors.Is(err, ErrConfigurationPending) {
		t.Errorf("a second change meanwhile: %v", err)
	}
	if got := sprint(r.Status().Configuration); got != "{[{1 0 1} {2 0 1} {3 1 1} {4 1 0} {5 1 0}] true}" {
		t.Errorf("joint: %s", got)
	}
	l.settle()
	if r.role == Leader {
		t.Error("the leader is not a voter any more and leads on")
	}
	l.pass(5 * timeout)
	var leader *Raft
	for _, c := range l.cores[2:] {
		if c.role == Leader {
			leader = c
		}
		if got := sprint(c.Status().Configuration); got != sprint(voters(3, 4, 5)) {
			t.Errorf("replica %d: %s", c.cfg.ID, got)
		}
	}
	if leader == nil {
		t.Fatal("no leader among the new voters")
	}
	l.down[0], l.down[1] = true, true
	l.propose(leader, 1, 8)
	l.settle()
	if leader.hard.Commit != leader.log.last {
		t.Error("the new voters do not commit by themselves")
	}
}

// Raft §6: "Agreement (for elections and entry commitment) requires separate
// majorities from both the old and new configurations."
func TestJointCommitNeedsBothMajorities(t *testing.T) {
	s := streaming(t, nil)
	if err := s.ProposeConfiguration(s.now, voters(1, 4, 5)); err != nil {
		t.Fatal(err)
	}
	s.settle(s.now) // its own disk
	ack := func(from smr.ReplicaID) {
		s.step(s.now, Message{Type: MsgAppendReply, From: from, Term: 1, Index: 2})
		s.take()
	}
	ack(2)
	ack(3)
	if s.hard.Commit != 1 {
		t.Fatal("committed by the old voters alone")
	}
	ack(4)
	if s.hard.Commit != 2 {
		t.Fatal("not committed by both majorities")
	}
	if got := s.Status().Configuration; sprint(got) != sprint(voters(1, 4, 5)) {
		t.Errorf("the leave entry follows at once: %v", got)
	}
	if err := s.ProposeConfiguration(s.now, voters(1)); !errors.Is(err, ErrConfigurationPending) {
		t.Errorf("a change before the leave entry is committed: %v", err)
	}
}

// Ongaro's note of 2015 on single-server changes: a leader appends no
// configuration before it has committed an entry of its current term.
func TestChangesWaitForAnEntryOfTheOwnTerm(t *testing.T) {
	s := newSingle(t, 3, 1, nil, nil)
	if err := s.ProposeConfiguration(0, voters(1)); !errors.Is(err, ErrNotLeader) {
		t.Error(err)
	}
	s.elect(at(1000))
	if err := s.ProposeConfiguration(s.now, voters(1)); !errors.Is(err, ErrConfigurationPending) {
		t.Error(err)
	}
	s = streaming(t, nil)
	for _, bad := range []smr.Configuration{{}, {Joint: true}, {Members: []smr.Member{{ID: 1, Role: smr.Learner}}}, {Members: []smr.Member{{ID: 2, Role: 1}, {ID: 1, Role: 1}}}, {Members: []smr.Member{{ID: 1, Role: 1}, {ID: 2, Role: smr.Witness}}}} {
		if err := s.ProposeConfiguration(s.now, bad); !errors.Is(err, ErrConfiguration) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// Thesis §4.2.2: "A server that is not part of its own latest configuration
// should still start new elections, as it might still be needed until the Cnew
// entry is committed". Replica 1 alone has that entry, and a longer log than
// the only voter that remains.
func TestRemovedReplicaStandsUntilItsRemovalIsCommitted(t *testing.T) {
	s := newSingle(t, 1, 1, []uint64{1}, nil)
	s.step(at(1), Message{Type: MsgAppend, From: 2, Term: 1, Index: 1, LogTerm: 1, Entries: []smr.Entry{configurationEntry(2, 1, voters(2))}})
	if !s.mayStand() || s.Deadline() == smr.Never {
		t.Error("it must stand while its removal is not committed")
	}
	s.step(at(2), Message{Type: MsgAppend, From: 2, Term: 1, Index: 2, LogTerm: 1, Commit: 2})
	if s.mayStand() || s.Deadline() != smr.Never {
		t.Error("it must not stand once its removal is committed")
	}
}
