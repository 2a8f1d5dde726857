package raft

import (
	"fmt"

	"github.com/quorate/quorate/smr"
)

// membership is who belongs to the group. A configuration is in force from the
// moment that it is appended (thesis §4.1), and an older one again when it is
// truncated.
//
// Invariants:
//
//	(M1) history is not empty and ascends; its first element is the one in
//	     force where the log begins, all others are entries of the log
//	(M2) peers are the members of the newest configuration, sorted by id
type membership struct {
	self    smr.ReplicaID
	peers   []progress
	joint   bool
	history []configurationAt
}

type configurationAt struct {
	index uint64
	smr.Configuration
}

func (m *membership) active() *configurationAt { return &m.history[len(m.history)-1] }

// peer returns the member id, or nil.
func (m *membership) peer(id smr.ReplicaID) *progress {
	for i := range m.peers {
		if m.peers[i].id == id {
			return &m.peers[i]
		}
	}
	return nil
}

// rebuild makes peers those of the newest configuration. What is known of a
// member that stays is kept; a new one begins after last.
func (m *membership) rebuild(last uint64, now smr.Instant) {
	c := m.active()
	peers := make([]progress, len(c.Members))
	for i, member := range c.Members {
		if old := m.peer(member.ID); old != nil {
			peers[i] = *old
		} else {
			peers[i].id = member.ID
			peers[i].lead(last, now)
		}
		peers[i].role, peers[i].old = member.Role, member.Old
	}
	m.peers, m.joint = peers, c.Joint
}

// mayStand reports whether this replica is a voter. A learner never stands, nor
// does a witness, nor one that was removed. But while the configuration in force
// is not committed, a voter of the one before it stands too (thesis §4.2.2: "a
// server that is not part of its own latest configuration should still start
// new elections"): it may be the only one that has that entry, and refuse its
// vote to everybody who has not.
func (r *Raft) mayStand() bool {
	h := r.members.history
	for n := len(h) - 1; n >= 0; n-- {
		for i := range h[n].Members {
			m := &h[n].Members[i]
			if m.ID == r.cfg.ID && (m.Role == smr.Voter || m.Old == smr.Voter) {
				return true
			}
		}
		if h[n].index <= r.hard.Commit {
			return false
		}
	}
	return false
}

// configurationAppended notes a configuration entry of the log.
func (r *Raft) configurationAppended(index uint64, c smr.Configuration) {
	r.members.history = append(r.members.history, configurationAt{index, c})
	r.members.rebuild(r.log.last, r.now)
}

// truncateLog drops the entries after last, and the configurations in them.
func (r *Raft) truncateLog(last uint64) {
	r.log.truncate(last)
	h := r.members.history
	n := len(h)
	for n > 1 && h[n-1].index > last {
		n--
	}
	if n < len(h) {
		r.members.history = h[:n]
		r.members.rebuild(last, r.now)
	}
}

// configurationAt returns the configuration in force at index.
func (m *membership) at(index uint64) smr.Configuration {
	n := len(m.history) - 1
	for n > 0 && m.history[n].index > index {
		n--
	}
	return m.history[n].Configuration
}

// compact forgets the configurations before the one in force at index.
func (m *membership) compact(index uint64) {
	n := 0
	for n+1 < len(m.history) && m.history[n+1].index <= index {
		n++
	}
	m.history = append([]configurationAt(nil), m.history[n:]...)
	m.history[0].index = index
}

func decodeConfiguration(data []byte) (smr.Configuration, error) {
	c, rest, err := smr.DecodeConfiguration(data)
	if err != nil {
		return c, err
	}
	if len(rest) > 0 {
		return c, fmt.Errorf("%w: %d bytes after a configuration", smr.ErrCorrupt, len(rest))
	}
	return c, checkConfiguration(&c)
}

