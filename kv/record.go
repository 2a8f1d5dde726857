package kv

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate/smr"
)

// recordLease is the flag of a record whose key is attached to a KV lease.
const recordLease = 1

// record is what pebble holds under the key of a put:
//
//	flags byte | create revision | version | lease if recordLease | value
//
// integers as unsigned varints. A deletion has no record.
type record struct {
	create, version, lease int64
	value                  []byte
}

func appendRecord(dst []byte, r *record) []byte {
	dst = append(dst, flag(r.lease != 0, recordLease))
	dst = binary.AppendUvarint(dst, uint64(r.create))
	dst = binary.AppendUvarint(dst, uint64(r.version))
	if r.lease != 0 {
		dst = binary.AppendUvarint(dst, uint64(r.lease))
	}
	return append(dst, r.value...)
}

// decodeRecord reads a record, whose value shares b's memory.
func decodeRecord(b []byte) (r record, err error) {
	d := smr.Decoder{B: b}
	flags := decodeFlags(&d, recordLease)
	r.create, r.version = decodeInt(&d), decodeInt(&d)
	if flags&recordLease != 0 {
		r.lease = decodeInt(&d)
	}
	if d.Failed {
		return record{}, fmt.Errorf("record of %d bytes: %w", len(b), smr.ErrCorrupt)
	}
	r.value = d.B
	return r, nil
}

// change is an entry of the index by revision: under the position,
//
//	kind byte | before's main revision | before's sub-revision | the user's key
//
// the revisions as unsigned varints.
type change struct {
	at   position
	kind byte
	// before is the put of the same key that this change supersedes; zero if
	// the key did not live.
	before position
	// key is set by decodeChange alone.
	key []byte
}

func (c *change) append(dst []byte) []byte {
	dst = append(dst, c.kind)
	dst = binary.AppendUvarint(dst, uint64(c.before.main))
	return binary.AppendUvarint(dst, uint64(c.before.sub))
}

// decodeChange reads an entry of the index. Its key shares value's memory.
func decodeChange(key, value []byte) (c change, err error) {
	if c.at, err = decodeRevisionKey(key); err != nil {
		return change{}, err
	}
	d := smr.Decoder{B: value}
	c.kind = decodeFlags(&d, kindDelete)
	c.before = position{decodeInt(&d), uint32(d.Uvarint())}
	if d.Failed {
		return change{}, fmt.Errorf("index entry of revision %d: %w", c.at.main, smr.ErrCorrupt)
	}
	c.key = d.B
	return c, nil
}

// leaf is the digest of one version: SHA-256 of its key in pebble and its
// record, one after the other. The key ends itself, so that no two versions have
// the same bytes.
type leaf [sha256.Size]byte

// setHash is the digest of a set of versions: the sum of their leaves, as four
// numbers modulo 2^64 each. A version is added and taken out in any order.
type setHash [4]uint64

func (s *setHash) add(l *leaf) {
	for i := range s {
		s[i] += binary.LittleEndian.Uint64(l[i*8:])
	}
}

func (s *setHash) remove(l *leaf) {
	for i := range s {
		s[i] -= binary.LittleEndian.Uint64(l[i*8:])
	}
}

func (s *setHash) append(dst []byte) []byte {
	for _, v := range s {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return dst
}

// digestDomain keeps the digest apart from every other use of SHA-256.
const digestDomain = "quorate kv state 1\n"

// digest is what Store.Digest returns; its comment says what it covers.
func (st *state) digest() (out [16]byte) {
	var buf [160]byte
	b := append(buf[:0], digestDomain...)
	b = binary.LittleEndian.AppendUint64(b, uint64(st.revision))
	b = binary.LittleEndian.AppendUint64(b, uint64(st.compact))
	b = st.set.append(b)
	b = append(b, st.chain[:]...)
	sum := sha256.Sum256(b)
	copy(out[:], sum[:])
	return out
}

// link appends a change to the chain over all changes ever made.
func (st *state) link(l *leaf) {
	var b [2 * sha256.Size]byte
	copy(b[:], st.chain[:])
	copy(b[sha256.Size:], l[:])
	st.chain = sha256.Sum256(b[:])
}

// state is the part of the store that is not in its versions. It is written in
// the same pebble batch as the versions it belongs to.
//
// Invariants: (1) revision ≥ 1 and never goes back. (2) compact is -1 as long as
// nothing was compacted, else 0 ≤ compact ≤ revision, and never goes back.
// (3) swept ≤ sweeping ≤ compact: what compacting to swept made superfluous is
// gone; what compacting to sweeping makes superfluous is gone as far as it is on
// account of versions before cursor.
type state struct {
	applied  uint64
	revision int64
	compact  int64
	swept    int64
	sweeping int64
	cursor   position
	// keys counts the live keys, bytes the bytes of them and their values.
	keys, bytes int64
	set         setHash
	chain       leaf
}

// newState is the state before the first entry, as etcd's.
func newState() state { return state{revision: 1, compact: -1, swept: -1, sweeping: -1} }

// stateBytes is the size of an encoded state.
const stateBytes = 8*8 + 4 + 4*8 + sha256.Size

// append appends the encoding of st: its fields in order, little-endian.
func (st *state) append(dst []byte) []byte {
	for _, v := range [...]uint64{st.applied, uint64(st.revision), uint64(st.compact), uint64(st.swept),
		uint64(st.sweeping), uint64(st.cursor.main), uint64(st.keys), uint64(st.bytes)} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	dst = binary.LittleEndian.AppendUint32(dst, st.cursor.sub)
	dst = st.set.append(dst)
	return append(dst, st.chain[:]...)
}

func decodeState(b []byte) (st state, err error) {
	if len(b) != stateBytes {
		return st, fmt.Errorf("state record of %d bytes instead of %d: %w", len(b), stateBytes, smr.ErrCorrupt)
	}
	next := func() int64 {
		v := binary.LittleEndian.Uint64(b)
		b = b[8:]
		return int64(v)
	}
	st.applied, st.revision, st.compact, st.swept = uint64(next()), next(), next(), next()
	st.sweeping, st.cursor.main, st.keys, st.bytes = next(), next(), next(), next()
	st.cursor.sub = binary.LittleEndian.Uint32(b)
	b = b[4:]
	for i := range st.set {
		st.set[i] = uint64(next())
	}
	copy(st.chain[:], b)
	if err := st.check(); err != nil {
		return state{}, err
	}
	return st, nil
}

// check asserts the invariants.
func (st *state) check() error {
	switch {
	case st.revision < 1:
		return fmt.Errorf("state (1): revision %d: %w", st.revision, smr.ErrCorrupt)
	case st.compact < -1 || st.compact > st.revision:
		return fmt.Errorf("state (2): compacted to %d at revision %d: %w", st.compact, st.revision, smr.ErrCorrupt)
	case st.swept > st.sweeping || st.sweeping > st.compact:
		return fmt.Errorf("state (3): swept to %d, sweeping to %d, compacted to %d: %w", st.swept, st.sweeping, st.compact, smr.ErrCorrupt)
	case st.keys < 0 || st.bytes < 0:
		return fmt.Errorf("state: %d keys of %d bytes: %w", st.keys, st.bytes, smr.ErrCorrupt)
	}
	return nil
}
