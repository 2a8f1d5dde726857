package sim

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// EventKind says what an Event tells.
type EventKind uint8

const (
	EventSend EventKind = iota
	EventDeliver
	EventDrop
	EventCrash
	EventRestart
	EventAppend  // entries [Index, Index+Count) of Term were appended
	EventPersist // the log up to Index is on disk
	EventCommit  // the commit index is Index
	EventApply   // the entry at Index of Term was applied
	EventRole    // the replica plays Role in Term
	EventCut     // the links named by Text are cut
	EventHeal    // and whole again
	EventPause
	EventResume
	EventPropose // a client (Count) proposed at Index in Term
	EventRead
	EventAnswer
	EventPhase
	EventRestore // the state was set to a snapshot at Index
	EventLog     // a host logs Text
	EventTaking  // a snapshot is being taken (scripts alone, as the next three)
	EventTaken   // a snapshot at Index is whole on disk
	EventCompact // the log begins after Index
	EventInstall // a snapshot from another replica at Index has become the state
	EventStrip   // the entries from Index on are taken off Message (scripts alone)
	EventBackup  // a backup of the state at Index begins, or is whole
	EventViolation
)

var eventNames = [...]string{
	"send", "deliver", "drop", "crash", "restart", "append", "persist", "commit", "apply", "role",
	"cut", "heal", "pause", "resume", "propose", "read", "answer", "phase", "restore", "log", "taking", "taken", "compact", "install", "strip", "backup", "violation",
}

func (k EventKind) String() string { return eventNames[k] }

// Event is one line of a run's trace. Which fields a kind uses is said at the
// kind. An Event and what it points to are valid only during the call.
type Event struct {
	At      smr.Instant
	Kind    EventKind
	Replica smr.ReplicaID
	Peer    smr.ReplicaID
	Role    raft.RoleState
	Term    uint64
	Index   uint64
	Count   uint64
	Message *raft.Message
	Text    string
}

// Tracer is told everything that happens in a world, in order.
type Tracer interface{ Trace(e *Event) }

func messageText(m *raft.Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d→%d term %d", m.Type, m.From, m.To, m.Term)
	if m.Index != 0 || m.LogTerm != 0 {
		fmt.Fprintf(&b, " at %d/%d", m.Index, m.LogTerm)
	}
	if m.Commit != 0 {
		fmt.Fprintf(&b, " commit %d", m.Commit)
	}
	if m.Round != 0 {
		fmt.Fprintf(&b, " round %d", m.Round)
	}
	if n := len(m.Entries); n > 0 {
		fmt.Fprintf(&b, " entries %d..%d of terms %d..%d", m.Entries[0].Index, m.Entries[n-1].Index, m.Entries[0].Term, m.Entries[n-1].Term)
	}
	if m.Reject {
		b.WriteString(" rejected")
	}
	if m.ConflictIndex != 0 && m.Type == raft.MsgSuffix {
		fmt.Fprintf(&b, " of a log that ends at %d/%d", m.ConflictIndex, m.ConflictTerm)
	} else if m.ConflictIndex != 0 {
		fmt.Fprintf(&b, ", hint %d/%d", m.ConflictIndex, m.ConflictTerm)
	}
	if m.Force {
		b.WriteString(" force")
	}
	return b.String()
}

// Printer is a Tracer that writes a line for each event.
type Printer struct{ W io.Writer }

// Trace implements Tracer.
func (p Printer) Trace(e *Event) {
	fmt.Fprintf(p.W, "%12s %-8s ", time.Duration(e.At), e.Kind)
	switch e.Kind {
	case EventSend, EventDeliver, EventDrop, EventStrip:
		if e.Message != nil {
			fmt.Fprint(p.W, messageText(e.Message))
		} else {
			fmt.Fprintf(p.W, "%d→%d", e.Replica, e.Peer)
		}
	case EventAppend:
		fmt.Fprintf(p.W, "%d: entries %d..%d, last of term %d", e.Replica, e.Index, e.Index+e.Count-1, e.Term)
	case EventPersist, EventCommit, EventRestore, EventTaken, EventCompact, EventInstall, EventBackup:
		fmt.Fprintf(p.W, "%d: up to %d", e.Replica, e.Index)
	case EventApply:
		fmt.Fprintf(p.W, "%d: %d of term %d", e.Replica, e.Index, e.Term)
	case EventRole:
		fmt.Fprintf(p.W, "%d: %s of term %d", e.Replica, e.Role, e.Term)
	case EventPropose, EventRead, EventAnswer:
		fmt.Fprintf(p.W, "client %d at %d: index %d, term %d", e.Count, e.Replica, e.Index, e.Term)
	default:
		if e.Replica != 0 {
			fmt.Fprintf(p.W, "%d: ", e.Replica)
		}
	}
	if e.Text != "" {
		fmt.Fprintf(p.W, " %s", e.Text)
	}
	fmt.Fprintln(p.W)
}
