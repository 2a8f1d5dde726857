package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// quorateCluster is hosts of Quorate at their defaults.
type quorateCluster struct {
	hosts   []*host.Host
	groups  [][]*host.Group // by group, by host
	leaders []atomic.Int32  // by group: the host that leads
}

func startQuorate(s setup) (system, error) {
	without, err := protections(s.without)
	if err != nil {
		return nil, err
	}
	c := &quorateCluster{leaders: make([]atomic.Int32, s.groups), groups: make([][]*host.Group, s.groups)}
	listeners, peers := make([]net.Listener, s.replicas), map[smr.ReplicaID]string{}
	var ids []smr.ReplicaID
	for i := range s.replicas {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		id := smr.ReplicaID(i + 1)
		ids, listeners[i], peers[id] = append(ids, id), l, l.Addr().String()
	}
	for i, id := range ids {
		h, err := host.OpenWithout(host.Config{ID: id, Cluster: 7, Dir: replicaDir(s.dir, i+1), Listener: listeners[i], Peers: peers, Logger: slog.New(slog.DiscardHandler)}, without)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.hosts = append(c.hosts, h)
		for g := range s.groups {
			group, err := h.StartGroup(host.GroupConfig{ID: smr.GroupID(g + 1), Members: host.Voters(ids...), Machine: newQuorateMachine(s.snapshots)})
			if err != nil {
				return nil, errors.Join(err, c.Close())
			}
			c.groups[g] = append(c.groups[g], group)
		}
	}
	if err := c.awaitGroups(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// startsAtOnce is how many groups are asked at a time for their first command.
const startsAtOnce = 256

// awaitGroups returns when every group has a leader and has applied all that was
// in its log.
func (c *quorateCluster) awaitGroups() error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for range min(startsAtOnce, len(c.groups)) {
		all.Go(func() {
			for g := int(next.Add(1) - 1); g < len(c.groups) && failed.Load() == nil; g = int(next.Add(1) - 1) {
				// Whichever host is asked, the proposal finds the leader.
				if err := c.first(g); err != nil {
					err = fmt.Errorf("group %d: %w", g+1, err)
					failed.CompareAndSwap(nil, &err)
				}
				c.findLeader(g)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// first is a group's first command, which many groups at once may find busy.
func (c *quorateCluster) first(group int) (err error) {
	for range 10 {
		if err = c.ProposeAt(context.Background(), 0, group, []byte("first")); err == nil {
			return err
		}
	}
	return err
}

func (c *quorateCluster) findLeader(group int) {
	for i, g := range c.groups[group] {
		if g.Status().Role == raft.Leader {
			c.leaders[group].Store(int32(i))
		}
	}
}

func (c *quorateCluster) leader(group int) *host.Group {
	return c.groups[group][c.leaders[group].Load()]
}

func (c *quorateCluster) Propose(_ context.Context, group int, command []byte) error {
	_, err := c.leader(group).Propose(context.Background(), command)
	if err != nil {
		c.findLeader(group)
	}
	return err
}

func (c *quorateCluster) Read(_ context.Context, group int) error {
	_, err := c.leader(group).Read(context.Background(), nil)
	if err != nil {
		c.findLeader(group)
	}
	return err
}

// Leader is the host that leads a group.
func (c *quorateCluster) Leader(group int) int {
	c.findLeader(group)
	return int(c.leaders[group].Load())
}

// ProposeAt proposes at a host, which passes it on to the leader.
func (c *quorateCluster) ProposeAt(ctx context.Context, i, group int, command []byte) error {
	_, err := c.groups[group][i].Propose(ctx, command)
	return err
}

// Break ends a host without a hand-over.
func (c *quorateCluster) Break(i int) error { return c.hosts[i].Close() }

// HandOver hands over what a host leads.
func (c *quorateCluster) HandOver(ctx context.Context, i int) error { return c.hosts[i].HandOver(ctx) }

func (c *quorateCluster) Close() error {
	var err error
	for _, h := range c.hosts {
		err = errors.Join(err, h.Close())
	}
	return err
}
