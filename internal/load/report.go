package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// Report is what a run has measured; its JSON form is documented in
// docs/operations.md. Times are in the unit that a field's name ends with.
type Report struct {
	Work       Work     `json:"work"`
	Endpoints  []string `json:"endpoints"`
	Clients    int      `json:"clients"`
	Conns      int      `json:"conns"`
	KeyBytes   int      `json:"key_bytes"`
	ValueBytes int      `json:"value_bytes"`
	Keys       int      `json:"keys"`
	// Seconds is how long the window was.
	Seconds      float64 `json:"seconds"`
	Ops          uint64  `json:"ops"`
	OpsPerSecond float64 `json:"ops_per_second"`
	Latency      Latency `json:"latency"`
	// Put and Range are the latencies of each kind, of Mixed alone.
	Put   *Latency `json:"put,omitempty"`
	Range *Latency `json:"range,omitempty"`
	// UnansweredMs is how long the oldest request in flight at the end of the
	// window had waited: far above the longest latency, the server has stalled.
	UnansweredMs float64 `json:"unanswered_ms"`
	// Errors counts the requests that failed, by the name of gRPC's code.
	Errors map[string]uint64 `json:"errors"`
	// Unreachable are the endpoints to which a connection was not there at the end,
	// and why.
	Unreachable map[string]string `json:"unreachable,omitempty"`
	// ClientCPUSeconds is the processor time of this process within the window.
	ClientCPUSeconds        float64 `json:"client_cpu_seconds"`
	ClientCPUSecondsPer100k float64 `json:"client_cpu_seconds_per_100k"`
}

// Latency is the distribution of how long the answered requests took.
type Latency struct {
	Count  uint64  `json:"count"`
	MeanMs float64 `json:"mean_ms"`
	P50Ms  float64 `json:"p50_ms"`
	P90Ms  float64 `json:"p90_ms"`
	P99Ms  float64 `json:"p99_ms"`
	P999Ms float64 `json:"p999_ms"`
	MaxMs  float64 `json:"max_ms"`
	// Histogram has the durations in buckets a power of two wide.
	Histogram []Bar `json:"histogram"`
}

// Bar counts the requests that took at most Ms and longer than the bar before.
type Bar struct {
	Ms    float64 `json:"le_ms"`
	Count uint64  `json:"count"`
}

func report(o *Options, t *tally, elapsed, cpu time.Duration) *Report {
	var put, ranged, all histogram
	r := &Report{
		Work: o.Work, Endpoints: o.Endpoints, Clients: o.Clients, Conns: min(o.Conns, o.Clients),
		KeyBytes: o.KeyBytes, ValueBytes: o.ValueBytes, Keys: o.Keys,
		Seconds: elapsed.Seconds(), Errors: map[string]uint64{}, ClientCPUSeconds: cpu.Seconds(),
	}
	for i := range t.stripes {
		s := &t.stripes[i]
		s.put.addTo(&put)
		s.ranged.addTo(&ranged)
		for code := range s.errors {
			if n := s.errors[code].Load(); n > 0 {
				r.Errors[codes.Code(code).String()] += n
			}
		}
	}
	put.addTo(&all)
	ranged.addTo(&all)
	r.Latency = latency(&all)
	if o.Work == Mixed {
		p, g := latency(&put), latency(&ranged)
		r.Put, r.Range = &p, &g
	}
	r.Ops = r.Latency.Count
	r.OpsPerSecond = float64(r.Ops) / r.Seconds
	if r.Ops > 0 {
		r.ClientCPUSecondsPer100k = r.ClientCPUSeconds / float64(r.Ops) * 1e5
	}
	return r
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

func latency(h *histogram) Latency {
	l := Latency{
		Count: h.count(), P50Ms: ms(h.quantile(0.50)), P90Ms: ms(h.quantile(0.90)),
		P99Ms: ms(h.quantile(0.99)), P999Ms: ms(h.quantile(0.999)), MaxMs: ms(time.Duration(h.max.Load())),
		Histogram: []Bar{},
	}
	if l.Count == 0 {
		return l
	}
	l.MeanMs = ms(time.Duration(h.sum.Load())) / float64(l.Count)
	for i := range h.counts {
		n := h.counts[i].Load()
		if n == 0 {
			continue
		}
		le := ms(upper(lowest(i)))
		if last := len(l.Histogram) - 1; last >= 0 && l.Histogram[last].Ms == le {
			l.Histogram[last].Count += n
		} else {
			l.Histogram = append(l.Histogram, Bar{le, n})
		}
	}
	return l
}

// upper is the power of two, in microseconds, that bounds a bar from above.
func upper(d time.Duration) time.Duration {
	le := time.Microsecond
	for le <= d {
		le *= 2
	}
	return le
}

// barWidth is how long the longest bar is printed.
const barWidth = 40

// WriteText prints the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d clients over %d connections, keys of %d B (%d of them), values of %d B, %.1f s\n\n",
		r.Work, r.Clients, r.Conns, r.KeyBytes, r.Keys, r.ValueBytes, r.Seconds)
	fmt.Fprintf(&b, "  operations  %.0f/s (%d)\n", r.OpsPerSecond, r.Ops)
	fmt.Fprintf(&b, "  latency     %s\n", &r.Latency)
	if r.Put != nil {
		fmt.Fprintf(&b, "    puts      %s\n    ranges    %s\n", r.Put, r.Range)
	}
	fmt.Fprintf(&b, "  client CPU  %.2f s, %.2f s per 100,000 operations\n", r.ClientCPUSeconds, r.ClientCPUSecondsPer100k)
	if len(r.Errors) == 0 {
		b.WriteString("  errors      none\n")
	}
	for _, code := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(&b, "  errors      %d %s\n", r.Errors[code], code)
	}
	if r.UnansweredMs > max(1000, 2*r.Latency.MaxMs) {
		fmt.Fprintf(&b, "  unanswered  for %.0f ms at the end of the window: a server has stalled, or is not there\n", r.UnansweredMs)
	}
	for _, endpoint := range slices.Sorted(maps.Keys(r.Unreachable)) {
		fmt.Fprintf(&b, "  unreachable %s: %s\n", endpoint, r.Unreachable[endpoint])
	}
	var most uint64
	for _, bar := range r.Latency.Histogram {
		most = max(most, bar.Count)
	}
	b.WriteByte('\n')
	for _, bar := range r.Latency.Histogram {
		fmt.Fprintf(&b, "  ≤ %9.3f ms %10d  %s\n", bar.Ms, bar.Count, strings.Repeat("#", int(bar.Count*barWidth/most)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (l *Latency) String() string {
	return fmt.Sprintf("mean %.2f ms, p50 %.2f, p90 %.2f, p99 %.2f, p99.9 %.2f, max %.2f",
		l.MeanMs, l.P50Ms, l.P90Ms, l.P99Ms, l.P999Ms, l.MaxMs)
}
