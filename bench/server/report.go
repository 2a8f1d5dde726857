package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

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

// failovers is how long a system took until the next write, in milliseconds.
type failovers struct {
	System   string    `json:"system"`
	MedianMs float64   `json:"median_ms"`
	MaxMs    float64   `json:"max_ms"`
	Trials   []float64 `json:"trials_ms"`
}

// table is all figures.
type table struct {
	Rows      []row       `json:"rows"`
	Failovers []failovers `json:"leader_killed_to_next_write"`
}

func (t *table) record(name string, w work, m measured) {
	i := slices.IndexFunc(t.Rows, func(r row) bool { return r.System == name && r.work == w })
	if i < 0 {
		i = len(t.Rows)
		t.Rows = append(t.Rows, row{System: name, work: w})
	}
	t.Rows[i].Repeats = append(t.Rows[i].Repeats, m)
}

func (t *table) recordFailover(name string, gap time.Duration) {
	i := slices.IndexFunc(t.Failovers, func(f failovers) bool { return f.System == name })
	if i < 0 {
		i = len(t.Failovers)
		t.Failovers = append(t.Failovers, failovers{System: name})
	}
	t.Failovers[i].Trials = append(t.Failovers[i].Trials, gap.Seconds()*1e3)
}

// finish works out the medians.
func (t *table) finish() {
	for i := range t.Rows {
		t.Rows[i].measured = medians(t.Rows[i].Repeats)
	}
	for i := range t.Failovers {
		f := &t.Failovers[i]
		f.MedianMs, f.MaxMs = median(f.Trials), slices.Max(f.Trials)
	}
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// medians returns the median of each figure on its own.
func medians(all []measured) (m measured) {
	of := func(get func(*measured) float64) float64 {
		var v []float64
		for i := range all {
			v = append(v, get(&all[i]))
		}
		return median(v)
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

// print prints the rows, those of a work together, the first of them as what the
// others are compared with.
func (t *table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, work := range works {
		var first *row
		for i := range t.Rows {
			r := &t.Rows[i]
			if r.work != work {
				continue
			}
			if first == nil {
				first = r
				fmt.Fprintf(tw, "\n%s\tops/s\t×\tp50 ms\tp99 ms\tserver CPU\tclient CPU\tB/op\tMiB\terrors\tload average\tops/s of each window\n", work)
			}
			fmt.Fprintf(tw, "  %s\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%d\t%s\t", r.System, r.OpsPerS, r.OpsPerS/first.OpsPerS,
				r.P50Ms, r.P99Ms, r.ServerCPU, r.ClientCPU, r.AllocBytes, r.RSSMiB, r.Errors, r.LoadAverage)
			for _, m := range r.Repeats {
				fmt.Fprintf(tw, " %.0f", m.OpsPerS)
			}
			fmt.Fprintln(tw)
		}
	}
	if len(t.Failovers) > 0 {
		fmt.Fprintf(tw, "\nleader killed → next write\tmedian ms\tmax ms\teach\n")
	}
	for _, f := range t.Failovers {
		fmt.Fprintf(tw, "  %s\t%.0f\t%.0f\t%.0f\n", f.System, f.MedianMs, f.MaxMs, f.Trials)
	}
	_ = tw.Flush()
	fmt.Fprintln(w, "\nCPU: seconds for 100,000 operations; the servers' of all members together.")
}
