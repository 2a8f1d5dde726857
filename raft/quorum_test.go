package raft

import (
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate/smr"
)

// Raft §6: "Agreement (for elections and entry commitment) requires separate
// majorities from both the old and new configurations." Compared with trying
// every value and counting.
func TestQuorumAgainstBruteForce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	roles := []smr.Role{0, smr.Voter, smr.Voter, smr.Learner, smr.Witness}
	for range 20000 {
		m := membership{joint: rng.IntN(2) == 0}
		for i := range 1 + rng.IntN(20) {
			p := progress{id: smr.ReplicaID(i + 1), role: roles[rng.IntN(5)], match: uint64(rng.IntN(6)), ballot: ballot(rng.IntN(3))}
			if m.joint {
				p.old = roles[rng.IntN(5)]
			}
			m.peers = append(m.peers, p)
		}
		has := func(ok func(p *progress) bool) bool {
			half := func(role func(p *progress) smr.Role) bool {
				voters, yes := 0, 0
				for i := range m.peers {
					if r := role(&m.peers[i]); r == smr.Voter || r == smr.Witness {
						voters++
						if ok(&m.peers[i]) {
							yes++
						}
					}
				}
				return 2*yes > voters
			}
			return half(func(p *progress) smr.Role { return p.role }) &&
				(!m.joint || half(func(p *progress) smr.Role { return p.old }))
		}
		want := uint64(0)
		for v := uint64(1); v < 6 && has(func(p *progress) bool { return p.match >= v }); v++ {
			want = v
		}
		if got := m.reached(func(p *progress) uint64 { return p.match }); got != want {
			t.Fatalf("%+v: reached %d, want %d", m, got, want)
		}
		if got, want := m.won(), has(func(p *progress) bool { return p.ballot == granted }); got != want {
			t.Fatalf("%+v: won %v, want %v", m, got, want)
		}
		if got, want := m.lost(), !has(func(p *progress) bool { return p.ballot != refused }); got != want {
			t.Fatalf("%+v: lost %v, want %v", m, got, want)
		}
	}
}

func TestJointConfigurations(t *testing.T) {
	old := smr.Configuration{Members: []smr.Member{{ID: 1, Role: smr.Voter}, {ID: 2, Role: smr.Voter}, {ID: 4, Role: smr.Learner}}}
	target := smr.Configuration{Members: []smr.Member{{ID: 2, Role: smr.Voter}, {ID: 3, Role: smr.Voter}, {ID: 4, Role: smr.Voter}}}
	joint := jointOf(old, target)
	want := "{[{1 0 1} {2 1 1} {3 1 0} {4 1 2}] true}"
	if got := sprint(joint); got != want {
		t.Errorf("joint: %s, want %s", got, want)
	}
	if err := checkConfiguration(&joint); err != nil {
		t.Error(err)
	}
	if got, want := sprint(leaveOf(joint)), sprint(target); got != want {
		t.Errorf("leave: %s, want %s", got, want)
	}
}
