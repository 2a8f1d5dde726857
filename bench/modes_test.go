package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/bench/internal/report"
	"github.com/quorate/quorate/smr"
)

func parse(t *testing.T, args ...string) (*options, error) {
	t.Helper()
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	o.flags(f)
	return &o, f.Parse(args)
}

func TestModes(t *testing.T) {
	for args, want := range map[string]string{
		"": "library", "-quick": "library", "-ablation": "ablation", "-curves": "curves", "-restart": "restart",
		"-failover": "failover", "-where": "where", "-idle 10000": "idle", "-soak 20m": "soak", "-ablation -soak 1m": "", "-idle 1 -restart": "",
	} {
		o, err := parse(t, strings.Fields(args)...)
		if err != nil {
			t.Fatal(err)
		}
		m, err := o.mode()
		if want == "" {
			if err == nil {
				t.Errorf("%q is taken as %s", args, m.name)
			}
			continue
		}
		if err != nil || m.name != want || m.run == nil {
			t.Errorf("%q is %q, %v; want %q", args, m.name, err, want)
		}
	}
	if _, err := parse(t, "-soak", "long"); err == nil {
		t.Error("a duration of \"long\" is taken")
	}
}

// filled is rows in which each system does ops at each work.
func filled(all []work, ops map[string]float64) (rs rows) {
	for _, w := range all {
		for _, name := range systemNames() {
			if systems[name].does(w) && ops[name] > 0 {
				rs.record(name, w, measured{OpsPerS: ops[name], CPUSPer100k: 0.2, BytesPerOp: 10, RSSMiB: 100, P50Ms: 1, P99Ms: 2})
			}
		}
	}
	rs.finish()
	return rs
}

func states(all []report.Verdict) (n map[report.State]int) {
	n = map[report.State]int{}
	for _, v := range all {
		n[v.State]++
	}
	return n
}

// Quorate is compared with the fastest peer, not with a limit and not with itself.
func TestLibraryTargets(t *testing.T) {
	peers := map[string]float64{"hashicorp": 50, "etcdraft": 100, "dragonboat": 90, limitName: 300, "limit-tcp": 1e6}
	for ops, want := range map[float64]map[report.State]int{
		// Twice the best peer, 60 % of the limit, and dragonboat alone has groups.
		200: {report.Met: 11},
		// Under 60 % of the limit and under twice the best peer; above 1.5 times it.
		170: {report.Met: 7, report.Missed: 4},
		100: {report.Missed: 7, report.Met: 4},
	} {
		peers["quorate"] = ops
		got := libraryTargets(filled(works, peers))
		if n := states(got); n[report.Met] != want[report.Met] || n[report.Missed] != want[report.Missed] || n[report.NotMeasured] != 0 {
			t.Errorf("with %v: %v\n%+v", ops, n, got)
		}
	}
	got := libraryTargets(filled(works, map[string]float64{"quorate": 100}))
	if n := states(got); n[report.NotMeasured] != 7 || n[report.Met] != 4 {
		t.Errorf("without peers: %v\n%+v", n, got)
	}
	if n := states(libraryTargets(nil)); n[report.NotMeasured] != 11 {
		t.Errorf("without figures: %v", n)
	}
}

func TestTablesOfModes(t *testing.T) {
	all := map[string]float64{"hashicorp": 50, "etcdraft": 100, "dragonboat": 90, "quorate": 2500, limitName: 5000}
	table := &libraryTable{Rows: filled(works, all)}
	table.Targets = libraryTargets(table.Rows)
	curve := curves[0]
	grown := &growth{Curves: []measuredCurve{{curve.name, filled(curve.works, all), curve}}}
	over := &failovers{}
	for _, gap := range []float64{10, 500, 20} {
		over.record("quorate", "failover", outage{GapMs: gap})
		over.record("quorate", "handover", outage{GapMs: gap, Failed: 1})
	}
	over.finish()
	idlers := &idling{Rows: []idleRow{{System: "quorate", Groups: 1, idle: idle{Loaded: measured{OpsPerS: 100}}}, {System: "quorate", Groups: 50, BytesPerReplica: 9 * 1024, idle: idle{CorePerHost: 0.005, Loaded: measured{OpsPerS: 80}}}}}
	idlers.finish(50)
	restarted := &restarts{Entries: 1000, Trials: []restarted{{ReadyMs: 100}, {ReadyMs: 2000}, {ReadyMs: 300}}}
	for name, c := range map[string]struct {
		result
		want []string
	}{
		"library":  {table, []string{"| quorate | 2,500 | 25.00 | 50 % |", "| write 128 B, 4096 in flight | ≥ 2 × the best peer | 25.0 × the best peer (etcdraft) | met |"}},
		"ablation": {&ablation{filled(ablationWorks(), all)}, []string{"| nothing: everything on | 2,500, ×1.00, 1.00 ms, 0.20 s |", "| prepared segments | 2,500"}},
		"curves":   {grown, []string{"| commands in flight | 1 | 4 |", "| etcdraft | 100 | 100 |"}},
		"failover": {over, []string{"| 20.0 | 500 | 10.0 500 20.0 |", "| leader's host closed → next write | ≤ 300 ms | 20.0 ms | met |", "| ≤ 10 ms | 20.0 ms | missed |", "| 3.00 requests | missed |"}},
		"idle":     {idlers, []string{"0.50 % | 9,216 |", "| 0.500 % | met |", "| 9.00 KiB | missed |", "| 0.800 × the rate with one group | met |"}},
		"restart":  {restarted, []string{"| 1,000 | 300 | 100 2,000 300 |"}},
	} {
		var b strings.Builder
		if err := report.Markdown(&b, c.tables()); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: no %q in:\n%s", name, want, b.String())
			}
		}
		// What was saved is printed as it was.
		file := filepath.Join(t.TempDir(), "out.json")
		if err := save(file, name, "a machine", c.result); err != nil {
			t.Fatal(err)
		}
		var s saved
		r, err := s.load(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var again strings.Builder
		if err := report.Markdown(&again, r.tables()); err != nil || again.String() != b.String() || s.Machine != "a machine" {
			t.Errorf("%s: %v, read again:\n%s\nwas:\n%s", name, err, again.String(), b.String())
		}
	}
}

