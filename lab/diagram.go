package lab

import (
	"fmt"
	"html"
	"strings"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// termColors is how many colours the terms go round in. The number stands beside
// each change, so that nothing rests on the colour alone.
const termColors = 7

func termClass(term uint64) string {
	if term == 0 {
		return "t0"
	}
	return fmt.Sprintf("t%d", (term-1)%termColors+1)
}

// diagram draws a recording as SVG. id is put before the ids of its elements.
func (l *layout) diagram(id string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg id="%s" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-label="space-time diagram">`, id, l.width, l.height, l.width, l.height)
	b.WriteString("\n")
	l.drawCuts(&b)
	var tags, texts strings.Builder
	l.drawTexts(&texts)
	lines := l.stretches()
	l.drawLines(&b, lines)
	for i := range lines {
		if lines[i].up {
			l.label(&tags, &lines[i])
		}
	}
	l.drawSnapshots(&tags)
	l.drawLetters(&b, id)
	b.WriteString(tags.String())
	l.drawMarks(&b)
	b.WriteString(texts.String())
	l.drawHead(&b)
	fmt.Fprintf(&b, `<g class="cursor"><line x1="%.0f" x2="%.0f" y1="0" y2="0"/><path d="M%.0f -5 l8 5 l-8 5 z"/></g>`, leftGutter-4, l.textX, leftGutter-12)
	b.WriteString("</svg>\n")
	return b.String()
}

// drawHead names the columns.
func (l *layout) drawHead(b *strings.Builder) {
	fmt.Fprintf(b, `<g class="heads"><rect x="0" y="0" width="%.0f" height="38"/>`, l.width)
	for i := 1; i <= l.replicas; i++ {
		x := l.x(smr.ReplicaID(i))
		fmt.Fprintf(b, `<g class="head"><circle cx="%.1f" cy="20" r="13"/><text x="%.1f" y="24.5">%d</text></g>`, x, x, i)
	}
	b.WriteString("</g>\n")
}

// drawCuts shades the times in which links are cut: each side of a partition
// with a pattern of its own.
func (l *layout) drawCuts(b *strings.Builder) {
	patterns := [...]string{"hatch-a", "hatch-b", "hatch-c", "hatch-d", "hatch-a", "hatch-b", "hatch-c", "hatch-d"}
	for i := range l.rec.Cuts {
		c := &l.rec.Cuts[i]
		y0, y1 := l.y(c.From), l.y(min(c.To, l.rec.End))
		if y1-y0 < 1 {
			continue
		}
		all := sides(l.replicas, c.Links)
		for n, side := range all {
			for _, id := range side {
				pattern := patterns[n]
				if len(all) == 1 {
					pattern = "hatch-p"
				}
				fmt.Fprintf(b, `<rect class="cut" x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="url(#%s)"/>`, l.x(id)-l.colW/2+1, y0, l.colW-2, y1-y0, pattern)
			}
		}
		text := cutText(l.replicas, c.Links)
		fmt.Fprintf(b, `<path class="cut-edge" d="M%.1f %.1fV%.1f"/>`, leftGutter-3, y0, y1)
		if y1-y0 > 6*float64(len(text))+8 {
			fmt.Fprintf(b, `<text class="cut-label" transform="translate(%.1f %.1f) rotate(-90)">%s</text>`, leftGutter+9, (y0+y1)/2, html.EscapeString(text))
		}
		b.WriteString("\n")
	}
}

// drawTexts writes the times, captions and texts, and keeps labels off them.
func (l *layout) drawTexts(b *strings.Builder) {
	last := -100.0
	for i := range l.rows {
		r := &l.rows[i]
		for k, c := range r.captions {
			y := r.y - 12 - captionLine*float64(len(r.captions)-1-k)
			if k == 0 {
				fmt.Fprintf(b, `<line class="rule" x1="6" x2="%.0f" y1="%.1f" y2="%.1f"/>`, l.width-6, y-15, y-15)
			}
			l.free(box{0, y - 14, 7.4*float64(len(c)) + 12, y + 5})
			fmt.Fprintf(b, `<text class="caption" x="8" y="%.1f">%s</text>`, y, html.EscapeString(c))
		}
		if len(r.captions) > 0 {
			last = r.y - 14
		}
		if r.y-last >= 13 {
			class := "time"
			if r.skipped {
				class = "time skipped"
			}
			fmt.Fprintf(b, `<text class="%s" x="%.0f" y="%.1f">%s</text>`, class, leftGutter-14, r.y+3.5, html.EscapeString(rowTime(r)))
			last = r.y
		}
		for k, t := range r.texts {
			fmt.Fprintf(b, `<text class="side %s" x="%.1f" y="%.1f">%s</text>`, t.class, l.textX+6, r.y+4+lineHeight*float64(k), html.EscapeString(t.text))
		}
	}
	b.WriteString("\n")
}

func rowTime(r *row) string {
	return fmt.Sprintf("%.4g ms", float64(r.at)/1e6)
}

// drawLines draws the replicas' lines.
func (l *layout) drawLines(b *strings.Builder, lines []stretch) {
	for i := range lines {
		s := &lines[i]
		y0, y1 := l.y(s.from), l.y(s.to)
		class := "follower"
		switch {
		case !s.up:
			class = "down"
		case s.paused:
			class = "paused"
		case s.role == raft.Leader:
			class = "leader"
		case s.role != raft.Follower:
			class = "candidate"
		}
		fmt.Fprintf(b, `<line class="line %s %s" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, class, termClass(s.term), l.x(s.id), l.x(s.id), y0, y1)
	}
	b.WriteString("\n")
}

