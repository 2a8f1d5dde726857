// Package plot draws line charts as SVG, without a dependency and without a
// script: axes that are linear or logarithmic, and lines that can be told apart
// without colours, by their marks, their dashes and the names at their ends. The
// chart brings its own background, light or dark as the reader prefers, so that it
// can be read on any page.
package plot

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"math"
	"slices"
)

// ErrChart is wrapped by every error about a chart that cannot be drawn.
var ErrChart = errors.New("the chart cannot be drawn")

// Point is one measurement.
type Point struct{ X, Y float64 }

// Line is the points of one name, in ascending order of X.
type Line struct {
	Name   string
	Points []Point
}

// Chart is what is to be drawn. The X axis has a tick at each X of a point; Y
// begins at zero unless it is logarithmic.
type Chart struct {
	Title string
	// X and Y say what is on the axes, with the unit.
	X, Y       string
	LogX, LogY bool
	Lines      []Line
	// XLabel writes a value of the X axis. Nil: as a number.
	XLabel func(float64) string
}

// The picture, in pixels: the plot lies between left and right, top and bottom;
// the names of the lines are at its right.
const (
	width, height            = 760, 430
	left, right, top, bottom = 84.0, 590.0, 52.0, 366.0
)

// labelWidth is the room of a label of the X axis.
const labelWidth = 34

// style follows the reader's preference. The colours are Okabe and Ito's, which
// differ for every kind of colour vision, lightened where the ground is dark.
const style = `<style>
.ground{fill:#fff}text{fill:#1f2328;font:12px system-ui,sans-serif}.title{font-size:15px;font-weight:600}
.grid{stroke:#d8dee4}.axis{stroke:#57606a}path,.mark{fill:none;stroke-width:2}.mark{fill:#fff}
.c0{stroke:#0072b2}.c1{stroke:#d55e00}.c2{stroke:#009e73}.c3{stroke:#a8467c}.c4{stroke:#806000}.c5{stroke:#57606a}
@media (prefers-color-scheme:dark){.ground,.mark{fill:#0d1117}text{fill:#e6edf3}.grid{stroke:#30363d}.axis{stroke:#8d96a0}
.c0{stroke:#56b4e9}.c1{stroke:#ff8c42}.c2{stroke:#2fd0a0}.c3{stroke:#e59ac8}.c4{stroke:#f0e442}.c5{stroke:#b0b8c0}}
</style>
`

// dashes and marks tell the lines apart without colours.
var dashes = []string{"", "7 3", "2 3", "9 3 2 3", "12 4", "4 4"}

const linesMax = 6

// SVG draws the chart. ErrChart: it has no points, more than six lines, a line
// whose X does not ascend, or a value that its axis cannot show.
func (c *Chart) SVG() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	x, y := c.axes()
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`+"\n",
		width, height, width, height, html.EscapeString(c.Title))
	fmt.Fprintf(&b, "<title>%s</title>\n%s", html.EscapeString(c.Title), style)
	fmt.Fprintf(&b, `<rect class="ground" width="%d" height="%d"/>`+"\n", width, height)
	text(&b, left, 28, "start", "title", c.Title)
	c.drawAxes(&b, x, y)
	names := c.nameHeights(y)
	for i := range c.Lines {
		c.drawLine(&b, i, x, y, names[i])
	}
	b.WriteString("</svg>\n")
	return b.Bytes(), nil
}

func (c *Chart) check() error {
	if len(c.Lines) == 0 || len(c.Lines) > linesMax {
		return fmt.Errorf("%w: it has %d lines, of one to %d", ErrChart, len(c.Lines), linesMax)
	}
	for _, l := range c.Lines {
		if len(l.Points) == 0 {
			return fmt.Errorf("%w: %q has no points", ErrChart, l.Name)
		}
		for i, p := range l.Points {
			switch {
			case i > 0 && p.X <= l.Points[i-1].X:
				return fmt.Errorf("%w: X of %q goes from %v to %v; sort the points", ErrChart, l.Name, l.Points[i-1].X, p.X)
			case !shown(p.X, c.LogX) || !shown(p.Y, c.LogY):
				return fmt.Errorf("%w: %q has the point (%v, %v), which the axes cannot show", ErrChart, l.Name, p.X, p.Y)
			}
		}
	}
	return nil
}

func shown(v float64, log bool) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) && (!log || v > 0) }

func text(b *bytes.Buffer, x, y float64, anchor, class, s string) {
	if class != "" {
		class = ` class="` + class + `"`
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s"%s>%s</text>`+"\n", x, y, anchor, class, html.EscapeString(s))
}

