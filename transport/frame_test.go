package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
)

// pieces is a connection that brings its bytes in pieces of random size.
type pieces struct {
	net.Conn
	b   []byte
	rng *rand.Rand
	max int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := min(len(b), len(p.b), 1+p.rng.IntN(p.max))
	copy(b, p.b[:n])
	p.b = p.b[n:]
	return n, nil
}

// "Nothing is written to chunk[:w]: it may be in a receiver's hands." All frames
// are kept to the end and compared then.
func TestReaderKeepsFrames(t *testing.T) {
	for _, c := range []struct {
		name                       string
		frames, bytesMax, pieceMax int
	}{
		{"small frames in small pieces", 5000, 300, 50},
		{"small frames in large pieces", 20000, 300, 1 << 20},
		{"around a chunk", 200, 2 * chunkBytesMin, chunkBytesMin},
		{"large frames", 3, 2 * trustedBytesMax, 1 << 20},
		{"large frames in middling pieces", 2, 3 * trustedBytesMax, 20000},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			var frames [][]byte
			for i := range c.frames {
				frames = append(frames, pattern(1+rng.IntN(c.bytesMax), i))
			}
			reads := 0
			f := frameReader{conn: &pieces{b: encoded(frames...), rng: rng, max: c.pieceMax}, checksums: true, frameBytesMax: 1 << 26, read: func(int) { reads++ }}
			var got [][]byte
			for {
				b, err := f.next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, b.B)
			}
			if len(got) != len(frames) {
				t.Fatalf("%d frames, want %d", len(got), len(frames))
			}
			for i := range got {
				if !bytes.Equal(got[i], frames[i]) {
					t.Fatalf("frame %d of %d bytes has changed", i, len(got[i]))
				}
				if cap(got[i]) != len(got[i]) {
					t.Fatalf("frame %d can be appended to, over the next one", i)
				}
			}
			if reads == 0 {
				t.Error("no read was told")
			}
		})
	}
}

// "Nothing is written to what was handed out while refs counts a frame." Frames
// are held for a while, in an order of their own, and compared when released;
// and what is released is read into again.
func TestReaderUsesMemoryAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 5))
	var frames [][]byte
	for i := range 20000 {
		frames = append(frames, pattern(1+rng.IntN(3000), i))
	}
	f := frameReader{conn: &pieces{b: encoded(frames...), rng: rng, max: 100_000}, checksums: true, frameBytesMax: 1 << 26, read: func(int) {}}
	type held struct {
		Frame
		i int
	}
	var holding []held
	seen := map[*chunk]bool{}
	for i := range frames {
		frame, err := f.next()
		if err != nil {
			t.Fatal(err)
		}
		seen[frame.chunk] = true
		holding = append(holding, held{frame, i})
		for len(holding) > rng.IntN(200) {
			k := rng.IntN(len(holding))
			if h := holding[k]; !bytes.Equal(h.B, frames[h.i]) {
				t.Fatalf("frame %d has changed while it was held", h.i)
			}
			holding[k].Release()
			holding = append(holding[:k], holding[k+1:]...)
		}
	}
	if len(seen) > 32 {
		t.Errorf("%d chunks for 200 frames held at most", len(seen))
	}
}

// A reader whose frames are released allocates nothing.
func TestReaderAllocs(t *testing.T) {
	stream := encoded(make([]byte, 100), make([]byte, 30_000), make([]byte, 200_000))
	c := &memConn{}
	f := frameReader{conn: c, checksums: true, frameBytesMax: 1 << 20, read: func(int) {}}
	read := func() {
		c.Buffer.Reset()
		_, _ = c.Buffer.Write(stream)
		for range 3 {
			frame, err := f.next()
			if err != nil {
				t.Fatal(err)
			}
			frame.Release()
		}
	}
	for range 100 {
		read()
	}
	if n := testing.AllocsPerRun(500, read); n > 0 {
		t.Errorf("%v allocations for three frames", n)
	}
}

func TestReleasedTwice(t *testing.T) {
	f := PoisonFrame([]byte("something"))
	f.Release()
	if f.B[0] != 0xDB {
		t.Error("a poisoned frame outlives its release")
	}
	defer func() {
		if recover() == nil {
			t.Error("a frame can be released twice")
		}
	}()
	f.Release()
}

