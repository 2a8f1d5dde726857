package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
)

// system is a cluster of replicas in this process, or a physical limit. Its
// methods may be called by many goroutines at once.
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

// breaker is a system that can lose a replica. Break and Close are called by one
// goroutine.
type breaker interface {
	system
	// Leader is the replica that leads a group, counted from 0.
	Leader(group int) int
	// ProposeAt is Propose at one replica.
	ProposeAt(ctx context.Context, replica, group int, command []byte) error
	// Break ends a replica at once, without handing anything over.
	Break(replica int) error
}

// hander is a system that can hand over.
type hander interface {
	breaker
	// HandOver hands the groups that a replica leads to others.
	HandOver(ctx context.Context, replica int) error
}

// setup is what a system is started with.
type setup struct {
	dir      string
	groups   int
	replicas int
	// without names what is switched off, see arms; snapshots lets the log be
	// compacted. Both are quorate's alone.
	without   string
	snapshots bool
}

// systemKind says how a system is started and what it can do.
type systemKind struct {
	start       func(setup) (system, error)
	peer        bool // a library that one would use instead
	groupsMax   int
	replicasMax int
	reads       bool
}

func (k systemKind) does(w work) bool {
	return w.Groups <= k.groupsMax && w.Replicas <= k.replicasMax && (w.Work != "read" || k.reads)
}

// replicas is the number of replicas where nothing else is said.
const replicas = 3

// limitName is the limit that the systems are compared with: three files on one
// disk, as three replicas on one disk have.
const limitName = "limit-3disks"

// systems are all there are.
var systems = map[string]systemKind{
	"hashicorp":     {startHashicorp, true, 1, 9, true},
	"etcdraft":      {startEtcdRaft, true, 1, 9, true},
	"dragonboat":    {startDragonboat, true, 1 << 20, 9, true},
	"quorate":       {startQuorate, false, 1 << 20, 9, true},
	"limit-disk":    {startLimitDisk(1, false), false, 1, replicas, false},
	limitName:       {startLimitDisk(replicas, false), false, 1, replicas, false},
	"limit-3direct": {startLimitDisk(replicas, true), false, 1, replicas, false},
	"limit-tcp":     {startLimitTCP, false, 1, replicas, false},
}

// systemNames are in the order in which the systems take their turns.
func systemNames() []string {
	order := []string{"hashicorp", "etcdraft", "dragonboat", "quorate", "limit-disk", limitName, "limit-3direct", "limit-tcp"}
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
