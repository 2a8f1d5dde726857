package host

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// Config of a host. Zero values mean the defaults given.
type Config struct {
	// ID of this host, and of its replica in every group. Required.
	ID smr.ReplicaID
	// Cluster must be the same on all hosts that talk to each other. Required.
	Cluster uint64
	// Incarnation changes each time a host begins with an empty directory.
	Incarnation uint64
	// Dir holds the logs; it belongs to this host alone. Required.
	Dir string
	// LogsExist says that Dir held this host's logs before: one that is missing is
	// an error (ErrDamaged), and else a new one is made.
	LogsExist bool
	// FS is the file system of Dir. Default: the operating system's.
	FS vfs.FS

	// Listen is the address (host:port) that peers reach this host at, or
	// Listener a listener for it; the host closes it.
	Listen   string
	Listener net.Listener
	// Peers are the addresses of the other hosts. This host's own is ignored.
	Peers map[smr.ReplicaID]string
	// TLS of the connections between hosts, both as server and as client. Nil:
	// plain TCP.
	TLS *tls.Config

	// ElectionTimeout is the least time without a leader after which a replica
	// stands for election. Default 150 ms. All hosts should have the same.
	ElectionTimeout time.Duration
	// HeartbeatInterval of a leader. Default ElectionTimeout / 5.
	HeartbeatInterval time.Duration
	// NoRest keeps groups awake in which nothing happens: their leaders go on with
	// heartbeats. Otherwise such groups rest, and the hosts vouch for one another
	// (docs/resting-groups.md).
	NoRest bool
	// RequestTimeout bounds a request whose context has no deadline. Default
	// 5 s + 2 × ElectionTimeout.
	RequestTimeout time.Duration

	// DiskStallTimeout is how long something may wait to be on the log's disk. When
	// it is over this host hands over what it leads, so that a disk that hangs does
	// not hold up its clients. Default 2 × ElectionTimeout, at least half a second.
	DiskStallTimeout time.Duration

	// Shards is the number of loops and logs among which the groups are
	// divided. Default 1. It must be the same on all hosts of the cluster and
	// for the life of Dir.
	Shards int
	// ApplyWorkers is the number of workers that apply entries. Default: one
	// for each shard.
	ApplyWorkers int

	// CommandBytesMax bounds a command. Default 4 MiB, at most 1 GiB. Above 64 MiB
	// all hosts must have the same.
	CommandBytesMax int
	// InboxBytesMax bounds, each on its own: the requests that wait for a
	// shard's next turn, the frames of peers that do, and the commands of this
	// host's clients that wait for their outcome. Default 64 MiB. At the limit:
	// ErrBusy. The last of the frames may exceed it.
	InboxBytesMax int
	// RequestsMax bounds the commands of a shard that wait for their outcome,
	// and the reads of a group that wait for theirs. Default 65536. At the
	// limit: ErrBusy.
	RequestsMax int
	// LogBufferBytesMax bounds what is waiting for the log. Default 64 MiB.
	LogBufferBytesMax int
	// SegmentBytes is the size of the log's segments, in which space is taken and
	// freed. Default 16 MiB, a quarter of what Snapshots.EveryBytes is.
	SegmentBytes int64

	// TailBytesMax bounds the recent entries that the groups of a shard keep in
	// memory, all together and once they are persisted and applied: with many busy
	// groups each keeps its share. Default 32 MiB. Raft.TailBytesMax bounds those
	// of one group.
	TailBytesMax int

	// Snapshots says when logs are compacted and how snapshots are sent.
	Snapshots SnapshotConfig

	// Raft holds the limits of the groups' cores; Group, ID, timeouts, Seed,
	// Rest, EagerStart and Memory are set by the host.
	Raft raft.Config

	// Logger for what an operator should know. Default: slog.Default().
	Logger *slog.Logger
}

// GroupConfig says what StartGroup is to start.
type GroupConfig struct {
	// ID of the group, not zero.
	ID smr.GroupID
	// Members the group begins with. It must be the same on all of them, and is
	// ignored once the group is in the log.
	Members smr.Configuration
	// Machine is the state machine to replicate. The group closes it.
	Machine smr.StateMachine
}

// Voters returns the configuration whose members are the given voters.
func Voters(ids ...smr.ReplicaID) smr.Configuration {
	var c smr.Configuration
	for _, id := range ids {
		at := 0
		for at < len(c.Members) && c.Members[at].ID < id {
			at++
		}
		c.Members = append(c.Members, smr.Member{})
		copy(c.Members[at+1:], c.Members[at:])
		c.Members[at] = smr.Member{ID: id, Role: smr.Voter}
	}
	return c
}

func orDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// commandBytesLimit is what CommandBytesMax may be at most, so that every frame's
// length fits into 32 bits.
const commandBytesLimit = 1 << 30

// frameBytesMax is the largest frame that the outbox makes: one that is not closed
// yet, and the largest item on top. A frame that the transport did not carry would
// hold up everything behind it for ever. The floor leaves room for a host that has
// a larger CommandBytesMax than this one.
func (c *Config) frameBytesMax() int {
	const floor, heads = 72 << 20, 64 << 10
	forward := proposeBytesMax + c.CommandBytesMax + smr.EntryOverhead
	appended := 2 * min(max(c.Raft.AppendBytesMax, proposeBytesMax), 1<<29) // what a catch-up brings
	return max(floor, frameBytesSoft+max(forward, appended, c.Snapshots.BlockBytes)+heads)
}

// complete fills in the defaults and reports what cannot be.
func (c *Config) complete() error {
	orDefault(&c.ElectionTimeout, 150*time.Millisecond)
	orDefault(&c.HeartbeatInterval, c.ElectionTimeout/5)
	orDefault(&c.RequestTimeout, 5*time.Second+2*c.ElectionTimeout)
	orDefault(&c.DiskStallTimeout, max(2*c.ElectionTimeout, 500*time.Millisecond))
	orDefault(&c.Shards, 1)
	orDefault(&c.ApplyWorkers, c.Shards)
	orDefault(&c.CommandBytesMax, 4<<20)
	orDefault(&c.InboxBytesMax, 64<<20)
	orDefault(&c.RequestsMax, 1<<16)
	orDefault(&c.LogBufferBytesMax, 64<<20)
	orDefault(&c.SegmentBytes, 16<<20)
	orDefault(&c.TailBytesMax, 32<<20)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if err := c.Snapshots.complete(); err != nil {
		return err
	}
	switch {
	case c.ID == 0:
		return fmt.Errorf("%w: ID is zero; every host needs an id of its own", ErrConfig)
	case c.Cluster == 0:
		return fmt.Errorf("%w: Cluster is zero; hosts of one cluster need the same number", ErrConfig)
	case c.Dir == "":
		return fmt.Errorf("%w: Dir is empty; name the directory for the log", ErrConfig)
	case c.ElectionTimeout < time.Millisecond:
		return fmt.Errorf("%w: ElectionTimeout of %v is below 1ms", ErrConfig, c.ElectionTimeout)
	case c.HeartbeatInterval <= 0 || c.HeartbeatInterval > c.ElectionTimeout/2:
		return fmt.Errorf("%w: HeartbeatInterval of %v must be above zero and at most half the ElectionTimeout of %v", ErrConfig, c.HeartbeatInterval, c.ElectionTimeout)
	case c.DiskStallTimeout < 0:
		return fmt.Errorf("%w: DiskStallTimeout of %v is negative", ErrConfig, c.DiskStallTimeout)
	case c.Shards < 0 || c.ApplyWorkers < 0 || c.CommandBytesMax < 0 || c.InboxBytesMax < 0 || c.RequestsMax < 0 || c.LogBufferBytesMax < 0 || c.SegmentBytes < 0 || c.TailBytesMax < 0:
		return fmt.Errorf("%w: a limit is negative", ErrConfig)
	case c.CommandBytesMax > commandBytesLimit:
		return fmt.Errorf("%w: CommandBytesMax of %d is above %d", ErrConfig, c.CommandBytesMax, commandBytesLimit)
	case c.CommandBytesMax+smr.EntryOverhead > min(c.InboxBytesMax, c.LogBufferBytesMax):
		return fmt.Errorf("%w: CommandBytesMax of %d does not fit InboxBytesMax of %d or LogBufferBytesMax of %d; they need %d bytes more than it", ErrConfig, c.CommandBytesMax, c.InboxBytesMax, c.LogBufferBytesMax, smr.EntryOverhead)
	}
	return nil
}

// check reports what is wrong with a group's configuration for host id.
func (c *GroupConfig) check(id smr.ReplicaID) error {
	if c.ID == 0 {
		return fmt.Errorf("%w: group id is zero", ErrConfig)
	}
	if c.Machine == nil {
		return fmt.Errorf("%w: group %d has no state machine", ErrConfig, c.ID)
	}
	if len(c.Members.Members) == 0 {
		return fmt.Errorf("%w: group %d has no members", ErrConfig, c.ID)
	}
	for i, m := range c.Members.Members {
		if i > 0 && m.ID <= c.Members.Members[i-1].ID {
			return fmt.Errorf("%w: members of group %d are not sorted by id, or one stands twice", ErrConfig, c.ID)
		}
	}
	return nil
}