// A head that promises much and brings nothing does not cost much.
func TestReaderDoesNotTrustLengths(t *testing.T) {
	b := binary.LittleEndian.AppendUint32(nil, 64<<20)
	b = append(b, make([]byte, 1000)...)
	f := frameReader{conn: &memConn{Buffer: *bytes.NewBuffer(b)}, frameBytesMax: 72 << 20, read: func(int) {}}
	if _, err := f.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("%v", err)
	}
	if len(f.chunk.b) > trustedBytesMax {
		t.Errorf("%d bytes allocated for %d", len(f.chunk.b), len(b))
	}
}

// "The checksum is of the payload": CRC-32C finds any change of three bits, and any
// burst of 32. What a change of the length makes of a frame is no frame either.
func TestSpoiltFrames(t *testing.T) {
	payload := pattern(300, 1)
	stream := AppendFrame(nil, payload)
	if want := encoded(payload); !bytes.Equal(stream, want) {
		t.Fatalf("AppendFrame: %x, a connection carries %x", stream, want)
	}
	if f, err := FirstFrame(stream, true); err != nil || !bytes.Equal(f.B, payload) {
		t.Fatalf("FirstFrame: %x, %v", f.B, err)
	}
	refused := func(what string, spoilt []byte) {
		t.Helper()
		if f, err := FirstFrame(spoilt, true); err == nil {
			t.Errorf("%s: taken for a frame of %d bytes", what, len(f.B))
		}
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for bit := range 8 * len(stream) {
		spoilt := bytes.Clone(stream)
		for _, b := range []int{bit, rng.IntN(8 * len(stream)), rng.IntN(8 * len(stream))}[:1+2*(bit%2)] {
			spoilt[b/8] ^= 1 << (b % 8)
		}
		if !bytes.Equal(spoilt, stream) {
			refused("flipped bits", spoilt)
		}
	}
	for at := range len(stream) - 4 {
		spoilt := bytes.Clone(stream)
		binary.LittleEndian.PutUint32(spoilt[at:], binary.LittleEndian.Uint32(spoilt[at:])^(1|rng.Uint32()))
		refused("burst", spoilt)
		refused("cut short", stream[:at])
	}
	// The checksum of nothing is zero, so zeros would be frames of no bytes.
	refused("a lost page", make([]byte, len(stream)))
	refused("a lost head", append(make([]byte, headBytes), payload...))
	if f, err := FirstFrame(append(bytes.Clone(stream[:len(stream)-1]), 0xee), false); err != nil || len(f.B) != len(payload) {
		t.Errorf("a spoilt frame on a connection without checksums: %v", err)
	}
}

func FuzzFrameReader(f *testing.F) {
	f.Add(encoded([]byte("one"), []byte("t"), []byte("two")), uint8(3))
	f.Add(encoded(make([]byte, 5000)), uint8(255))
	f.Fuzz(func(t *testing.T, b []byte, pieceMax uint8) {
		const frameBytesMax = 10000
		conn := &pieces{b: b, rng: rand.New(rand.NewPCG(3, 4)), max: int(pieceMax) + 1}
		r := frameReader{conn: conn, checksums: true, frameBytesMax: frameBytesMax, read: func(int) {}}
		var got [][]byte
		for {
			frame, err := r.next()
			if err != nil {
				break
			}
			if len(frame.B) > frameBytesMax {
				t.Fatalf("frame of %d bytes", len(frame.B))
			}
			got = append(got, bytes.Clone(frame.B))
			frame.Release()
		}
		if len(got) > 0 {
			if again := encoded(got...); !bytes.HasPrefix(b, again) {
				t.Fatalf("read %x from %x", again, b)
			}
		}
	})
}

func FuzzHello(f *testing.F) {
	h := hello{versionMin: 1, versionMax: 1, cluster: 2, from: 3, to: 4, nonce: 5}
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(&memConn{Buffer: *bytes.NewBuffer(b)})
		if err == nil && !bytes.HasPrefix(b, h.encode()[:45]) {
			t.Fatalf("%+v from %x", h, b)
		}
	})
}
