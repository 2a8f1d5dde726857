package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/quorate/quorate/bench/internal/report"
)

// idleSettle is the time in which groups that have work come to rest.
const idleSettle = 3 * time.Second

// idling is what groups cost that do nothing.
type idling struct {
	Rows    []idleRow        `json:"rows"`
	Targets []report.Verdict `json:"targets"`
}

// idleRow is a system with so many groups.
type idleRow struct {
	System string `json:"system"`
	Groups int    `json:"groups"`
	idle
	// BytesPerReplica is what each further group takes on one host.
	BytesPerReplica float64 `json:"bytes_per_replica"`
}

// idle is one process with all replicas in it.
type idle struct {
	StartS float64 `json:"start_s"` // until every group had a leader and a command
	// CorePerHost is the part of one core that a host takes while nothing is
	// asked of it.
	CorePerHost float64 `json:"core_per_host"`
	HeapBytes   float64 `json:"heap_bytes"` // heap and stacks of all hosts
	// Then a write at a time for each of 4,096 clients, over all groups.
	Loaded measured `json:"loaded"`
}

// runIdle compares one group with many.
func runIdle(o *options) (result, error) {
	names, err := selectSystems(o.peersOr("quorate"))
	if err != nil {
		return nil, err
	}
	r := &idling{}
	for _, name := range names {
		var base idle
		for _, groups := range []int{1, o.idle} {
			w := write(128, 4096, groups)
			if !systems[name].does(w) {
				continue
			}
			var got idle
			if err := spawn(o, o.order("idle", name, w, 0), &got); err != nil {
				return nil, fmt.Errorf("%s with %d groups: %w", name, groups, err)
			}
			fmt.Fprintf(os.Stderr, "%s, %d groups: started in %.1f s, %.2f %% of a core per host, %.1f MiB; then %s\n",
				name, groups, got.StartS, 100*got.CorePerHost, got.HeapBytes/(1<<20), got.Loaded)
			x := idleRow{System: name, Groups: groups, idle: got}
			if groups == 1 {
				base = got
			} else {
				x.BytesPerReplica = (got.HeapBytes - base.HeapBytes) / float64(replicas*(groups-1))
			}
			r.Rows = append(r.Rows, x)
		}
	}
	if len(r.Rows) == 0 {
		return nil, errors.New("nothing was measured")
	}
	r.finish(o.idle)
	return r, nil
}

// finish compares quorate's figures with what is wanted.
func (r *idling) finish(groups int) {
	var one, many idleRow
	for _, x := range r.Rows {
		switch {
		case x.System == "quorate" && x.Groups == 1:
			one = x
		case x.System == "quorate":
			many = x
		}
	}
	name, known := report.Count(float64(groups))+" idle groups", many.Groups > 0
	r.Targets = []report.Verdict{
		report.AtMost(name+": part of a core, each host", 100*many.CorePerHost, 1, "%", known),
		report.AtMost(name+": memory of a group on a host", many.BytesPerReplica/1024, 8, "KiB", known),
		report.AtLeast("write 128 B, 4096 in flight over "+report.Count(float64(groups))+" groups", many.Loaded.OpsPerS, 0.8, one.Loaded.OpsPerS, "the rate with one group"),
	}
}

func (r *idling) tables() []report.Table {
	t := report.Table{
		Title: "Groups that rest, and then 4,096 writes of 128 B in flight over all of them",
		Head:  []string{"system", "groups", "started in s", "of a core, each host", "bytes of a group on a host", "then ops/s", "p99 ms", "CPU s/100k", "peak MiB of all"},
	}
	for _, x := range r.Rows {
		bytes := ""
		if x.Groups > 1 {
			bytes = report.Count(x.BytesPerReplica)
		}
		t.Add(x.System, report.Count(float64(x.Groups)), fmt.Sprintf("%.1f", x.StartS), fmt.Sprintf("%.2f %%", 100*x.CorePerHost), bytes,
			report.Count(x.Loaded.OpsPerS), report.Digits(x.Loaded.P99Ms), fmt.Sprintf("%.2f", x.Loaded.CPUSPer100k), report.Count(x.Loaded.RSSMiB))
	}
	return []report.Table{t, report.Verdicts(r.Targets)}
}

// jobIdle starts the groups, lets them rest and looks, and then loads them.
func jobIdle(x *order) (any, error) {
	begun := time.Now()
	s, err := x.start()
	if err != nil {
		return nil, err
	}
	got := idle{StartS: time.Since(begun).Seconds()}
	time.Sleep(idleSettle)
	// Twice: what the first collection finalises the second one frees.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	got.HeapBytes = float64(m.HeapAlloc + m.StackInuse)
	cpu, at := processorTime(), time.Now()
	time.Sleep(x.Window)
	got.CorePerHost = (processorTime() - cpu).Seconds() / time.Since(at).Seconds() / float64(x.Work.Replicas)
	got.Loaded, err = measure(x, s)
	return got, errors.Join(err, s.Close())
}
