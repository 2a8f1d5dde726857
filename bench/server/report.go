package main

import (
	"fmt"
	"strings"

	"github.com/quorate/quorate/bench/internal/report"
	"github.com/quorate/quorate/internal/load"
)

// tables are the figures as they are printed: the systems of a work together,
// each beside etcd and beside the echo.
func (t *table) tables() (all []report.Table) {
	for _, w := range works {
		tab := report.Table{
			Title: w.String(),
			Head:  []string{"system", "ops/s", "× etcd", "of the echo", "p50 ms", "p99 ms", "p99.9 ms", "server CPU", "client CPU", "B/op", "MiB", "errors", "load average", "ops/s of each window"},
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
	if len(all) > 0 {
		last := &all[len(all)-1]
		last.Notes = append(last.Notes, "CPU: seconds for 100,000 operations; the servers' of all members together. B/op: allocated by all members.")
	}
	all = appendTrials(all, "Leader killed → next write", t.Failovers)
	all = appendTrials(all, fmt.Sprintf("All members killed with %s writes behind them → all serve", report.Count(float64(t.RestartEntries))), t.Restarts)
	return append(all, report.Verdicts(t.Targets))
}

func appendTrials(all []report.Table, title string, rows []trials) []report.Table {
	if len(rows) == 0 {
		return all
	}
	tab := report.Table{Title: title, Head: []string{"system", "median ms", "max ms", "each"}}
	for _, r := range rows {
		var each []string
		for _, ms := range r.Trials {
			each = append(each, report.Count(ms))
		}
		tab.Add(r.System, report.Count(r.MedianMs), report.Count(r.MaxMs), strings.Join(each, " "))
	}
	return append(all, tab)
}

func (t *table) cells(r *row) []string {
	ratio := func(to, format string, factor float64) string {
		if other := t.of(to, r.work); other != nil {
			return fmt.Sprintf(format, factor*r.OpsPerS/other.OpsPerS)
		}
		return ""
	}
	var windows []string
	for _, m := range r.Repeats {
		windows = append(windows, report.Count(m.OpsPerS))
	}
	return []string{
		r.System, report.Count(r.OpsPerS), ratio("etcd", "%.2f", 1), ratio("echo", "%.0f %%", 100),
		report.Digits(r.P50Ms), report.Digits(r.P99Ms), report.Digits(r.P999Ms), fmt.Sprintf("%.2f", r.ServerCPU), fmt.Sprintf("%.2f", r.ClientCPU),
		report.Count(r.AllocBytes), report.Count(r.RSSMiB), fmt.Sprint(r.Errors), r.LoadAverage, strings.Join(windows, " "),
	}
}

// targets compares quorate with what is wanted of it.
func (t *table) targets() (all []report.Verdict) {
	var none row
	of := func(name string, w work) *row {
		if r := t.of(name, w); r != nil {
			return r
		}
		return &none
	}
	rate := func(w work, factor float64, to string) {
		all = append(all, report.AtLeast(w.String(), of("quorate", w).OpsPerS, factor, of(to, w).OpsPerS, to))
	}
	put, alone := work{load.Put, 16, 256}, work{load.Put, 16, 1}
	crowd := work{load.Put, 128, 1000}
	rate(put, 2, "etcd")
	rate(put, 3, "etcd")
	q := of("quorate", put)
	known := q != &none
	all = append(all,
		report.AtMost(put.String()+": server CPU for 100,000", q.ServerCPU, 4.5, "s", known),
		report.AtMost(put.String()+": allocated by all members for one", q.AllocBytes/1024, 4, "KiB", known))
	rate(work{load.Put, 128, 256}, 2.5, "etcd")
	rate(crowd, 2.5, "etcd")
	all = append(all,
		report.AtMostOf(crowd.String()+": p99", of("quorate", crowd).P99Ms, 0.33, of("etcd", crowd).P99Ms, "etcd"),
		report.AtMostOf(alone.String()+": p50", of("quorate", alone).P50Ms, 0.5, of("etcd", alone).P50Ms, "etcd"))
	rate(work{load.Range, 16, 256}, 0.85, "echo")
	rate(work{load.Range, 16, 1}, 2, "etcd")
	rate(work{load.Mixed, 16, 256}, 2, "etcd")
	median := func(what string, rows []trials, limit float64) {
		ms, known := 0.0, false
		for _, r := range rows {
			if r.System == "quorate" {
				ms, known = r.MedianMs, true
			}
		}
		all = append(all, report.AtMost(what, ms, limit, "ms", known))
	}
	median("leader killed → next write", t.Failovers, 300)
	median("all members killed → all serve", t.Restarts, 1000)
	return all
}
