package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// hashicorpCluster is hashicorp/raft with raft-wal.
type hashicorpCluster struct {
	replicas []*raft.Raft
	logs     []*wal.WAL
	machines []*hashicorpMachine
	networks []*raft.NetworkTransport
	leader   atomic.Int32
}

// hashicorpMachine counts commands.
type hashicorpMachine struct{ applied atomic.Uint64 }

func (m *hashicorpMachine) Apply(*raft.Log) any { return m.applied.Add(1) }

func (m *hashicorpMachine) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	n := m.applied.Add(uint64(len(logs)))
	for i := range results {
		results[i] = n
	}
	return results
}

func (m *hashicorpMachine) Snapshot() (raft.FSMSnapshot, error) {
	return nil, errors.New("no snapshots here")
}
func (m *hashicorpMachine) Restore(io.ReadCloser) error { return errors.New("no snapshots here") }

func startHashicorp(s setup) (system, error) {
	c := &hashicorpCluster{}
	var members raft.Configuration
	for i := range s.replicas {
		network, err := raft.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raft.NetworkTransportConfig{MaxPool: 3, Timeout: 10 * time.Second, Logger: hclog.NewNullLogger()})
		if err != nil {
			return nil, err
		}
		c.networks = append(c.networks, network)
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(fmt.Sprint(i + 1)), Address: network.LocalAddr()})
	}
	for i := range s.replicas {
		if err := c.startReplica(replicaDir(s.dir, i+1), i, members); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	for deadline := time.Now().Add(startMax / 2); ; time.Sleep(10 * time.Millisecond) {
		for i, r := range c.replicas {
			if r.State() == raft.Leader {
				c.leader.Store(int32(i))
				return c, nil
			}
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(errors.New("no leader"), c.Close())
		}
	}
}

func (c *hashicorpCluster) startReplica(dir string, i int, members raft.Configuration) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	log, err := wal.Open(dir, wal.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		return err
	}
	c.logs = append(c.logs, log)
	cache, err := raft.NewLogCache(16384, log)
	if err != nil {
		return err
	}
	cfg := raft.DefaultConfig()
	cfg.LocalID = members.Servers[i].ID
	cfg.Logger = hclog.NewNullLogger()
	cfg.MaxAppendEntries = 1024
	cfg.BatchApplyCh = true
	cfg.SnapshotThreshold = 1 << 60
	cfg.NoLegacyTelemetry = true
	snapshots := raft.NewInmemSnapshotStore()
	if err := raft.BootstrapCluster(cfg, cache, log, snapshots, c.networks[i], members); err != nil {
		return err
	}
	m := &hashicorpMachine{}
	r, err := raft.NewRaft(cfg, m, cache, log, snapshots, c.networks[i])
	if err != nil {
		return err
	}
	c.replicas, c.machines = append(c.replicas, r), append(c.machines, m)
	return nil
}

func (c *hashicorpCluster) Propose(_ context.Context, _ int, command []byte) error {
	err := c.replicas[c.leader.Load()].Apply(command, 10*time.Second).Error()
	if err != nil {
		c.findLeader()
	}
	return err
}

// Read confirms leadership with a majority and then reads from the leader.
func (c *hashicorpCluster) Read(context.Context, int) error {
	at := c.leader.Load()
	if err := c.replicas[at].VerifyLeader().Error(); err != nil {
		c.findLeader()
		return err
	}
	if c.machines[at].applied.Load() == 0 {
		return errors.New("reads an old state")
	}
	return nil
}

func (c *hashicorpCluster) findLeader() {
	for i, r := range c.replicas {
		if r.State() == raft.Leader {
			c.leader.Store(int32(i))
		}
	}
}

// Leader is the replica that leads.
func (c *hashicorpCluster) Leader(int) int { c.findLeader(); return int(c.leader.Load()) }

// ProposeAt proposes at a replica, which refuses it at once if it does not lead:
// then it is for the client to find the leader.
func (c *hashicorpCluster) ProposeAt(_ context.Context, i, _ int, command []byte) error {
	return c.replicas[i].Apply(command, 10*time.Second).Error()
}

// Break ends a replica without a hand-over.
func (c *hashicorpCluster) Break(i int) error {
	return errors.Join(c.networks[i].Close(), c.replicas[i].Shutdown().Error())
}

func (c *hashicorpCluster) Close() error {
	var err error
	for _, r := range c.replicas {
		err = errors.Join(err, r.Shutdown().Error())
	}
	for _, n := range c.networks {
		err = errors.Join(err, n.Close())
	}
	for _, l := range c.logs {
		err = errors.Join(err, l.Close())
	}
	return err
}
