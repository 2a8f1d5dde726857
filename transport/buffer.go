package transport

import "sync"

// headBytes is the size of a frame's head.
const headBytes = 8

const (
	// bufferBytesMax is the largest buffer that is kept for reuse.
	bufferBytesMax = 8 << 20
	// idleBytesMax bounds the buffers that are kept and not in use.
	idleBytesMax = 32 << 20
	// bufferOverhead is what a buffer counts for beside its memory.
	bufferOverhead = 128
)

// Buffer is a frame on its way out. Fill B, from its start, and Send it.
type Buffer struct {
	B    []byte
	head [headBytes]byte
	next *Buffer // in the queue of a peer, or among the idle ones
}

// idle are the buffers that wait to be used again. A sync.Pool would lose them
// to the garbage collector, and frames of megabytes would grow anew from nothing
// many times a second, which was half of all memory that a busy host allocated.
var idle bufferList

// bufferList is a bounded stack of buffers: the one last used, whose memory is
// warm, is used next.
//
// Invariant: bytes is the sum of cap(B) + bufferOverhead over the stack, and at
// most idleBytesMax.
type bufferList struct {
	mu    sync.Mutex
	first *Buffer
	bytes int
}

func (l *bufferList) pop() *Buffer {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.first
	if b != nil {
		l.first = b.next
		l.bytes -= cap(b.B) + bufferOverhead
		b.next = nil
	}
	return b
}

func (l *bufferList) push(b *Buffer) {
	size := cap(b.B) + bufferOverhead
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes+size <= idleBytesMax {
		b.next = l.first
		l.first = b
		l.bytes += size
	}
}

// GetBuffer returns an empty buffer. Send takes it; one that is not sent is
// given back by Release.
func GetBuffer() *Buffer {
	if b := idle.pop(); b != nil {
		return b
	}
	return new(Buffer)
}

// Release gives back a buffer that will not be sent. Nobody may touch it after.
func (b *Buffer) Release() {
	if cap(b.B) > bufferBytesMax {
		return
	}
	b.B = b.B[:0]
	idle.push(b)
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
