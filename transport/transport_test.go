package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// pattern is n bytes that differ by seed, with a period that no power of two is a
// multiple of.
func pattern(n, seed int) []byte {
	period := make([]byte, 251)
	for i := range period {
		period[i] = byte(i*7 + seed)
	}
	return bytes.Repeat(period, n/len(period)+1)[:n:n]
}

// "The frames of one connection arrive in their order", whole and unchanged,
// whatever their size.
func TestFramesArrive(t *testing.T) {
	a, b := newHost(t, 1, nil), newHost(t, 2, nil)
	connect(t, a, b)
	sizes := []int{1, 7, 8, 9, 100, 4096, chunkBytesMin - headBytes, chunkBytesMin, chunkBytesMax + 1, writeBytesMax, trustedBytesMax + 12345, 3}
	for i, n := range sizes {
		a.send(t, 2, pattern(n, i))
		b.send(t, 1, pattern(n, i+100))
	}
	for i, n := range sizes {
		b.expect(t, 1, pattern(n, i))
		a.expect(t, 2, pattern(n, i+100))
	}
	s := b.Stats()
	if len(s) != 1 || s[0].ID != 1 || !s[0].Up || s[0].FramesReceived != uint64(len(sizes)) || s[0].Connects != 1 || s[0].Dropped != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestManySenders(t *testing.T) {
	a, b := newHost(t, 1, nil), newHost(t, 2, nil)
	connect(t, a, b)
	const senders, each = 8, 200
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				buf := GetBuffer()
				buf.B = append(buf.B, byte(s), byte(i))
				if err := a.Send(2, buf); err != nil {
					t.Errorf("sender %d: %v", s, err)
				}
			}
		})
	}
	var next [senders]int
	for range senders * each {
		f := receive(t, "frame", b.frames)
		if s := f.b[0]; int(f.b[1]) != next[s] {
			t.Fatalf("sender %d: frame %d, want %d", s, f.b[1], next[s])
		} else {
			next[s]++
		}
	}
	wg.Wait()
}

func TestSendRefused(t *testing.T) {
	a := newHost(t, 1, func(c *Config) { c.FrameBytesMax = 100 })
	if err := a.Send(2, GetBuffer()); err != ErrUnknownPeer {
		t.Errorf("unknown peer: %v", err)
	}
	a.SetPeer(2, "127.0.0.1:1")
	if err := a.Send(2, &Buffer{B: make([]byte, 1)}); err != ErrNotConnected {
		t.Errorf("peer without a connection: %v", err)
	}
	if err := a.Send(2, &Buffer{}); err != ErrFrameEmpty {
		t.Errorf("an empty frame: %v", err)
	}
	if err := a.Send(2, &Buffer{B: make([]byte, 101)}); err != ErrFrameTooLarge {
		t.Errorf("large frame: %v", err)
	}
	if s := a.Stats(); s[0].Dropped != 3 {
		t.Errorf("stats %+v", s)
	}
	a.SetPeer(1, "127.0.0.1:1")
	if s := a.Stats(); len(s) != 1 {
		t.Errorf("its own id is a peer: %+v", s)
	}
}

