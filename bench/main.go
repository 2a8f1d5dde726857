// Bench measures Quorate and its peers side by side: three replicas in one
// process, TCP on loopback, real files, synced before a command is acknowledged,
// and a state machine in memory that does next to nothing.
//
//	go run . -peers all -repeats 3 -json out.json
//
// Each window runs in a process of its own, so that processor time, allocations
// and peak memory belong to one system, and the systems take turns, so that a
// busy neighbour hurts all of them. README.md says how each is set and why.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// work is what a window does.
type work struct {
	Work     string `json:"work"` // "write" or "read"
	Payload  int    `json:"payload"`
	InFlight int    `json:"inflight"`
	Groups   int    `json:"groups"`
}

func (w work) String() string {
	s := fmt.Sprintf("%s %d B, %d in flight", w.Work, w.Payload, w.InFlight)
	if w.Groups > 1 {
		s += fmt.Sprintf(", %d groups", w.Groups)
	}
	return s
}

var works = []work{
	{"write", 128, 1, 1},
	{"write", 128, 256, 1},
	{"write", 128, 4096, 1},
	{"write", 1024, 4096, 1},
	{"write", 128, 4096, 48},
	{"read", 128, 256, 1},
}

// measured is one window's figures.
type measured struct {
	OpsPerS     float64 `json:"ops_per_s"`
	P50Ms       float64 `json:"p50_ms"`
	P99Ms       float64 `json:"p99_ms"`
	CPUSPer100k float64 `json:"cpu_s_per_100k"`
	BytesPerOp  float64 `json:"bytes_per_op"`
	RSSMiB      float64 `json:"rss_mib"`
	Failed      uint64  `json:"failed"` // operations that were refused and tried again
}

// row is a system at a work: medians, and the windows that they are of.
type row struct {
	System string `json:"system"`
	work
	measured
	Repeats []measured `json:"repeats"`
}

type options struct {
	peers   string
	only    string
	window  time.Duration
	warm    time.Duration
	repeats int
	quick   bool
	json    string
	dir     string
	profile string

	// Of a child.
	child string
	work  string
}

func main() {
	var o options
	flag.StringVar(&o.peers, "peers", "all", "systems to measure, comma-separated, or all: "+strings.Join(systemNames(), ", ")+"; limits means the limit-… ones")
	flag.StringVar(&o.only, "only", "", "only works whose name contains this, e.g. \"write 128 B, 1 in\"")
	flag.DurationVar(&o.window, "for", 5*time.Second, "length of a window")
	flag.DurationVar(&o.warm, "warm", 2*time.Second, "time under load before it")
	flag.IntVar(&o.repeats, "repeats", 3, "windows of each system and work; the medians are printed")
	flag.BoolVar(&o.quick, "quick", false, "one short window each: a smoke test, whose figures mean nothing")
	flag.StringVar(&o.json, "json", "", "file to write the figures to")
	flag.StringVar(&o.dir, "dir", "", "directory for the data, on the disk to measure; default: the system's temporary one")
	flag.StringVar(&o.profile, "profile", "", "directory to write profiles of the windows to: processor time and allocations")
	flag.StringVar(&o.child, "child", "", "internal: run one window of this system")
	flag.StringVar(&o.work, "work", "", "internal: its work")
	flag.Parse()
	if o.quick {
		o.repeats, o.window, o.warm = 1, time.Second, 500*time.Millisecond
	}
	var err error
	if o.child != "" {
		err = runChild(&o)
	} else {
		err = run(&o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures what is asked for and prints it.
func run(o *options) error {
	names, err := selectSystems(o.peers)
	if err != nil {
		return err
	}
	if err := checkDir(o); err != nil {
		return err
	}
	var rows []row
	for r := range o.repeats {
		for _, w := range works {
			if !strings.Contains(w.String(), o.only) {
				continue
			}
			for _, name := range names {
				if !systems[name].does(w) {
					continue
				}
				m, err := spawn(o, name, w, r)
				if err != nil {
					fmt.Fprintf(os.Stderr, "%s, %v: %v\n", name, w, err)
					continue
				}
				fmt.Fprintf(os.Stderr, "%d/%d %-40s %-12s %s\n", r+1, o.repeats, w, name, m)
				rows = record(rows, name, w, m)
			}
		}
	}
	for i := range rows {
		rows[i].measured = medians(rows[i].Repeats)
	}
	printTable(os.Stdout, rows)
	if o.json != "" {
		b, err := json.MarshalIndent(rows, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	if len(rows) == 0 {
		return errors.New("nothing was measured")
	}
	return nil
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

func record(rows []row, name string, w work, m measured) []row {
	i := slices.IndexFunc(rows, func(r row) bool { return r.System == name && r.work == w })
	if i < 0 {
		i = len(rows)
		rows = append(rows, row{System: name, work: w})
	}
	rows[i].Repeats = append(rows[i].Repeats, m)
	return rows
}
