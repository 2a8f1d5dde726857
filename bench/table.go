package main

import (
	"fmt"
	"strings"

	"github.com/quorate/quorate/bench/internal/report"
)

// What -quick measures: three windows of every system of -peers all take less than
// five minutes.
const quickNames = "hashicorp,etcdraft,dragonboat,quorate"

var quickWorks = []work{write(128, 1, 1), write(128, 256, 1), write(128, 4096, 1)}

// libraryTable is the libraries side by side.
type libraryTable struct {
	Rows    rows
	Targets []report.Verdict
}

// runTable measures all systems at all works, in turns.
func runTable(o *options) (result, error) {
	names, all := "all", works
	if o.quick {
		names, all = quickNames, quickWorks
	}
	chosen, err := selectSystems(o.peersOr(names))
	if err != nil {
		return nil, err
	}
	t := &libraryTable{}
	if t.Rows, err = runWindows(o, chosen, all); err != nil {
		return nil, err
	}
	t.Targets = libraryTargets(t.Rows)
	return t, nil
}

func (t *libraryTable) tables() (all []report.Table) {
	for _, w := range works {
		tab := report.Table{
			Title: w.String(),
			Head:  []string{"system", "ops/s", "× best peer", "of the limit", "p50 ms", "p99 ms", "p99.9 ms", "CPU s/100k", "B/op", "peak MiB", "ops/s of each window"},
		}
		for i := range t.Rows {
			if t.Rows[i].work == w {
				tab.Add(t.cells(&t.Rows[i])...)
			}
		}
		if len(tab.Rows) > 0 {
			all = append(all, tab)
		}
	}
	return append(all, report.Verdicts(t.Targets))
}

func (t *libraryTable) cells(r *row) []string {
	ofPeer, ofLimit := "", ""
	if best := t.Rows.bestPeer(r.work); best != nil {
		ofPeer = fmt.Sprintf("%.2f", r.OpsPerS/best.OpsPerS)
	}
	if limit := t.Rows.of(limitName, r.work); limit != nil {
		ofLimit = fmt.Sprintf("%.0f %%", 100*r.OpsPerS/limit.OpsPerS)
	}
	var windows []string
	for _, m := range r.Repeats {
		windows = append(windows, report.Count(m.OpsPerS))
	}
	return []string{
		r.System, report.Count(r.OpsPerS), ofPeer, ofLimit, report.Digits(r.P50Ms), report.Digits(r.P99Ms), report.Digits(r.P999Ms),
		fmt.Sprintf("%.2f", r.CPUSPer100k), report.Count(r.BytesPerOp), report.Count(r.RSSMiB), strings.Join(windows, " "),
	}
}

// libraryTargets compares quorate with what is wanted of it.
func libraryTargets(rs rows) (all []report.Verdict) {
	var zero row
	at := func(w work) *row {
		if r := rs.of("quorate", w); r != nil {
			return r
		}
		return &zero
	}
	peer := func(w work, factor float64) {
		best, of := rs.bestPeer(w), "the best peer"
		if best == nil {
			best = &zero
		} else {
			of += " (" + best.System + ")"
		}
		v := report.AtLeast(w.String(), at(w).OpsPerS, factor, best.OpsPerS, of)
		v.Want = fmt.Sprintf("≥ %v × the best peer", factor)
		all = append(all, v)
	}
	limit := func(w work, part float64) {
		l := rs.of(limitName, w)
		if l == nil {
			l = &zero
		}
		v := report.AtLeast(w.String(), at(w).OpsPerS, part, l.OpsPerS, limitName)
		all = append(all, v)
	}
	one, some, many := write(128, 1, 1), write(128, 256, 1), write(128, 4096, 1)
	peer(one, 1.3)
	peer(some, 2)
	limit(some, 0.6)
	peer(many, 2)
	limit(many, 0.4)
	peer(write(1024, 4096, 1), 2)
	groups := write(128, 4096, 48)
	all = append(all, report.AtLeast(groups.String(), at(groups).OpsPerS, 0.8, at(many).OpsPerS, "the rate with one group"))
	m := at(many)
	known := m != &zero
	all = append(all,
		report.AtMost(many.String()+": CPU for 100,000", m.CPUSPer100k, 0.25, "s", known),
		report.AtMost(many.String()+": allocated for one", m.BytesPerOp, 64, "B", known),
		report.AtMost(many.String()+": peak memory", m.RSSMiB, 150, "MiB", known))
	peer(read(256), 1.5)
	return all
}
