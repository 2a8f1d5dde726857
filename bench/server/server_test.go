package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

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
	tab := &table{}
	for _, ops := range []float64{300, 100, 200} {
		tab.record("etcd", works[0], measured{OpsPerS: ops, P50Ms: ops, Errors: uint64(ops)})
		tab.record("quorate", works[0], measured{OpsPerS: 2 * ops, LoadAverage: "1.50"})
		tab.recordFailover("quorate", time.Duration(ops)*time.Millisecond)
	}
	tab.finish()
	if r := tab.Rows[0]; r.OpsPerS != 200 || r.P50Ms != 200 || r.Errors != 200 || len(r.Repeats) != 3 {
		t.Errorf("%+v", r)
	}
	if f := tab.Failovers[0]; f.MedianMs != 200 || f.MaxMs != 300 {
		t.Errorf("%+v", f)
	}
	var out strings.Builder
	tab.print(&out)
	for _, want := range []string{works[0].String(), "2.00", "600 200 400", "1.50 1.50 1.50", "leader killed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
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
