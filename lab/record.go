package lab

import (
	"fmt"
	"strings"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/sim"
	"github.com/quorate/quorate/smr"
)

// Recording is what a run showed.
type Recording struct {
	Replicas int
	Timeout  time.Duration
	Items    []Item
	Letters  []Letter
	Cuts     []CutSpan
	// End is when the run was over.
	End smr.Instant
	// Commands names the commands of clients by their ids, as in "x=5".
	Commands map[uint64]string
	// Truncated says that the run was longer than what is recorded.
	Truncated bool
}

// ItemKind says what an Item tells.
type ItemKind string

// The kinds of items.
const (
	ItemCaption   ItemKind = "caption"
	ItemStep      ItemKind = "step"
	ItemSend      ItemKind = "send"
	ItemDeliver   ItemKind = "deliver"
	ItemDrop      ItemKind = "drop"
	ItemRole      ItemKind = "role"
	ItemCommit    ItemKind = "commit"
	ItemLog       ItemKind = "log"
	ItemCrash     ItemKind = "crash"
	ItemRestart   ItemKind = "restart"
	ItemPause     ItemKind = "pause"
	ItemResume    ItemKind = "resume"
	ItemCut       ItemKind = "cut"
	ItemHeal      ItemKind = "heal"
	ItemCall      ItemKind = "call"
	ItemAnswer    ItemKind = "answer"
	ItemViolation ItemKind = "violation"
	ItemFigure    ItemKind = "figure"
	ItemState     ItemKind = "state" // nothing but the changed views
)

// Item is one thing that happened, with the views of the replicas that it
// changed.
type Item struct {
	At      smr.Instant
	Kind    ItemKind
	Replica smr.ReplicaID
	Text    string
	// Letter is the number of the letter that was sent, delivered or dropped;
	// negative for none.
	Letter int
	// Role and Term are those of an ItemRole.
	Role raft.RoleState
	Term uint64
	// Changed are copies.
	Changed []sim.View
}

// Fate is what became of a letter.
type Fate string

// The fates.
const (
	FateUnderWay  Fate = "under way"
	FateDelivered Fate = "delivered"
	FateDropped   Fate = "dropped"
)

// Letter is one thing said on the network.
type Letter struct {
	From, To  smr.ReplicaID
	Kind      string
	Text      string // one line
	Label     string // two or three words
	Reply     bool
	Heartbeat bool
	Reject    bool
	Term      uint64
	Sent, End smr.Instant
	Fate      Fate

	key string
}

// CutSpan is a time in which the same links were cut.
type CutSpan struct {
	From, To smr.Instant
	Links    [][2]smr.ReplicaID
}

// itemsMax bounds a recording; a longer run goes on without being recorded.
const itemsMax = 20_000

// recorder is a sim.Tracer that fills a Recording.
type recorder struct {
	rec     *Recording
	now     func() smr.Instant
	open    map[string][]int // letters under way, by what they say
	counts  counts
	headOff bool // a swarm: no letters
}

// counts are what metrics are made of.
type counts struct {
	messages, elections uint64
	appends, rejected   map[smr.ReplicaID]uint64
	syncs               uint64
	since               smr.Instant
}

func newCounts() counts {
	return counts{appends: map[smr.ReplicaID]uint64{}, rejected: map[smr.ReplicaID]uint64{}}
}

func (c *recorder) add(it Item) *Item {
	if len(c.rec.Items) >= itemsMax && it.Kind != ItemViolation && it.Kind != ItemFigure {
		c.rec.Truncated = true
		return &Item{}
	}
	c.rec.Items = append(c.rec.Items, it)
	return &c.rec.Items[len(c.rec.Items)-1]
}

// Trace implements sim.Tracer.
func (c *recorder) Trace(e *sim.Event) {
	it := Item{At: e.At, Replica: e.Replica, Letter: -1, Term: e.Term}
	switch e.Kind {
	case sim.EventSend, sim.EventDeliver, sim.EventDrop:
		c.letter(e)
		return
	case sim.EventRole:
		if e.Role == raft.Leader {
			c.counts.elections++
		}
		it.Kind, it.Role = ItemRole, e.Role
		it.Text = fmt.Sprintf("%s in term %d", e.Role, e.Term)
	case sim.EventCommit:
		it.Kind, it.Text = ItemCommit, fmt.Sprintf("commit index %d", e.Index)
	case sim.EventCrash:
		it.Kind, it.Text = ItemCrash, "crashes"
	case sim.EventRestart:
		it.Kind, it.Text = ItemRestart, "starts"
	case sim.EventPause:
		it.Kind, it.Text = ItemPause, "is paused"
	case sim.EventResume:
		it.Kind, it.Text = ItemResume, "goes on"
	case sim.EventCut:
		it.Kind, it.Text = ItemCut, "cut"+e.Text
	case sim.EventHeal:
		it.Kind, it.Text = ItemHeal, "healed"+e.Text
	case sim.EventPhase:
		it.Kind, it.Text = ItemCaption, "the "+e.Text+" phase begins"
	case sim.EventLog:
		it.Kind, it.Text = ItemFigure, e.Text
	default:
		return
	}
	c.add(it)
}

