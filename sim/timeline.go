package sim

import (
	"bytes"
	"fmt"
	"io"

	"github.com/quorate/quorate/raft"
)

// timelineMax bounds the lines of a timeline, the last before its end.
const timelineMax = 150

// timeline is a Tracer that keeps what a reader needs to follow a failing run:
// faults, roles, logs, commits, votes and answers; no heartbeats and pre-votes,
// and a message once, when it arrives.
type timeline struct {
	lines   [timelineMax]string
	n       int
	printer Printer
	buffer  bytes.Buffer
}

func newTimeline() *timeline {
	t := &timeline{}
	t.printer = Printer{&t.buffer}
	return t
}

// Trace implements Tracer.
func (t *timeline) Trace(e *Event) {
	switch e.Kind {
	case EventSend, EventDrop, EventPersist, EventApply, EventLog:
		return
	case EventDeliver:
		if e.Message == nil || !tells(e.Message) {
			return
		}
	}
	t.buffer.Reset()
	t.printer.Trace(e)
	t.lines[t.n%timelineMax] = t.buffer.String()
	t.n++
}

// tells reports whether a message is worth a line.
func tells(m *raft.Message) bool {
	switch m.Type {
	case raft.MsgHeartbeat, raft.MsgHeartbeatReply, raft.MsgPreVote:
		return false
	case raft.MsgPreVoteReply:
		return m.LogTerm > 0 // an offer
	case raft.MsgAppend:
		return len(m.Entries) > 0
	}
	return true
}

func (t *timeline) print(w io.Writer) {
	from := max(0, t.n-timelineMax)
	if from > 0 {
		fmt.Fprintf(w, "… %d lines before\n", from)
	}
	for i := from; i < t.n; i++ {
		io.WriteString(w, t.lines[i%timelineMax])
	}
}
