package wire

import (
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// Version is the version of the format that this package writes and reads.
const Version = 1

// ItemKind says what an item of a frame is. The numbers are part of the format.
type ItemKind uint8

const (
	// KindMessage is a message of a Raft core.
	KindMessage ItemKind = 1
	// KindForward is proposals on their way to the leader.
	KindForward ItemKind = 2
	// KindForwardReject says that forwarded proposals were not taken.
	KindForwardReject ItemKind = 3
	// KindReadAsk asks the leader for a read index.
	KindReadAsk ItemKind = 4
	// KindReadReply answers a KindReadAsk.
	KindReadReply ItemKind = 5
)

// Forward carries proposals of a replica that does not lead to the one that
// does. Index and Term of its entries are zero: the leader gives them.
type Forward struct {
	Group smr.GroupID
	// Term of the leader that the proposals are meant for. A replica that does
	// not lead this very term refuses them.
	Term    uint64
	Entries []smr.Entry
}

// RejectReason says why forwarded proposals were not taken.
type RejectReason = uint8

const (
	// RejectNotLeader: the receiver does not lead the term of the Forward.
	RejectNotLeader RejectReason = 1
	// RejectBusy: the leader's queues are full.
	RejectBusy RejectReason = 2
	// RejectTransferring: the leader is handing over leadership. Ask again when
	// it is known who leads.
	RejectTransferring RejectReason = 3
)

// ForwardReject says that proposals of a Forward were not taken and never will
// be.
type ForwardReject struct {
	Group smr.GroupID
	// Term of the Forward.
	Term   uint64
	Reason RejectReason
	// Origin and Requests name the refused proposals, as in smr.Entry.
	Origin   uint64
	Requests []uint64
}

// ReadAsk asks the leader of Term for an index at which a read that began
// before is linearizable (thesis §6.4).
type ReadAsk struct {
	Group smr.GroupID
	Term  uint64
	// Ticket is the asking replica's name for the question.
	Ticket uint64
}

// ReadReply answers the ReadAsk with the same Ticket.
type ReadReply struct {
	Group  smr.GroupID
	Ticket uint64
	// Index that must be applied before the read. Meaningless unless OK.
	Index uint64
	// OK unset: the receiver of the question could not answer it.
	OK bool
}

// Item is one item of a frame. Kind says which of the other fields is set; the
// rest holds what earlier calls of Next left there.
//
// An Item is reused from one Next to the next: the slices Message.Entries,
// Forward.Entries and ForwardReject.Requests are overwritten, while the Data of
// entries shares the frame's memory and stays as long as the frame does.
type Item struct {
	Kind          ItemKind
	Message       raft.Message
	Forward       Forward
	ForwardReject ForwardReject
	ReadAsk       ReadAsk
	ReadReply     ReadReply
}

// Clear drops the references to frames that the item holds and keeps its slices
// for reuse. Call it when the item will not be used for a while.
func (it *Item) Clear() {
	it.Message.Entries = emptied(it.Message.Entries)
	it.Forward.Entries = emptied(it.Forward.Entries)
	it.ForwardReject.Requests = it.ForwardReject.Requests[:0]
}

// emptied returns entries without elements and without references behind its
// end. Invariant of an Item's entries: what lies between length and capacity
// refers to nothing.
func emptied(entries []smr.Entry) []smr.Entry {
	clear(entries)
	return entries[:0]
}