// A refusal is told on both sides, by a typed error and with what to do.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name          string
		change        func(*Config) // of the host that is dialled, whose id is 2
		dialled       uint64        // whom host 1 expects there
		stranger      bool          // host 2 does not know host 1
		want, hint    error
		dialler, text string // in the dialling side's message
	}{
		{name: "another cluster", change: func(c *Config) { c.Cluster = 8 }, dialled: 2, want: ErrClusterMismatch, text: "belongs to cluster 8, this host to 7: check --initial-cluster-token"},
		{name: "another host", dialled: 0xcab, want: ErrWrongPeer, text: "is 2, and cab was expected there"},
		{name: "not a member", dialled: 2, stranger: true, want: ErrNotMember, text: "does not know this host as a member"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dials := make(chan struct{}, 4096)
			a := newHost(t, 1, func(c *Config) {
				c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
					dials <- struct{}{}
					return new(net.Dialer).DialContext(ctx, "tcp", addr)
				}
			})
			b := newHost(t, 2, c.change)
			if !c.stranger {
				b.SetPeer(1, "127.0.0.1:1")
			}
			a.SetPeer(c.dialled, b.Addr().String())
			if err := a.wait(t, c.want); !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), b.Addr().String()) {
				t.Errorf("dialling side: %v, want it to say %q and the address", err, c.text)
			}
			b.wait(t, c.want)
			for range 10 {
				receive(t, "retry", dials)
			}
			if n := a.n.Load(); n != 1 {
				t.Errorf("logged %d times for one and the same refusal", n)
			}
			if s := a.Stats()[0]; s.Up || !errors.Is(s.LastError, c.want) {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// A peer that has been told of a new member accepts it: nothing of the refusal
// stays.
func TestRefusedUntilKnown(t *testing.T) {
	a, b := newHost(t, 1, nil), newHost(t, 2, nil)
	a.SetPeer(2, b.Addr().String())
	a.wait(t, ErrNotMember)
	b.SetPeer(1, a.Addr().String())
	receive(t, "PeerUp", a.ups)
	receive(t, "PeerUp", b.ups)
}

func TestVersions(t *testing.T) {
	b := newHost(t, 2, nil)
	b.SetPeer(1, "127.0.0.1:1")
	newer := hello{versionMin: 2, versionMax: 9, cluster: 7, from: 1, to: 2, nonce: 5}
	if _, v := greetAs(t, b.Addr().String(), newer); v != refusedVersion {
		t.Errorf("verdict %d on a newer host, want %d", v, refusedVersion)
	}
	b.wait(t, ErrVersion)
	newer.versionMin = 1
	if _, v := greetAs(t, b.Addr().String(), newer); v != accepted {
		t.Errorf("verdict %d on a newer host that speaks version 1 too", v)
	}

	a := newHost(t, 1, nil)
	answer(t, a, func(h hello) []byte {
		h.versionMin, h.versionMax, h.from, h.to, h.verdict = 2, 9, 2, 1, refusedVersion
		return h.encode()
	})
	a.wait(t, ErrVersion)
}

// answer makes host 2 a server that answers the hellos of a as say says.
func answer(t *testing.T, a *host, say func(h hello) []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if h, err := readHello(c); err == nil {
				_, _ = c.Write(say(h))
			}
			_ = c.Close()
		}
	}()
	a.SetPeer(2, l.Addr().String())
}

func TestSomethingElseAnswers(t *testing.T) {
	for name, say := range map[string]func(h hello) []byte{
		"garbage":  func(hello) []byte { return bytes.Repeat([]byte("garbage "), 100) },
		"a little": func(hello) []byte { return []byte("Q") },
		"an answer to another hello": func(h hello) []byte {
			h.from, h.to, h.nonce = 2, 1, h.nonce+1
			return h.encode()
		},
		"a damaged answer": func(h hello) []byte {
			h.from, h.to = 2, 1
			b := h.encode()
			b[15] ^= 1
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newHost(t, 1, nil)
			answer(t, a, say)
			a.wait(t, ErrNotQuorate)
		})
	}
	t.Run("HTTP", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.NotFoundHandler(), ReadTimeout: hangs}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
		a := newHost(t, 1, nil)
		a.SetPeer(2, l.Addr().String())
		if err := a.wait(t, ErrNotQuorate); !strings.Contains(err.Error(), "HTTP") {
			t.Errorf("%v does not say what answers", err)
		}
	})
}

// What is not a host is cut off, and what it did is told.
func TestSomethingElseConnects(t *testing.T) {
	for name, b := range map[string][]byte{
		"HTTP":    []byte("GET / HTTP/1.1\r\n\r\n"),
		"garbage": bytes.Repeat([]byte{0xfe}, 1000),
		"TLS":     {0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			a := newHost(t, 1, nil)
			c, err := net.Dial("tcp", a.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
			a.wait(t, ErrNotQuorate)
			if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("it was answered: %d bytes, %v", n, err)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		a := newHost(t, 1, func(c *Config) { c.DialTimeout = 5 * time.Millisecond })
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		a.wait(t, os.ErrDeadlineExceeded)
	})
}

// "It is never delivered in part, changed, or twice."
func TestBadFrames(t *testing.T) {
	good := encoded([]byte("good"))
	corrupt := encoded([]byte("corrupt"))
	corrupt[len(corrupt)-1] ^= 1
	large := encoded(make([]byte, 1001))
	for _, c := range []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"half a head", good[:5], io.ErrUnexpectedEOF},
		{"half a frame", good[:10], io.ErrUnexpectedEOF},
		{"nothing", nil, io.EOF},
		{"corrupt", corrupt, ErrFrameCorrupt},
		{"a lost page", make([]byte, 30), ErrFrameCorrupt},
		{"too large", large, ErrFrameTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newHost(t, 1, func(c *Config) { c.FrameBytesMax = 1000 })
			f := newFake(t, 2, a)
			f.write(t, append(bytes.Clone(good), c.bytes...))
			a.expect(t, 2, []byte("good"))
			if err := f.out.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if d := receive(t, "PeerDown", a.downs); d.id != 2 || !errors.Is(d.err, c.want) {
				t.Errorf("PeerDown of %d: %v, want %v", d.id, d.err, c.want)
			}
			if n := len(a.frames); n != 0 {
				t.Errorf("%d more frames", n)
			}
		})
	}
}

