package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/quorate/quorate/smr"
)

const (
	// BlockBytes is the size of blocks unless something else is asked for.
	BlockBytes = 1 << 20
	// BlockBytesMin and BlockBytesMax bound the size of blocks, which is a
	// multiple of BlockBytesMin.
	BlockBytesMin = alignment
	BlockBytesMax = 16 << 20

	magic         = "QRTSNAP1"
	formatVersion = 1
	blockHead     = 4 + 4 + 4 + 4 + 8
	alignment     = 512
	flagLast      = 1
	headFixed     = len(magic) + 4 + 4 + 3*8 + 16
	headBytesMax  = 64 << 10
	trailerBytes  = 8 + sha256.Size
)

// BlocksMax bounds the number of blocks of a file.
const BlocksMax = 1 << 30

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Head says what an image is of.
type Head struct {
	Group smr.GroupID
	smr.SnapshotMeta
	// Digest of the state, as smr.StateMachine.Digest returns it at Index.
	Digest [16]byte
}

// ErrFormat: the file is of a later version, or none of quorate's.
var ErrFormat = errors.New("not a snapshot that this version can read")

// ErrNoSum: what Verifier was given is whole as an image and lacks the SHA-256 of a
// backup. It wraps smr.ErrCorrupt.
var ErrNoSum = fmt.Errorf("there is no SHA-256: %w", smr.ErrCorrupt)

// ErrBolt: the file is a database of etcd's own. It wraps ErrFormat.
var ErrBolt = fmt.Errorf("%w: it is a database of etcd's own (bbolt)", ErrFormat)

// boltMagic stands in each meta page of such a file, the first of which begins it,
// from byte boltMagicAt on.
const (
	boltMagic   = "\xed\xda\x0c\xed"
	boltMagicAt = 16
)

// appendHead appends the encoding of h.
func appendHead(dst []byte, h *Head) []byte {
	at := len(dst)
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint32(dst, formatVersion)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	for _, v := range [...]uint64{uint64(h.Group), h.Index, h.Term} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	dst = append(dst, h.Digest[:]...)
	dst = smr.AppendConfiguration(dst, &h.Configuration)
	binary.LittleEndian.PutUint32(dst[at+len(magic)+4:], uint32(len(dst)-at+4))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

// decodeHead reads a head from the front of b and returns what follows it. The
// error wraps smr.ErrCorrupt or ErrFormat.
func decodeHead(b []byte) (h Head, rest []byte, err error) {
	if len(b) < headFixed || string(b[:len(magic)]) != magic {
		return h, nil, fmt.Errorf("%w: it does not begin as one", ErrFormat)
	}
	f := b[len(magic):]
	if v := binary.LittleEndian.Uint32(f); v != formatVersion {
		return h, nil, fmt.Errorf("%w: it has version %d, this program reads %d", ErrFormat, v, formatVersion)
	}
	n := int(binary.LittleEndian.Uint32(f[4:]))
	if n < headFixed+4 || n > len(b) || n > headBytesMax {
		return h, nil, fmt.Errorf("head of %d bytes: %w", n, smr.ErrCorrupt)
	}
	if crc32.Checksum(b[:n-4], castagnoli) != binary.LittleEndian.Uint32(b[n-4:]) {
		return h, nil, fmt.Errorf("head's checksum: %w", smr.ErrCorrupt)
	}
	f = f[8:]
	h.Group = smr.GroupID(binary.LittleEndian.Uint64(f))
	h.Index, h.Term = binary.LittleEndian.Uint64(f[8:]), binary.LittleEndian.Uint64(f[16:])
	copy(h.Digest[:], f[24:])
	c, left, err := smr.DecodeConfiguration(b[headFixed : n-4])
	if err != nil || len(left) > 0 {
		return h, nil, fmt.Errorf("head's configuration: %w", smr.ErrCorrupt)
	}
	h.Configuration = c
	return h, b[n:], nil
}

// seal makes a block of b, which has the payload behind room for the head, and
// pads it if it is the last.
func seal(b []byte, number uint32, id uint64, last bool) []byte {
	n := len(b) - blockHead
	var flags uint32
	if last {
		flags = flagLast
		for len(b)%alignment != 0 {
			b = append(b, 0)
		}
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(n))
	binary.LittleEndian.PutUint32(b[8:], number)
	binary.LittleEndian.PutUint32(b[12:], flags)
	binary.LittleEndian.PutUint64(b[16:], id)
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

// open verifies a block and returns its payload. The error wraps smr.ErrCorrupt.
func open(b []byte, number uint32, id uint64) (payload []byte, last bool, err error) {
	if len(b) < BlockBytesMin || len(b) > BlockBytesMax || len(b)%alignment != 0 {
		return nil, false, fmt.Errorf("block %d of %d bytes: %w", number, len(b), smr.ErrCorrupt)
	}
	if crc32.Checksum(b[4:], castagnoli) != binary.LittleEndian.Uint32(b) {
		return nil, false, fmt.Errorf("block %d: its checksum does not match: %w", number, smr.ErrCorrupt)
	}
	n, flags := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[12:])
	last = flags == flagLast
	switch {
	case binary.LittleEndian.Uint32(b[8:]) != number || binary.LittleEndian.Uint64(b[16:]) != id:
		return nil, false, fmt.Errorf("block %d of image %x stands where block %d of image %x belongs: %w",
			binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint64(b[16:]), number, id, smr.ErrCorrupt)
	case flags&^flagLast != 0 || int(n) > len(b)-blockHead || len(b)-blockHead-int(n) >= alignment || !last && int(n) != len(b)-blockHead:
		return nil, false, fmt.Errorf("block %d of %d bytes with flags %#x and a payload of %d: %w", number, len(b), flags, n, smr.ErrCorrupt)
	}
	return b[blockHead : blockHead+n], last, nil
}

// blockID returns the id that a block claims to have.
func blockID(b []byte) uint64 {
	if len(b) < blockHead {
		return 0
	}
	return binary.LittleEndian.Uint64(b[16:])
}

// headOfBlock returns the size of the block that begins with b, zero if it is
// the last one, which may be of any size.
func headOfBlock(b []byte) (size int64) {
	if binary.LittleEndian.Uint32(b[12:]) == flagLast {
		return 0
	}
	return int64(binary.LittleEndian.Uint32(b[4:])) + blockHead
}
