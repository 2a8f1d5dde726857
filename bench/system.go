package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
)

// system is a cluster of three replicas in this process, or a physical limit.
// Its methods may be called by many goroutines at once.
type system interface {
	// Propose returns when the command is committed, on the disks of a
	// majority, and applied where it was proposed. The command is not changed
	// by anybody, ever. After an error the caller tries again.
	Propose(ctx context.Context, group int, command []byte) error
	Close() error
}

// reader is a system with linearizable reads.
type reader interface {
	// Read reads the state machine of a group, linearizably.
	Read(ctx context.Context, group int) error
}

// systemKind says how a system is started and what it can do.
type systemKind struct {
	start     func(dir string, groups int) (system, error)
	groupsMax int
	reads     bool
}

func (k systemKind) does(w work) bool {
	return w.Groups <= k.groupsMax && (w.Work != "read" || k.reads)
}

// replicas is the number of replicas of every system.
const replicas = 3

// systems are all there are.
var systems = map[string]systemKind{
	"hashicorp":    {startHashicorp, 1, true},
	"etcdraft":     {startEtcdRaft, 1, true},
	"dragonboat":   {startDragonboat, 1 << 20, true},
	"quorate":      {startQuorate, 1 << 20, true},
	"limit-disk":   {startLimitDisk(1), 1, false},
	"limit-3disks": {startLimitDisk(replicas), 1, false},
	"limit-tcp":    {startLimitTCP, 1, false},
}

// systemNames are in the order in which the systems take their turns.
func systemNames() []string {
	order := []string{"hashicorp", "etcdraft", "dragonboat", "quorate", "limit-disk", "limit-3disks", "limit-tcp"}
	for name := range systems {
		if !slices.Contains(order, name) {
			panic("no place in the order for " + name)
		}
	}
	return order
}

// replicaDir is the directory of replica i, counted from 1.
func replicaDir(dir string, i int) string { return filepath.Join(dir, fmt.Sprint(i)) }

// freeAddrs returns addresses on loopback that nobody listens at, for systems
// that cannot be handed a listener.
func freeAddrs(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}
