package wire

import (
	"encoding/binary"

	"github.com/quorate/quorate/smr"
)

func appendUvarints(dst []byte, vs ...uint64) []byte {
	for _, v := range vs {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

// AppendSnapshotOffer appends the offer of an image.
func AppendSnapshotOffer(dst []byte, o *SnapshotOffer) []byte {
	at := len(dst)
	dst = begin(dst, KindSnapshotOffer)
	dst = appendUvarints(dst, uint64(o.Group), o.Term, o.Index, o.ID, uint64(o.Source), o.LogStart, o.Blocks)
	return end(dst, at)
}

// AppendSnapshotFetch appends the question for blocks of an image.
func AppendSnapshotFetch(dst []byte, f *SnapshotFetch) []byte {
	at := len(dst)
	dst = begin(dst, KindSnapshotFetch)
	dst = appendUvarints(dst, uint64(f.Group), f.Index, f.ID, f.First, f.Count)
	return end(dst, at)
}

// AppendSnapshotBlock appends a block of an image.
func AppendSnapshotBlock(dst []byte, b *SnapshotBlock) []byte {
	at := len(dst)
	dst = begin(dst, KindSnapshotBlock)
	dst = appendUvarints(dst, uint64(b.Group), b.Index, b.ID, b.Number)
	dst = append(dst, b.Data...)
	return end(dst, at)
}

// AppendSnapshotStatus appends a follower's word to its leader.
func AppendSnapshotStatus(dst []byte, s *SnapshotStatus) []byte {
	at := len(dst)
	dst = begin(dst, KindSnapshotStatus)
	dst = appendUvarints(dst, uint64(s.Group), s.Term)
	dst = append(dst, s.State)
	dst = appendUvarints(dst, s.Index, s.Have)
	return end(dst, at)
}

// decodeSnapshot reads the bodies that are about images.
func (it *Item) decodeSnapshot(kind ItemKind, d *smr.Decoder) bool {
	group := smr.GroupID(d.Uvarint())
	switch kind {
	case KindSnapshotOffer:
		o := &it.SnapshotOffer
		*o = SnapshotOffer{Group: group, Term: d.Uvarint(), Index: d.Uvarint(), ID: d.Uvarint(), Source: smr.ReplicaID(d.Uvarint()), LogStart: d.Uvarint(), Blocks: d.Uvarint()}
		return group != 0 && o.Index != 0 && o.ID != 0 && o.Source != 0
	case KindSnapshotFetch:
		f := &it.SnapshotFetch
		*f = SnapshotFetch{Group: group, Index: d.Uvarint(), ID: d.Uvarint(), First: d.Uvarint(), Count: d.Uvarint()}
		return group != 0
	case KindSnapshotBlock:
		b := &it.SnapshotBlock
		*b = SnapshotBlock{Group: group, Index: d.Uvarint(), ID: d.Uvarint(), Number: d.Uvarint()}
		if !d.Failed && len(d.B) > 0 {
			b.Data, d.B = d.B, nil
		}
		return group != 0
	default:
		s := &it.SnapshotStatus
		*s = SnapshotStatus{Group: group, Term: d.Uvarint(), State: d.Byte(), Index: d.Uvarint(), Have: d.Uvarint()}
		return group != 0 && s.State >= SnapshotRunning && s.State <= SnapshotFailed
	}
}
