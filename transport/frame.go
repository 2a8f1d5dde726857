package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"
)

const (
	// chunkBytesMin and chunkBytesMax bound the pieces of memory that a reader
	// reads into. They grow while one fills with few reads.
	chunkBytesMin = 64 << 10
	chunkBytesMax = 512 << 10
	// readBytesMin is the least room that a read is worth.
	readBytesMin = 4 << 10
	// trustedBytesMax is how much is allocated for a frame on the word of its
	// head; a larger one gets more as it comes in.
	trustedBytesMax = 4 << 20
)

// frameReader cuts frames out of what a connection brings. Frames are slices of
// the chunk that they were read into, so they are not copied, but for one that
// lies across the end of a chunk.
//
// Invariants:
//
//  1. 0 <= r <= w <= len(chunk.b), and chunk.b[r:w] is read and not handed out.
//  2. Nothing is written to chunk.b[:w] while a receiver has not released a frame
//     of the chunk. So a chunk is filled again only when the reader has it for
//     itself.
type frameReader struct {
	conn          io.Reader
	checksums     bool
	frameBytesMax int
	read          func(n int) // told of each read

	chunk      *chunk // nil before the first read
	r, w       int
	chunkBytes int // size of the next chunk
	reads      int // into this chunk
}

// next returns the next frame, which is the caller's to release. An error of the
// connection that falls between two frames is returned as it is.
func (f *frameReader) next() (Frame, error) {
	for {
		need := headBytes
		if f.w-f.r >= headBytes {
			head := f.chunk.b[f.r:]
			n := uint64(binary.LittleEndian.Uint32(head))
			if n == 0 {
				return Frame{}, fmt.Errorf("%w: its head says that it has no bytes", ErrFrameCorrupt)
			}
			if n > uint64(f.frameBytesMax) {
				return Frame{}, fmt.Errorf("%w: a frame of %d bytes exceeds FrameBytesMax of %d", ErrFrameTooLarge, n, f.frameBytesMax)
			}
			need += int(n)
			if f.w-f.r >= need {
				b := f.chunk.b[f.r+headBytes : f.r+need : f.r+need]
				f.r += need
				if err := f.verify(b, binary.LittleEndian.Uint32(head[4:])); err != nil {
					return Frame{}, err
				}
				f.chunk.refs.Add(1)
				return Frame{B: b, chunk: f.chunk}, nil
			}
		}
		f.makeRoom(need)
		n, err := f.conn.Read(f.chunk.b[f.w:])
		f.w += n
		f.reads++
		f.read(n)
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) && f.w > f.r {
				err = fmt.Errorf("connection closed within a frame: %w", io.ErrUnexpectedEOF)
			}
			return Frame{}, err
		}
	}
}

// close gives the reader's chunk up.
func (f *frameReader) close() {
	if f.chunk != nil {
		f.chunk.release()
		f.chunk = nil
	}
}

func (f *frameReader) verify(b []byte, want uint32) error {
	if !f.checksums {
		return nil
	}
	if got := crc32.Checksum(b, castagnoli); got != want {
		return fmt.Errorf("%w: checksum of %d bytes is %08x and should be %08x", ErrFrameCorrupt, len(b), got, want)
	}
	return nil
}

