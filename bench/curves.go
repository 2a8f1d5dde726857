package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate/bench/internal/plot"
	"github.com/quorate/quorate/bench/internal/report"
)

// curve is works that differ in one number.
type curve struct {
	name, title, axis string
	log               bool
	x                 func(work) float64
	label             func(float64) string
	works             []work
	peers             string // systems, where nothing else is asked for
}

// curves are what is drawn.
var curves = []curve{
	{
		name: "inflight", title: "Commands in flight (128 B, 3 replicas, 1 group)", axis: "commands in flight", log: true,
		x:     func(w work) float64 { return float64(w.InFlight) },
		label: report.Count, works: each([]int{1, 4, 16, 64, 256, 1024, 4096, 16384}, func(n int) work { return write(128, n, 1) }),
		peers: "hashicorp,etcdraft,dragonboat,quorate," + limitName,
	},
	{
		name: "payload", title: "Size of a command (256 in flight, 3 replicas, 1 group)", axis: "bytes of a command", log: true,
		x:     func(w work) float64 { return float64(w.Payload) },
		label: bytesLabel, works: each([]int{16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10}, func(n int) work { return write(n, 256, 1) }),
		peers: "hashicorp,etcdraft,dragonboat,quorate," + limitName,
	},
	{
		name: "replicas", title: "Replicas (128 B, 4,096 in flight, 1 group, all on one machine)", axis: "replicas",
		x: func(w work) float64 { return float64(w.Replicas) }, works: each([]int{1, 3, 5, 7}, func(n int) work {
			w := write(128, 4096, 1)
			w.Replicas = n
			return w
		}),
		peers: "hashicorp,etcdraft,dragonboat,quorate",
	},
	{
		name: "groups", title: "Groups (128 B, 4,096 in flight over all groups, 3 replicas)", axis: "groups", log: true,
		x:     func(w work) float64 { return float64(w.Groups) },
		label: report.Count, works: each([]int{1, 48, 1000, 10000}, func(n int) work { return write(128, 4096, n) }),
		peers: "quorate",
	},
}

func each(numbers []int, of func(int) work) (all []work) {
	for _, n := range numbers {
		all = append(all, of(n))
	}
	return all
}

func bytesLabel(v float64) string {
	if v >= 1024 {
		return fmt.Sprintf("%v KiB", v/1024)
	}
	return fmt.Sprintf("%v B", v)
}

// growth is the curves' rows.
type growth struct {
	Curves []measuredCurve `json:"curves"`
}

type measuredCurve struct {
	Name string `json:"name"`
	Rows rows   `json:"rows"`
	curve
}

// runCurves measures the curves whose name contains what -only says, and draws
// them.
func runCurves(o *options) (result, error) {
	g := &growth{}
	only := o.only
	o.only = ""
	for _, c := range curves {
		if !strings.Contains(c.name, only) {
			continue
		}
		names, err := selectSystems(o.peersOr(c.peers))
		if err != nil {
			return nil, err
		}
		works := c.works
		if o.quick {
			works = works[:min(2, len(works))]
		}
		rs, err := runWindows(o, names, works)
		if err != nil {
			return nil, fmt.Errorf("curve %s: %w", c.name, err)
		}
		m := measuredCurve{c.name, rs, c}
		if err := m.draw(o.svg); err != nil {
			return nil, err
		}
		g.Curves = append(g.Curves, m)
	}
	if len(g.Curves) == 0 {
		return nil, fmt.Errorf("no curve's name contains %q", only)
	}
	return g, nil
}

// draw writes the pictures of a curve: the rate, and the latency where it is what
// grows.
func (m *measuredCurve) draw(dir string) error {
	if err := m.drawAs(dir, m.name, "commands per second", func(r *row) float64 { return r.OpsPerS }); err != nil {
		return err
	}
	if m.name != "inflight" {
		return nil
	}
	return m.drawAs(dir, m.name+"-p99", "p99 in milliseconds", func(r *row) float64 { return r.P99Ms })
}

func (m *measuredCurve) drawAs(dir, name, y string, of func(*row) float64) error {
	c := plot.Chart{Title: m.title, X: m.axis, Y: y, LogX: m.log, LogY: true, XLabel: m.label}
	for _, system := range m.systems() {
		line := plot.Line{Name: system}
		for _, w := range m.works {
			if r := m.Rows.of(system, w); r != nil {
				line.Points = append(line.Points, plot.Point{X: m.x(w), Y: of(r)})
			}
		}
		c.Lines = append(c.Lines, line)
	}
	b, err := c.SVG()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "curve-"+name+".svg"), b, 0o644)
}

// systems are those that were measured: quorate first, so that its line looks the
// same in all pictures, and the others in order.
func (m *measuredCurve) systems() (names []string) {
	order := append([]string{"quorate"}, slices.DeleteFunc(systemNames(), func(s string) bool { return s == "quorate" })...)
	for _, name := range order {
		for _, r := range m.Rows {
			if r.System == name {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

func (g *growth) tables() (all []report.Table) {
	for _, m := range g.Curves {
		t := report.Table{Title: m.title + ": ops/s", Head: []string{m.axis}}
		for _, w := range m.works {
			label := fmt.Sprint(m.x(w))
			if m.label != nil {
				label = m.label(m.x(w))
			}
			t.Head = append(t.Head, label)
		}
		for _, name := range m.systems() {
			cells := []string{name}
			for _, w := range m.works {
				cell := ""
				if r := m.Rows.of(name, w); r != nil {
					cell = report.Count(r.OpsPerS)
				}
				cells = append(cells, cell)
			}
			t.Add(cells...)
		}
		all = append(all, t)
	}
	return all
}
