package host

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/transport"
	"github.com/quorate/quorate/wire"
)

// A request's number finds its waiter while it waits, and nobody afterwards,
// although the slot is used again.
func TestSlab(t *testing.T) {
	var s slab
	rng := rand.New(rand.NewPCG(1, 1))
	live := map[uint64]*waiter{}
	var dead []uint64
	const max = 50
	for range 10_000 {
		if len(live) < max && rng.IntN(2) == 0 {
			w := &waiter{}
			request, ok := s.add(w, max)
			if !ok || request == 0 || live[request] != nil {
				t.Fatalf("request %d, %v", request, ok)
			}
			live[request] = w
		} else {
			for request, w := range live {
				s.remove(w)
				delete(live, request)
				dead = append(dead, request)
				break
			}
		}
		if s.used() != len(live) {
			t.Fatalf("%d in use, %d live", s.used(), len(live))
		}
	}
	for request, w := range live {
		if s.get(request) != w {
			t.Fatal("a live request does not find its waiter")
		}
	}
	for _, request := range append(dead, 0, 1<<40) {
		if w := s.get(request); w != nil && live[request] == nil {
			t.Fatal("a dead request finds a waiter")
		}
	}
	for s.used() < max {
		s.add(&waiter{}, max)
	}
	if _, ok := s.add(&waiter{}, max); ok {
		t.Fatal("more waiters than the limit")
	}
}

func TestDeadlineHeap(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	var h deadlineHeap
	var all []*group
	for i := range 200 {
		g := &group{id: smr.GroupID(i + 1)}
		all = append(all, g)
		h.push(g, smr.Instant(rng.IntN(50)))
	}
	check := func() {
		for i, e := range h {
			if e.g.heapPos != i || i > 0 && h.less(i, (i-1)/2) {
				t.Fatalf("entry %d is out of place", i)
			}
		}
	}
	check()
	for range 2000 {
		g := all[rng.IntN(len(all))]
		h.fix(g, smr.Instant(rng.IntN(50)))
		check()
	}
	for len(h) > 0 {
		h.remove(h[rng.IntN(len(h))].g)
		check()
	}
}

// "Inboxes are bounded. Full means ErrBusy at once."
// measure is a Sender that notes the largest frame.
type measure struct{ largest int }

func (m *measure) Send(_ uint64, b *transport.Buffer) error {
	m.largest = max(m.largest, len(b.B))
	b.Release()
	return nil
}

// "CommandBytesMax bounds a command": the largest that it allows fits into a frame,
// as the last of a batch in a frame that was nearly full, and the transport takes
// such a frame, however large the bound is.
func TestLargestCommandFitsAFrame(t *testing.T) {
	for _, size := range []int{4 << 20, 72 << 20, 100 << 20} {
		cfg := Config{ID: 1, Cluster: 7, Dir: t.TempDir(), Listen: "127.0.0.1:0", Peers: map[smr.ReplicaID]string{2: "127.0.0.1:1"},
			CommandBytesMax: size, InboxBytesMax: 2 * size, LogBufferBytesMax: 2 * size, Logger: slog.New(slog.DiscardHandler)}
		h, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var sent measure
		o := outbox{sender: &sent, log: cfg.Logger}
		f := o.frame(2)
		f.B = append(f.B, make([]byte, frameBytesSoft-len(f.B))...)
		f = o.frame(2)
		f.B = wire.AppendForward(f.B, &wire.Forward{Group: 1, Term: 1, Entries: []smr.Entry{
			{Kind: smr.KindCommand, Data: make([]byte, proposeBytesMax-smr.EntryOverhead-1)}, {Kind: smr.KindCommand, Data: make([]byte, size)}}})
		o.flush()
		if sent.largest <= size+proposeBytesMax {
			t.Errorf("a frame of %d bytes for a command of %d", sent.largest, size)
		}
		err = h.transport.Send(2, &transport.Buffer{B: make([]byte, sent.largest)})
		if !errors.Is(err, transport.ErrNotConnected) { // the first that it looks at is the size
			t.Errorf("a frame with a command of %d bytes: %v", size, err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}

// narrow is a Sender that carries no frame.
type narrow struct{}

func (narrow) Send(_ uint64, b *transport.Buffer) error {
	b.Release()
	return transport.ErrFrameTooLarge
}

// A frame that the transport will never carry is said to an operator, once.
func TestFrameTooLargeIsLogged(t *testing.T) {
	var log bytes.Buffer
	o := outbox{sender: narrow{}, log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 2 {
		o.frame(2)
		o.flush()
	}
	if text := log.String(); strings.Count(text, "larger than the transport carries") != 1 {
		t.Errorf("logged %q", text)
	}
}

func TestInboxBounds(t *testing.T) {
	wakes := 0
	in := inbox{bytesMax: 1000, wake: func() { wakes++ }}
	for range 3 {
		n, m := 0, 0
		for {
			w := &waiter{entry: smr.Entry{Data: make([]byte, 20)}}
			if err := in.request(w); err != nil {
				if !errors.Is(err, ErrBusy) {
					t.Fatal(err)
				}
				break
			}
			n++
		}
		for in.frame(1, transport.Frame{B: make([]byte, 100)}) == nil {
			m++
		}
		if n != 10 || m != 10 {
			t.Fatalf("%d requests of 100 bytes and %d frames of 100 bytes fit 1000 bytes each", n, m)
		}
		var l letters
		in.swap(&l, false)
		if len(l.requests) != n || len(l.frames) != m || !in.empty() {
			t.Fatal("the letters are not what was put in")
		}
	}
	// What never fits would be sent again for ever.
	if err := in.frame(1, transport.Frame{B: make([]byte, 999)}); err != nil {
		t.Error(err)
	}
	if err := in.frame(1, transport.Frame{B: make([]byte, 1001)}); err != nil {
		t.Errorf("a frame larger than the inbox, into one that is not full: %v", err)
	}
	if err := in.frame(1, transport.Frame{B: make([]byte, 1)}); !errors.Is(err, ErrBusy) {
		t.Errorf("a frame after that: %v", err)
	}
	if wakes != 4 {
		t.Errorf("woken %d times for four times something in an empty inbox", wakes)
	}
	in.stop(ErrStopped)
	if err := in.request(&waiter{}); !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
}

// Whoever asks more often than a byte takes has its debt paid back all the same:
// two followers that wait for one limit keep asking in turn.
func TestBandwidthIsPaidBackByTheByte(t *testing.T) {
	tk := tokens{perSecond: 1000}
	now := smr.Instant(time.Hour)
	tk.ready(now)
	tk.debt = 100
	const often = 10 * time.Microsecond // a byte takes a millisecond
	asked := 0
	for at := tk.ready(now); at > now; at = tk.ready(now) {
		if asked++; asked > 11_000 {
			t.Fatalf("%d bytes are not paid back after %d questions", tk.debt, asked)
		}
		now = now.Add(often)
	}
	if passed := now.Sub(smr.Instant(time.Hour)); passed < 99*time.Millisecond || passed > 101*time.Millisecond {
		t.Errorf("100 bytes at 1000/s were paid back in %v", passed)
	}
	now = now.Add(time.Hour)
	tk.ready(now)
	if tk.debt != -10_000 {
		t.Errorf("an hour's pause is worth %d bytes, want ten seconds'", -tk.debt)
	}
}
