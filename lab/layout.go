package lab

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/sim"
	"github.com/quorate/quorate/smr"
)

// layout is where everything of a diagram goes: time runs down, and each replica
// is a column. The scale of time is not even: a stretch in which nothing happens
// is shortened, and lines of text get the room they need.
type layout struct {
	rec      *Recording
	beats    bool // with heartbeats
	replicas int
	colW     float64
	textX    float64
	width    float64
	height   float64

	rows  []row
	rowOf map[smr.Instant]int
	taken []box // labels so far
}

// row is one instant.
type row struct {
	at       smr.Instant
	y        float64 // of the instant; captions stand above, texts below
	captions []string
	texts    []sideText
	skipped  bool // time was shortened before it
}

// sideText is a line beside the diagram.
type sideText struct{ class, text string }

type box struct{ x0, y0, x1, y1 float64 }

func (b box) meets(c box) bool { return b.x0 < c.x1 && c.x0 < b.x1 && b.y0 < c.y1 && c.y0 < b.y1 }

// Sizes in pixels.
const (
	leftGutter = 74.0
	sideWidth  = 310.0
	sideChars  = 50
	// sideCharsBold is how many fit in bold type.
	sideCharsBold = 43
	headHeight    = 46.0
	lineHeight    = 16.0
	captionLine   = 18.0
	rowGapMin     = 9.0
	rowGapMax     = 44.0
	pixelsPerMS   = 5.0
	skippedAfter  = 12 * time.Millisecond
	// labelWidthMax is how far a label as long as "leader t99" reaches to the right.
	labelWidthMax = 76.0
)

func newLayout(rec *Recording, beats bool) *layout {
	l := &layout{rec: rec, beats: beats, replicas: max(rec.Replicas, 1), rowOf: map[smr.Instant]int{}}
	l.colW = min(112, 560/float64(l.replicas))
	if l.replicas <= 3 {
		l.colW = 150
	}
	// The last column's labels of terms and roles may be wider than the column.
	l.textX = l.x(smr.ReplicaID(l.replicas)) + max(l.colW/2, labelWidthMax) + 4
	l.width = l.textX + sideWidth
	l.gather()
	l.place()
	return l
}

// shown says whether the diagram has something of an item.
func (l *layout) shown(it *Item) bool {
	if it.Letter >= 0 {
		return l.beats || !l.rec.Letters[it.Letter].Minor
	}
	return it.Kind != ItemState || slices.ContainsFunc(it.Changed, func(v sim.View) bool { return true })
}

// gather makes the rows: one for each instant at which something is shown.
func (l *layout) gather() {
	var at []smr.Instant
	for i := range l.rec.Items {
		if it := &l.rec.Items[i]; l.shown(it) && (it.Kind != ItemState || l.beats) {
			at = append(at, it.At)
		}
	}
	for i := range l.rec.Cuts {
		at = append(at, l.rec.Cuts[i].From)
	}
	at = append(at, 0, l.rec.End)
	slices.Sort(at)
	for _, t := range slices.Compact(at) {
		l.rowOf[t] = len(l.rows)
		l.rows = append(l.rows, row{at: t})
	}
	for i := range l.rec.Items {
		it := &l.rec.Items[i]
		if n, ok := l.rowOf[it.At]; ok {
			l.texts(&l.rows[n], it)
		}
	}
}

// passive steps say how long to wait and what to look at; the diagram shows it.
var passive = []string{"for", "until", "expect", "count", "show", "rounds", "swarm"}

func (l *layout) texts(r *row, it *Item) {
	class, text := "", it.Text
	switch it.Kind {
	case ItemCaption:
		if len(r.captions)+len(r.texts) == 0 {
			r.captions = wrap(text, int((l.width-leftGutter)/7.2))
			return
		}
		class = "sub" // something was said of this instant already
	case ItemStep:
		if slices.Contains(passive, firstWord(text)) {
			return
		}
		class = "step"
	case ItemCall:
		class = "call"
	case ItemAnswer:
		class = "answer"
	case ItemLog:
		class, text = "lost", fmt.Sprintf("%d %s", it.Replica, text)
	case ItemFigure:
		class = "figure"
	case ItemViolation:
		class, text = "violation", "violation: "+text
	default:
		return
	}
	chars := sideChars
	if class == "sub" || class == "answer" || class == "violation" {
		chars = sideCharsBold
	}
	for _, s := range wrap(text, chars) {
		r.texts = append(r.texts, sideText{class, s})
	}
}

// wrap cuts text into lines of at most n characters, at spaces where it can.
func wrap(text string, n int) []string {
	var lines []string
	for len([]rune(text)) > n {
		cut := strings.LastIndexByte(string([]rune(text)[:n+1]), ' ')
		if cut <= 0 {
			cut = len(string([]rune(text)[:n]))
		}
		lines = append(lines, text[:cut])
		text = "  " + strings.TrimLeft(text[cut:], " ")
	}
	return append(lines, text)
}

