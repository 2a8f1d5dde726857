package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Mode says which world a seed runs in.
type Mode uint8

const (
	// Core drives the protocol alone.
	Core Mode = iota
	// Full drives whole hosts.
	Full
)

func (m Mode) String() string { return [...]string{"core", "full"}[m] }

// ErrOptions is wrapped by every error about Options.
var ErrOptions = errors.New("bad options of the simulation")

// Options says what to run. The zero value runs nothing.
type Options struct {
	// Mode is the world that the seeds run in.
	Mode Mode
	// Seeds is how many seeds to run, from SeedBase on. Zero with For set: as
	// many as the time allows.
	Seeds    int
	SeedBase uint64
	// For ends the run after this time, zero: after Seeds alone. Seeds that
	// have begun are finished.
	For time.Duration
	// Without switches off protections of the core, as raft.Without names them.
	Without []string
	// Skip leaves classes of violations unreported, so that what they lead to
	// can be seen.
	Skip []Class
	// Quiet leaves every fault out.
	Quiet bool
	// Beyond lets the disks of a majority of the hosts change and lose in silence
	// what was synced, which is more than the promises allow. Nothing is demanded
	// then but that no answer is wrong. Full alone.
	Beyond bool
	// EveryFault lets every fault of the world take part, where a seed of its own
	// draws some of them.
	EveryFault bool
	// Only, if not nil, leaves every feature out but these (FeatureNames, or
	// "none"). Clients and Chaos, if not zero, are how many clients there are and
	// how many election timeouts the first phase lasts, instead of what the seed
	// draws.
	Only           []string
	Clients, Chaos int
	// FailuresMax ends the run once so many seeds have failed. Zero: never.
	FailuresMax int
	// Workers is how many seeds run at once. Default: the number of processors.
	Workers int
	// Tracer is told everything that happens. Only for a single seed.
	Tracer Tracer
	// tornBackups: the views of backups are not immutable. For a test.
	tornBackups bool
	// Program is how Replay and ShrinkCommand call the command. Default: from the
	// sources.
	Program string
	// Progress, if not nil, gets a line for each failing seed as it fails.
	Progress io.Writer
}

// Result is what one seed's run came to.
type Result struct {
	Seed uint64
	// Violation is nil if every check held.
	Violation *Violation
	// Digest of the run's history: the same seed, options and binary give the
	// same.
	Digest uint64
	// Virtual is how much time passed in the world.
	Virtual time.Duration
	// Messages were sent by replicas, Applied entries by the group.
	Messages, Applied uint64
	// Operations of clients that ended.
	Operations int
	Marks      Marks
	// Recovery is how many election timeouts after the healing the first write
	// was answered; zero: none was.
	Recovery float64
	// Mode and Options that replay it.
	Mode Mode
}

// Report is what a run of many seeds came to.
type Report struct {
	Mode     Mode
	Seeds    int
	Failures []Result // in the order of their seeds
	// Digest combines the digests of all seeds.
	Digest     uint64
	Virtual    time.Duration
	Elapsed    time.Duration
	Messages   uint64
	Applied    uint64
	Operations int
	Marks      Marks
	// Without is what was switched off.
	Without []string
	// Coverage is what the seeds that ended well have aimed at and hit. Empty if
	// the options bend what they draw.
	Coverage []Coverage
	// Interrupted says that the run was ended before it was done.
	Interrupted bool

	recoveries []float64
}

// Recovery returns the median and the worst of how many election timeouts the
// healed cores took until a write was answered.
func (r *Report) Recovery() (median, worst float64) {
	n := len(r.recoveries)
	if n == 0 {
		return 0, 0
	}
	slices.Sort(r.recoveries)
	return r.recoveries[n/2], r.recoveries[n-1]
}

// RunSeed runs one seed.
func RunSeed(seed uint64, o Options) (Result, error) {
	for _, c := range o.Skip {
		if !slices.Contains(Classes(), c) {
			return Result{}, fmt.Errorf("%w: no class of violations is called %q; there are %v", ErrOptions, c, Classes())
		}
	}
	switch o.Mode {
	case Core:
		return runCore(seed, &o)
	case Full:
		return runFull(seed, &o)
	}
	return Result{}, fmt.Errorf("%w: mode %d", ErrOptions, o.Mode)
}

func runCore(seed uint64, o *Options) (Result, error) {
	w, err := newWorld(seed, o)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	w.run()
	w.note(0xff, uint64(len(w.commits)), w.maxCommit, w.steps)
	if w.found != nil {
		w.trace(Event{Kind: EventViolation, Text: w.found.Error()})
	}
	return Result{
		Seed: seed, Mode: Core, Violation: w.found, Digest: w.digest, Virtual: time.Duration(w.now), Messages: w.sent,
		Applied: uint64(len(w.commits)), Operations: len(w.history.ops), Marks: w.marks,
		Recovery: w.recovery(w.features.electionTimeout),
	}, nil
}

