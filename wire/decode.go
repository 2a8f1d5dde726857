package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// entryBytesMin is the least that an entry takes: flags, kind, index, term and
// the length of no data. It bounds the memory that a number of entries asks for
// by the bytes that are there.
const entryBytesMin = 5

// messageTypeMax is the last type of message that all hosts know, spareTypeMax the
// last one that this version knows.
const (
	messageTypeMax = raft.MsgSuffix
	spareTypeMax   = raft.MsgPromise
)

// Reader reads the items of one frame after another. The zero value is a frame
// without items.
type Reader struct {
	// Strict takes an item of a kind that this version does not know for an error,
	// so that a simulation finds out what skipping it is for.
	Strict bool

	rest []byte
}

// Reset begins a frame and returns the shard that it is for. The frame must not
// change while the Data of its entries is in use. The error wraps
// smr.ErrCorrupt; the frame then has no items.
func (r *Reader) Reset(frame []byte) (shard uint32, err error) {
	r.rest = nil
	shard, rest, err := header(frame)
	if err != nil {
		return 0, err
	}
	r.rest = rest
	return shard, nil
}

// FrameShard returns the shard that a frame is for. The error wraps
// smr.ErrCorrupt.
func FrameShard(frame []byte) (uint32, error) {
	shard, _, err := header(frame)
	return shard, err
}

func header(frame []byte) (shard uint32, rest []byte, err error) {
	d := smr.Decoder{B: frame}
	version, s := d.Byte(), d.Uvarint()
	switch {
	case d.Failed:
		return 0, nil, fmt.Errorf("frame of %d bytes has no whole header: %w", len(frame), smr.ErrCorrupt)
	case version != Version:
		return 0, nil, fmt.Errorf("frame of version %d, this host reads version %d: %w", version, Version, smr.ErrCorrupt)
	case s > math.MaxUint32:
		return 0, nil, fmt.Errorf("frame for shard %d: %w", s, smr.ErrCorrupt)
	}
	return uint32(s), d.B, nil
}

// Next reads the next item into it and reports whether there was one. Items of
// kinds that this version does not know are skipped. The error wraps
// smr.ErrCorrupt; nothing can be read of the frame after it.
func (r *Reader) Next(it *Item) (bool, error) {
	for len(r.rest) > 0 {
		if len(r.rest) < itemHeadBytes {
			return false, r.fail("item head of %d bytes", len(r.rest))
		}
		kind := ItemKind(r.rest[0])
		n := binary.LittleEndian.Uint32(r.rest[1:])
		body := r.rest[itemHeadBytes:]
		if uint64(n) > uint64(len(body)) {
			return false, r.fail("item of kind %d has %d of %d bytes", kind, len(body), n)
		}
		body, r.rest = body[:n:n], body[n:]
		known, ok := it.decode(kind, body)
		if !ok || r.Strict && !known {
			return false, r.fail("item of kind %d and %d bytes", kind, n)
		}
		if known {
			return true, nil
		}
	}
	return false, nil
}

// fail ends the frame.
func (r *Reader) fail(format string, args ...any) error {
	r.rest = nil
	return fmt.Errorf(format+": %w", append(args, smr.ErrCorrupt)...)
}

// decode reads a body, and reports whether the kind is known and the body right.
func (it *Item) decode(kind ItemKind, body []byte) (known, ok bool) {
	d := smr.Decoder{B: body}
	switch kind {
	case KindMessage:
		ok = decodeMessage(&d, &it.Message) && it.Message.Type <= messageTypeMax
	case kindSpareMessage:
		kind = KindMessage
		ok = decodeMessage(&d, &it.Message) && it.Message.Type > messageTypeMax
	case KindForward:
		ok = decodeForward(&d, &it.Forward)
	case KindForwardReject:
		ok = decodeForwardReject(&d, &it.ForwardReject)
	case KindReadAsk:
		r := &it.ReadAsk
		r.Group, r.Term, r.Ticket = smr.GroupID(d.Uvarint()), d.Uvarint(), d.Uvarint()
		ok = r.Group != 0
	case KindReadReply:
		r := &it.ReadReply
		r.Group, r.Ticket, r.Index = smr.GroupID(d.Uvarint()), d.Uvarint(), d.Uvarint()
		b := d.Byte()
		r.OK = b == 1
		ok = r.Group != 0 && b <= 1
	case KindPulse:
		it.Pulse.Life = d.Uvarint()
		ok = it.Pulse.Life != 0
	case KindSnapshotOffer, KindSnapshotFetch, KindSnapshotBlock, KindSnapshotStatus:
		ok = it.decodeSnapshot(kind, &d)
	default:
		return false, true
	}
	it.Kind = kind
	return true, ok && !d.Failed && len(d.B) == 0
}