// place gives each row its y.
func (l *layout) place() {
	y, textEnd := headHeight, headHeight
	for i := range l.rows {
		r := &l.rows[i]
		if i > 0 {
			dt := time.Duration(r.at - l.rows[i-1].at)
			gap := float64(dt) / 1e6 * pixelsPerMS
			r.skipped = dt > skippedAfter
			y += min(max(gap, rowGapMin), rowGapMax)
		}
		if len(r.captions) > 0 {
			y = max(y, textEnd) + 14 + captionLine*float64(len(r.captions))
			textEnd = y
		}
		if len(r.texts) > 0 {
			y = max(y, textEnd)
			textEnd = y + lineHeight*float64(len(r.texts)) + 2
		}
		r.y = y
	}
	l.height = max(y, textEnd) + 30
}

// y of an instant, which may lie between rows.
func (l *layout) y(t smr.Instant) float64 {
	if n, ok := l.rowOf[t]; ok {
		return l.rows[n].y
	}
	n, _ := slices.BinarySearchFunc(l.rows, t, func(r row, t smr.Instant) int { return int(r.at - t) })
	switch {
	case n == 0:
		return l.rows[0].y
	case n >= len(l.rows):
		return l.rows[len(l.rows)-1].y
	}
	a, b := &l.rows[n-1], &l.rows[n]
	return a.y + (b.y-a.y)*float64(t-a.at)/float64(b.at-a.at)
}

func (l *layout) x(id smr.ReplicaID) float64 { return leftGutter + l.colW*(float64(id)-0.5) }

// free takes a place for a label if it meets no other.
func (l *layout) free(b box) bool {
	for i := len(l.taken) - 1; i >= 0 && i >= len(l.taken)-400; i-- {
		if l.taken[i].meets(b) {
			return false
		}
	}
	l.taken = append(l.taken, b)
	return true
}

// stretch is a time in which a replica's line looks the same.
type stretch struct {
	id       smr.ReplicaID
	from, to smr.Instant
	up       bool
	paused   bool
	role     raft.RoleState
	term     uint64
	// newTerm and newRole say what has changed at its beginning.
	newTerm, newRole bool
}

// stretches are the replicas' lines.
func (l *layout) stretches() []stretch {
	var all []stretch
	current := make([]stretch, l.replicas)
	for i := range current {
		current[i] = stretch{id: smr.ReplicaID(i + 1)}
	}
	set := func(at smr.Instant, n stretch) {
		c := &current[n.id-1]
		if c.up == n.up && c.paused == n.paused && c.role == n.role && c.term == n.term {
			return
		}
		c.to = at
		if c.to > c.from {
			all = append(all, *c)
		}
		n.from, n.newTerm, n.newRole = at, n.term != c.term || c.to == c.from && c.newTerm, n.role != c.role || c.to == c.from && c.newRole
		*c = n
	}
	for i := range l.rec.Items {
		it := &l.rec.Items[i]
		for _, v := range it.Changed {
			set(it.At, stretch{id: v.ID, up: v.Up, paused: v.Paused, role: v.Role, term: v.Term})
		}
		if len(it.Changed) > 0 || it.Replica == 0 || int(it.Replica) > l.replicas || l.rec.viewed {
			continue
		}
		n := current[it.Replica-1]
		switch it.Kind {
		case ItemRole:
			n.up, n.role, n.term = true, it.Role, it.Term
		case ItemCrash:
			n.up, n.role = false, raft.Follower
		case ItemRestart:
			n.up = true
		case ItemPause, ItemResume:
			n.paused = it.Kind == ItemPause
		}
		set(it.At, n)
	}
	for _, c := range current {
		c.to = l.rec.End
		all = append(all, c)
	}
	return all
}

// sides are the groups of replicas that can still talk, in the order of their
// first members. Links count only if they are whole in both directions.
func sides(replicas int, links [][2]smr.ReplicaID) [][]smr.ReplicaID {
	side := make([]int, replicas+1)
	var all [][]smr.ReplicaID
	cut := func(a, b smr.ReplicaID) bool {
		return slices.Contains(links, [2]smr.ReplicaID{a, b}) || slices.Contains(links, [2]smr.ReplicaID{b, a})
	}
	for i := 1; i <= replicas; i++ {
		if side[i] != 0 {
			continue
		}
		n := len(all) + 1
		members := []smr.ReplicaID{smr.ReplicaID(i)}
		side[i] = n
		for k := 0; k < len(members); k++ {
			for j := 1; j <= replicas; j++ {
				if side[j] == 0 && !cut(members[k], smr.ReplicaID(j)) {
					side[j] = n
					members = append(members, smr.ReplicaID(j))
				}
			}
		}
		slices.Sort(members)
		all = append(all, members)
	}
	return all
}

// cutText names what is cut.
func cutText(replicas int, links [][2]smr.ReplicaID) string {
	all := sides(replicas, links)
	whole := 0 // links that a partition into these sides would cut
	for i, a := range all {
		for _, b := range all[i+1:] {
			whole += 2 * len(a) * len(b)
		}
	}
	if len(all) > 1 && whole == len(links) {
		var parts []string
		for _, s := range all {
			parts = append(parts, strings.Trim(fmt.Sprint(s), "[]"))
		}
		return "partition " + strings.Join(parts, " | ")
	}
	var parts []string
	for _, p := range links {
		back := slices.Contains(links, [2]smr.ReplicaID{p[1], p[0]})
		switch {
		case !back:
			parts = append(parts, fmt.Sprintf("%d→%d", p[0], p[1]))
		case p[0] < p[1]:
			parts = append(parts, fmt.Sprintf("%d–%d", p[0], p[1]))
		}
	}
	return "cut " + strings.Join(parts, " ")
}
