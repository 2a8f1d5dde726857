package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/bench/internal/report"
	"github.com/quorate/quorate/internal/load"
)

// work is what the clients do in a window.
type work struct {
	Work       load.Work `json:"work"`
	ValueBytes int       `json:"value_bytes"`
	Clients    int       `json:"clients"`
}

func (w work) String() string {
	s := ""
	if w.Clients != 1 {
		s = "s"
	}
	name := string(w.Work)
	if w.Work == load.Mixed {
		name = "9 reads to 1 write"
	}
	return fmt.Sprintf("%s %d B, %d client%s", name, w.ValueBytes, w.Clients, s)
}

var works = []work{
	{load.Put, 16, 256},
	{load.Put, 128, 256},
	{load.Put, 128, 1000},
	{load.Put, 16, 1},
	{load.Range, 16, 256},
	{load.Range, 16, 1},
	{load.Mixed, 16, 256},
}

// measured is one window's figures.
type measured struct {
	OpsPerS float64 `json:"ops_per_s"`
	P50Ms   float64 `json:"p50_ms"`
	P99Ms   float64 `json:"p99_ms"`
	P999Ms  float64 `json:"p999_ms"`
	// ServerCPU and ClientCPU are seconds for 100,000 operations, the servers'
	// of all members together.
	ServerCPU float64 `json:"server_cpu_s_per_100k"`
	ClientCPU float64 `json:"client_cpu_s_per_100k"`
	// AllocBytes are allocated by all members for one operation.
	AllocBytes  float64 `json:"alloc_bytes_per_op"`
	RSSMiB      float64 `json:"rss_mib"`
	Errors      uint64  `json:"errors"`
	LoadAverage string  `json:"load_average"`
}

func (m measured) String() string {
	s := fmt.Sprintf("%.0f/s, p50 %.2f ms, p99 %.2f ms, CPU %.2f + %.2f s per 100k, %.0f B/op, %.0f MiB, load %s",
		m.OpsPerS, m.P50Ms, m.P99Ms, m.ServerCPU, m.ClientCPU, m.AllocBytes, m.RSSMiB, m.LoadAverage)
	if m.Errors > 0 {
		s += fmt.Sprintf(", %d errors", m.Errors)
	}
	return s
}

// row is a system at a work: medians, and the windows that they are of.
type row struct {
	System string `json:"system"`
	work
	measured
	Repeats []measured `json:"repeats"`
}

// trials is how long a system took for something, in milliseconds.
type trials struct {
	System   string    `json:"system"`
	MedianMs float64   `json:"median_ms"`
	MaxMs    float64   `json:"max_ms"`
	Trials   []float64 `json:"trials_ms"`
}

// table is all figures.
type table struct {
	Rows      []row    `json:"rows"`
	Failovers []trials `json:"leader_killed_to_next_write"`
	// Restarts are from the start of all members to the last of them that
	// serves, with RestartEntries writes behind them.
	Restarts       []trials         `json:"restarts"`
	RestartEntries int              `json:"restart_entries"`
	Targets        []report.Verdict `json:"targets"`
}

func (t *table) record(name string, w work, m measured) {
	i := slices.IndexFunc(t.Rows, func(r row) bool { return r.System == name && r.work == w })
	if i < 0 {
		i = len(t.Rows)
		t.Rows = append(t.Rows, row{System: name, work: w})
	}
	t.Rows[i].Repeats = append(t.Rows[i].Repeats, m)
}

// of returns the row of a system at a work, nil if it was not measured.
func (t *table) of(name string, w work) *row {
	i := slices.IndexFunc(t.Rows, func(r row) bool { return r.System == name && r.work == w })
	if i < 0 {
		return nil
	}
	return &t.Rows[i]
}

func recordTrial(all []trials, name string, took time.Duration) []trials {
	i := slices.IndexFunc(all, func(f trials) bool { return f.System == name })
	if i < 0 {
		i = len(all)
		all = append(all, trials{System: name})
	}
	all[i].Trials = append(all[i].Trials, took.Seconds()*1e3)
	return all
}

// finish works out the medians and the verdicts.
func (t *table) finish() {
	for i := range t.Rows {
		t.Rows[i].measured = medians(t.Rows[i].Repeats)
	}
	for _, all := range [][]trials{t.Failovers, t.Restarts} {
		for i := range all {
			f := &all[i]
			f.MedianMs, f.MaxMs = report.Median(f.Trials), slices.Max(f.Trials)
		}
	}
	t.Targets = t.targets()
}

// medians returns the median of each figure on its own.
func medians(all []measured) (m measured) {
	of := func(get func(*measured) float64) float64 {
		var v []float64
		for i := range all {
			v = append(v, get(&all[i]))
		}
		return report.Median(v)
	}
	var loads []string
	for i := range all {
		loads = append(loads, all[i].LoadAverage)
	}
	return measured{
		OpsPerS: of(func(m *measured) float64 { return m.OpsPerS }),
		P50Ms:   of(func(m *measured) float64 { return m.P50Ms }),
		P99Ms:   of(func(m *measured) float64 { return m.P99Ms }), P999Ms: of(func(m *measured) float64 { return m.P999Ms }),
		ServerCPU:  of(func(m *measured) float64 { return m.ServerCPU }),
		ClientCPU:  of(func(m *measured) float64 { return m.ClientCPU }),
		AllocBytes: of(func(m *measured) float64 { return m.AllocBytes }), RSSMiB: of(func(m *measured) float64 { return m.RSSMiB }),
		Errors: uint64(of(func(m *measured) float64 { return float64(m.Errors) })), LoadAverage: strings.Join(loads, " "),
	}
}
