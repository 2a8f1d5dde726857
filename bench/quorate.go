package main

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// quorateCluster is three hosts of Quorate at their defaults.
type quorateCluster struct {
	hosts   []*host.Host
	groups  [][]*host.Group // by group, by host
	leaders []atomic.Int32  // by group: the host that leads
}

// quorateMachine counts commands.
type quorateMachine struct {
	applied atomic.Uint64
	index   uint64
}

func (m *quorateMachine) Open() (uint64, error) { return 0, nil }

func (m *quorateMachine) Apply(batch []smr.Committed) error {
	n := m.applied.Load()
	for i := range batch {
		if batch[i].Kind == smr.KindCommand {
			n++
			batch[i].Result.Value = n
		}
		m.index = batch[i].Index
	}
	m.applied.Store(n)
	return nil
}

func (m *quorateMachine) Lookup([]byte) ([]byte, error) { return nil, nil }

func (m *quorateMachine) Digest() (applied uint64, digest [16]byte) {
	binary.LittleEndian.PutUint64(digest[:], m.applied.Load())
	return m.index, digest
}

func (m *quorateMachine) Close() error { return nil }

func startQuorate(dir string, groups int) (system, error) {
	c := &quorateCluster{leaders: make([]atomic.Int32, groups), groups: make([][]*host.Group, groups)}
	listeners, peers := make([]net.Listener, replicas), map[smr.ReplicaID]string{}
	for i := range replicas {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners[i], peers[smr.ReplicaID(i+1)] = l, l.Addr().String()
	}
	for i := range replicas {
		h, err := host.Open(host.Config{ID: smr.ReplicaID(i + 1), Cluster: 7, Dir: replicaDir(dir, i+1), Listener: listeners[i], Peers: peers, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.hosts = append(c.hosts, h)
		for g := range groups {
			group, err := h.StartGroup(host.GroupConfig{ID: smr.GroupID(g + 1), Members: host.Voters(1, 2, 3), Machine: &quorateMachine{}})
			if err != nil {
				return nil, errors.Join(err, c.Close())
			}
			c.groups[g] = append(c.groups[g], group)
		}
	}
	for g := range groups {
		// Whichever host is asked, the proposal finds the leader.
		if err := c.Propose(context.Background(), g, []byte("first")); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.findLeader(g)
	}
	return c, nil
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

func (c *quorateCluster) Close() error {
	var err error
	for _, h := range c.hosts {
		err = errors.Join(err, h.Close())
	}
	return err
}