// makeRoom makes sure that there is room to read into, for a frame that takes
// need bytes from r on, of which some are missing.
func (f *frameReader) makeRoom(need int) {
	have, size := f.w-f.r, 0
	if f.chunk != nil {
		size = len(f.chunk.b)
	}
	whole := need > headBytes // the frame's size is known
	switch {
	case whole && f.r+need <= size:
		return
	case whole && f.r == 0 && f.w < size:
		return // a large frame, which has the chunk for itself
	case !whole && size-f.w >= readBytesMin:
		return
	}
	if f.chunk != nil && max(need, have+readBytesMin) <= size && f.chunk.refs.Load() == 1 {
		copy(f.chunk.b, f.chunk.b[f.r:f.w]) // all frames in it are released
		f.r, f.w, f.reads = 0, have, 0
		return
	}
	if f.chunkBytes == 0 {
		f.chunkBytes = chunkBytesMin
	} else if f.reads <= 4 {
		f.chunkBytes = min(2*f.chunkBytes, chunkBytesMax)
	} else if f.reads > 32 {
		f.chunkBytes = max(f.chunkBytes/2, chunkBytesMin)
	}
	c := idleChunks.get(max(f.chunkBytes, min(need, max(trustedBytesMax, 2*have))))
	if f.chunk != nil {
		copy(c.b, f.chunk.b[f.r:f.w])
		f.chunk.release()
	}
	f.chunk, f.r, f.w, f.reads = c, 0, have, 0
}

// writeBytesMax is how much one write carries; the deadline is for one write.
const writeBytesMax = 1 << 20

// frameWriter writes frames to a connection: as many as there are with one
// system call, without copying them.
type frameWriter struct {
	conn      net.Conn
	checksums bool
	timeout   time.Duration
	wrote     func(bytes int) // told of each write

	iov     net.Buffers // what is gathered
	size    int         // its size
	writing net.Buffers // iov while it is written, which consumes it
	flat    []byte      // used instead of iov under TLS, which writes piece by piece
}

func newFrameWriter(c net.Conn, secure bool, timeout time.Duration, wrote func(int)) *frameWriter {
	w := &frameWriter{conn: c, checksums: !secure, timeout: timeout, wrote: wrote}
	if secure {
		w.flat = make([]byte, 0, chunkBytesMin)
	}
	return w
}

// write writes all frames of a queue, which keeps them.
func (w *frameWriter) write(q *bufferQueue) error {
	for b := q.first; b != nil; b = b.next {
		putHead(&b.head, b.B, w.checksums)
		w.gather(b.head[:])
		for rest := b.B; len(rest) > 0; {
			n := min(len(rest), writeBytesMax-w.size)
			w.gather(rest[:n])
			rest = rest[n:]
			if w.size >= writeBytesMax {
				if err := w.flush(); err != nil {
					return err
				}
			}
		}
	}
	return w.flush()
}

// putHead fills in the head of a frame.
func putHead(head *[headBytes]byte, payload []byte, checksums bool) {
	var sum uint32
	if checksums {
		sum = crc32.Checksum(payload, castagnoli)
	}
	binary.LittleEndian.PutUint32(head[:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(head[4:], sum)
}

func (w *frameWriter) gather(b []byte) {
	w.size += len(b)
	if w.flat != nil {
		w.flat = append(w.flat, b...)
		return
	}
	w.iov = append(w.iov, b)
}

func (w *frameWriter) flush() error {
	if w.size == 0 {
		return nil
	}
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return err
	}
	var err error
	if w.flat != nil {
		_, err = w.conn.Write(w.flat)
		w.flat = w.flat[:0]
	} else {
		w.writing = w.iov
		_, err = w.writing.WriteTo(w.conn)
		clear(w.iov)
		w.iov = w.iov[:0]
	}
	w.wrote(w.size)
	w.size = 0
	return err
}

// AppendFrame appends a frame as a connection without TLS carries it, and FirstFrame
// reads the first one of what such a connection has brought. They are for simulations,
// which have no connections; with checksums unset, the checksum is not looked at.
func AppendFrame(dst, payload []byte) []byte {
	var head [headBytes]byte
	putHead(&head, payload, true)
	return append(append(dst, head[:]...), payload...)
}

// FirstFrame is described at AppendFrame. Its errors are those that break a connection.
func FirstFrame(stream []byte, checksums bool) (Frame, error) {
	f := frameReader{conn: bytes.NewReader(stream), checksums: checksums, frameBytesMax: frameBytesMaxDefault, read: func(int) {}}
	defer f.close()
	return f.next()
}