// letter pairs what is sent with what arrives or is lost.
func (c *recorder) letter(e *sim.Event) {
	l := describe(e)
	if e.Kind == sim.EventSend {
		c.counts.messages++
		if l.Kind == "append" {
			c.counts.appends[l.To]++
		}
		if l.Kind == "append-reply" && l.Reject {
			c.counts.rejected[l.From]++
		}
	}
	if c.headOff || c.rec.Truncated {
		return
	}
	it := Item{At: e.At, Replica: e.Replica, Text: l.Text}
	switch e.Kind {
	case sim.EventSend:
		l.Sent, l.End, l.Fate = e.At, e.At, FateUnderWay
		it.Kind, it.Letter = ItemSend, len(c.rec.Letters)
		c.rec.Letters = append(c.rec.Letters, l)
		c.open[l.key] = append(c.open[l.key], it.Letter)
	default:
		open := c.open[l.key]
		if len(open) == 0 {
			return
		}
		it.Kind, it.Letter = ItemDeliver, open[0]
		c.open[l.key] = open[1:]
		x := &c.rec.Letters[it.Letter]
		x.End, x.Fate = e.At, FateDelivered
		it.Replica = l.To
		if e.Kind == sim.EventDrop {
			x.Fate, it.Kind = FateDropped, ItemDrop
		}
	}
	c.add(it)
}

var letterNames = [...]string{
	"?", "pre-vote", "pre-vote-reply", "vote", "vote-reply", "append", "append-reply",
	"heartbeat", "heartbeat-reply", "timeout-now", "snapshot",
}

// describe says what a letter is about.
func describe(e *sim.Event) Letter {
	l := Letter{From: e.Replica, To: e.Peer, Term: e.Term}
	m := e.Message
	if m == nil {
		l.Kind, l.Text, l.Label = firstWord(e.Text), e.Text, e.Text
		if first, _, ok := strings.Cut(e.Text, ","); ok {
			l.Label = first
		}
		l.Reply = l.Kind == "refusal" || strings.HasPrefix(e.Text, "read index")
		l.key = fmt.Sprintf("%d %d %s", l.From, l.To, l.Text)
		return l
	}
	l.From, l.To, l.Kind, l.Reject = m.From, m.To, letterNames[m.Type], m.Reject
	switch m.Type {
	case raft.MsgPreVote, raft.MsgVote:
		l.Text = fmt.Sprintf("asks for a %s in term %d; its log ends with entry %d of term %d", l.Kind, m.Term, m.Index, m.LogTerm)
		l.Label = fmt.Sprintf("%s? t%d", l.Kind, m.Term)
	case raft.MsgPreVoteReply, raft.MsgVoteReply:
		l.Reply = true
		what := strings.TrimSuffix(l.Kind, "-reply")
		l.Text, l.Label = "grants the "+what, what+" yes"
		if m.Reject {
			l.Text, l.Label = "refuses the "+what, what+" no"
		}
		l.Text += fmt.Sprintf(", term %d", m.Term)
	case raft.MsgAppend:
		l.Text, l.Label = appendText(m)
	case raft.MsgAppendReply:
		l.Reply = true
		l.Text, l.Label = fmt.Sprintf("has entries up to %d on disk", m.Index), fmt.Sprintf("ok %d", m.Index)
		if m.Reject {
			l.Text, l.Label = rejectText(m)
		}
	case raft.MsgHeartbeat:
		l.Heartbeat = m.Round != 0
		l.Text, l.Label = fmt.Sprintf("heartbeat, commit index %d, round %d", m.Commit, m.Round), "♥"
		if m.Round == 0 {
			l.Text, l.Label = fmt.Sprintf("commit index %d", m.Commit), fmt.Sprintf("commit %d", m.Commit)
		}
	case raft.MsgHeartbeatReply:
		l.Reply, l.Heartbeat = true, !m.Reject
		l.Text, l.Label = fmt.Sprintf("hears it, round %d", m.Round), "♥ ok"
	default:
		l.Text, l.Label = l.Kind, l.Kind
	}
	l.key = fmt.Sprintf("%d %d %s %d %d %d %d", l.From, l.To, l.Text, m.Term, m.Index, m.Commit, m.Round)
	return l
}

func firstWord(s string) string {
	w, _, _ := strings.Cut(s, " ")
	return w
}

func appendText(m *raft.Message) (text, label string) {
	n := len(m.Entries)
	if n == 0 {
		return fmt.Sprintf("asks whether entry %d is of term %d; commit index %d", m.Index, m.LogTerm, m.Commit), fmt.Sprintf("after %d?", m.Index)
	}
	first, last := &m.Entries[0], &m.Entries[n-1]
	if n == 1 {
		text, label = fmt.Sprintf("entry %d of term %d", first.Index, first.Term), fmt.Sprintf("entry %d", first.Index)
	} else {
		text, label = fmt.Sprintf("entries %d to %d", first.Index, last.Index), fmt.Sprintf("entries %d–%d", first.Index, last.Index)
	}
	return text + fmt.Sprintf(", after entry %d of term %d; commit index %d", m.Index, m.LogTerm, m.Commit), label
}

func rejectText(m *raft.Message) (text, label string) {
	text = fmt.Sprintf("its log does not match at %d", m.Index)
	switch {
	case m.ConflictTerm > 0:
		text += fmt.Sprintf("; its entries of term %d begin at %d", m.ConflictTerm, m.ConflictIndex)
	case m.ConflictIndex > 0:
		text += fmt.Sprintf("; its log ends at %d", m.ConflictIndex-1)
	}
	return text, fmt.Sprintf("no match %d", m.Index)
}
