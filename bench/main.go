// Bench measures Quorate and its peers side by side: replicas in one process, TCP
// on loopback, real files, synced before a command is acknowledged, and a state
// machine in memory that does next to nothing.
//
//	go run . -peers all -repeats 3 -json out.json   the libraries side by side
//	go run . -ablation                              what each technique is worth
//	go run . -curves                                how the rate grows, as pictures
//	go run . -restart                               with a million entries in the log
//	go run . -failover                              the leader's host is closed
//	go run . -where                                 what the processor time goes into
//	go run . -idle 10000                            what groups cost that do nothing
//	go run . -soak 20m                              whether anything grows
//
// Each window runs in a process of its own, so that processor time, allocations
// and peak memory belong to one system, and the systems take turns, so that a
// busy neighbour hurts all of them. README.md says how each is set and why.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/bench/internal/report"
)

type options struct {
	peers   string
	only    string
	window  time.Duration
	warm    time.Duration
	repeats int
	trials  int
	entries int
	quick   bool

	ablation, curves, restart, failover, where bool
	idle                                       int
	soak                                       time.Duration

	markdown bool
	into     string
	summary  string
	from     string
	json     string
	svg      string
	dir      string
	profile  string

	child string
}

// result is what a mode found out. It is encoded as JSON as it is.
type result interface {
	// tables are the figures as they are printed.
	tables() []report.Table
}

// mode is one thing that can be measured.
type mode struct {
	name string // of the section of the page, too
	run  func(*options) (result, error)
}

// mode returns what is asked for.
func (o *options) mode() (mode, error) {
	chosen := mode{"library", runTable}
	n := 0
	for _, m := range []struct {
		asked bool
		mode
	}{
		{o.ablation, mode{"ablation", runAblation}},
		{o.curves, mode{"curves", runCurves}},
		{o.restart, mode{"restart", runRestart}},
		{o.failover, mode{"failover", runFailover}},
		{o.where, mode{"where", runWhere}},
		{o.idle > 0, mode{"idle", runIdle}},
		{o.soak > 0, mode{"soak", runSoak}},
	} {
		if m.asked {
			chosen, n = m.mode, n+1
		}
	}
	if n > 1 {
		return chosen, errors.New("-ablation, -curves, -restart, -failover, -where, -idle and -soak are measured one at a time")
	}
	return chosen, nil
}

func (o *options) flags(f *flag.FlagSet) {
	f.StringVar(&o.peers, "peers", "", "systems to measure, comma-separated: "+strings.Join(systemNames(), ", ")+", limits (all limit-… ones) or all; default: what the mode compares")
	f.StringVar(&o.only, "only", "", "only works whose name contains this, e.g. \"write 128 B, 1 in\"")
	f.DurationVar(&o.window, "for", 5*time.Second, "length of a window")
	f.DurationVar(&o.warm, "warm", 2*time.Second, "time under load before it")
	f.IntVar(&o.repeats, "repeats", 3, "windows of each system and work; the medians are printed")
	f.IntVar(&o.trials, "trials", 0, "how often to restart (default 3) or to fail over (default 10)")
	f.IntVar(&o.entries, "entries", 1_000_000, "entries in the log for -restart")
	f.BoolVar(&o.quick, "quick", false, "the libraries at 128 bytes with 1, 256 and 4096 in flight, in under five minutes; with other modes a smoke test, whose figures mean nothing")
	f.BoolVar(&o.ablation, "ablation", false, "switch each technique off in turns")
	f.BoolVar(&o.curves, "curves", false, "the rate over replicas, groups, payload and commands in flight, drawn into -svg")
	f.BoolVar(&o.restart, "restart", false, "time from start to ready")
	f.BoolVar(&o.failover, "failover", false, "time from the end of the leader to the next write, and a planned hand-over")
	f.BoolVar(&o.where, "where", false, "what the processor time goes into, from profiles")
	f.IntVar(&o.idle, "idle", 0, "so many groups that do nothing, and then the rate over all of them")
	f.DurationVar(&o.soak, "soak", 0, "half load for so long; fails if memory, goroutines, files or disk grow")
	f.BoolVar(&o.markdown, "markdown", false, "print the tables as Markdown")
	f.StringVar(&o.into, "into", "", "page whose section of this mode is to be replaced, e.g. ../docs/performance.md")
	f.StringVar(&o.summary, "summary", "", "page whose section \"summary\" is to be replaced by the libraries' table in short, e.g. ../README.md")
	f.StringVar(&o.json, "json", "", "file to write the figures to")
	f.StringVar(&o.from, "from", "", "file that -json wrote: print that instead of measuring")
	f.StringVar(&o.svg, "svg", "../docs", "directory for the pictures of -curves")
	f.StringVar(&o.dir, "dir", "", "directory for the data, on the disk to measure; default: the system's temporary one")
	f.StringVar(&o.profile, "profile", "", "directory to write profiles of the windows to: processor time and allocations")
	f.StringVar(&o.child, "child", "", "internal: carry out this order")
}

