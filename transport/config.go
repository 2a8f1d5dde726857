package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"net"
	"time"
)

// Config of a transport. Zero values mean the defaults given.
type Config struct {
	// ID of this host and Cluster that it belongs to. Required.
	ID, Cluster uint64
	// Listen is the address to accept peers at, or Listener a listener for it,
	// which the transport closes. One of them is required.
	Listen   string
	Listener net.Listener
	// TLS, if not nil, is used on both sides of every connection. Both sides
	// show a certificate: unless ClientAuth says otherwise it becomes
	// RequireAndVerifyClientCert, and ClientCAs becomes RootCAs. The name that
	// the dialled host's certificate must carry is ServerName, or else the host
	// of its address. All hosts of a cluster must use TLS, or none.
	TLS *tls.Config

	// Peers are told to the transport before it accepts anything, by id, with
	// their addresses. This host's own is ignored. More with SetPeer.
	Peers map[uint64]string

	// QueueBytesMax bounds what waits to be sent to one peer. Default 64 MiB.
	QueueBytesMax int
	// FrameBytesMax bounds a frame. It must be the same on all hosts. Default
	// 72 MiB.
	FrameBytesMax int

	// Handler receives what arrives. Required.
	Handler Handler
	// Logger for what an operator should know. Default: slog.Default().
	Logger *slog.Logger

	// DialTimeout bounds dialling and the handshake, on both sides. Default 2 s.
	DialTimeout time.Duration
	// WriteTimeout is how long a peer may need to take one write, which is up
	// to 1 MiB, before the connection counts as broken. Default 5 s.
	WriteTimeout time.Duration
	// BackoffMin and BackoffMax bound the pause between two attempts to
	// connect, which doubles and is jittered. Defaults 10 ms and 1 s.
	BackoffMin, BackoffMax time.Duration
	// Dial replaces the dialling of TCP. It must return when ctx ends.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// Handler receives what arrives. Its methods are called from the transport's
// goroutines and hold up the peer's connection while they run; they must not
// call SetPeer, RemovePeer or Close.
type Handler interface {
	// Frame is called with each frame, in order for one connection. It is the
	// receiver's, to read and to release when it has; other frames share the
	// memory around it. It may be called before PeerUp, when only this direction
	// is connected.
	Frame(from uint64, f Frame)
	// PeerUp is called when both directions to a peer have become connected.
	PeerUp(id uint64)
	// PeerDown is called when one of them has broken after a PeerUp, with the
	// reason. The two calls alternate for a peer.
	PeerDown(id uint64, err error)
}

// frameBytesMaxDefault is of Config.FrameBytesMax.
const frameBytesMaxDefault = 72 << 20

// complete fills in the defaults and reports what cannot be.
func (c *Config) complete() error {
	orDefault(&c.QueueBytesMax, 64<<20)
	orDefault(&c.FrameBytesMax, frameBytesMaxDefault)
	orDefault(&c.DialTimeout, 2*time.Second)
	orDefault(&c.WriteTimeout, 5*time.Second)
	orDefault(&c.BackoffMin, 10*time.Millisecond)
	orDefault(&c.BackoffMax, max(time.Second, c.BackoffMin))
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Dial == nil {
		var d net.Dialer
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	c.completeTLS()
	switch {
	case c.ID == 0:
		return fmt.Errorf("%w: ID is zero; every host needs an id of its own", ErrConfig)
	case c.Cluster == 0:
		return fmt.Errorf("%w: Cluster is zero; hosts of one cluster need the same number", ErrConfig)
	case c.Handler == nil:
		return fmt.Errorf("%w: Handler is nil", ErrConfig)
	case c.Listener == nil && c.Listen == "":
		return fmt.Errorf("%w: neither Listen nor Listener is set; peers must be able to connect", ErrConfig)
	case c.QueueBytesMax < 0 || c.FrameBytesMax < 0 || c.FrameBytesMax > math.MaxUint32:
		return fmt.Errorf("%w: QueueBytesMax %d or FrameBytesMax %d is out of range", ErrConfig, c.QueueBytesMax, c.FrameBytesMax)
	case c.DialTimeout < 0 || c.WriteTimeout < 0 || c.BackoffMin < 0 || c.BackoffMax < c.BackoffMin:
		return fmt.Errorf("%w: a timeout is negative, or BackoffMax %v is below BackoffMin %v", ErrConfig, c.BackoffMax, c.BackoffMin)
	}
	return nil
}

func (c *Config) completeTLS() {
	if c.TLS == nil {
		return
	}
	c.TLS = c.TLS.Clone()
	if c.TLS.ClientAuth == tls.NoClientCert {
		c.TLS.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if c.TLS.ClientCAs == nil {
		c.TLS.ClientCAs = c.TLS.RootCAs
	}
	if c.TLS.MinVersion == 0 {
		c.TLS.MinVersion = tls.VersionTLS13
	}
}

func orDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// keepAlive finds a dead peer in about eight seconds on an idle connection; a
// busy one is found by WriteTimeout.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3}
