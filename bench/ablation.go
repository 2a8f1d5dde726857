package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/bench/internal/report"
	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/raft"
)

// arm is quorate with something switched off.
type arm struct {
	name, meaning string
	protections   func() (host.Protections, error)
}

// arms are what can be switched off. The last one is not durable: it shows how
// much of the time is the disk's.
var arms = []arm{
	{"batching", "an append carries one entry, not all that are waiting", core("batching")},
	{"pipelining", "a follower's next append waits for the answer to the one before", core("pipelining")},
	{"parallel writes", "the leader sends entries when they are on its own disk, not at once", core("parallel-write")},
	{"batching and pipelining", "one entry for each round trip", core("batching", "pipelining")},
	{"prepared segments", "the log's files grow as they are appended to: nothing is reserved, zeroed or recycled", func() (host.Protections, error) {
		return host.Protections{Prepared: true}, nil
	}},
	{"direct writes", "the log is written through the page cache, not past it", func() (host.Protections, error) {
		return host.Protections{DirectWrites: true}, nil
	}},
	{"syncs", "the log is written and not synced, which loses data in a power cut: not a setting, but what the disk costs", func() (host.Protections, error) {
		return host.Protections{Sync: true}, nil
	}},
}

// core switches off what the protocol's core knows by these names.
func core(names ...string) func() (host.Protections, error) {
	return func() (host.Protections, error) {
		off, err := raft.Without(names...)
		return host.Protections{Core: []raft.Option{off}}, err
	}
}

// protections is what an arm takes away; nothing for "".
func protections(name string) (host.Protections, error) {
	if name == "" {
		return host.Protections{}, nil
	}
	for _, a := range arms {
		if a.name == name {
			return a.protections()
		}
	}
	return host.Protections{}, fmt.Errorf("nothing is called %q that could be switched off", name)
}

// ablationLoads are the commands in flight.
var ablationLoads = []int{1, 256, 4096}

// ablation is the rates with each arm.
type ablation struct {
	Rows rows `json:"rows"`
}

// runAblation measures quorate whole and with each arm, in turns.
func runAblation(o *options) (result, error) {
	rs, err := runWindows(o, []string{"quorate"}, ablationWorks())
	if err != nil {
		return nil, err
	}
	return &ablation{rs}, nil
}

func ablationWorks() (all []work) {
	for _, n := range ablationLoads {
		w := write(128, n, 1)
		all = append(all, w)
		for _, a := range arms {
			w.Without = a.name
			all = append(all, w)
		}
	}
	return all
}

func (a *ablation) tables() []report.Table {
	t := report.Table{Title: "write 128 B, one group: ops/s, × everything on, p50, CPU s/100k", Head: []string{"without"}}
	for _, n := range ablationLoads {
		t.Head = append(t.Head, fmt.Sprintf("%d in flight", n))
	}
	names := []string{""}
	for _, x := range arms {
		names = append(names, x.name)
		t.Notes = append(t.Notes, "- "+x.name+": "+x.meaning)
	}
	for _, name := range names {
		cells := []string{name}
		if name == "" {
			cells[0] = "nothing: everything on"
		}
		for _, n := range ablationLoads {
			w := write(128, n, 1)
			whole := a.Rows.of("quorate", w)
			w.Without = name
			cells = append(cells, ablationCell(a.Rows.of("quorate", w), whole))
		}
		if slices.ContainsFunc(cells[1:], func(s string) bool { return s != "" }) {
			t.Add(cells...)
		}
	}
	return []report.Table{t}
}

func ablationCell(r, whole *row) string {
	if r == nil {
		return ""
	}
	words := []string{report.Count(r.OpsPerS)}
	if whole != nil {
		words = append(words, fmt.Sprintf("×%.2f", r.OpsPerS/whole.OpsPerS))
	}
	return strings.Join(append(words, report.Digits(r.P50Ms)+" ms", fmt.Sprintf("%.2f s", r.CPUSPer100k)), ", ")
}
