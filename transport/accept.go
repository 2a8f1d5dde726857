package transport

import (
	"context"
	"net"
	"time"
)

// shakingMax bounds the accepted connections that have not said who they are.
const shakingMax = 128

// accept takes connections until the transport is closed.
func (t *Transport) accept() {
	for {
		c, err := t.listener.Accept()
		if err != nil {
			if t.ctx.Err() != nil {
				return
			}
			t.cfg.Logger.Error("cannot accept a connection", "addr", t.listener.Addr(), "reason", err)
			select { // most likely the process has too many files open
			case <-time.After(t.cfg.BackoffMax):
			case <-t.ctx.Done():
				return
			}
			continue
		}
		if !t.beginShaking(c) {
			_ = c.Close()
			continue
		}
		t.running.Go(func() { t.serve(c) })
	}
}

// beginShaking counts a connection in, unless there are too many or it is too
// late.
func (t *Transport) beginShaking(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.shaking) >= shakingMax {
		return false
	}
	t.shaking[c] = struct{}{}
	return true
}

func (t *Transport) endShaking(c net.Conn) {
	t.mu.Lock()
	delete(t.shaking, c)
	t.mu.Unlock()
}

// serve does the handshake of an accepted connection and then receives on it.
func (t *Transport) serve(raw net.Conn) {
	host := raw.RemoteAddr().String()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	c, p, err := t.shake(raw)
	t.endShaking(raw)
	if err != nil {
		_ = raw.Close()
		if t.ctx.Err() == nil && t.refusals.changed(host, err) {
			t.cfg.Logger.Warn("connection refused", "reason", err)
		}
		return
	}
	t.refusals.forget(host)
	p.serveIn(c)
}

func (t *Transport) shake(raw net.Conn) (net.Conn, *peer, error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.DialTimeout)
	defer cancel()
	if err := raw.SetDeadline(time.Now().Add(t.cfg.DialTimeout)); err != nil {
		return nil, nil, err
	}
	tune(raw)
	c, err := t.secureServer(ctx, raw)
	if err != nil {
		return nil, nil, err
	}
	p, err := t.welcome(c)
	if err != nil {
		return nil, nil, err
	}
	return c, p, raw.SetDeadline(time.Time{})
}
