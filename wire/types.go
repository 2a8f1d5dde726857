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
	// KindSnapshotOffer offers a follower an image of the state.
	KindSnapshotOffer ItemKind = 6
	// KindSnapshotFetch asks for blocks of it.
	KindSnapshotFetch ItemKind = 7
	// KindSnapshotBlock is one of them.
	KindSnapshotBlock ItemKind = 8
	// KindSnapshotStatus tells the leader how it goes.
	KindSnapshotStatus ItemKind = 9
	// KindPulse says that the sender's shard lives.
	KindPulse ItemKind = 10
	// kindSpareMessage is a message of a type that older hosts do not know, and can do
	// without. It is read as KindMessage.
	kindSpareMessage ItemKind = 11
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

// Pulse is what hosts vouch for one another by, for all groups of a shard that
// rest: see package host.
type Pulse struct {
	// Life names the life of the sender's shard, never zero. Another one than
	// before says that the host has begun anew.
	Life uint64
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
	Pulse         Pulse

	SnapshotOffer  SnapshotOffer
	SnapshotFetch  SnapshotFetch
	SnapshotBlock  SnapshotBlock
	SnapshotStatus SnapshotStatus
}

// Clear drops the references to frames that the item holds and keeps its slices
// for reuse. Call it when the item will not be used for a while.
func (it *Item) Clear() {
	it.Message.Entries = emptied(it.Message.Entries)
	it.Forward.Entries = emptied(it.Forward.Entries)
	it.ForwardReject.Requests = it.ForwardReject.Requests[:0]
	it.SnapshotBlock.Data = nil
}

// emptied returns entries without elements and without references behind its
// end. Invariant of an Item's entries: what lies between length and capacity
// refers to nothing.
func emptied(entries []smr.Entry) []smr.Entry {
	clear(entries)
	return entries[:0]
}

// SnapshotOffer is a leader's word to a follower that its log no longer reaches:
// an image that it can fetch.
type SnapshotOffer struct {
	Group smr.GroupID
	// Term of the leader.
	Term uint64
	// Index and ID name the image, Source is the host that has it.
	Index, ID uint64
	Source    smr.ReplicaID
	// LogStart is the index after which the leader's log begins: any image at or
	// after it will do.
	LogStart uint64
	// Blocks of the image.
	Blocks uint64
}

// SnapshotFetch asks the host that has an image for blocks [First, First+Count). A
// Count of zero says that what was asked for is no longer wanted.
type SnapshotFetch struct {
	Group        smr.GroupID
	Index, ID    uint64
	First, Count uint64
}

// SnapshotBlock is one block of an image, as it is in the file. Data shares the
// frame's memory. No Data: the image is gone.
type SnapshotBlock struct {
	Group     smr.GroupID
	Index, ID uint64
	Number    uint64
	Data      []byte
}

// SnapshotState is what a SnapshotStatus says.
type SnapshotState = uint8

const (
	// SnapshotRunning: the image comes in; Have blocks are there.
	SnapshotRunning SnapshotState = 1
	// SnapshotInstalled: the follower's state and log are at Index, or were
	// beyond the image already.
	SnapshotInstalled SnapshotState = 2
	// SnapshotFailed: the image cannot be had; offer another one.
	SnapshotFailed SnapshotState = 3
)

// SnapshotStatus is a follower's word to the leader of Term.
type SnapshotStatus struct {
	Group smr.GroupID
	Term  uint64
	State SnapshotState
	// Index of the image under way, or what is installed.
	Index uint64
	Have  uint64
}
