package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/client"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"
	"github.com/lni/dragonboat/v4/plugin/tan"
	sm "github.com/lni/dragonboat/v4/statemachine"
)

// dragonboatCluster is dragonboat v4 with its tan log.
type dragonboatCluster struct {
	hosts    []*dragonboat.NodeHost
	leaders  []atomic.Int32    // by group: the host that leads
	sessions []*client.Session // by group
	broken   []*dragonboat.NodeHost
}

// dragonboatMachine counts commands. It is of the concurrent kind, which takes
// batches.
type dragonboatMachine struct{ applied atomic.Uint64 }

func (m *dragonboatMachine) Update(entries []sm.Entry) ([]sm.Entry, error) {
	n := m.applied.Add(uint64(len(entries)))
	for i := range entries {
		entries[i].Result = sm.Result{Value: n}
	}
	return entries, nil
}
func (m *dragonboatMachine) Lookup(any) (any, error)       { return nil, nil }
func (m *dragonboatMachine) PrepareSnapshot() (any, error) { return nil, nil }
func (m *dragonboatMachine) SaveSnapshot(any, io.Writer, sm.ISnapshotFileCollection, <-chan struct{}) error {
	return nil
}
func (m *dragonboatMachine) RecoverFromSnapshot(io.Reader, []sm.SnapshotFile, <-chan struct{}) error {
	return nil
}
func (m *dragonboatMachine) Close() error { return nil }

func startDragonboat(s setup) (system, error) {
	for _, name := range []string{"raft", "rsm", "transport", "grpc", "dragonboat", "logdb", "tan", "config", "raftpb", "settings"} {
		logger.GetLogger(name).SetLevel(logger.CRITICAL)
	}
	addrs, err := freeAddrs(s.replicas)
	if err != nil {
		return nil, err
	}
	c := &dragonboatCluster{leaders: make([]atomic.Int32, s.groups)}
	members := map[uint64]dragonboat.Target{}
	for i, addr := range addrs {
		members[uint64(i+1)] = addr
	}
	for i, addr := range addrs {
		expert := config.GetDefaultExpertConfig()
		expert.LogDBFactory = tan.Factory
		h, err := dragonboat.NewNodeHost(config.NodeHostConfig{
			NodeHostDir: replicaDir(s.dir, i+1), RTTMillisecond: 50, RaftAddress: addr, Expert: expert,
		})
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.hosts = append(c.hosts, h)
		for g := range s.groups {
			err := h.StartConcurrentReplica(members, false, func(uint64, uint64) sm.IConcurrentStateMachine { return &dragonboatMachine{} }, config.Config{
				ReplicaID: uint64(i + 1), ShardID: uint64(g + 1), ElectionRTT: 20, HeartbeatRTT: 2, CheckQuorum: true,
			})
			if err != nil {
				return nil, errors.Join(err, c.Close())
			}
		}
	}
	for g := range s.groups {
		c.sessions = append(c.sessions, c.hosts[0].GetNoOPSession(uint64(g+1)))
		for deadline := time.Now().Add(startMax / 2); !c.findLeader(g); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				return nil, errors.Join(fmt.Errorf("group %d has no leader", g), c.Close())
			}
		}
	}
	return c, nil
}

// findLeader finds the host that leads a group.
func (c *dragonboatCluster) findLeader(group int) bool {
	for _, h := range c.hosts {
		if id, _, ok, err := h.GetLeaderID(uint64(group + 1)); err == nil && ok && id > 0 {
			c.leaders[group].Store(int32(id - 1))
			return true
		}
	}
	return false
}

func (c *dragonboatCluster) leader(group int) *dragonboat.NodeHost {
	return c.hosts[c.leaders[group].Load()]
}

func (c *dragonboatCluster) Propose(_ context.Context, group int, command []byte) error {
	rs, err := c.leader(group).Propose(c.sessions[group], command, 10*time.Second)
	if err == nil {
		err = wait(rs)
	}
	if err != nil {
		c.findLeader(group)
	}
	return err
}

func (c *dragonboatCluster) Read(ctx context.Context, group int) error {
	h := c.leader(group)
	rs, err := h.ReadIndex(uint64(group+1), 10*time.Second)
	if err == nil {
		r := <-rs.ResultC()
		if !r.Completed() {
			err = errors.New("read not completed")
		} else if _, err = h.ReadLocalNode(rs, nil); err == nil {
			rs.Release()
		}
	}
	if err != nil {
		c.findLeader(group)
	}
	return err
}

// wait waits for a proposal's outcome.
func wait(rs *dragonboat.RequestState) error {
	if r := <-rs.ResultC(); !r.Completed() {
		return fmt.Errorf("not completed: timeout %t, dropped %t, rejected %t, terminated %t", r.Timeout(), r.Dropped(), r.Rejected(), r.Terminated())
	}
	rs.Release()
	return nil
}

// Leader is the replica that leads a group.
func (c *dragonboatCluster) Leader(group int) int {
	c.findLeader(group)
	return int(c.leaders[group].Load())
}

// ProposeAt proposes at a replica, which passes it on to the leader.
func (c *dragonboatCluster) ProposeAt(_ context.Context, i, group int, command []byte) error {
	rs, err := c.hosts[i].Propose(c.sessions[group], command, 10*time.Second)
	if err == nil {
		err = wait(rs)
	}
	return err
}

// Break ends a replica without a hand-over.
func (c *dragonboatCluster) Break(i int) error {
	c.hosts[i].Close()
	c.broken = append(c.broken, c.hosts[i])
	return nil
}

func (c *dragonboatCluster) Close() error {
	for _, h := range c.hosts {
		if !slices.Contains(c.broken, h) {
			h.Close()
		}
	}
	return nil
}