// Run runs seeds on all processors and reports. It ends early, with what it
// has, when ctx does.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.Seeds <= 0 && o.For <= 0 {
		return Report{}, fmt.Errorf("%w: neither a number of seeds nor a time is given", ErrOptions)
	}
	if o.Tracer != nil && o.Seeds != 1 {
		return Report{}, fmt.Errorf("%w: a trace is of a single seed", ErrOptions)
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Seeds > 0 {
		o.Workers = min(o.Workers, o.Seeds)
	}
	r := runner{options: o, report: Report{Mode: o.Mode, Without: o.Without}, began: time.Now()}
	var group sync.WaitGroup
	for range o.Workers {
		group.Go(func() { r.work(ctx) })
	}
	group.Wait()
	r.report.Elapsed = time.Since(r.began)
	r.report.Interrupted = ctx.Err() != nil && !r.stop.Load() &&
		(o.Seeds == 0 || r.report.Seeds < o.Seeds) && (o.For == 0 || r.report.Elapsed < o.For)
	slices.SortFunc(r.report.Failures, func(a, b Result) int { return int(int64(a.Seed - b.Seed)) })
	return r.report, r.err
}

// runner shares seeds out among workers.
type runner struct {
	options Options
	began   time.Time
	next    atomic.Uint64
	stop    atomic.Bool

	mu     sync.Mutex
	report Report
	err    error
}

func (r *runner) work(ctx context.Context) {
	for !r.stop.Load() && ctx.Err() == nil {
		if r.options.For > 0 && time.Since(r.began) >= r.options.For {
			return
		}
		n := r.next.Add(1) - 1
		if r.options.Seeds > 0 && n >= uint64(r.options.Seeds) {
			return
		}
		seed := r.options.SeedBase + n
		res, err := RunSeed(seed, r.options)
		var features []string
		if err == nil && r.options.asked() {
			features, _, _, err = drawn(seed, &r.options)
		}
		r.take(&res, features, err)
	}
}

func (r *runner) take(res *Result, features []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.err = err
		r.stop.Store(true)
		return
	}
	t := &r.report
	t.Seeds++
	t.Virtual += res.Virtual
	t.Messages += res.Messages
	t.Applied += res.Applied
	t.Operations += res.Operations
	t.Marks.add(&res.Marks)
	if res.Recovery > 0 {
		t.recoveries = append(t.recoveries, res.Recovery)
	}
	t.Digest += mix64(res.Digest ^ mix64(res.Seed))
	if res.Violation == nil {
		if r.options.asked() {
			t.cover(features, &res.Marks)
		}
		return
	}
	t.Failures = append(t.Failures, *res)
	if r.options.Progress != nil {
		fmt.Fprintf(r.options.Progress, "seed %d: %v\n  replay: %s\n  shrink: %s\n", res.Seed, res.Violation, r.options.Replay(res.Seed), r.options.ShrinkCommand(res.Seed))
	}
	if r.options.FailuresMax > 0 && len(t.Failures) >= r.options.FailuresMax {
		r.stop.Store(true)
	}
}

// Replay is the command that runs a seed again, with its trace.
func (o *Options) Replay(seed uint64) string { return o.command(seed, "--verbose") }

// ShrinkCommand is the command that leaves out of a failing seed what it does not
// need to fail.
func (o *Options) ShrinkCommand(seed uint64) string { return o.command(seed, "--shrink") }

func (o *Options) command(seed uint64, how string) string {
	s := fmt.Sprintf("%s sim --seed %d %s", cmp.Or(o.Program, "go run ./cmd/quorate"), seed, how)
	if o.Mode == Core {
		s += " --core"
	}
	if len(o.Without) > 0 {
		s += " --without " + strings.Join(o.Without, ",")
	}
	if len(o.Skip) > 0 {
		s += " --skip"
		for i, c := range o.Skip {
			s += string(" ,"[min(i, 1)]) + string(c)
		}
	}
	if o.Quiet {
		s += " --quiet"
	}
	if o.Beyond {
		s += " --beyond"
	}
	if o.EveryFault {
		s += " --every-fault"
	}
	if o.Only != nil {
		s += " --only-features " + strings.Join(o.Only, ",")
	}
	if o.Clients > 0 {
		s += fmt.Sprintf(" --clients %d", o.Clients)
	}
	if o.Chaos > 0 {
		s += fmt.Sprintf(" --chaos %d", o.Chaos)
	}
	return s
}

// String is the closing line.
func (r *Report) String() string {
	seconds := r.Elapsed.Seconds()
	if seconds == 0 {
		seconds = 1e-9
	}
	return fmt.Sprintf("%d %s seeds run, %d failed, %.2f cluster-hours, %.0f seeds/min, %.1f cluster-hours/min, %.0f messages/s",
		r.Seeds, r.Mode, len(r.Failures), r.Virtual.Hours(), float64(r.Seeds)/seconds*60, r.Virtual.Hours()/seconds*60, float64(r.Messages)/seconds)
}
