package transport

import (
	"runtime"
	"testing"
)

// What is idle is bounded, and comes back though the garbage collector has run.
func TestIdleBuffers(t *testing.T) {
	var l bufferList
	const size = 1 << 20
	for range 2 * idleBytesMax / size {
		l.push(&Buffer{B: make([]byte, 0, size)})
	}
	if l.bytes > idleBytesMax {
		t.Errorf("%d bytes are kept", l.bytes)
	}
	runtime.GC()
	runtime.GC()
	n := 0
	for b := l.pop(); b != nil; b = l.pop() {
		if n++; cap(b.B) != size || b.next != nil {
			t.Fatalf("buffer of %d bytes, next %p", cap(b.B), b.next)
		}
	}
	if want := idleBytesMax / (size + bufferOverhead); n != want || l.bytes != 0 {
		t.Errorf("%d buffers came back and %d bytes are left, want %d and 0", n, l.bytes, want)
	}
}

// A buffer larger than bufferBytesMax is not kept, and one that is comes back
// empty.
func TestReleaseEmpties(t *testing.T) {
	b := GetBuffer()
	b.B = append(b.B, "something"...)
	b.Release()
	if b := GetBuffer(); len(b.B) != 0 {
		t.Errorf("a buffer comes with %q", b.B)
	}
	(&Buffer{B: make([]byte, bufferBytesMax+1)}).Release()
	if b := GetBuffer(); cap(b.B) > bufferBytesMax {
		t.Errorf("a buffer of %d bytes was kept", cap(b.B))
	}
}

func TestBufferAllocs(t *testing.T) {
	n := testing.AllocsPerRun(100, func() {
		b := GetBuffer()
		b.B = append(b.B, "something"...)
		b.Release()
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
