package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

func (m measured) String() string {
	s := fmt.Sprintf("%.0f/s, p50 %.2f ms, p99 %.2f ms, %.2f CPU s per 100k, %.0f B/op, %.0f MiB", m.OpsPerS, m.P50Ms, m.P99Ms, m.CPUSPer100k, m.BytesPerOp, m.RSSMiB)
	if m.Failed > 0 {
		s += fmt.Sprintf(", %d refused", m.Failed)
	}
	return s
}

// medians returns the median of each figure on its own.
func medians(all []measured) (m measured) {
	median := func(of func(*measured) float64) float64 {
		var v []float64
		for i := range all {
			v = append(v, of(&all[i]))
		}
		slices.Sort(v)
		if n := len(v); n%2 == 0 {
			return (v[n/2-1] + v[n/2]) / 2
		}
		return v[len(v)/2]
	}
	m.OpsPerS = median(func(m *measured) float64 { return m.OpsPerS })
	m.P50Ms = median(func(m *measured) float64 { return m.P50Ms })
	m.P99Ms = median(func(m *measured) float64 { return m.P99Ms })
	m.CPUSPer100k = median(func(m *measured) float64 { return m.CPUSPer100k })
	m.BytesPerOp = median(func(m *measured) float64 { return m.BytesPerOp })
	m.RSSMiB = median(func(m *measured) float64 { return m.RSSMiB })
	m.Failed = uint64(median(func(m *measured) float64 { return float64(m.Failed) }))
	return m
}

// printTable prints the rows, those of a work together.
func printTable(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, work := range works {
		head := false
		for _, r := range rows {
			if r.work != work {
				continue
			}
			if !head {
				fmt.Fprintf(t, "\n%s\tops/s\tp50 ms\tp99 ms\tCPU s/100k\tB/op\tpeak MiB\tops/s of each window\n", work)
				head = true
			}
			fmt.Fprintf(t, "  %s\t%.0f\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t", r.System, r.OpsPerS, r.P50Ms, r.P99Ms, r.CPUSPer100k, r.BytesPerOp, r.RSSMiB)
			for _, m := range r.Repeats {
				fmt.Fprintf(t, " %.0f", m.OpsPerS)
			}
			fmt.Fprintln(t)
		}
	}
	_ = t.Flush()
}
