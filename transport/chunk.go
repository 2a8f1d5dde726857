package transport

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Frame is a frame that came in. B is lent until Release, and then used for what
// comes in next. Who does not call Release may keep B for good: the garbage
// collector then has more to do, and that is all.
//
// A Frame is a value with one owner: whoever hands a copy on must not release it
// too.
type Frame struct {
	B     []byte
	chunk *chunk // nil: B is of its own
}

// Release gives the frame's memory back.
func (f Frame) Release() {
	if f.chunk != nil {
		f.chunk.release()
	}
}

// PoisonFrame returns a frame whose memory, b, is overwritten when it is
// released, for simulations and tests: so whoever keeps it is found out.
func PoisonFrame(b []byte) Frame {
	c := &chunk{b: b, poison: true}
	c.refs.Store(1)
	return Frame{B: b, chunk: c}
}

// chunk is a piece of memory that a reader reads frames into.
//
// Invariants:
//
//  1. refs counts the reader that fills the chunk and the frames in it that are
//     not released. The reader alone adds to it, so one that finds only itself
//     has the chunk for itself.
//  2. Nothing is written to what was handed out while refs counts a frame.
type chunk struct {
	b      []byte
	refs   atomic.Int32
	poison bool
}

func (c *chunk) release() {
	switch n := c.refs.Add(-1); {
	case n < 0:
		panic("transport: a frame is released twice")
	case n > 0:
	case c.poison:
		for i := range c.b {
			c.b[i] = 0xDB
		}
	default:
		idleChunks.put(c)
	}
}

const (
	chunkClasses = 7 // powers of two from chunkBytesMin to trustedBytesMax
	// idleChunkBytesMax bounds the chunks that wait to be used again.
	idleChunkBytesMax = 16 << 20
)

// idleChunks are the chunks that wait to be used again.
var idleChunks chunkPool

// chunkPool is a bounded set of chunks, by size.
//
// Invariant: bytes is the size of all of them together, at most
// idleChunkBytesMax.
type chunkPool struct {
	mu      sync.Mutex
	classes [chunkClasses][]*chunk
	bytes   int
}

// chunkClass returns the class of the least chunk of at least size bytes;
// chunkClasses or more if there is none.
func chunkClass(size int) int {
	return bits.Len(uint(max(size, chunkBytesMin)-1)) - bits.Len(uint(chunkBytesMin-1))
}

// get returns a chunk of at least size bytes, with one reference.
func (p *chunkPool) get(size int) *chunk {
	k := chunkClass(size)
	if k < chunkClasses {
		size = chunkBytesMin << k
		p.mu.Lock()
		if n := len(p.classes[k]); n > 0 {
			c := p.classes[k][n-1]
			p.classes[k][n-1] = nil
			p.classes[k] = p.classes[k][:n-1]
			p.bytes -= size
			p.mu.Unlock()
			c.refs.Store(1)
			return c
		}
		p.mu.Unlock()
	}
	c := &chunk{b: make([]byte, size)}
	c.refs.Store(1)
	return c
}

func (p *chunkPool) put(c *chunk) {
	size := len(c.b)
	k := chunkClass(size)
	if k >= chunkClasses || size != chunkBytesMin<<k {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes+size <= idleChunkBytesMax {
		p.classes[k] = append(p.classes[k], c)
		p.bytes += size
	}
}
