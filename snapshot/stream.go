package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/quorate/quorate/smr"
)

// A backup is an image followed by the SHA-256 of all its bytes, as etcd's
// clients expect it of a snapshot: its size is 32 more than a multiple of 512.

// Backup yields the bytes of a backup.
type Backup struct {
	enc   *Encoder
	sum   hash.Hash
	ended bool
}

// ErrBlank: there is nothing to back up, for the replica has applied nothing yet. Who
// restored that would lose what the others have.
var ErrBlank = errors.New("nothing is applied yet")

// NewBackup returns a backup of group g in the state of a view, which stays the
// caller's to close. blockBytes is as for NewEncoder. The error is ErrBlank.
func NewBackup(g smr.GroupID, view smr.View, blockBytes int) (*Backup, error) {
	if view.Applied() == 0 {
		return nil, ErrBlank
	}
	head := &Head{Group: g, SnapshotMeta: smr.SnapshotMeta{Index: view.Applied()}, Digest: view.Digest()}
	return &Backup{enc: NewEncoder(head, view.Applied()|1<<63, view, blockBytes), sum: sha256.New()}, nil
}

// Next returns the next bytes, valid until the next call, and io.EOF after the last.
func (b *Backup) Next() ([]byte, error) {
	if b.ended {
		return nil, io.EOF
	}
	block, err := b.enc.Next()
	if errors.Is(err, io.EOF) {
		b.ended = true
		return b.sum.Sum(nil), nil
	}
	b.sum.Write(block)
	return block, err
}

// Ended reports whether Next has returned the last bytes.
func (b *Backup) Ended() bool { return b.ended }

// Verifier takes the bytes of a backup, in pieces of any size, and verifies them
// as they come.
type Verifier struct {
	// NoSum says that the SHA-256 at the end may be missing, and is not looked at:
	// for an image, which is whole by itself.
	NoSum bool
	// State, if set, is given the bytes of the state.
	State io.Writer
	dec   Decoder
	sum   hash.Hash
	rest  []byte
	size  int64 // of blocks, zero: not known
	total int64
}

// Write implements io.Writer. The error says what is wrong, and wraps
// smr.ErrCorrupt or ErrFormat.
func (v *Verifier) Write(p []byte) (int, error) {
	if v.sum == nil {
		v.sum = sha256.New()
	}
	v.rest = append(v.rest, p...)
	v.total += int64(len(p))
	for !v.dec.Done() {
		n, ok := v.next()
		if !ok {
			return len(p), nil
		}
		if v.dec.Blocks() > 0 && (n < BlockBytesMin || n > BlockBytesMax) {
			return 0, v.wrong(fmt.Errorf("block %d says that it has %d bytes: %w", v.dec.Blocks(), n, smr.ErrCorrupt))
		}
		if n < BlockBytesMin || n > BlockBytesMax {
			if string(v.rest[boltMagicAt:boltMagicAt+len(boltMagic)]) == boltMagic {
				return 0, ErrBolt
			}
			return 0, v.wrong(fmt.Errorf("%w: it does not begin as one", ErrFormat))
		}
		if int64(len(v.rest)) < n {
			return len(p), nil
		}
		if err := v.block(v.rest[:n]); err != nil {
			return 0, v.wrong(err)
		}
		v.rest = v.rest[:copy(v.rest, v.rest[n:])]
	}
	if len(v.rest) > sha256.Size {
		return 0, v.wrong(fmt.Errorf("%d bytes after the end: %w", len(v.rest), smr.ErrCorrupt))
	}
	return len(p), nil
}

// next is the size of the next block, as far as its head tells.
func (v *Verifier) next() (n int64, ok bool) {
	if len(v.rest) < blockHead {
		return 0, false
	}
	if n = headOfBlock(v.rest); n == 0 { // the last one, padded
		n = blockHead + int64(binary.LittleEndian.Uint32(v.rest[4:]))
		n = (n + alignment - 1) / alignment * alignment
	}
	if v.size == 0 && (len(v.rest) < blockHead+len(magic) || string(v.rest[blockHead:blockHead+len(magic)]) != magic) {
		return -1, len(v.rest) >= blockHead+len(magic)
	}
	v.size = n
	return n, true
}

func (v *Verifier) block(b []byte) error {
	v.sum.Write(b)
	state, err := v.dec.Next(b)
	if err != nil {
		return err
	}
	for _, s := range state {
		if len(s) > 0 && v.State != nil {
			if _, err := v.State.Write(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *Verifier) wrong(err error) error {
	return fmt.Errorf("at byte %d: %w", v.total-int64(len(v.rest)), err)
}

// Finish says whether everything was there.
func (v *Verifier) Finish() error {
	if !v.dec.Done() {
		return fmt.Errorf("it ends after %d bytes, in block %d: %w", v.total, v.dec.Blocks(), smr.ErrCorrupt)
	}
	switch {
	case v.NoSum:
		return nil
	case len(v.rest) == 0:
		return fmt.Errorf("%w at its end", ErrNoSum)
	case len(v.rest) < sha256.Size:
		return fmt.Errorf("it ends after %d bytes, in the SHA-256 at its end: %w", v.total, smr.ErrCorrupt)
	case !bytes.Equal(v.rest, v.sum.Sum(nil)):
		return fmt.Errorf("the SHA-256 at its end does not match: %w", smr.ErrCorrupt)
	}
	return nil
}

// Head of the image, nil before its first block.
func (v *Verifier) Head() *Head { return v.dec.Head() }

// Bytes taken so far.
func (v *Verifier) Bytes() int64 { return v.total }
