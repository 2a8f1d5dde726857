package transport

import (
	"errors"
	"strconv"
)

// The errors of Send. The frame is dropped; there is nothing to clean up.
var (
	// ErrQueueFull: the peer does not read as fast as this host sends.
	ErrQueueFull = errors.New("send queue of the peer is full")
	// ErrUnknownPeer: SetPeer was not called for this id, or RemovePeer was.
	ErrUnknownPeer = errors.New("unknown peer")
	// ErrFrameEmpty: a frame has at least one byte.
	ErrFrameEmpty = errors.New("empty frame")
	// ErrNotConnected: there is no connection to the peer at the moment.
	ErrNotConnected = errors.New("not connected to the peer")
)

// Why a connection was refused or broke. They reach Handler.PeerDown, the log,
// and PeerStats.LastError, wrapped in what was found and what to do.
var (
	// ErrClusterMismatch: the other host belongs to another cluster.
	ErrClusterMismatch = errors.New("cluster mismatch")
	// ErrWrongPeer: the address answers for another id than was dialled.
	ErrWrongPeer = errors.New("wrong peer")
	// ErrVersion: the two hosts have no version of the protocol in common.
	ErrVersion = errors.New("no common version")
	// ErrNotQuorate: something else than a Quorate host is at the other end, or
	// one side uses TLS and the other does not.
	ErrNotQuorate = errors.New("not a quorate host")
	// ErrNotMember: the other host has not been told of this one.
	ErrNotMember = errors.New("not a member")
	// ErrFrameTooLarge: a frame exceeds FrameBytesMax.
	ErrFrameTooLarge = errors.New("frame too large")
	// ErrFrameCorrupt: a frame does not match its checksum.
	ErrFrameCorrupt = errors.New("frame corrupt")
	// ErrReplaced: the peer has opened a newer connection.
	ErrReplaced = errors.New("replaced by a newer connection")
	// ErrRemoved: RemovePeer was called.
	ErrRemoved = errors.New("peer removed")
	// ErrAddressChanged: SetPeer gave the peer another address.
	ErrAddressChanged = errors.New("peer's address changed")
	// ErrClosed: the transport is closed.
	ErrClosed = errors.New("transport closed")
	// ErrConfig is wrapped by errors about a Config.
	ErrConfig = errors.New("bad configuration")
)

// hexID writes an id as etcd's tools do.
func hexID(id uint64) string { return strconv.FormatUint(id, 16) }
