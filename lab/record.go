package lab

import (
	"cmp"
	"fmt"
	"slices"
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

	// viewed says that the items hold the replicas' views; those of a swarm do
	// not.
	viewed bool
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
	ItemTaking    ItemKind = "taking"
	ItemTaken     ItemKind = "taken"
	ItemCompact   ItemKind = "compact"
	ItemInstall   ItemKind = "install"
	ItemRestore   ItemKind = "restore"
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
	// Index is that of an item about a snapshot.
	Index uint64
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
	From, To smr.ReplicaID
	Kind     string
	Text     string // one line
	Label    string // two or three words
	Reply    bool
	// Minor letters are left out of the picture unless they are asked for:
	// heartbeats and their answers, and repetitions of what was lost.
	Minor     bool
	Reject    bool
	Bulk      bool // a block of a snapshot
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
const itemsMax = 16_000

// recorder is a sim.Tracer that fills a Recording.
type recorder struct {
	rec     *Recording
	open    map[string][]int            // letters under way, by what they say
	lost    map[[2]smr.ReplicaID]string // what was lost last on a link
	refused map[[2]smr.ReplicaID]string // the heartbeat that was refused last on a link
	asked   map[[2]smr.ReplicaID]asking
	cuts    map[[2]smr.ReplicaID]int // how many cuts of a swarm hold a link
	counts  counts
	headOff bool // a swarm: no letters
}

// counts are what metrics are made of.
type counts struct {
	messages, elections uint64
	appends, rejected   map[smr.ReplicaID]uint64
	blocks, blockBytes  map[smr.ReplicaID]uint64 // of snapshots
	syncs               uint64
	since               smr.Instant
}

func newCounts() counts {
	n := func() map[smr.ReplicaID]uint64 { return map[smr.ReplicaID]uint64{} }
	return counts{appends: n(), rejected: n(), blocks: n(), blockBytes: n()}
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
	case sim.EventStrip:
		c.stripped(e)
		return
	case sim.EventRole:
		if e.Role == raft.Leader {
			c.counts.elections++
		}
		it.Kind, it.Role = ItemRole, e.Role
		it.Text = fmt.Sprintf("%s in term %d", e.Role, e.Term)
	case sim.EventCommit:
		if c.headOff {
			return
		}
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
		c.swarmCut(e, 1)
	case sim.EventHeal:
		it.Kind, it.Text = ItemHeal, "healed"+e.Text
		c.swarmCut(e, -1)
	case sim.EventPhase:
		it.Kind, it.Text = ItemCaption, "the "+e.Text+" phase begins"
	case sim.EventLog:
		it.Kind, it.Text = ItemFigure, e.Text
	default:
		if c.headOff || !snapshotItem(e, &it) {
			return
		}
	}
	if c.headOff {
		c.rec.Replicas = max(c.rec.Replicas, int(e.Replica))
	}
	c.add(it)
}

// swarmCut follows the links that a swarm cuts and heals. Cuts overlap.
func (c *recorder) swarmCut(e *sim.Event, by int) {
	for _, pair := range strings.Fields(e.Text) {
		var l [2]smr.ReplicaID
		if n, err := fmt.Sscanf(pair, "%d→%d", &l[0], &l[1]); n == 2 && err == nil {
			c.cuts[l] += by
		}
	}
	var links [][2]smr.ReplicaID
	for l, n := range c.cuts {
		if n > 0 {
			links = append(links, l)
		}
	}
	slices.SortFunc(links, func(a, b [2]smr.ReplicaID) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	c.rec.cut(e.At, links)
}

// cut notes which links are cut from now on.
func (r *Recording) cut(now smr.Instant, links [][2]smr.ReplicaID) {
	if n := len(r.Cuts); n > 0 && r.Cuts[n-1].To == smr.Never {
		r.Cuts[n-1].To = now
	}
	if len(links) > 0 {
		r.Cuts = append(r.Cuts, CutSpan{From: now, To: smr.Never, Links: links})
	}
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
		if l.Kind == "block" {
			c.counts.blocks[l.To]++
			c.counts.blockBytes[l.To] += e.Count
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
		c.asksAgain(&l)
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
			c.repeated(x)
		}
	}
	c.add(it)
}

