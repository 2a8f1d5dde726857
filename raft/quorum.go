package raft

import "github.com/quorate/quorate/smr"

// A decision needs a majority of the voters; in a joint configuration a
// majority of the old and a majority of the new ones (thesis §4.3). Elections,
// commits, rounds of heartbeats and check-quorum all ask the same question: how
// great a value has a quorum reached?

// isVoter says who counts in a majority.
func isVoter(role smr.Role) bool { return role == smr.Voter || role == smr.Witness }

// reached returns the greatest v such that a quorum of the members have a value
// of at least v. It is zero where there are no voters.
func (m *membership) reached(value func(p *progress) uint64) uint64 {
	var space [16]uint64
	values := space[:0]
	for i := range m.peers {
		if p := &m.peers[i]; isVoter(p.role) {
			values = append(values, value(p))
		}
	}
	v := majority(values)
	if !m.joint {
		return v
	}
	values = space[:0]
	for i := range m.peers {
		if p := &m.peers[i]; isVoter(p.old) {
			values = append(values, value(p))
		}
	}
	return min(v, majority(values))
}

// majority returns the greatest v that more than half of the values reach. It
// reorders them.
func majority(values []uint64) uint64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	for i := 1; i < n; i++ {
		for j := i; j > 0 && values[j] > values[j-1]; j-- {
			values[j], values[j-1] = values[j-1], values[j]
		}
	}
	return values[n/2]
}

// won reports whether the votes granted are a quorum, lost whether the votes
// refused leave none possible.
func (m *membership) won() bool {
	return m.reached(func(p *progress) uint64 {
		if p.ballot == granted {
			return 1
		}
		return 0
	}) == 1
}

func (m *membership) lost() bool {
	return m.reached(func(p *progress) uint64 {
		if p.ballot >= refused {
			return 0
		}
		return 1
	}) == 0
}

// leaderless reports whether a quorum has answered this replica's pre-vote as
// voters do that hear no leader.
func (m *membership) leaderless() bool {
	return m.reached(func(p *progress) uint64 {
		if p.ballot == granted || p.ballot == offered {
			return 1
		}
		return 0
	}) == 1
}

// alone reports whether there is just one member that counts in a majority.
func (m *membership) alone() bool {
	n := 0
	for i := range m.peers {
		if isVoter(m.peers[i].role) || isVoter(m.peers[i].old) {
			n++
		}
	}
	return n == 1
}