// label says which term and role begin.
func (l *layout) label(b *strings.Builder, s *stretch) {
	text, y := "", l.y(s.from)
	if s.newTerm {
		text = fmt.Sprintf("t%d", s.term)
	}
	if s.newRole && s.role == raft.Leader {
		text = fmt.Sprintf("leader t%d", s.term)
	} else if s.newRole && s.role == raft.Candidate {
		text = fmt.Sprintf("stands t%d", s.term)
	}
	if text == "" {
		return
	}
	w := 6.2*float64(len(text)) + 8
	x := l.x(s.id) + 6
	for _, dy := range [...]float64{6, 18, -6, 30} {
		if l.free(box{x, y + dy - 7, x + w, y + dy + 7}) {
			fmt.Fprintf(b, `<g class="tag %s"><rect x="%.1f" y="%.1f" width="%.1f" height="13" rx="3"/><text x="%.1f" y="%.1f">%s</text></g>`, termClass(s.term), x, y+dy-6.5, w, x+4, y+dy+3.5, text)
			return
		}
	}
}

// drawLetters draws the messages.
func (l *layout) drawLetters(b *strings.Builder, id string) {
	for i := range l.rec.Letters {
		m := &l.rec.Letters[i]
		if m.Minor && !l.beats || int(m.From) > l.replicas || int(m.To) > l.replicas {
			continue
		}
		l.drawLetter(b, fmt.Sprintf("%s-m%d", id, i), m)
	}
	b.WriteString("\n")
}

// lateAfter is when a message was on its way for so long that it is drawn
// lightly: its line crosses much else.
const lateAfter = 40e6

