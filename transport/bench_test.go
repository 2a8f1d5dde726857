package transport

import (
	"fmt"
	"log/slog"
	"testing"
)

// echo sends back what it gets, or counts it.
type echo struct {
	t    *Transport
	back bool
	got  chan struct{}
	ups  chan uint64
}

func (e *echo) Frame(from uint64, f Frame) {
	defer f.Release()
	if e.back {
		buf := GetBuffer()
		buf.B = append(buf.B, f.B...)
		_ = e.t.Send(from, buf)
		return
	}
	e.got <- struct{}{}
}
func (e *echo) PeerUp(id uint64)       { e.ups <- id }
func (e *echo) PeerDown(uint64, error) {}

func echoPair(b *testing.B) (*echo, *echo) {
	b.Helper()
	var es [2]*echo
	for i := range es {
		es[i] = &echo{back: i == 1, got: make(chan struct{}, 1<<16), ups: make(chan uint64, 1)}
		t, err := New(Config{ID: uint64(i + 1), Cluster: 1, Listen: "127.0.0.1:0", Handler: es[i], Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		es[i].t = t
		b.Cleanup(func() { _ = t.Close() })
	}
	es[0].t.SetPeer(2, es[1].t.Addr().String())
	es[1].t.SetPeer(1, es[0].t.Addr().String())
	receive(b, "PeerUp", es[0].ups)
	receive(b, "PeerUp", es[1].ups)
	return es[0], es[1]
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, c := range []struct{ inFlight, bytes int }{{1, 128}, {64, 128}, {1024, 128}, {16, 64 << 10}} {
		b.Run(fmt.Sprintf("inFlight=%d/bytes=%d", c.inFlight, c.bytes), func(b *testing.B) {
			a, _ := echoPair(b)
			payload := make([]byte, c.bytes)
			send := func() {
				buf := GetBuffer()
				buf.B = append(buf.B, payload...)
				if err := a.t.Send(2, buf); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(2 * c.bytes))
			b.ReportAllocs()
			b.ResetTimer()
			sent := 0
			for ; sent < min(c.inFlight, b.N); sent++ {
				send()
			}
			for range b.N {
				<-a.got
				if sent < b.N {
					send()
					sent++
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
			s := a.t.Stats()[0]
			b.ReportMetric(float64(s.FramesSent)/float64(s.Writes), "frames/write")
		})
	}
}

func BenchmarkFrameReader(b *testing.B) {
	frames := make([][]byte, 1000)
	for i := range frames {
		frames[i] = make([]byte, 1000)
	}
	stream := encoded(frames...)
	c := &memConn{}
	r := frameReader{conn: c, checksums: true, frameBytesMax: 1 << 20, read: func(int) {}}
	b.SetBytes(1008)
	b.ReportAllocs()
	for b.Loop() {
		if c.Len() == 0 {
			c.Buffer.Reset()
			_, _ = c.Buffer.Write(stream)
		}
		f, err := r.next()
		if err != nil {
			b.Fatal(err)
		}
		f.Release()
	}
}