// "PeerDown is called when one of them has broken": each direction alone.
func TestEitherDirectionBreaks(t *testing.T) {
	for name, conn := range map[string]func(*fake) net.Conn{
		"receiving": func(f *fake) net.Conn { return f.out },
		"sending":   func(f *fake) net.Conn { return f.in },
	} {
		t.Run(name, func(t *testing.T) {
			a := newHost(t, 1, nil)
			f := newFake(t, 2, a)
			_ = conn(f).Close()
			if d := receive(t, "PeerDown", a.downs); d.id != 2 || d.err == nil {
				t.Errorf("%+v", d)
			}
		})
	}
	t.Run("sent to on the dialled connection", func(t *testing.T) {
		a := newHost(t, 1, nil)
		f := newFake(t, 2, a)
		if _, err := f.in.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if d := receive(t, "PeerDown", a.downs); !errors.Is(d.err, ErrNotQuorate) {
			t.Errorf("%+v", d)
		}
	})
}

// A peer that has been started again takes the place of what it was.
func TestPeerReplaced(t *testing.T) {
	a := newHost(t, 1, nil)
	f := newFake(t, 2, a)
	f.write(t, encoded([]byte("old")))
	a.expect(t, 2, []byte("old"))
	old := f.out
	f.out, _ = f.dial(t)
	if d := receive(t, "PeerDown", a.downs); !errors.Is(d.err, ErrReplaced) {
		t.Errorf("PeerDown: %v, want %v", d.err, ErrReplaced)
	}
	receive(t, "PeerUp", a.ups)
	if _, err := old.Read(make([]byte, 1)); err == nil {
		t.Error("the old connection is open")
	}
	f.write(t, encoded([]byte("new")))
	a.expect(t, 2, []byte("new"))
}

func TestReconnect(t *testing.T) {
	var mu sync.Mutex
	var last net.Conn
	a := newHost(t, 1, func(c *Config) {
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			mu.Lock()
			last = conn
			mu.Unlock()
			return conn, err
		}
	})
	b := newHost(t, 2, nil)
	connect(t, a, b)
	for i := range 5 {
		mu.Lock()
		_ = last.Close()
		mu.Unlock()
		receive(t, "PeerDown", a.downs)
		receive(t, "PeerDown", b.downs)
		receive(t, "PeerUp", a.ups)
		receive(t, "PeerUp", b.ups)
		a.send(t, 2, []byte{byte(i)})
		b.expect(t, 1, []byte{byte(i)})
	}
	if n := a.Stats()[0].Connects; n != 6 {
		t.Errorf("connected %d times, want 6", n)
	}
}

// A host is started again, at the same address and then at another one.
func TestRestart(t *testing.T) {
	a, b := newHost(t, 1, nil), newHost(t, 2, nil)
	connect(t, a, b)
	addr := b.Addr().String()
	for _, listen := range []string{addr, "127.0.0.1:0"} {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if d := receive(t, "PeerDown", b.downs); !errors.Is(d.err, ErrClosed) {
			t.Errorf("own PeerDown: %v, want %v", d.err, ErrClosed)
		}
		receive(t, "PeerDown", a.downs)
		b = newHost(t, 2, func(c *Config) { c.Listen = listen })
		connect(t, a, b)
		b.send(t, 1, []byte("again"))
		a.expect(t, 2, []byte("again"))
	}
}

func TestRemovePeer(t *testing.T) {
	a, b := newHost(t, 1, nil), newHost(t, 2, nil)
	connect(t, a, b)
	a.RemovePeer(2)
	select { // "has been called ... when it returns"
	case d := <-a.downs:
		if d.id != 2 || !errors.Is(d.err, ErrRemoved) {
			t.Errorf("%+v", d)
		}
	default:
		t.Error("RemovePeer returned before PeerDown")
	}
	receive(t, "PeerDown", b.downs)
	if err := a.Send(2, GetBuffer()); err != ErrUnknownPeer {
		t.Errorf("send: %v", err)
	}
	b.wait(t, ErrNotMember)
	a.SetPeer(2, b.Addr().String())
	receive(t, "PeerUp", a.ups)
	receive(t, "PeerUp", b.ups)
}

