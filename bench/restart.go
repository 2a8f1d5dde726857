package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/quorate/quorate/bench/internal/report"
)

// restarts is how long hosts take that have a long log.
type restarts struct {
	Entries int              `json:"entries"`
	Trials  []restarted      `json:"trials"`
	Targets []report.Verdict `json:"targets"`
}

// restarted is one start of three hosts on logs that are there.
type restarted struct {
	// ReadyMs is the time from before the first host was opened until a write
	// was applied and a linearizable read answered: so everything in the log was
	// read and applied again, and a leader elected.
	ReadyMs float64 `json:"ready_ms"`
	Entries uint64  `json:"entries"` // in the log then
	RSSMiB  float64 `json:"rss_mib"`
	CPUS    float64 `json:"cpu_s"`
}

// runRestart fills logs once, and then starts on them again and again, each time
// in a new process.
func runRestart(o *options) (result, error) {
	dir, err := os.MkdirTemp(o.dir, "quorate-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := &restarts{Entries: o.entries}
	x := o.order("fill", "quorate", write(128, 4096, 1), 0)
	x.Dir, x.Window = dir, fillMax
	if err := spawn(o, x, new(uint64)); err != nil {
		return nil, fmt.Errorf("filling the logs: %w", err)
	}
	for i := range o.trialsOr(3) {
		x.Job = "restart"
		var got restarted
		if err := spawn(o, x, &got); err != nil {
			return nil, fmt.Errorf("start %d: %w", i+1, err)
		}
		fmt.Fprintf(os.Stderr, "%d ready after %.0f ms with %d entries, %.2f s of CPU, %.0f MiB\n", i+1, got.ReadyMs, got.Entries, got.CPUS, got.RSSMiB)
		r.Trials = append(r.Trials, got)
	}
	r.Targets = []report.Verdict{report.AtMost(fmt.Sprintf("ready with %s entries in the log", report.Count(float64(r.Entries))), r.median(), 1000, "ms", true)}
	return r, nil
}

func (o *options) trialsOr(n int) int {
	if o.trials > 0 {
		return o.trials
	}
	return n
}

func (r *restarts) median() float64 {
	var all []float64
	for _, t := range r.Trials {
		all = append(all, t.ReadyMs)
	}
	return report.Median(all)
}

func (r *restarts) tables() []report.Table {
	t := report.Table{Title: "Start of three hosts on their logs", Head: []string{"entries in the log", "ready, median ms", "each", "CPU s of all", "peak MiB of all"}}
	var ready, cpu, rss []string
	for _, x := range r.Trials {
		ready, cpu, rss = append(ready, report.Count(x.ReadyMs)), append(cpu, fmt.Sprintf("%.2f", x.CPUS)), append(rss, report.Count(x.RSSMiB))
	}
	t.Add(report.Count(float64(r.Entries)), report.Count(r.median()), strings.Join(ready, " "), strings.Join(cpu, " "), strings.Join(rss, " "))
	return []report.Table{t, report.Verdicts(r.Targets)}
}

// fillMax bounds the time that it takes to fill the logs.
const fillMax = 5 * time.Minute

// jobFill writes until the log holds as many entries as are wanted.
func jobFill(x *order) (any, error) {
	s, err := x.start()
	if err != nil {
		return nil, err
	}
	l, err := newLoad(s, x.Work)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	l.begin()
	l.run()
	for l.done() < uint64(x.Entries) && l.failure() == nil {
		time.Sleep(time.Millisecond)
	}
	l.stop()
	return l.done(), errors.Join(l.failure(), s.Close())
}

// jobRestart starts on logs that are there, and measures.
func jobRestart(x *order) (any, error) {
	stopProfiles, err := startProfiles(x.Profile)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	s, err := x.start() // its first command is applied when it returns
	if err != nil {
		return nil, err
	}
	c := s.(*quorateCluster)
	at := c.Leader(0)
	err = c.Read(context.Background(), 0)
	ready := time.Since(begun)
	err = errors.Join(err, stopProfiles())
	applied := c.groups[0][at].Status().Applied
	if err == nil && applied < uint64(x.Entries) {
		err = fmt.Errorf("%d entries were applied, want at least %d", applied, x.Entries)
	}
	return restarted{ready.Seconds() * 1e3, applied, memory("VmHWM"), processorTime().Seconds()}, errors.Join(err, s.Close())
}
