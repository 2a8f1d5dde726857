package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// run keeps the peer connected until it is stopped.
func (p *peer) run() {
	defer p.cancel()
	cfg := &p.t.cfg
	backoff := cfg.BackoffMin
	logged := ""
	for p.ctx.Err() == nil {
		addr := p.address()
		c, err := p.connect(addr)
		if err == nil {
			logged = ""
			begun := time.Now()
			err = p.serveOut(c)
			if time.Since(begun) > cfg.BackoffMax {
				backoff = cfg.BackoffMin // it was not refused again at once
			}
			if errors.Is(err, ErrAddressChanged) {
				continue
			}
		} else if key := reason(err); key != logged && p.ctx.Err() == nil {
			logged = key
			cfg.Logger.Warn("cannot connect to peer; will go on trying", "peer", hexID(p.id), "addr", addr, "reason", err)
		}
		p.mu.Lock()
		p.lastErr = err
		p.mu.Unlock()
		if !p.pause(backoff/2 + rand.N(backoff)) {
			return
		}
		backoff = min(2*backoff, cfg.BackoffMax)
	}
}

// connect dials addr and does the handshakes.
func (p *peer) connect(addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.t.cfg.DialTimeout)
	defer cancel()
	raw, err := p.t.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	tune(raw)
	// Closing is what interrupts a handshake when the peer is stopped.
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	c, err := p.t.secureClient(ctx, raw, addr)
	if err == nil {
		err = p.t.greet(c, addr, p.id, p.class)
	}
	if !stop() && err == nil {
		err = fmt.Errorf("handshake with %s: %w", addr, context.Cause(ctx))
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}

// tune sets what both ends of a connection want: no delay, since frames are
// batches already, and an end to connections whose other host is gone.
func tune(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true)
		_ = tcp.SetKeepAliveConfig(keepAlive)
	}
}

// reason is a text of err that stays the same from one attempt to the next:
// without the port that the system chose for it.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// refusalLog remembers what connections were refused for, so that it is logged
// once per change and not on each retry.
type refusalLog struct {
	mu   sync.Mutex
	last map[string]string // by host
}

// refusalsMax bounds what is remembered.
const refusalsMax = 256

// changed reports whether err is another one than the host's last.
func (l *refusalLog) changed(host string, err error) bool {
	key := reason(err)
	for _, e := range []error{ErrClusterMismatch, ErrWrongPeer, ErrVersion, ErrNotQuorate, ErrNotMember} {
		if errors.Is(err, e) {
			key = e.Error()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last[host] == key {
		return false
	}
	if l.last == nil || len(l.last) >= refusalsMax {
		l.last = map[string]string{}
	}
	l.last[host] = key
	return true
}

// forget drops what is remembered of a host that has connected.
func (l *refusalLog) forget(host string) {
	l.mu.Lock()
	delete(l.last, host)
	l.mu.Unlock()
}