func checkConfiguration(c *smr.Configuration) error {
	var voters, old int
	for i, m := range c.Members {
		switch {
		case m.ID == 0 || i > 0 && m.ID <= c.Members[i-1].ID:
			return fmt.Errorf("%w: member %d of %d has id %d; ids are above zero and ascend", ErrConfiguration, i, len(c.Members), m.ID)
		case m.Role > smr.Witness || m.Old > smr.Witness || m.Role == 0 && m.Old == 0:
			return fmt.Errorf("%w: member %d has the roles %d and %d", ErrConfiguration, m.ID, m.Role, m.Old)
		case !c.Joint && m.Old != 0:
			return fmt.Errorf("%w: member %d has an old role outside a joint configuration", ErrConfiguration, m.ID)
		}
		if isVoter(m.Role) {
			voters++
		}
		if isVoter(m.Old) {
			old++
		}
	}
	if voters == 0 || c.Joint && old == 0 {
		return fmt.Errorf("%w: it has no voters", ErrConfiguration)
	}
	return nil
}

func cloneConfiguration(c smr.Configuration) smr.Configuration {
	c.Members = append([]smr.Member(nil), c.Members...)
	return c
}

// ProposeConfiguration changes the membership to target, which is not joint.
// The leader appends the joint configuration of both (thesis §4.3), which is in
// force at once, and once that is committed it appends target itself. A leader
// that is not in target steps down when target is committed.
//
// It returns ErrNotLeader; ErrConfigurationPending while another change is
// under way or before the leader has committed an entry of its own term;
// ErrTransferring; ErrConfiguration for a target that no group can have.
func (r *Raft) ProposeConfiguration(now smr.Instant, target smr.Configuration) error {
	r.at(now)
	active := r.members.active()
	switch {
	case r.role != Leader:
		return ErrNotLeader
	case r.lead.transferee != 0:
		return ErrTransferring
	case target.Joint:
		return fmt.Errorf("%w: the target of a change is not joint", ErrConfiguration)
	case active.index > r.hard.Commit || active.Joint:
		return ErrConfigurationPending
	case r.hard.Commit < r.lead.termStart && !r.off.has(offOwnTermConfig):
		return ErrConfigurationPending
	}
	if err := checkConfiguration(&target); err != nil {
		return err
	}
	for _, m := range target.Members {
		if m.Role == smr.Witness {
			return fmt.Errorf("%w: member %d: witnesses are not supported yet", ErrConfiguration, m.ID)
		}
	}
	r.wake()
	next := jointOf(active.Configuration, target)
	if r.off.has(offJoint) {
		next = cloneConfiguration(target)
	}
	r.appendConfiguration(next)
	r.check()
	return nil
}

// jointOf returns the configuration between two.
func jointOf(old, target smr.Configuration) smr.Configuration {
	c := smr.Configuration{Joint: true}
	a, b := old.Members, target.Members
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].ID < b[0].ID:
			c.Members = append(c.Members, smr.Member{ID: a[0].ID, Old: a[0].Role})
			a = a[1:]
		case len(a) == 0 || b[0].ID < a[0].ID:
			c.Members = append(c.Members, smr.Member{ID: b[0].ID, Role: b[0].Role})
			b = b[1:]
		default:
			c.Members = append(c.Members, smr.Member{ID: a[0].ID, Role: b[0].Role, Old: a[0].Role})
			a, b = a[1:], b[1:]
		}
	}
	return c
}

// leaveOf returns the configuration that a joint one ends in.
func leaveOf(joint smr.Configuration) smr.Configuration {
	var c smr.Configuration
	for _, m := range joint.Members {
		if m.Role != 0 {
			c.Members = append(c.Members, smr.Member{ID: m.ID, Role: m.Role})
		}
	}
	return c
}

func (r *Raft) appendConfiguration(c smr.Configuration) {
	r.appendOwn(smr.Entry{Kind: smr.KindConfiguration, Data: smr.AppendConfiguration(nil, &c)})
	r.configurationAppended(r.log.last, c)
	r.voidLease() // it rests on promises to leaders of another configuration
}

// configurationCommitted does what a leader does once the configuration in
// force is committed: it leaves a joint one, and steps down if it is no voter
// of the one that remains (thesis §4.2.2).
func (r *Raft) configurationCommitted() {
	active := r.members.active()
	switch {
	case active.Joint && r.hard.Commit >= r.lead.termStart:
		r.appendConfiguration(leaveOf(active.Configuration))
	case !active.Joint && !r.mayStand():
		r.becomeFollower(r.hard.Term, 0)
	}
}
