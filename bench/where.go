package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/bench/internal/report"
)

// whereLoads are the commands in flight whose processor time is looked at.
var whereLoads = []int{1, 256, 4096}

// spending is where the processor time of a system goes.
type spending struct {
	System string       `json:"system"`
	Loads  []spentUnder `json:"loads"`
}

// spentUnder is the processor time of one window, by what it was for.
type spentUnder struct {
	InFlight int                `json:"inflight"`
	OpsPerS  float64            `json:"ops_per_s"`
	CPUS     float64            `json:"cpu_s_per_100k"`
	Parts    map[string]float64 `json:"parts"` // of 1
}

// runWhere takes a profile of quorate, or of the one system that is asked for,
// under each load.
func runWhere(o *options) (result, error) {
	dir, err := os.MkdirTemp(o.dir, "quorate-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	o.profile = dir
	s := &spending{System: o.peersOr("quorate")}
	if _, ok := systems[s.System]; !ok {
		return nil, fmt.Errorf("one system at a time: %q is none", s.System)
	}
	for _, n := range whereLoads {
		x := o.order("window", s.System, write(128, n, 1), 0)
		var m measured
		if err := spawn(o, x, &m); err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%v: %s\n", x.Work, m)
		traces, err := exec.Command("go", "tool", "pprof", "-traces", x.Profile).Output()
		if err != nil {
			return nil, fmt.Errorf("go tool pprof: %w", err)
		}
		parts, err := partsOf(bytes.NewReader(traces))
		if err != nil {
			return nil, fmt.Errorf("profile with %d in flight: %w", n, err)
		}
		s.Loads = append(s.Loads, spentUnder{n, m.OpsPerS, m.CPUSPer100k, parts})
	}
	return s, nil
}

func (s *spending) tables() []report.Table {
	t := report.Table{Title: "Processor time of " + s.System + ", by what it is for", Head: []string{"128 B"}}
	total := []string{"CPU s/100k"}
	var names []string
	for _, l := range s.Loads {
		t.Head = append(t.Head, fmt.Sprintf("%d in flight", l.InFlight))
		total = append(total, fmt.Sprintf("%.2f", l.CPUS))
		for name := range l.Parts {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	last := s.Loads[len(s.Loads)-1].Parts
	slices.SortFunc(names, func(a, b string) int {
		switch {
		case last[a] > last[b]:
			return -1
		case last[a] < last[b]:
			return 1
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		cells := []string{name}
		for _, l := range s.Loads {
			cells = append(cells, fmt.Sprintf("%.0f %%", 100*l.Parts[name]))
		}
		t.Add(cells...)
	}
	t.Add(total...)
	return []report.Table{t}
}

var errProfile = errors.New("a profile that cannot be read")

// traceLine separates the stacks of `go tool pprof -traces`.
const traceLine = "-----------+"

// partsOf reads what `go tool pprof -traces` prints, and returns the part of the
// time that each purpose has.
func partsOf(r io.Reader) (map[string]float64, error) {
	var sum time.Duration
	parts := map[string]float64{}
	lines := bufio.NewScanner(r)
	var stack []string
	var took time.Duration
	flush := func() {
		if len(stack) > 0 {
			parts[purpose(stack)] += took.Seconds()
			sum += took
		}
		stack, took = stack[:0], 0
	}
	begun := false
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(text, traceLine):
			flush()
			begun = true
		case !begun || text == "":
		case len(stack) == 0:
			value, frame, ok := strings.Cut(text, " ")
			d, err := time.ParseDuration(value)
			if !ok || err != nil {
				continue // a label of the stack that follows
			}
			took, stack = d, append(stack, strings.TrimSpace(frame))
		default:
			stack = append(stack, text)
		}
	}
	flush()
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if sum == 0 {
		return nil, fmt.Errorf("%w: it has no samples", errProfile)
	}
	for name := range parts {
		parts[name] /= sum.Seconds()
	}
	return parts, nil
}

// purposes say what a stack is for: the first one of which a name stands in any
// of the stack's frames.
var purposes = []struct {
	name  string
	parts []string
}{
	{"allocation and garbage collection", []string{"runtime.gcBgMarkWorker", "runtime.mallocgc", "runtime.gcAssistAlloc", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcStart", "runtime.gcMarkDone", "runtime.growslice"}},
	{"disk: sync", []string{"Fdatasync", "syscall.Fsync"}},
	{"disk: write", []string{"poll.(*FD).Pwrite", "os.(*File).WriteAt", "os.(*File).Write"}},
	{"network: system calls", []string{"poll.(*FD).Read", "poll.(*FD).Write", "poll.(*FD).Writev"}},
	{"waking and scheduling", []string{"runtime.schedule", "runtime.park_m", "runtime.mcall", "runtime.gopark", "runtime.goready", "runtime.ready", "runtime.chansend", "runtime.chanrecv", "runtime.selectgo", "runtime.selectnbsend", "runtime.futex", "runtime.sysmon", "runtime.mstart", "runtime.gosched_m", "runtime.Gosched", "sync.(*Cond)", "runtime.asyncPreempt", "time.(*Timer)"}},
	{"checksums", []string{"hash/crc32."}},
}

// owners are the packages whose code a stack is in, by the innermost frame that
// is one of theirs.
var owners = []struct{ name, prefix string }{
	{"protocol", "github.com/quorate/quorate/raft."},
	{"log: encoding and bookkeeping", "github.com/quorate/quorate/wal."},
	{"messages: encoding and decoding", "github.com/quorate/quorate/wire."},
	{"connections", "github.com/quorate/quorate/transport."},
	{"host: turns, inbox, answers", "github.com/quorate/quorate/host."},
	{"the load itself", "main."},
	{"the peer's own code", "github.com/hashicorp/"},
	{"the peer's own code", "go.etcd.io/"},
	{"the peer's own code", "github.com/lni/"},
}

// purpose says what a stack, its innermost frame first, is for.
func purpose(stack []string) string {
	for _, p := range purposes {
		for _, frame := range stack {
			if slices.ContainsFunc(p.parts, func(s string) bool { return strings.Contains(frame, s) }) {
				return p.name
			}
		}
	}
	for _, frame := range stack {
		for _, o := range owners {
			if strings.HasPrefix(frame, o.prefix) {
				return o.name
			}
		}
	}
	return "other"
}
