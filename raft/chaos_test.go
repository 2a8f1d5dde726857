package raft

import (
	"time"

	"github.com/quorate/quorate/smr"
)

// chaos is one random action.
func (c *cluster) chaos() {
	f := &c.faults
	n := c.nodes[c.rng.IntN(len(c.nodes))]
	if !n.up {
		return
	}
	if c.chance(f.propose) {
		c.propose(n, 1+c.rng.IntN(3))
	}
	if c.chance(f.read) {
		c.request++
		ticket := c.request
		c.with(n, func(r *Raft) {
			if r.ReadIndex(c.now, ticket) == nil {
				n.reads[ticket] = uint64(len(c.committed))
			}
		})
	}
	if c.chance(f.compact) {
		c.with(n, func(r *Raft) {
			index := r.apply.applied - min(r.apply.applied, uint64(c.rng.IntN(20)))
			meta, err := r.SnapshotMeta(index)
			if err == nil && len(n.disk.pending) == 0 && r.Compact(index) == nil {
				n.disk.compact(meta)
			}
		})
	}
	if c.chance(f.change) {
		c.with(n, func(r *Raft) {
			if r.ProposeConfiguration(c.now, c.randomMembers()) == nil {
				c.stats.changes++
			}
		})
	}
	if c.chance(f.crash) {
		c.crash(n)
	}
	c.disturb(n)
}

// disturb is what operators and networks do.
func (c *cluster) disturb(n *node) {
	f := &c.faults
	if c.chance(f.admin) {
		peer := smr.ReplicaID(1 + c.rng.IntN(len(c.nodes)))
		c.with(n, func(r *Raft) {
			switch c.rng.IntN(4) {
			case 0:
				_ = r.Transfer(c.now, peer)
			case 1:
				r.Unreachable(c.now, peer)
			case 2:
				r.LeaderLost(c.now, peer)
			case 3:
				r.Campaign(c.now)
			}
		})
	}
	if c.chance(f.rivals) {
		for _, n := range c.nodes {
			if c.chance(500) {
				c.with(n, func(r *Raft) { r.Campaign(c.now) })
			}
		}
	}
	if c.chance(f.partition) {
		clear(c.block)
		if c.chance(600) {
			for a := range c.nodes {
				for b := range c.nodes {
					if c.chance(300) {
						c.block[[2]smr.ReplicaID{smr.ReplicaID(a + 1), smr.ReplicaID(b + 1)}] = true
					}
				}
			}
		}
	}
}

func (c *cluster) randomMembers() smr.Configuration {
	var k smr.Configuration
	for i := range c.nodes {
		switch c.rng.IntN(4) {
		case 0, 1:
			k.Members = append(k.Members, smr.Member{ID: smr.ReplicaID(i + 1), Role: smr.Voter})
		case 2:
			k.Members = append(k.Members, smr.Member{ID: smr.ReplicaID(i + 1), Role: smr.Learner})
		}
	}
	return k
}

// storm runs chaos for a while, with an action every few milliseconds.
func (c *cluster) storm(d time.Duration) {
	end := c.now + smr.Instant(d)
	for c.now < end && c.violation == "" {
		c.run(c.now + smr.Instant(1+c.rng.IntN(8))*ms)
		c.chaos()
		if c.rng.IntN(50) == 0 {
			c.checkLogs()
		}
	}
	c.checkLogs()
}

// hunt cuts a new leader off from some followers, and crashes it soon.
func (c *cluster) hunt(n *node) {
	for _, other := range c.nodes {
		if c.chance(600) {
			c.block[[2]smr.ReplicaID{n.id, other.id}] = true
		}
	}
	c.after(smr.Instant(c.rng.IntN(int(c.config.ElectionTimeout/2))), func() {
		for _, other := range c.nodes {
			delete(c.block, [2]smr.ReplicaID{n.id, other.id})
		}
		if n.up {
			c.crash(n)
		}
	})
}