// A peer that does not read fills its queue, which is bounded, and is given up
// when WriteTimeout has passed.
func TestQueueFull(t *testing.T) {
	a := newHost(t, 1, func(c *Config) { c.QueueBytesMax = 1 << 20; c.WriteTimeout = 100 * time.Millisecond })
	newFake(t, 2, a)
	payload := make([]byte, 64<<10)
	full := false
	for err := error(nil); err != ErrNotConnected; { // what the kernel takes comes to an end
		b := GetBuffer()
		b.B = append(b.B, payload...)
		if err = a.Send(2, b); err == ErrQueueFull {
			full = true
			runtime.Gosched()
		}
		if q := a.Stats()[0].QueuedBytes; q > 1<<20 {
			t.Fatalf("%d bytes queued", q)
		}
	}
	if !full {
		t.Error("the queue was never full")
	}
	if d := receive(t, "PeerDown", a.downs); !errors.Is(d.err, os.ErrDeadlineExceeded) {
		t.Errorf("PeerDown: %v, want %v", d.err, os.ErrDeadlineExceeded)
	}
	if s := a.Stats()[0]; s.Dropped == 0 || s.QueuedBytes != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	hosts := []*host{newHost(t, 1, nil), newHost(t, 2, nil), newHost(t, 3, nil)}
	for i, a := range hosts {
		for _, b := range hosts[:i] {
			connect(t, a, b)
		}
	}
	hosts[0].SetPeer(4, "127.0.0.1:1") // never connects
	idle, err := net.Dial("tcp", hosts[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	hosts[1].RemovePeer(3)
	for _, h := range hosts {
		h.send0(1, 2, 3)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
		h.SetPeer(9, "127.0.0.1:1")
	}
	noGoroutines(t)
}

// send0 sends to all that will take it.
func (h *host) send0(ids ...uint64) {
	for _, id := range ids {
		b := GetBuffer()
		b.B = append(b.B, "last words"...)
		_ = h.Send(id, b)
	}
}

func TestConfig(t *testing.T) {
	good := Config{ID: 1, Cluster: 1, Listen: "127.0.0.1:0", Handler: newRecorder()}
	for name, change := range map[string]func(*Config){
		"ID":       func(c *Config) { c.ID = 0 },
		"Cluster":  func(c *Config) { c.Cluster = 0 },
		"Handler":  func(c *Config) { c.Handler = nil },
		"Listen":   func(c *Config) { c.Listen = "" },
		"queue":    func(c *Config) { c.QueueBytesMax = -1 },
		"frame":    func(c *Config) { c.FrameBytesMax = 1 << 33 },
		"backoff":  func(c *Config) { c.BackoffMin, c.BackoffMax = time.Second, time.Millisecond },
		"timeouts": func(c *Config) { c.WriteTimeout = -1 },
	} {
		c := good
		change(&c)
		if tr, err := New(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
			if tr != nil {
				_ = tr.Close()
			}
		}
	}
	a := newHost(t, 1, nil)
	c := good
	c.Listen = a.Addr().String()
	if _, err := New(c); err == nil {
		t.Error("listens where another does")
	}
}

func TestHelloLayout(t *testing.T) {
	h := hello{versionMin: 1, versionMax: 2, cluster: 3, from: 4, to: 5, nonce: 6, verdict: 4}
	b := h.encode()
	want := fmt.Sprintf("%x", "QUORATE\n") + "0100" + "0200" + "0300000000000000" + "0400000000000000" + "0500000000000000" + "0600000000000000" + "04000000" + fmt.Sprintf("%x", b[48:])
	if got := fmt.Sprintf("%x", b); got != want || len(b) != helloBytes {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, err := decodeHello((*[helloBytes]byte)(b)); got != h || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	// A frame: length, CRC-32C, payload. The checksum is RFC 3720's test
	// vector of 32 bytes of zeroes.
	f := encoded(make([]byte, 32))
	if n, sum := binary.LittleEndian.Uint32(f), binary.LittleEndian.Uint32(f[4:]); n != 32 || sum != 0x8a9136aa || len(f) != 40 {
		t.Errorf("frame of %d bytes: length %d, checksum %08x", len(f), n, sum)
	}
}