func (c *Chart) drawAxes(b *bytes.Buffer, x, y axis) {
	for _, v := range y.ticks {
		fmt.Fprintf(b, `<line class="grid" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", left, y.at(v), right, y.at(v))
		text(b, left-8, y.at(v)+4, "end", "", number(v))
	}
	label := c.XLabel
	if label == nil {
		label = number
	}
	free := 0.0 // of labels, from here on
	for _, v := range x.ticks {
		fmt.Fprintf(b, `<line class="axis" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", x.at(v), bottom, x.at(v), bottom+5)
		if x.at(v) >= free {
			text(b, x.at(v), bottom+19, "middle", "", label(v))
			free = x.at(v) + labelWidth
		}
	}
	fmt.Fprintf(b, `<polyline class="axis" fill="none" points="%.1f,%.1f %.1f,%.1f %.1f,%.1f"/>`+"\n", left, top, left, bottom, right, bottom)
	text(b, (left+right)/2, bottom+44, "middle", "", c.X)
	fmt.Fprintf(b, `<text transform="translate(18 %.1f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (top+bottom)/2, html.EscapeString(c.Y))
}

func (c *Chart) drawLine(b *bytes.Buffer, i int, x, y axis, nameAt float64) {
	l := &c.Lines[i]
	fmt.Fprintf(b, `<path class="c%d"`, i)
	if dashes[i] != "" {
		fmt.Fprintf(b, ` stroke-dasharray="%s"`, dashes[i])
	}
	b.WriteString(` d="`)
	for k, p := range l.Points {
		verb := "L"
		if k == 0 {
			verb = "M"
		}
		fmt.Fprintf(b, "%s%.1f %.1f", verb, x.at(p.X), y.at(p.Y))
	}
	b.WriteString(`"/>` + "\n")
	for _, p := range l.Points {
		mark(b, i, x.at(p.X), y.at(p.Y))
	}
	end := l.Points[len(l.Points)-1]
	fmt.Fprintf(b, `<line class="grid" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", x.at(end.X)+6, y.at(end.Y), right+8, nameAt)
	mark(b, i, right+16, nameAt)
	text(b, right+26, nameAt+4, "start", "", l.Name)
}

// mark draws the mark of line i.
func mark(b *bytes.Buffer, i int, x, y float64) {
	shape := func(points ...float64) {
		fmt.Fprintf(b, `<polygon class="mark c%d" points="`, i)
		for k := 0; k < len(points); k += 2 {
			if k > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprintf(b, "%.1f,%.1f", x+points[k], y+points[k+1])
		}
		b.WriteString(`"/>` + "\n")
	}
	switch i {
	case 0:
		fmt.Fprintf(b, `<circle class="mark c0" cx="%.1f" cy="%.1f" r="4"/>`+"\n", x, y)
	case 1:
		shape(-4, -4, 4, -4, 4, 4, -4, 4)
	case 2:
		shape(0, -5, 5, 4, -5, 4)
	case 3:
		shape(0, -5.5, 5.5, 0, 0, 5.5, -5.5, 0)
	case 4:
		shape(-5, -4, 5, -4, 0, 5)
	default:
		fmt.Fprintf(b, `<path class="c%d" d="M%.1f %.1fL%.1f %.1fM%.1f %.1fL%.1f %.1f"/>`+"\n", i, x-4, y-4, x+4, y+4, x-4, y+4, x+4, y-4)
	}
}

// nameHeights puts the names beside the lines' ends, apart from each other.
func (c *Chart) nameHeights(y axis) []float64 {
	const apart = 17
	order := make([]int, len(c.Lines))
	at := make([]float64, len(c.Lines))
	for i, l := range c.Lines {
		order[i], at[i] = i, y.at(l.Points[len(l.Points)-1].Y)
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case at[a] < at[b]:
			return -1
		case at[a] > at[b]:
			return 1
		}
		return 0
	})
	for k := 1; k < len(order); k++ {
		at[order[k]] = max(at[order[k]], at[order[k-1]]+apart)
	}
	// Whoever was pushed below the plot pushes the others up again.
	floor := bottom
	for k := len(order) - 1; k >= 0; k-- {
		at[order[k]] = min(at[order[k]], floor)
		floor = at[order[k]] - apart
	}
	return at
}
