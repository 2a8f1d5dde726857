package wire

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

const (
	flagIndex uint16 = 1 << iota
	flagLogTerm
	flagCommit
	flagRound
	flagReject
	flagConflictIndex
	flagConflictTerm
	flagForce
	flagEntries
	flagRest

	flagsAll = flagRest<<1 - 1
)

// itemHeadBytes is the size of an item's kind and length.
const itemHeadBytes = 1 + 4

// HeaderBytesMax bounds what AppendHeader appends.
const HeaderBytesMax = 1 + binary.MaxVarintLen32

// AppendHeader begins a frame for a shard. Items follow it.
func AppendHeader(dst []byte, shard uint32) []byte {
	dst = append(dst, Version)
	return binary.AppendUvarint(dst, uint64(shard))
}

// begin appends an item's head, whose length end fills in. Writing the length
// last with a fixed width saves a pass over the entries and a move of the body.
func begin(dst []byte, kind ItemKind) []byte {
	return append(dst, byte(kind), 0, 0, 0, 0)
}

// end fills in the length of the item whose head is at dst[at:].
func end(dst []byte, at int) []byte {
	binary.LittleEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-itemHeadBytes))
	return dst
}

// AppendMessage appends a message of a core. Group, From and To must not be
// zero. It does not allocate if dst has room.
func AppendMessage(dst []byte, m *raft.Message) []byte {
	at := len(dst)
	flags := messageFlags(m)
	kind := KindMessage
	if m.Type > messageTypeMax {
		kind = kindSpareMessage
	}
	dst = begin(dst, kind)
	dst = append(dst, byte(m.Type), byte(flags), byte(flags>>8))
	dst = binary.AppendUvarint(dst, uint64(m.Group))
	dst = binary.AppendUvarint(dst, uint64(m.From))
	dst = binary.AppendUvarint(dst, uint64(m.To))
	dst = binary.AppendUvarint(dst, m.Term)
	dst = appendNonZero(dst, m.Index)
	dst = appendNonZero(dst, m.LogTerm)
	dst = appendNonZero(dst, m.Commit)
	dst = appendNonZero(dst, m.Round)
	dst = appendNonZero(dst, m.ConflictIndex)
	dst = appendNonZero(dst, m.ConflictTerm)
	if flags&flagEntries != 0 {
		dst = appendEntries(dst, m.Entries)
	}
	return end(dst, at)
}

// messageFlags returns the flags of what m carries.
func messageFlags(m *raft.Message) uint16 {
	var flags uint16
	set := func(flag uint16, on bool) {
		if on {
			flags |= flag
		}
	}
	set(flagIndex, m.Index != 0)
	set(flagLogTerm, m.LogTerm != 0)
	set(flagCommit, m.Commit != 0)
	set(flagRound, m.Round != 0)
	set(flagReject, m.Reject)
	set(flagConflictIndex, m.ConflictIndex != 0)
	set(flagConflictTerm, m.ConflictTerm != 0)
	set(flagForce, m.Force)
	set(flagEntries, len(m.Entries) != 0)
	set(flagRest, m.Rest)
	return flags
}

func appendNonZero(dst []byte, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return binary.AppendUvarint(dst, v)
}

// entryHeadBytes is about what an entry takes beside its Data.
const entryHeadBytes = 32

func appendEntries(dst []byte, entries []smr.Entry) []byte {
	size := binary.MaxVarintLen64
	for i := range entries {
		size += entryHeadBytes + len(entries[i].Data)
	}
	dst = slices.Grow(dst, size) // once, and not by doubling through the entries
	dst = binary.AppendUvarint(dst, uint64(len(entries)))
	for i := range entries {
		dst = smr.AppendEntry(dst, &entries[i])
	}
	return dst
}

// AppendForward appends proposals on their way to the leader. Index and Term of
// the entries must be zero.
func AppendForward(dst []byte, f *Forward) []byte {
	at := len(dst)
	dst = begin(dst, KindForward)
	dst = binary.AppendUvarint(dst, uint64(f.Group))
	dst = binary.AppendUvarint(dst, f.Term)
	dst = appendEntries(dst, f.Entries)
	return end(dst, at)
}

// AppendForwardReject appends the refusal of forwarded proposals.
func AppendForwardReject(dst []byte, f *ForwardReject) []byte {
	at := len(dst)
	dst = begin(dst, KindForwardReject)
	dst = binary.AppendUvarint(dst, uint64(f.Group))
	dst = binary.AppendUvarint(dst, f.Term)
	dst = append(dst, f.Reason)
	dst = binary.AppendUvarint(dst, f.Origin)
	dst = binary.AppendUvarint(dst, uint64(len(f.Requests)))
	for _, r := range f.Requests {
		dst = binary.AppendUvarint(dst, r)
	}
	return end(dst, at)
}

// AppendPulse appends a host's sign of life.
func AppendPulse(dst []byte, p *Pulse) []byte {
	at := len(dst)
	dst = begin(dst, KindPulse)
	dst = binary.AppendUvarint(dst, p.Life)
	return end(dst, at)
}

// AppendReadAsk appends a question for a read index.
func AppendReadAsk(dst []byte, r *ReadAsk) []byte {
	at := len(dst)
	dst = begin(dst, KindReadAsk)
	dst = binary.AppendUvarint(dst, uint64(r.Group))
	dst = binary.AppendUvarint(dst, r.Term)
	dst = binary.AppendUvarint(dst, r.Ticket)
	return end(dst, at)
}

// AppendReadReply appends the answer to a question for a read index.
func AppendReadReply(dst []byte, r *ReadReply) []byte {
	at := len(dst)
	dst = begin(dst, KindReadReply)
	dst = binary.AppendUvarint(dst, uint64(r.Group))
	dst = binary.AppendUvarint(dst, r.Ticket)
	dst = binary.AppendUvarint(dst, r.Index)
	var ok byte
	if r.OK {
		ok = 1
	}
	dst = append(dst, ok)
	return end(dst, at)
}

// AppendItem appends the item that it holds, by its kind. It panics on a kind that
// a Reader cannot have returned.
func AppendItem(dst []byte, it *Item) []byte {
	switch it.Kind {
	case KindMessage:
		return AppendMessage(dst, &it.Message)
	case KindForward:
		return AppendForward(dst, &it.Forward)
	case KindForwardReject:
		return AppendForwardReject(dst, &it.ForwardReject)
	case KindReadAsk:
		return AppendReadAsk(dst, &it.ReadAsk)
	case KindReadReply:
		return AppendReadReply(dst, &it.ReadReply)
	case KindPulse:
		return AppendPulse(dst, &it.Pulse)
	case KindSnapshotOffer:
		return AppendSnapshotOffer(dst, &it.SnapshotOffer)
	case KindSnapshotFetch:
		return AppendSnapshotFetch(dst, &it.SnapshotFetch)
	case KindSnapshotBlock:
		return AppendSnapshotBlock(dst, &it.SnapshotBlock)
	case KindSnapshotStatus:
		return AppendSnapshotStatus(dst, &it.SnapshotStatus)
	}
	panic(fmt.Sprintf("wire: no item is of kind %d", it.Kind))
}
