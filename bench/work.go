package main

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/bench/internal/report"
)

// work is what a window does.
type work struct {
	Work     string `json:"work"` // "write" or "read"
	Payload  int    `json:"payload"`
	InFlight int    `json:"inflight"`
	Groups   int    `json:"groups"`
	Replicas int    `json:"replicas"`
	// Without is what is switched off: the name of one of the arms.
	Without string `json:"without,omitempty"`
}

func write(payload, inFlight, groups int) work {
	return work{Work: "write", Payload: payload, InFlight: inFlight, Groups: groups, Replicas: replicas}
}

func read(inFlight int) work {
	return work{Work: "read", Payload: 128, InFlight: inFlight, Groups: 1, Replicas: replicas}
}

func (w work) String() string {
	s := fmt.Sprintf("%s %d B, %d in flight", w.Work, w.Payload, w.InFlight)
	if w.Groups > 1 {
		s += fmt.Sprintf(", %d groups", w.Groups)
	}
	if w.Replicas != replicas {
		s += fmt.Sprintf(", %d replicas", w.Replicas)
	}
	if w.Without != "" {
		s += ", without " + w.Without
	}
	return s
}

// works are those of the table.
var works = []work{
	write(128, 1, 1),
	write(128, 256, 1),
	write(128, 4096, 1),
	write(1024, 4096, 1),
	write(128, 4096, 48),
	read(256),
}

// measured is one window's figures.
type measured struct {
	OpsPerS     float64 `json:"ops_per_s"`
	P50Ms       float64 `json:"p50_ms"`
	P99Ms       float64 `json:"p99_ms"`
	P999Ms      float64 `json:"p999_ms"`
	CPUSPer100k float64 `json:"cpu_s_per_100k"`
	BytesPerOp  float64 `json:"bytes_per_op"`
	RSSMiB      float64 `json:"rss_mib"`
	Failed      uint64  `json:"failed"` // operations that were refused and tried again
}

func (m measured) String() string {
	s := fmt.Sprintf("%.0f/s, p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, %.2f CPU s per 100k, %.0f B/op, %.0f MiB",
		m.OpsPerS, m.P50Ms, m.P99Ms, m.P999Ms, m.CPUSPer100k, m.BytesPerOp, m.RSSMiB)
	if m.Failed > 0 {
		s += fmt.Sprintf(", %d refused", m.Failed)
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

// rows are in the order in which they were first measured.
type rows []row

func (rs *rows) record(name string, w work, m measured) {
	i := slices.IndexFunc(*rs, func(r row) bool { return r.System == name && r.work == w })
	if i < 0 {
		i = len(*rs)
		*rs = append(*rs, row{System: name, work: w})
	}
	(*rs)[i].Repeats = append((*rs)[i].Repeats, m)
}

// finish works out the medians.
func (rs rows) finish() {
	for i := range rs {
		rs[i].measured = medians(rs[i].Repeats)
	}
}

// of returns the row of a system at a work, nil if it was not measured.
func (rs rows) of(name string, w work) *row {
	i := slices.IndexFunc(rs, func(r row) bool { return r.System == name && r.work == w })
	if i < 0 {
		return nil
	}
	return &rs[i]
}

// bestPeer returns the fastest of the peers at a work, nil if there is none.
func (rs rows) bestPeer(w work) (best *row) {
	for i := range rs {
		r := &rs[i]
		if r.work == w && systems[r.System].peer && (best == nil || r.OpsPerS > best.OpsPerS) {
			best = r
		}
	}
	return best
}

// medians returns the median of each figure on its own.
func medians(all []measured) (m measured) {
	median := func(of func(*measured) float64) float64 {
		var v []float64
		for i := range all {
			v = append(v, of(&all[i]))
		}
		return report.Median(v)
	}
	return measured{
		OpsPerS:     median(func(m *measured) float64 { return m.OpsPerS }),
		P50Ms:       median(func(m *measured) float64 { return m.P50Ms }),
		P99Ms:       median(func(m *measured) float64 { return m.P99Ms }),
		P999Ms:      median(func(m *measured) float64 { return m.P999Ms }),
		CPUSPer100k: median(func(m *measured) float64 { return m.CPUSPer100k }),
		BytesPerOp:  median(func(m *measured) float64 { return m.BytesPerOp }),
		RSSMiB:      median(func(m *measured) float64 { return m.RSSMiB }),
		Failed:      uint64(median(func(m *measured) float64 { return float64(m.Failed) })),
	}
}
