package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/bench/internal/report"
	"github.com/quorate/quorate/internal/load"
)

// The test's own program is the echo server when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-echo-at" {
		if serveEcho(context.Background(), os.Args[2]) != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A window has figures of both sides, and nothing is left behind.
func TestMeasure(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := &options{window: 300 * time.Millisecond, conns: 2, keys: 100}
	dir := t.TempDir()
	for _, w := range []load.Work{load.Put, load.Range, load.Mixed} {
		m, err := measure(t.Context(), o, dir, system{name: "echo", bin: self, members: 1}, work{w, 16, 8}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if m.OpsPerS <= 0 || m.P99Ms < m.P50Ms || m.RSSMiB <= 0 || m.Errors > 0 {
			t.Errorf("%s: %+v", w, m)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A program that ends at once is an error that has what it said last.
func TestMemberThatEnds(t *testing.T) {
	s := system{name: "bad", bin: "/bin/sh", args: []string{"-c", "echo cannot be; exit 3"}, members: 3}
	_, err := measure(t.Context(), &options{window: time.Second}, t.TempDir(), s, works[0], 0)
	if err == nil || !strings.Contains(err.Error(), "cannot be") {
		t.Errorf("%v", err)
	}
}

func TestTable(t *testing.T) {
	tab := &table{RestartEntries: 1000}
	for _, ops := range []float64{300, 100, 200} {
		for _, w := range works {
			tab.record("etcd", w, measured{OpsPerS: ops, P50Ms: ops, P99Ms: ops, Errors: uint64(ops)})
			tab.record("quorate", w, measured{OpsPerS: 2 * ops, P50Ms: ops / 2, P99Ms: ops / 2, ServerCPU: 5, AllocBytes: 4096, LoadAverage: "1.50"})
			tab.record("echo", w, measured{OpsPerS: 4 * ops})
		}
		tab.Failovers = recordTrial(tab.Failovers, "quorate", time.Duration(ops)*time.Millisecond)
		tab.Restarts = recordTrial(tab.Restarts, "quorate", 10*time.Duration(ops)*time.Millisecond)
	}
	tab.finish()
	if r := tab.Rows[0]; r.OpsPerS != 200 || r.P50Ms != 200 || r.Errors != 200 || len(r.Repeats) != 3 {
		t.Errorf("%+v", r)
	}
	if f := tab.Failovers[0]; f.MedianMs != 200 || f.MaxMs != 300 {
		t.Errorf("%+v", f)
	}
	states := map[report.State]int{}
	for _, v := range tab.Targets {
		states[v.State]++
	}
	// Twice etcd's rate, half its latency and half the echo: met are put and the
	// range of one client and the mixture at twice, p50, the allocations, and the
	// failover.
	if states[report.Met] != 6 || states[report.Missed] != 7 {
		t.Errorf("%v: %+v", states, tab.Targets)
	}
	var out strings.Builder
	if err := report.Markdown(&out, tab.tables()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{works[0].String(), "| quorate | 400 | 2.00 | 50 % |", "600 200 400", "1.50 1.50 1.50", "Leader killed", "with 1,000 writes", "| ≤ 300 ms | 200 ms | met |", "| ≤ 1,000 ms | 2,000 ms | missed |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	for _, v := range (&table{}).targets() {
		if v.State != report.NotMeasured {
			t.Errorf("of nothing: %+v", v)
		}
	}
}

func TestVariants(t *testing.T) {
	o := &options{systems: ""}
	if err := o.variants.Set("a=/bin/true --flag 1"); err != nil {
		t.Fatal(err)
	}
	all, err := prepare(t.Context(), o, t.TempDir())
	if err != nil || len(all) != 1 || all[0].bin != "/bin/true" || strings.Join(all[0].args, " ") != "serve --log-level warn --flag 1" {
		t.Errorf("%+v, %v", all, err)
	}
	if o.variants.Set("a") == nil {
		t.Error("a variant without a program is taken")
	}
	o.systems = "nobody"
	if _, err := prepare(t.Context(), o, t.TempDir()); err == nil {
		t.Error("nobody was found")
	}
}
