package host

import (
	"slices"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wire"
)

// pulses is how the hosts of a shard's groups vouch for one another, so that
// groups in which nothing happens can rest (see raft's rest): one small item for
// each peer in each heartbeat interval, however many groups there are.
//
// A peer is silent when nothing has come from it for an election timeout, or the
// connection broke. Then all groups are told: followers lose their leader, leaders
// that rest go on without a member or wake. They are told again when it is heard
// again. A pulse carries the sender's life: another one than before is a silence
// that was too short to be heard.
//
// Invariants:
//
//  1. peers holds every other member of every group, as far as this replica of it
//     knew at its last change of role, term or configuration.
//  2. While peers is not empty, at is at most a heartbeat interval away.
//  3. walks are in the order of what they tell; a group is told all of it. One
//     that begins to lead is told then who is silent.
type pulses struct {
	peers []pulsePeer
	// at is when pulses are due. late: the last ones were sent long after they
	// were due, so that this host, not its peers, was silent.
	at    smr.Instant
	late  bool
	walks []walk
}

type pulsePeer struct {
	id     smr.ReplicaID
	heard  smr.Instant
	life   uint64 // zero: not known
	silent bool
}

// walk tells all groups, some in each turn, what has become of a peer.
type walk struct {
	peer smr.ReplicaID
	lost bool // else: it is heard again
	next int  // in Shard.all
}

const (
	// walkGroups is how many groups are told in one turn.
	walkGroups = 256
	// pulsePeersMax bounds the peers that are no member of any group here.
	pulsePeersMax = 1024
)

func (p *pulses) find(id smr.ReplicaID) *pulsePeer {
	for i := range p.peers {
		if p.peers[i].id == id {
			return &p.peers[i]
		}
	}
	return nil
}

func (p *pulses) add(now smr.Instant, id smr.ReplicaID) *pulsePeer {
	p.peers = append(p.peers, pulsePeer{id: id, heard: now})
	p.at = min(p.at, now)
	return &p.peers[len(p.peers)-1]
}

// follow notes the members of a group whose role, term or configuration has
// changed, and tells a leader which of them are silent.
func (s *Shard) follow(now smr.Instant, g *group) {
	if s.cfg.NoRest {
		return
	}
	leads := g.core.State().Role == raft.Leader
	for _, m := range g.core.Configuration().Members {
		if m.ID == s.id {
			continue
		}
		if q := s.pulses.find(m.ID); q == nil {
			s.pulses.add(now, m.ID)
		} else if q.silent && leads {
			g.core.Unreachable(now, m.ID)
		}
	}
}

// followRest notes after a group's turn whether it rests.
func (s *Shard) followRest(g *group) {
	resting := g.failed == nil && g.core.Resting()
	if resting == g.resting {
		return
	}
	g.resting = resting
	if resting {
		s.metrics.rests.Add(1)
		s.metrics.groupsResting.Add(1)
		return
	}
	s.metrics.woken[g.cause].Add(1)
	s.metrics.groupsResting.Add(^uint64(0))
	g.cause = wokenOther
}

// pulse sends the pulses that are due, and looks who has fallen silent.
func (s *Shard) pulse(now smr.Instant) {
	p := &s.pulses
	if now < p.at {
		return
	}
	due := p.at
	p.at = smr.Never
	if s.failed != nil || s.without.Pulse {
		return // its groups are dead: nothing is vouched for
	}
	p.at = now.Add(s.cfg.HeartbeatInterval)
	// A host that was paused finds its peers silent. It listens once more; but
	// one that is late each time must not go on so.
	was := p.late
	p.late = now.Sub(due) > s.cfg.ElectionTimeout/2
	for i := range p.peers {
		q := &p.peers[i]
		f := s.out.frame(q.id)
		f.B = wire.AppendPulse(f.B, &wire.Pulse{Life: s.origin})
		switch {
		case q.silent || now.Sub(q.heard) < s.cfg.ElectionTimeout:
		case p.late && !was:
			q.heard = now
		default:
			s.fellSilent(q)
		}
	}
}

func (s *Shard) fellSilent(q *pulsePeer) {
	q.silent = true
	s.metrics.pulsesLost.Add(1)
	s.tell(q.id, true)
}

// heard notes that something came from a peer.
func (s *Shard) heard(now smr.Instant, peer smr.ReplicaID) {
	q := s.pulses.find(peer)
	if q == nil {
		return
	}
	q.heard = now
	if q.silent {
		q.silent = false
		s.metrics.pulsesBack.Add(1)
		s.tell(peer, false)
	}
}

// pulsed takes a peer's pulse.
func (s *Shard) pulsed(now smr.Instant, peer smr.ReplicaID, life uint64) {
	p := &s.pulses
	q := p.find(peer)
	if q == nil {
		if len(p.peers) >= pulsePeersMax {
			return
		}
		q = p.add(now, peer)
	}
	if q.life != 0 && q.life != life {
		s.metrics.pulsesLost.Add(1)
		s.tell(peer, true)
		s.tell(peer, false)
	}
	q.life = life
}

// peerDown notes that the connection to a peer broke. Groups that are awake are
// told as well: they need not wait for a timeout to find out.
func (s *Shard) peerDown(peer smr.ReplicaID) {
	if q := s.pulses.find(peer); q != nil {
		q.silent = true
	}
	s.tell(peer, true)
}

func (s *Shard) tell(peer smr.ReplicaID, lost bool) {
	w := walk{peer: peer, lost: lost}
	if n := len(s.pulses.walks); n > 0 && s.pulses.walks[n-1] == w {
		return // the same, and not begun
	}
	s.pulses.walks = append(s.pulses.walks, w)
}

// walk tells some of the groups what they are to know.
func (s *Shard) walk(now smr.Instant) {
	p := &s.pulses
	for left := walkGroups; left > 0 && len(p.walks) > 0; {
		w := &p.walks[0]
		for ; left > 0 && w.next < len(s.all); left-- {
			g := s.all[w.next]
			w.next++
			if g.failed == nil {
				g.guard(func() { g.told(now, w) })
			}
		}
		if w.next == len(s.all) {
			p.walks = slices.Delete(p.walks, 0, 1)
		}
	}
}

// told is what a walk tells a group.
func (g *group) told(now smr.Instant, w *walk) {
	v := g.core.State()
	switch {
	case !w.lost && g.resting:
		g.core.Reachable(now, w.peer)
	case w.lost && v.Leader == w.peer:
		g.core.LeaderLost(now, w.peer)
	case w.lost && v.Role == raft.Leader:
		g.core.Unreachable(now, w.peer)
	default:
		return // it is nothing to this group
	}
	if !g.core.Resting() {
		g.wokenBy(wokenHost)
		g.shard.activate(g)
	}
}

// woken is why groups no longer rest.
type woken uint8

const (
	wokenOther   woken = iota // a renewal, a transfer
	wokenClient               // a request of this host's clients
	wokenForward              // a request of another host's, or a snapshot
	wokenMessage              // a message of a core
	wokenHost                 // a host was lost, or is heard again
	wokenCauses
)

// wokenBy notes what happens to a group; if that ends its rest, it was this.
func (g *group) wokenBy(cause woken) {
	if g.resting && g.cause == wokenOther {
		g.cause = cause
	}
}

// wake ends a rest for what the core does not see.
func (g *group) wake(now smr.Instant, cause woken) {
	if g.failed == nil && g.core.Resting() {
		g.wokenBy(cause)
		g.guard(func() { g.core.Wake(now) })
	}
}
