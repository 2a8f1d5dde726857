package lab

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/quorate/quorate/raft"
)

// TextOptions says how WriteText shows a run.
type TextOptions struct {
	// Color uses the escape sequences of a terminal.
	Color bool
	// Letters shows messages too, but for heartbeats.
	Letters bool
}

const (
	styleBold   = "1"
	styleDim    = "2"
	styleRed    = "1;31"
	styleGreen  = "1;32"
	styleYellow = "33"
	styleCyan   = "36"
	styleBlue   = "1;34"
)

// painter writes lines, in colour if it may.
type painter struct {
	w     io.Writer
	color bool
	err   error
}

func (p *painter) paint(style, text string) string {
	if !p.color || style == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (p *painter) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// WriteText shows a run as a timeline, and its verdict at the end. A violation
// is a line that begins with "violation:".
func WriteText(w io.Writer, res *Result, o TextOptions) error {
	p := &painter{w: w, color: o.Color}
	s := res.Scenario
	p.line("%s  %s", p.paint(styleBold, s.Name), p.paint(styleDim, "— "+res.Arm.Title()))
	p.line("%s", s.Question)
	p.line("%s", p.paint(styleDim, s.Paper))
	p.line("")
	for i := range res.Recording.Items {
		p.item(res, &res.Recording.Items[i], o.Letters)
	}
	if res.Recording.Truncated {
		p.line("%s", p.paint(styleDim, "… the run went on; no more of it is shown"))
	}
	p.line("")
	if v := res.Violation; v != nil {
		p.line("%s", p.paint(styleRed, "violation: "+ViolationText(v)))
	}
	for _, t := range res.Seen {
		p.line("%s %s", p.paint(styleGreen, "✓"), t)
	}
	for _, t := range res.Missing {
		p.line("%s %s", p.paint(styleRed, "✗"), t)
	}
	if res.Observed {
		p.line("%s", p.paint(styleGreen, "verdict: as expected "+res.Arm.Title()))
	} else {
		p.line("%s", p.paint(styleRed, "verdict: not what is expected "+res.Arm.Title()))
	}
	return p.err
}

// item shows one thing, if it is one to show.
func (p *painter) item(res *Result, it *Item, letters bool) {
	at := p.paint(styleDim, fmt.Sprintf("%10s", timeText(time.Duration(it.At))))
	who := " "
	if it.Replica != 0 {
		who = fmt.Sprint(uint64(it.Replica))
	}
	style := ""
	switch it.Kind {
	case ItemCaption:
		p.line("")
		p.line("%s  %s", at, p.paint(styleBold, it.Text))
		return
	case ItemStep:
		p.line("%s  %s %s", at, p.paint(styleCyan, ">"), p.paint(styleCyan, it.Text))
		return
	case ItemSend, ItemDeliver, ItemDrop:
		if l := &res.Recording.Letters[it.Letter]; letters && !l.Minor && it.Kind != ItemDeliver {
			verb := ""
			if it.Kind == ItemDrop {
				verb = "lost: "
			}
			p.line("%s  %s", at, p.paint(styleDim, fmt.Sprintf("%d → %d  %s%s", l.From, l.To, verb, l.Text)))
		}
		return
	case ItemState, ItemViolation:
		return
	case ItemRole:
		if it.Role == raft.Leader {
			style = styleBlue
		}
	case ItemCrash, ItemLog:
		style = styleYellow
	case ItemAnswer:
		style = styleBold
	}
	p.line("%s  %s %s", at, who, p.paint(style, it.Text))
}

// timeText is a time in milliseconds.
func timeText(d time.Duration) string {
	s := fmt.Sprintf("%.3f", float64(d)/1e6)
	s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	return s + "ms"
}