func (l *layout) drawLetter(b *strings.Builder, id string, m *Letter) {
	x0, y0, x1, y1 := l.x(m.From), l.y(m.Sent), l.x(m.To), l.y(m.End)
	class := "letter"
	if m.Reply {
		class += " reply"
	}
	if m.Minor {
		class += " beat"
	}
	if m.Bulk {
		class += " bulk"
	}
	if m.Reject {
		class += " reject"
	}
	if m.End-m.Sent > lateAfter {
		class += " late"
	}
	side := 5.0
	if x1 < x0 {
		side = -5
	}
	x0, x1 = x0+side, x1-side
	end := "url(#arrow)"
	switch m.Fate {
	case FateDropped:
		class += " dropped"
		end = ""
		if m.End == m.Sent {
			x1, y1 = x0+(x1-x0)*0.35, y0+9
		} else {
			x1, y1 = x0+(x1-x0)*0.8, y0+(y1-y0)*0.8
		}
	case FateUnderWay:
		class += " underway"
		end = "url(#ring)"
		x1, y1 = x0+(x1-x0)*0.45, y0+14
	}
	fmt.Fprintf(b, `<g id="%s" class="%s"><title>%d → %d: %s</title><line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"`, id, class, m.From, m.To, html.EscapeString(m.Text), x0, y0, x1, y1)
	if end != "" {
		fmt.Fprintf(b, ` marker-end="%s"`, end)
	}
	b.WriteString("/>")
	if m.Fate == FateDropped {
		fmt.Fprintf(b, `<path d="M%.1f %.1fl8 8m-8 0l8 -8"/>`, x1-4, y1-4)
	}
	l.drawLetterLabel(b, m, x0, y0, x1, y1)
	b.WriteString("</g>")
}

// drawLetterLabel puts the label where it meets no other; if there is no such
// place, the text appears when the cursor comes by.
func (l *layout) drawLetterLabel(b *strings.Builder, m *Letter, x0, y0, x1, y1 float64) {
	if m.Minor || m.Label == "" {
		return
	}
	w := 5.3*float64(len([]rune(m.Label))) + 4
	at := [...]float64{0.62, 0.45, 0.78, 0.3}
	if m.Reply {
		at = [...]float64{0.36, 0.55, 0.22, 0.7}
	}
	for _, f := range at {
		x, y := x0+(x1-x0)*f, y0+(y1-y0)*f-3
		if !l.clear(x, w) || !l.free(box{x - w/2, y - 8, x + w/2, y + 3}) {
			continue
		}
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f">%s</text>`, x, y, html.EscapeString(m.Label))
		return
	}
}

// clear says whether a label of that width around x stays off the lines.
func (l *layout) clear(x, w float64) bool {
	for i := 1; i <= l.replicas; i++ {
		if c := l.x(smr.ReplicaID(i)); x-w/2 < c+5 && x+w/2 > c-5 {
			return false
		}
	}
	return true
}

// drawMarks draws crashes, restarts, commits, and what clients do.
func (l *layout) drawMarks(b *strings.Builder) {
	for i := range l.rec.Items {
		it := &l.rec.Items[i]
		if it.Replica == 0 || int(it.Replica) > l.replicas {
			continue
		}
		if _, ok := l.rowOf[it.At]; !ok {
			continue
		}
		x, y := l.x(it.Replica), l.y(it.At)
		switch it.Kind {
		case ItemCrash:
			fmt.Fprintf(b, `<g class="crash"><title>%d crashes</title><path d="M%.1f %.1fl14 14m-14 0l14 -14"/></g>`, it.Replica, x-7, y-7)
		case ItemRestart:
			if it.At > 0 {
				fmt.Fprintf(b, `<g class="restart"><title>%d starts</title><path d="M%.1f %.1fl7 11h-14z"/></g>`, it.Replica, x, y-5)
			}
		case ItemCommit:
			fmt.Fprintf(b, `<path class="commit" d="M%.1f %.1fl4.5 4.5l-4.5 4.5l-4.5 -4.5z"><title>%d: %s</title></path>`, x, y-4.5, it.Replica, html.EscapeString(it.Text))
		case ItemCall, ItemAnswer:
			class := "client"
			if it.Kind == ItemAnswer {
				class = "client told"
			}
			fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%.1f" width="9" height="9"><title>%s</title></rect>`, class, x-4.5, y-4.5, html.EscapeString(it.Text))
		}
	}
	b.WriteString("\n")
}
