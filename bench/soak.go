package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/quorate/quorate/bench/internal/report"
)

const (
	soakSampleEvery = 10 * time.Second
	soakInFlight    = 256
	// soakFull is how long the full load is measured of which half is kept up.
	soakFull = 10 * time.Second
)

// soaked is a long time under load.
type soaked struct {
	FullOpsPerS float64    `json:"full_ops_per_s"` // of which half is offered
	Samples     []sample   `json:"samples"`
	Growth      []growthOf `json:"growth"`
}

// sample is what is in use at one moment, and how the load did since the last
// one.
type sample struct {
	Seconds    float64 `json:"seconds"` // since the half load began
	OpsPerS    float64 `json:"ops_per_s"`
	P50Ms      float64 `json:"p50_ms"`
	P99Ms      float64 `json:"p99_ms"`
	Refused    uint64  `json:"refused"`
	CPUS       float64 `json:"cpu_s_per_s"`
	RSSMiB     float64 `json:"rss_mib"`
	HeapMiB    float64 `json:"heap_mib"` // alive after the last collection
	Goroutines float64 `json:"goroutines"`
	Files      float64 `json:"files"` // open
	DiskMiB    float64 `json:"disk_mib"`
}

func (s sample) String() string {
	return fmt.Sprintf("%4.0f s  %.0f/s, p50 %.2f ms, p99 %.2f ms, %.2f cores, RSS %.0f MiB, heap %.1f MiB, %.0f goroutines, %.0f files, disk %.0f MiB",
		s.Seconds, s.OpsPerS, s.P50Ms, s.P99Ms, s.CPUS, s.RSSMiB, s.HeapMiB, s.Goroutines, s.Files, s.DiskMiB)
}

var errGrows = errors.New("something is not level: see the table")

// runSoak keeps three hosts, whose logs are compacted, under half of the load
// that they can bear. It fails if anything grows.
func runSoak(o *options) (result, error) {
	dir, err := os.MkdirTemp(o.dir, "quorate-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	every := min(soakSampleEvery, o.soak/(2*samplesMin))
	s, err := startQuorate(setup{dir: dir, groups: 1, replicas: replicas, snapshots: true})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	r := &soaked{}
	if r.FullOpsPerS, err = fullLoad(s, min(soakFull, o.soak)); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "full load: %.0f/s with %d in flight\n", r.FullOpsPerS, soakInFlight)
	for _, part := range []time.Duration{o.soak / 4, o.soak} {
		if err := r.halfLoad(s, dir, part, every); err != nil {
			return nil, err
		}
		if err := heapProfile(o.profile, len(r.Samples)); err != nil {
			return nil, err
		}
	}
	r.judge()
	if grows(r.Growth) {
		return r, errGrows
	}
	return r, nil
}

// fullLoad measures what can be borne.
func fullLoad(s system, window time.Duration) (float64, error) {
	l, err := newLoad(s, write(128, soakInFlight, 1))
	if err != nil {
		return 0, err
	}
	l.begin()
	l.run()
	time.Sleep(window)
	ops, _ := l.end()
	l.stop()
	if ops == 0 {
		return 0, errors.Join(errors.New("no operation was completed"), l.failure())
	}
	return float64(ops) / window.Seconds(), l.failure()
}

// heapProfile writes what is alive after so many samples, so that two of them can
// be compared.
func heapProfile(dir string, samples int) error {
	if dir == "" {
		return nil
	}
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("soak-heap-%d.pprof", samples)))
	if err != nil {
		return err
	}
	runtime.GC()
	return errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
}

// halfLoad offers half of it and takes the samples, until the half load has been
// offered for a time in all.
func (r *soaked) halfLoad(s system, dir string, until, every time.Duration) error {
	l, err := newLoad(s, write(128, soakInFlight, 1))
	if err != nil {
		return err
	}
	l.pace = time.Duration(float64(time.Second) * soakInFlight / (r.FullOpsPerS / 2))
	l.begin()
	l.run()
	defer l.stop()
	last, cpu := time.Now(), processorTime()
	before := 0.0
	if n := len(r.Samples); n > 0 {
		before = r.Samples[n-1].Seconds
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for range tick.C {
		if err := l.failure(); err != nil {
			return err
		}
		x := sampleOf(dir)
		x.Refused = l.refused.Load()
		ops, hist := l.end()
		now, used := time.Now(), processorTime()
		passed := now.Sub(last).Seconds()
		l.begin()
		before += passed
		x.Seconds, x.OpsPerS, x.CPUS = before, float64(ops)/passed, (used-cpu).Seconds()/passed
		x.P50Ms, x.P99Ms = hist.quantile(0.5).Seconds()*1e3, hist.quantile(0.99).Seconds()*1e3
		last, cpu = now, used
		fmt.Fprintln(os.Stderr, x)
		r.Samples = append(r.Samples, x)
		if before+every.Seconds()/2 > until.Seconds() {
			return nil
		}
	}
	return nil
}

// sampleOf looks at this process and at dir.
func sampleOf(dir string) (x sample) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	x.HeapMiB = float64(live[0].Value.Uint64()) / (1 << 20)
	x.RSSMiB, x.Goroutines = memory("VmRSS"), float64(runtime.NumGoroutine())
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		x.Files = float64(len(files))
	}
	x.DiskMiB = diskUse(dir) / (1 << 20)
	return x
}

// diskUse is what the files below dir take on the disk, in bytes. Files come and
// go meanwhile.
func diskUse(dir string) (sum float64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += float64(st.Blocks) * 512
		}
		return nil
	})
	return sum
}

// judge applies the rule to each series. The floors are what a healthy process
// wavers by: a collection more or less, a segment of the log for each host.
func (r *soaked) judge() {
	for _, series := range []struct {
		name, unit string
		floor      float64
		of         func(*sample) float64
	}{
		{"resident memory", "MiB", 16, func(s *sample) float64 { return s.RSSMiB }},
		{"live heap", "MiB", 4, func(s *sample) float64 { return s.HeapMiB }},
		{"goroutines", "", 8, func(s *sample) float64 { return s.Goroutines }},
		{"open files", "", 8, func(s *sample) float64 { return s.Files }},
		{"disk", "MiB", replicas * 64, func(s *sample) float64 { return s.DiskMiB }},
	} {
		var v []float64
		for i := range r.Samples {
			v = append(v, series.of(&r.Samples[i]))
		}
		r.Growth = append(r.Growth, growthIn(series.name, series.unit, v, series.floor))
	}
}

func (r *soaked) tables() []report.Table {
	t := report.Table{
		Title: fmt.Sprintf("Half of %s commands per second, 128 B, %d workers, logs compacted by snapshots", report.Count(r.FullOpsPerS), soakInFlight),
		Head:  []string{"minutes", "ops/s", "p50 ms", "p99 ms", "cores", "RSS MiB", "live heap MiB", "goroutines", "files", "disk MiB"},
	}
	// Twelve lines show the course; the JSON has them all.
	step := max(1, len(r.Samples)/12)
	for i := step - 1; i < len(r.Samples); i += step {
		s := &r.Samples[i]
		t.Add(fmt.Sprintf("%.1f", s.Seconds/60), report.Count(s.OpsPerS), report.Digits(s.P50Ms), report.Digits(s.P99Ms), fmt.Sprintf("%.2f", s.CPUS),
			report.Count(s.RSSMiB), fmt.Sprintf("%.1f", s.HeapMiB), report.Count(s.Goroutines), report.Count(s.Files), report.Count(s.DiskMiB))
	}
	return []report.Table{growthTable(r.Growth), t}
}