// shorten makes -quick of what is asked for.
func (o *options) shorten() error {
	if !o.quick {
		return nil
	}
	m, err := o.mode()
	if err != nil {
		return err
	}
	if m.name == "library" {
		o.window, o.warm = 2*time.Second, 500*time.Millisecond
	} else {
		o.repeats, o.window, o.warm, o.trials, o.entries = 1, time.Second, 500*time.Millisecond, 1, 10_000
	}
	return nil
}

func main() {
	var o options
	o.flags(flag.CommandLine)
	flag.Parse()
	if err := o.shorten(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	var err error
	switch {
	case o.child != "":
		err = runChild(o.child)
	case o.from != "":
		err = rerender(&o)
	default:
		err = run(&o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures what is asked for and writes it wherever it is wanted. What was
// measured is written even if it is not as it should be.
func run(o *options) error {
	m, err := o.mode()
	if err != nil {
		return err
	}
	if err := checkDir(o); err != nil {
		return err
	}
	where, before := report.Machine(), report.LoadAverage()
	res, failed := m.run(o)
	if res == nil {
		return failed
	}
	machine := fmt.Sprintf("%s; load average %s before and %s after.", where, before, report.LoadAverage())
	return errors.Join(failed, o.write(m.name, machine, res))
}

// peersOr are the systems that are asked for, or those of the mode.
func (o *options) peersOr(all string) string {
	if o.peers == "" {
		return all
	}
	return o.peers
}

// selectSystems returns the names that peers stands for.
func selectSystems(peers string) ([]string, error) {
	if peers == "all" {
		return systemNames(), nil
	}
	var names []string
	for _, p := range strings.Split(peers, ",") {
		n := len(names)
		for _, name := range systemNames() {
			if name == p || p == "limits" && strings.HasPrefix(name, "limit-") {
				names = append(names, name)
			}
		}
		if len(names) == n {
			return nil, fmt.Errorf("no system %q; there are %s, limits and all", p, strings.Join(systemNames(), ", "))
		}
	}
	return names, nil
}

// runWindows measures every system at every work that it does and that is asked
// for, in turns, and returns the medians.
func runWindows(o *options, names []string, all []work) (rs rows, err error) {
	for r := range o.repeats {
		for _, w := range all {
			if !strings.Contains(w.String(), o.only) {
				continue
			}
			for _, name := range names {
				if !systems[name].does(w) {
					continue
				}
				var m measured
				if err := spawn(o, o.order("window", name, w, r), &m); err != nil {
					fmt.Fprintf(os.Stderr, "%s, %v: %v\n", name, w, err)
					continue
				}
				fmt.Fprintf(os.Stderr, "%d/%d %-40s %-12s %s\n", r+1, o.repeats, w, name, m)
				rs.record(name, w, m)
			}
		}
	}
	if len(rs) == 0 {
		return nil, errors.New("nothing was measured")
	}
	rs.finish()
	return rs, nil
}

// order is one for the window number repeat.
func (o *options) order(job, name string, w work, repeat int) order {
	x := order{Job: job, System: name, Work: w, Window: o.window, Warm: o.warm, Entries: o.entries}
	if o.profile != "" {
		words := fmt.Sprintf("%s-%s-%d-%d-%d-%d-%d", name, w.Work, w.Payload, w.InFlight, w.Groups, w.Replicas, repeat)
		if w.Without != "" {
			words += "-without-" + strings.ReplaceAll(w.Without, " ", "-")
		}
		x.Profile = filepath.Join(o.profile, words+".pprof")
	}
	return x
}
