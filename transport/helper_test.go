package transport

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// hangs is how long a test waits for what must happen before it fails.
const hangs = 30 * time.Second

func receive[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	timer := time.NewTimer(hangs)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

type frame struct {
	from uint64
	b    []byte
}

type down struct {
	id  uint64
	err error
}

// recorder is a Handler that passes on what it is told.
type recorder struct {
	frames chan frame
	ups    chan uint64
	downs  chan down
}

func newRecorder() *recorder {
	return &recorder{frames: make(chan frame, 4096), ups: make(chan uint64, 256), downs: make(chan down, 256)}
}

func (r *recorder) Frame(from uint64, f Frame)    { r.frames <- frame{from, f.B} }
func (r *recorder) PeerUp(id uint64)              { r.ups <- id }
func (r *recorder) PeerDown(id uint64, err error) { r.downs <- down{id, err} }

// logged is a slog.Handler that passes on the reason of each warning.
type logged struct {
	reasons chan error
	n       *atomic.Int64
}

func newLogged() logged { return logged{make(chan error, 4096), new(atomic.Int64)} }

func (l logged) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (l logged) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l logged) WithGroup(string) slog.Handler                    { return l }
func (l logged) Handle(_ context.Context, r slog.Record) error {
	l.n.Add(1)
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && a.Key == "reason" {
			l.reasons <- err
		}
		return true
	})
	return nil
}

// wait returns the first reason that wraps target.
func (l logged) wait(t testing.TB, target error) error {
	t.Helper()
	for {
		if err := receive(t, "warning of "+target.Error(), l.reasons); errors.Is(err, target) {
			return err
		}
	}
}

// host is a transport under test.
type host struct {
	*Transport
	*recorder
	logged
	id uint64
}

func newHost(t testing.TB, id uint64, change func(*Config)) *host {
	t.Helper()
	h := &host{recorder: newRecorder(), logged: newLogged(), id: id}
	cfg := Config{ID: id, Cluster: 7, Listen: "127.0.0.1:0", Handler: h.recorder, Logger: slog.New(h.logged), BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Transport = tr
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close host %d: %v", id, err)
		}
	})
	return h
}

// connect introduces two hosts and waits until they are connected.
func connect(t testing.TB, a, b *host) {
	t.Helper()
	a.SetPeer(b.id, b.Addr().String())
	b.SetPeer(a.id, a.Addr().String())
	if id := receive(t, "PeerUp", a.ups); id != b.id {
		t.Fatalf("host %d: PeerUp of %d, want %d", a.id, id, b.id)
	}
	if id := receive(t, "PeerUp", b.ups); id != a.id {
		t.Fatalf("host %d: PeerUp of %d, want %d", b.id, id, a.id)
	}
}

func (h *host) send(t testing.TB, to uint64, b []byte) {
	t.Helper()
	buf := GetBuffer()
	buf.B = append(buf.B, b...)
	if err := h.Send(to, buf); err != nil {
		t.Fatalf("send %d bytes to %d: %v", len(b), to, err)
	}
}

func (h *host) expect(t testing.TB, from uint64, b []byte) {
	t.Helper()
	f := receive(t, "frame", h.frames)
	if f.from != from || !bytes.Equal(f.b, b) {
		t.Fatalf("host %d: frame of %d bytes from %d, want %d from %d", h.id, len(f.b), f.from, len(b), from)
	}
}

// fake is a peer played by hand: both connections with a transport under test,
// after their handshakes.
type fake struct {
	id      uint64
	to      *host
	in, out net.Conn // from and to the transport under test
	l       net.Listener
}

func newFake(t testing.TB, id uint64, to *host) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	f := &fake{id: id, to: to, l: l}
	to.SetPeer(id, l.Addr().String())
	f.in, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.in.Close() })
	h, err := readHello(f.in)
	if err != nil {
		t.Fatal(err)
	}
	h.from, h.to = h.to, h.from
	if _, err := f.in.Write(h.encode()); err != nil {
		t.Fatal(err)
	}
	var v verdict
	if f.out, v = f.dial(t); v != accepted {
		t.Fatalf("verdict %d", v)
	}
	if up := receive(t, "PeerUp", to.ups); up != id {
		t.Fatalf("PeerUp of %d, want %d", up, id)
	}
	return f
}

// dial opens a connection to the transport under test.
func (f *fake) dial(t testing.TB) (net.Conn, verdict) {
	t.Helper()
	return greetAs(t, f.to.Addr().String(), hello{versionMin: 1, versionMax: 1, cluster: 7, from: f.id, to: f.to.id, nonce: 99})
}

// greetAs dials addr, says h, and returns the verdict.
func greetAs(t testing.TB, addr string, h hello) (net.Conn, verdict) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Write(h.encode()); err != nil {
		t.Fatal(err)
	}
	answer, err := readHello(c)
	if err != nil {
		t.Fatal(err)
	}
	if answer.nonce != h.nonce || answer.from == 0 || answer.to != h.from {
		t.Fatalf("answer %+v to %+v", answer, h)
	}
	return c, answer.verdict
}

func (f *fake) write(t testing.TB, b []byte) {
	t.Helper()
	if _, err := f.out.Write(b); err != nil {
		t.Fatal(err)
	}
}

// encoded is frames as they are on a connection.
func encoded(frames ...[]byte) []byte {
	c := &memConn{}
	w := newFrameWriter(c, false, time.Hour, func(int) {})
	var q bufferQueue
	for _, b := range frames {
		q.push(&Buffer{B: b})
	}
	if err := w.write(&q); err != nil {
		panic(err)
	}
	return c.Bytes()
}

// memConn is a connection to memory.
type memConn struct {
	net.Conn
	bytes.Buffer
}

func (m *memConn) Read(b []byte) (int, error)       { return m.Buffer.Read(b) }
func (m *memConn) Write(b []byte) (int, error)      { return m.Buffer.Write(b) }
func (m *memConn) SetWriteDeadline(time.Time) error { return nil }

// noGoroutines fails if anything of this package still runs.
func noGoroutines(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	end := time.Now().Add(hangs)
	for {
		// What has told that it is done may still be on its last instructions.
		all := stacks[:runtime.Stack(stacks, true)]
		n := bytes.Count(all, []byte("/transport.(*Transport)")) + bytes.Count(all, []byte("/transport.(*peer)"))
		if n == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("goroutines are left:\n%s", all)
		}
		runtime.Gosched()
	}
}
