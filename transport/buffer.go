package transport

import "sync"

// headBytes is the size of a frame's head.
const headBytes = 8

// bufferBytesMax is the largest buffer that is worth keeping for reuse.
const bufferBytesMax = 8 << 20

// Buffer is a frame on its way out. Fill B, from its start, and Send it.
type Buffer struct {
	B    []byte
	head [headBytes]byte
	next *Buffer // in the queue of a peer
}

var bufferPool = sync.Pool{New: func() any { return new(Buffer) }}

// GetBuffer returns an empty buffer. Send takes it; one that is not sent is
// given back by Release.
func GetBuffer() *Buffer { return bufferPool.Get().(*Buffer) }

// Release gives back a buffer that will not be sent. Nobody may touch it after.
func (b *Buffer) Release() {
	if cap(b.B) > bufferBytesMax {
		return
	}
	b.B = b.B[:0]
	b.next = nil
	bufferPool.Put(b)
}

// bufferQueue is a linked list of buffers, first in first out.
type bufferQueue struct {
	first, last *Buffer
}

func (q *bufferQueue) push(b *Buffer) {
	if q.first == nil {
		q.first = b
	} else {
		q.last.next = b
	}
	q.last = b
}

// releaseAll empties the queue and returns how many buffers it held.
func (q *bufferQueue) releaseAll() (n uint64) {
	for b := q.first; b != nil; n++ {
		next := b.next
		b.Release()
		b = next
	}
	*q = bufferQueue{}
	return n
}
