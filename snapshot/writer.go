package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/quorate/quorate/smr"
)

// Encoder turns a view into the blocks of a file, one at a time.
type Encoder struct {
	view   io.Reader
	id     uint64
	number uint32
	sum    hash.Hash
	bytes  uint64 // of the state
	block  []byte
	size   int
	// pending begins the next payload: the head at first, the rest of the
	// trailer at the end.
	pending []byte
	ended   bool // the view is read to its end
	done    bool
}

// NewEncoder returns an encoder of the state that view yields. id must not be
// zero. blockBytes is the size of the blocks, zero for BlockBytes; it is raised
// if the head does not fit into it.
func NewEncoder(h *Head, id uint64, view io.Reader, blockBytes int) *Encoder {
	if blockBytes == 0 {
		blockBytes = BlockBytes
	}
	head := appendHead(nil, h)
	size := max(blockBytes, blockHead+len(head)+alignment-1) / alignment * alignment
	return &Encoder{view: view, id: id, sum: sha256.New(), block: make([]byte, 0, size), size: size, pending: head}
}

// emptyReadsMax bounds how often in a row a view may return nothing and no error, as
// a reader may now and then.
const emptyReadsMax = 100

// Next returns the next block, valid until the next call, and io.EOF after the
// last one.
func (e *Encoder) Next() ([]byte, error) {
	if e.done {
		return nil, io.EOF
	}
	b := append(e.block[:blockHead], e.pending...)
	e.hash(e.pending)
	e.pending = nil
	for empty := 0; len(b) < e.size && !e.ended; {
		n, err := e.view.Read(b[len(b):e.size])
		if n < 0 || n > e.size-len(b) {
			return nil, fmt.Errorf("the view returned %d bytes when asked for %d", n, e.size-len(b))
		}
		e.hash(b[len(b) : len(b)+n])
		e.bytes += uint64(n)
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			e.ended = true
			e.pending = e.sum.Sum(binary.LittleEndian.AppendUint64(nil, e.bytes))
			e.sum = nil
		} else if err != nil {
			return nil, fmt.Errorf("reading the view: %w", err)
		} else if n > 0 {
			empty = 0
		} else if empty++; empty >= emptyReadsMax {
			return nil, fmt.Errorf("reading the view: %d times in a row nothing came: %w", empty, io.ErrNoProgress)
		}
	}
	if e.ended {
		n := min(e.size-len(b), len(e.pending))
		b = append(b, e.pending[:n]...)
		e.pending = e.pending[n:]
		e.done = len(e.pending) == 0
	}
	if e.number >= BlocksMax {
		return nil, fmt.Errorf("the state is too large for a snapshot")
	}
	b = seal(b, e.number, e.id, e.done)
	e.number++
	return b, nil
}

func (e *Encoder) hash(b []byte) {
	if e.sum != nil {
		e.sum.Write(b)
	}
}

// Decoder takes the blocks of a file in their order and yields the state.
type Decoder struct {
	// ID of the image; zero: that of the first block.
	ID     uint64
	head   *Head
	number uint32
	size   int // of all blocks but the last
	sum    hash.Hash
	bytes  uint64
	// held are the last bytes seen, which may be the trailer.
	held []byte
	done bool
}

// Next takes the next block and returns the bytes of the state that are certain
// by now, which share b's memory or are valid until the next call. The error
// wraps smr.ErrCorrupt or ErrFormat and says what is wrong; with the last block
// the whole has been verified.
func (d *Decoder) Next(b []byte) (state [2][]byte, err error) {
	if d.done {
		return state, fmt.Errorf("block %d after the last: %w", d.number, smr.ErrCorrupt)
	}
	if d.number == 0 && d.ID == 0 {
		d.ID = blockID(b)
	}
	payload, last, err := open(b, d.number, d.ID)
	if err != nil {
		if d.number == 0 && len(b) >= blockHead+len(magic) && string(b[blockHead:blockHead+len(magic)]) != magic {
			err = fmt.Errorf("%w: it does not begin as one", ErrFormat)
		}
		return state, err
	}
	if d.number == 0 {
		d.size = len(b)
	}
	if !last && len(b) != d.size || len(b) > d.size {
		return state, fmt.Errorf("block %d of %d bytes, those before have %d: %w", d.number, len(b), d.size, smr.ErrCorrupt)
	}
	d.number++
	if d.head == nil {
		h, rest, err := decodeHead(payload)
		if err != nil {
			return state, err
		}
		d.head, d.sum = &h, sha256.New()
		d.sum.Write(payload[:len(payload)-len(rest)])
		payload = rest
	}
	// Everything but the last trailerBytes is state for certain.
	if n := len(d.held) + len(payload) - trailerBytes; n > 0 {
		k := min(n, len(d.held))
		state[0] = append([]byte(nil), d.held[:k]...)
		d.held = append(d.held[:0], d.held[k:]...)
		state[1] = payload[:n-k]
		payload = payload[n-k:]
	}
	d.held = append(d.held, payload...)
	for _, s := range state {
		d.sum.Write(s)
		d.bytes += uint64(len(s))
	}
	if !last {
		return state, nil
	}
	d.done = true
	if len(d.held) != trailerBytes {
		return state, fmt.Errorf("image of %d bytes has no end: %w", d.bytes, smr.ErrCorrupt)
	}
	if n := binary.LittleEndian.Uint64(d.held); n != d.bytes {
		return state, fmt.Errorf("image of %d bytes says that it has %d: %w", d.bytes, n, smr.ErrCorrupt)
	}
	if string(d.sum.Sum(nil)) != string(d.held[8:]) {
		return state, fmt.Errorf("digest of the whole image does not match: %w", smr.ErrCorrupt)
	}
	return state, nil
}

// Head returns what the first block said, nil before it.
func (d *Decoder) Head() *Head { return d.head }

// Done reports whether the last block was taken.
func (d *Decoder) Done() bool { return d.done }

// Blocks is how many blocks were taken, Bytes how much state they held.
func (d *Decoder) Blocks() uint32 { return d.number }

// Bytes of the state so far.
func (d *Decoder) Bytes() uint64 { return d.bytes }