// stripped gives a letter under way the text of what is left of it, by which it
// is known when it arrives.
func (c *recorder) stripped(e *sim.Event) {
	was, left := describe(e), *e
	m := *e.Message
	m.Entries = m.Entries[:max(0, slices.IndexFunc(m.Entries, func(x smr.Entry) bool { return x.Index >= e.Index }))]
	left.Message = &m
	now := describe(&left)
	open := c.open[was.key]
	if len(open) == 0 {
		return
	}
	c.open[was.key] = open[1:]
	c.open[now.key] = append(c.open[now.key], open[0])
	l := &c.rec.Letters[open[0]]
	l.Text = fmt.Sprintf("%s (the script takes the rest off: %s)", now.Text, was.Text)
	l.Label, l.key = now.Label, now.key
}

// asksAgain makes a pre-vote a minor letter if it says what the one before it on
// that link said, and so its answer. If the answer is another one this time,
// both are of interest.
func (c *recorder) asksAgain(l *Letter) {
	if l.Kind == "heartbeat-reply" && l.Reject {
		// A follower that waits for a snapshot refuses them all.
		link, said := [2]smr.ReplicaID{l.From, l.To}, fmt.Sprint(l.Text, l.Term)
		l.Minor = c.refused[link] == said
		c.refused[link] = said
	}
	if l.Kind != "pre-vote" && l.Kind != "pre-vote-reply" {
		return
	}
	link := [2]smr.ReplicaID{l.From, l.To}
	said := l.Label + fmt.Sprint(l.Term)
	again := c.asked[link]
	if !l.Reply {
		l.Minor = again.ask == said
		again.ask, again.at = said, len(c.rec.Letters)
		c.asked[link] = again
		return
	}
	back := [2]smr.ReplicaID{l.To, l.From}
	question, known := c.asked[back]
	if l.Minor = again.answer == said; !l.Minor && known {
		c.rec.Letters[question.at].Minor = false
	} else if l.Minor = known && c.rec.Letters[question.at].Minor; l.Minor {
		return
	}
	again.answer = said
	c.asked[link] = again
}

// asking is what was last said about pre-votes on a link; at is the question's
// number.
type asking struct {
	ask, answer string
	at          int
}

// repeated makes a lost letter a minor one if the newest one that was lost on
// that link said the same.
func (c *recorder) repeated(l *Letter) {
	if l.Minor {
		return
	}
	link := [2]smr.ReplicaID{l.From, l.To}
	said := l.Kind + l.Label
	l.Minor = c.lost[link] == said
	c.lost[link] = said
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
		l.Reply = slices.Contains([]string{"refusal", "receives", "installed", "failed"}, l.Kind) || strings.HasPrefix(e.Text, "read index")
		l.Bulk, l.Minor = l.Kind == "block", l.Kind == "receives"
		l.key = fmt.Sprintf("%d %d %s", l.From, l.To, l.Text)
		return l
	}
	l.From, l.To, l.Kind, l.Reject = m.From, m.To, m.Type.String(), m.Reject
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
		l.Minor = m.Round != 0
		l.Text, l.Label = fmt.Sprintf("heartbeat, commit index %d, round %d", m.Commit, m.Round), "♥"
		if m.Round == 0 {
			l.Text, l.Label = fmt.Sprintf("commit index %d", m.Commit), fmt.Sprintf("commit %d", m.Commit)
		}
	case raft.MsgHeartbeatReply:
		l.Reply, l.Minor = true, !m.Reject
		l.Text, l.Label = fmt.Sprintf("hears it, round %d", m.Round), "♥ ok"
		if m.Reject {
			l.Text, l.Label = l.Text+"; its log does not match", "♥ no match"
		}
	case raft.MsgPromise:
		l.Reply, l.Minor = true, true
		l.Text, l.Label = fmt.Sprintf("promises to elect nobody else for %v, round %d", time.Duration(m.Index), m.Round), "♥ promise"
	case raft.MsgSuffixAsk:
		l.Text, l.Label = fmt.Sprintf("asks for the entries after %d that it lacks", m.Index), fmt.Sprintf("after %d?", m.Index)
	case raft.MsgSuffix:
		l.Reply = true
		l.Text, l.Label = appendText(m)
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