func TestSavedThatIsNone(t *testing.T) {
	for _, text := range []string{"", "{}", `{"mode":"dreams","result":{}}`, `{"mode":"soak","result":[]}`, `{"mode":"curves","result":{"curves":[{"name":"dreams"}]}}`} {
		file := filepath.Join(t.TempDir(), "out.json")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := new(saved).load(file); !errors.Is(err, errSaved) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// -json of the libraries' table is an array that anybody can read.
func TestSavedRows(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.json")
	if err := save(file, "library", "a machine", &libraryTable{Rows: filled(works, map[string]float64{"quorate": 2500})}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	if err := json.Unmarshal(b, &all); err != nil || len(all) != len(works) {
		t.Fatalf("%v: %d rows", err, len(all))
	}
	for _, key := range []string{"system", "work", "payload", "inflight", "groups", "ops_per_s", "p50_ms", "p99_ms", "cpu_s_per_100k", "bytes_per_op", "rss_mib", "repeats", "machine"} {
		if _, ok := all[0][key]; !ok {
			t.Errorf("no %q in %v", key, all[0])
		}
	}
}

func TestSummary(t *testing.T) {
	all := map[string]float64{"etcdraft": 1000, "quorate": 2500, limitName: 5000}
	table := &libraryTable{Rows: filled(works, all)}
	page := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(page, []byte("<!-- summary: begin -->\n<!-- summary: end -->\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := &options{summary: page}
	if err := o.write("library", "a machine", table); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(page)
	if want := "| write 128 B, 1 in flight | 2,500/s | 1,000/s (etcdraft) | 2.50 | 50 % |"; err != nil || !strings.Contains(string(b), want) || !strings.Contains(string(b), "a machine") {
		t.Errorf("%v, no %q in:\n%s", err, want, b)
	}
}

func TestDrawCurves(t *testing.T) {
	all := map[string]float64{"hashicorp": 50, "etcdraft": 100, "dragonboat": 90, "quorate": 2500, limitName: 5000}
	dir := t.TempDir()
	for _, c := range curves {
		m := measuredCurve{c.name, filled(c.works, all), c}
		if err := m.draw(dir); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for i, w := range c.works[1:] {
			if c.x(w) <= c.x(c.works[i]) {
				t.Errorf("%s goes from %v to %v", c.name, c.works[i], w)
			}
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.svg")); len(files) != len(curves)+1 {
		t.Errorf("pictures: %v", files)
	}
}

// What each arm switches off is known to the core and differs from the others.
func TestArms(t *testing.T) {
	for _, a := range arms {
		if _, err := protections(a.name); err != nil {
			t.Errorf("%s: %v", a.name, err)
		}
	}
	if _, err := protections("gravity"); err == nil {
		t.Error("gravity can be switched off")
	}
	ws := ablationWorks()
	for i, w := range ws {
		if slices.Contains(ws[:i], w) {
			t.Errorf("%v stands twice", w)
		}
	}
}

// The rule: what wavers is level, one sample that stands out does not matter, what
// filled up at first is level, and what goes on rising is not.
func TestGrowth(t *testing.T) {
	series := func(of func(i int) float64) (v []float64) {
		for i := range 120 {
			v = append(v, of(i))
		}
		return v
	}
	noise := rand.New(rand.NewPCG(1, 2))
	for name, c := range map[string]struct {
		v    []float64
		want report.State
	}{
		"constant":           {series(func(int) float64 { return 100 }), report.Met},
		"wavering":           {series(func(int) float64 { return 100 + 40*noise.Float64() }), report.Met},
		"one stands out":     {series(func(i int) float64 { return []float64{100, 1e6}[i/119] }), report.Met},
		"filling up":         {series(func(i int) float64 { return 100 * min(1, float64(i)/25) }), report.Met},
		"falling":            {series(func(i int) float64 { return 1000 - float64(i) }), report.Met},
		"rising":             {series(func(i int) float64 { return 100 + float64(i)/10 }), report.Missed},
		"rising and noisy":   {series(func(i int) float64 { return 100 + float64(i)/3 + 20*noise.Float64() }), report.Missed},
		"under the floor":    {series(func(i int) float64 { return 10 + float64(i)/100 }), report.Met},
		"too few samples":    {[]float64{1, 2, 3}, report.NotMeasured},
		"as many as it must": {[]float64{1, 1, 1, 1, 1, 1, 1, 1}, report.Met},
	} {
		g := growthIn(name, "x", c.v, 2)
		if g.State != c.want {
			t.Errorf("%s: %+v, want %s", name, g, c.want)
		}
		if grows([]growthOf{g}) != (c.want != report.Met) {
			t.Errorf("%s: grows says the opposite", name)
		}
	}
}

// roundSystem knows which groups were served.
type roundSystem struct {
	fakeSystem
	groups [100]atomic.Bool
}

func (s *roundSystem) Propose(_ context.Context, group int, _ []byte) error {
	s.groups[group].Store(true)
	return nil
}

// Few clients serve many groups, all of them.
func TestLoadServesAllGroups(t *testing.T) {
	s := &roundSystem{}
	l, err := newLoad(s, write(16, 3, len(s.groups)))
	if err != nil {
		t.Fatal(err)
	}
	l.begin()
	l.run()
	served := func() (n int) {
		for i := range s.groups {
			if s.groups[i].Load() {
				n++
			}
		}
		return n
	}
	for deadline := time.Now().Add(30 * time.Second); served() < len(s.groups); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d groups of %d were served", served(), len(s.groups))
		}
	}
	l.stop()
}

// An operation is due when the one before it was, and the pace later: who is a
// little behind catches up, and who is far behind does not try to.
func TestPace(t *testing.T) {
	l := &load{pace: time.Millisecond}
	due := time.Now().Add(-behindMax / 2)
	if next := l.awaitDue(due); !next.Equal(due.Add(l.pace)) {
		t.Errorf("due %v, then %v", due, next)
	}
	before := time.Now()
	if next := l.awaitDue(before.Add(-time.Hour)); next.Before(before) {
		t.Errorf("an hour behind, and next due %v ago", time.Since(next))
	}
}

// The state of the machine for long runs travels whole.
func TestKeptMachine(t *testing.T) {
	a, b := &keptMachine{}, &keptMachine{}
	batch := []smr.Committed{{Entry: smr.Entry{Index: 1, Kind: smr.KindCommand}}, {Entry: smr.Entry{Index: 2}}, {Entry: smr.Entry{Index: 3, Kind: smr.KindCommand}}}
	if err := a.Apply(batch); err != nil {
		t.Fatal(err)
	}
	v, err := a.View()
	if err != nil {
		t.Fatal(err)
	}
	image, err := io.ReadAll(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{1, 0} {
		r, _ := b.BeginRestore()
		_, _ = r.Write(image[cut:])
		if err := r.Finish(); (err == nil) != (cut == 0) || cut > 0 && !errors.Is(err, smr.ErrCorrupt) {
			t.Errorf("without the first %d bytes: %v", cut, err)
		}
		if cut == 0 {
			if err := r.Commit(); err != nil {
				t.Error(err)
			}
		}
	}
	wantAt, want := a.Digest()
	if at, got := b.Digest(); at != wantAt || got != want || v.Applied() != at || v.Digest() != got {
		t.Errorf("%d %x, want %d %x", at, got, wantAt, want)
	}
}

// The test's own program carries orders out when it is started for one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-child" {
		if err := runChild(os.Args[2]); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// What waits for an event and not for a time runs whole, in processes of its own,
// and refreshes the page.
func TestRunsInSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	page := filepath.Join(t.TempDir(), "page.md")
	var text strings.Builder
	for _, s := range []string{"restart", "failover"} {
		text.WriteString("<!-- " + s + ": begin -->\n<!-- " + s + ": end -->\n")
	}
	if err := os.WriteFile(page, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"-restart", "-failover -peers quorate"} {
		o, err := parse(t, strings.Fields(args)...)
		if err != nil {
			t.Fatal(err)
		}
		o.trials, o.entries = 1, 1000
		o.dir, o.into, o.json = t.TempDir(), page, filepath.Join(t.TempDir(), "out.json")
		if err := run(o); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		if b, err := os.ReadFile(o.json); err != nil || !json.Valid(b) {
			t.Errorf("%s: %v, %s", args, err, b)
		}
		if left, err := os.ReadDir(o.dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", args, left, err)
		}
	}
	b, err := os.ReadFile(page)
	if err != nil || !strings.Contains(string(b), "| quorate |") || !strings.Contains(string(b), "ready with 1,000 entries") {
		t.Errorf("%v\n%s", err, b)
	}
}