func decodeMessage(d *smr.Decoder, m *raft.Message) bool {
	entries := emptied(m.Entries)
	*m = raft.Message{Type: raft.MessageType(d.Byte()), Entries: entries}
	flags := uint16(d.Byte()) | uint16(d.Byte())<<8
	m.Group = smr.GroupID(d.Uvarint())
	m.From, m.To = smr.ReplicaID(d.Uvarint()), smr.ReplicaID(d.Uvarint())
	m.Term = d.Uvarint()
	if d.Failed || flags&^flagsAll != 0 || m.Type == 0 || m.Type > spareTypeMax || m.Group == 0 || m.From == 0 || m.To == 0 {
		return false
	}
	m.Reject = flags&flagReject != 0
	m.Force = flags&flagForce != 0
	m.Rest = flags&flagRest != 0
	// A field that is named is not zero: so there is one encoding of a message.
	ok := present(d, flags&flagIndex, &m.Index) &&
		present(d, flags&flagLogTerm, &m.LogTerm) &&
		present(d, flags&flagCommit, &m.Commit) &&
		present(d, flags&flagRound, &m.Round) &&
		present(d, flags&flagConflictIndex, &m.ConflictIndex) &&
		present(d, flags&flagConflictTerm, &m.ConflictTerm)
	if ok && flags&flagEntries != 0 {
		m.Entries, ok = decodeEntries(d, m.Entries)
		ok = ok && len(m.Entries) > 0
	}
	return ok
}

// present reads a field that flag names, which is not zero then.
func present(d *smr.Decoder, flag uint16, v *uint64) bool {
	if flag == 0 {
		return true
	}
	*v = d.Uvarint()
	return *v != 0
}

// decodeEntries reads entries into the memory of into, which is empty. If it
// fails, what it returns holds the entries read so far.
func decodeEntries(d *smr.Decoder, into []smr.Entry) ([]smr.Entry, bool) {
	n := d.Uvarint()
	if d.Failed || n > uint64(len(d.B)/entryBytesMin) {
		return into, false
	}
	into = slices.Grow(into, int(n))
	for i := range int(n) {
		into = into[:i+1]
		rest, err := smr.DecodeEntry(d.B, &into[i])
		if err != nil {
			return into, false
		}
		d.B = rest
	}
	return into, true
}

func decodeForward(d *smr.Decoder, f *Forward) bool {
	*f = Forward{Group: smr.GroupID(d.Uvarint()), Term: d.Uvarint(), Entries: emptied(f.Entries)}
	if d.Failed || f.Group == 0 {
		return false
	}
	var ok bool
	if f.Entries, ok = decodeEntries(d, f.Entries); !ok {
		return false
	}
	for i := range f.Entries {
		if f.Entries[i].Index|f.Entries[i].Term != 0 {
			return false // only the leader gives them
		}
	}
	return true
}

func decodeForwardReject(d *smr.Decoder, f *ForwardReject) bool {
	*f = ForwardReject{Group: smr.GroupID(d.Uvarint()), Term: d.Uvarint(), Reason: d.Byte(), Origin: d.Uvarint(), Requests: f.Requests[:0]}
	n := d.Uvarint()
	if d.Failed || f.Group == 0 || f.Reason == 0 || n > uint64(len(d.B)) {
		return false
	}
	f.Requests = slices.Grow(f.Requests, int(n))
	for range n {
		f.Requests = append(f.Requests, d.Uvarint())
	}
	return true
}
