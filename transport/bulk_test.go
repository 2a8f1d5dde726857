package transport

import (
	"context"
	"errors"
	"testing"
	"time"
)

// What is large has a connection of its own, which says nothing of the first.
func TestBulk(t *testing.T) {
	a, b := newHost(t, 1, nil), newHost(t, 2, nil)
	connect(t, a, b)
	sendBulk(t, a, pattern(100, 1))
	b.expect(t, 1, pattern(100, 1))
	a.send(t, 2, pattern(50, 2))
	b.expect(t, 1, pattern(50, 2))
	s := b.Stats()[0]
	if s.BulkBytesReceived != 100+headBytes || s.FramesReceived != 1 || !s.Up {
		t.Errorf("stats %+v", s)
	}
	sendBulk(t, a, pattern(1<<20, 3))
	b.expect(t, 1, pattern(1<<20, 3))
	// The second connection says nothing of the first.
	a.RemovePeer(2)
	if d := receive(t, "down", a.downs); !errors.Is(d.err, ErrRemoved) {
		t.Errorf("down with %v", d.err)
	}
	if err := a.SendBulk(2, GetBuffer()); err != ErrUnknownPeer {
		t.Errorf("bulk to a removed peer: %v", err)
	}
}

// sendBulk sends to host 2 as soon as it is connected.
func sendBulk(t *testing.T, a *host, b []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		buf := GetBuffer()
		buf.B = append(buf.B[:0], b...)
		err := a.SendBulk(2, buf)
		if err == nil {
			return
		}
		if !errors.Is(err, ErrNotConnected) {
			t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the second connection never came up")
		}
	}
}
