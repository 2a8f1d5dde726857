package smr

import (
	"encoding/binary"
	"fmt"
)

// An entry on disk and on the wire, all integers as unsigned varints:
//
//	flags byte | kind byte | index | term
//	| origin | request    if flagOrigin
//	| session | sequence  if flagSession
//	| len(data) | data
//
// The same bytes serve the log and the network.
const (
	flagOrigin  = 1 << 0
	flagSession = 1 << 1
)

// EntryEncodedMax bounds the encoding of an entry, beside its Data.
const EntryEncodedMax = 2 + 7*binary.MaxVarintLen64

// AppendEntry appends the encoding of e to dst.
func AppendEntry(dst []byte, e *Entry) []byte {
	var flags byte
	if e.Origin|e.Request != 0 {
		flags |= flagOrigin
	}
	if e.Session|e.Sequence != 0 {
		flags |= flagSession
	}
	dst = append(dst, flags, byte(e.Kind))
	dst = binary.AppendUvarint(dst, e.Index)
	dst = binary.AppendUvarint(dst, e.Term)
	if flags&flagOrigin != 0 {
		dst = binary.AppendUvarint(dst, e.Origin)
		dst = binary.AppendUvarint(dst, e.Request)
	}
	if flags&flagSession != 0 {
		dst = binary.AppendUvarint(dst, e.Session)
		dst = binary.AppendUvarint(dst, e.Sequence)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Data)))
	return append(dst, e.Data...)
}

// DecodeEntry reads an entry from the front of b into e and returns what
// follows it. e.Data shares b's memory. The error wraps ErrCorrupt.
func DecodeEntry(b []byte, e *Entry) (rest []byte, err error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("entry of %d bytes: %w", len(b), ErrCorrupt)
	}
	flags := b[0]
	if flags&^(flagOrigin|flagSession) != 0 {
		return nil, fmt.Errorf("entry with flags %#x: %w", flags, ErrCorrupt)
	}
	*e = Entry{Kind: EntryKind(b[1])}
	d := Decoder{B: b[2:]}
	e.Index, e.Term = d.Uvarint(), d.Uvarint()
	if flags&flagOrigin != 0 {
		e.Origin, e.Request = d.Uvarint(), d.Uvarint()
	}
	if flags&flagSession != 0 {
		e.Session, e.Sequence = d.Uvarint(), d.Uvarint()
	}
	e.Data = d.Bytes()
	if d.Failed {
		return nil, fmt.Errorf("entry %d cut short: %w", e.Index, ErrCorrupt)
	}
	return d.B, nil
}

// EntryHead is what an entry is, without what it carries.
type EntryHead struct {
	Index, Term uint64
	Kind        EntryKind
}

// DecodeEntryHead reads the head of an entry from the front of b and returns what
// follows the entry. It fails where DecodeEntry does, and is for those who walk
// over many entries: it takes half the time.
func DecodeEntryHead(b []byte) (h EntryHead, rest []byte, err error) {
	if len(b) < 2 || b[0]&^(flagOrigin|flagSession) != 0 {
		var e Entry
		_, err = DecodeEntry(b, &e)
		return h, nil, err
	}
	h.Kind = EntryKind(b[1])
	at := 2
	h.Index, at = uvarintAt(b, at)
	h.Term, at = uvarintAt(b, at)
	for flags := b[0]; flags != 0; flags &= flags - 1 { // two numbers for each flag
		_, at = uvarintAt(b, at)
		_, at = uvarintAt(b, at)
	}
	n, at := uvarintAt(b, at)
	if at < 0 || n > uint64(len(b)-at) {
		return EntryHead{}, nil, fmt.Errorf("entry %d cut short: %w", h.Index, ErrCorrupt)
	}
	return h, b[at+int(n):], nil
}

// uvarintAt reads an unsigned varint at an offset of b and returns where it ends,
// below zero if there is none, or at is below zero.
func uvarintAt(b []byte, at int) (uint64, int) {
	if uint(at) < uint(len(b)) && b[at] < 0x80 {
		return uint64(b[at]), at + 1
	}
	return longUvarintAt(b, at)
}

func longUvarintAt(b []byte, at int) (uint64, int) {
	if at < 0 || at >= len(b) {
		return 0, -1
	}
	v, n := binary.Uvarint(b[at:])
	if n <= 0 {
		return 0, -1
	}
	return v, at + n
}

// AppendConfiguration appends the encoding of c to dst:
//
//	joint byte | number of members | { id, role byte, old byte } ...
func AppendConfiguration(dst []byte, c *Configuration) []byte {
	var joint byte
	if c.Joint {
		joint = 1
	}
	dst = append(dst, joint)
	dst = binary.AppendUvarint(dst, uint64(len(c.Members)))
	for _, m := range c.Members {
		dst = binary.AppendUvarint(dst, uint64(m.ID))
		dst = append(dst, byte(m.Role), byte(m.Old))
	}
	return dst
}

// DecodeConfiguration reads a configuration from the front of b and returns
// what follows it. The error wraps ErrCorrupt.
func DecodeConfiguration(b []byte) (c Configuration, rest []byte, err error) {
	d := Decoder{B: b}
	joint := d.Byte()
	n := d.Uvarint()
	if d.Failed || joint > 1 || n > uint64(len(d.B)) {
		return c, nil, fmt.Errorf("configuration's head: %w", ErrCorrupt)
	}
	c.Joint = joint == 1
	c.Members = make([]Member, n)
	for i := range c.Members {
		m := Member{ID: ReplicaID(d.Uvarint()), Role: Role(d.Byte()), Old: Role(d.Byte())}
		if d.Failed || m.ID == 0 || m.Role > Witness || m.Old > Witness || i > 0 && m.ID <= c.Members[i-1].ID {
			return Configuration{}, nil, fmt.Errorf("member %d of a configuration: %w", i, ErrCorrupt)
		}
		c.Members[i] = m
	}
	return c, d.B, nil
}

// Decoder reads values from the front of B. When B is too short or a value is
// malformed it sets Failed, and everything read from then on is zero.
type Decoder struct {
	B      []byte
	Failed bool
}

// Byte reads one byte.
func (d *Decoder) Byte() byte {
	if d.Failed || len(d.B) == 0 {
		d.Failed = true
		return 0
	}
	v := d.B[0]
	d.B = d.B[1:]
	return v
}

// Uvarint reads an unsigned varint.
func (d *Decoder) Uvarint() uint64 {
	if !d.Failed && len(d.B) > 0 && d.B[0] < 0x80 {
		v := d.B[0]
		d.B = d.B[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.B)
	if d.Failed || n <= 0 {
		d.Failed = true
		return 0
	}
	d.B = d.B[n:]
	return v
}

// Bytes reads a length and as many bytes, which share B's memory. It returns
// nil for none.
func (d *Decoder) Bytes() []byte {
	n := d.Uvarint()
	if d.Failed || n > uint64(len(d.B)) {
		d.Failed = true
		return nil
	}
	if n == 0 {
		return nil
	}
	v := d.B[:n:n]
	d.B = d.B[n:]
	return v
}
