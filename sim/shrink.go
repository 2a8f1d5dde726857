package sim

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// Shrunk is what is left of a failing seed.
type Shrunk struct {
	Options   Options // replay it
	Seed      uint64
	Violation *Violation
	// Features, Clients and Chaos that are left, and what there was.
	Features, Were       []string
	Clients, ClientsWere int
	Chaos, ChaosWere     int // in election timeouts
	Runs                 int
}

// shrinkSeeds is how many other seeds a smaller world may fail with: leaving a
// fault out changes every draw that follows, so the same seed may well miss what
// a world of that kind does.
const shrinkSeeds = 60

// shrinker tries worlds that are smaller.
type shrinker struct {
	ctx   context.Context
	class Class
	best  Shrunk
	until time.Time
}

// Shrink leaves out of a failing seed what its violation does not need: faults,
// then clients, then length. A smaller world counts if it fails in the same
// class, with the same seed or one of a few others. It ends when nothing can be
// left out or the time is over. The error wraps ErrOptions; a seed that does not
// fail is one.
func Shrink(ctx context.Context, seed uint64, o Options, limit time.Duration) (Shrunk, error) {
	names, clients, chaos, err := drawn(seed, &o)
	if err != nil {
		return Shrunk{}, err
	}
	res, err := RunSeed(seed, o)
	if err != nil {
		return Shrunk{}, err
	}
	if res.Violation == nil {
		return Shrunk{}, fmt.Errorf("%w: seed %d does not fail", ErrOptions, seed)
	}
	o.Tracer, o.Progress = nil, nil
	s := shrinker{ctx: ctx, class: res.Violation.Class, until: time.Now().Add(limit), best: Shrunk{
		Options: o, Seed: seed, Violation: res.Violation,
		Features: names, Were: names, Clients: clients, ClientsWere: clients, Chaos: chaos, ChaosWere: chaos, Runs: 1,
	}}
	for s.pass() {
	}
	return s.best, ctx.Err()
}

// pass tries to leave out each thing once, and reports whether anything was.
func (s *shrinker) pass() (smaller bool) {
	for _, name := range slices.Clone(s.best.Features) {
		x := s.best
		x.Features = slices.DeleteFunc(slices.Clone(x.Features), func(n string) bool { return n == name })
		smaller = s.try(x) || smaller
	}
	for n := 1; n < s.best.Clients; n++ {
		x := s.best
		x.Clients = n
		if s.try(x) {
			smaller = true
			break
		}
	}
	for _, part := range []int{8, 4, 2} {
		x := s.best
		if x.Chaos = s.best.Chaos / part; x.Chaos > 1 && s.try(x) {
			return true
		}
	}
	return smaller
}

// try runs a smaller world, and keeps it if it fails in the same way.
func (s *shrinker) try(smaller Shrunk) bool {
	smaller.narrow()
	for i := range uint64(shrinkSeeds) {
		if s.ctx.Err() != nil || time.Now().After(s.until) {
			return false
		}
		x := smaller
		if i > 0 {
			// Another seed has features of its own, of which some may be left.
			x.Seed = mix64(x.Seed+i) >> 40
			x.Features, _, _, _ = drawn(x.Seed, &x.Options)
			x.narrow()
		}
		res, err := RunSeed(x.Seed, x.Options)
		s.best.Runs++
		if err == nil && res.Violation != nil && res.Violation.Class == s.class && s.blames(&x) {
			x.Violation, x.Runs = res.Violation, s.best.Runs
			s.best = x
			return true
		}
	}
	return false
}

// blames reports whether it is the protections that are switched off, if any,
// that let x fail: with them it does not.
func (s *shrinker) blames(x *Shrunk) bool {
	if len(x.Options.Without) == 0 {
		return true
	}
	o := x.Options
	o.Without = nil
	s.best.Runs++
	res, err := RunSeed(x.Seed, o)
	return err == nil && res.Violation == nil
}

// narrow makes the options those of what is left.
func (x *Shrunk) narrow() {
	x.Options.Only, x.Options.Clients, x.Options.Chaos = x.Features, x.Clients, x.Chaos
	if len(x.Features) == 0 {
		x.Options.Only = []string{"none"}
	}
}

// Print says what is left, and the timeline of it.
func (x *Shrunk) Print(w io.Writer) error {
	fmt.Fprintf(w, "%d runs have left %d of %d features: %v\n%d of %d clients, %d of %d election timeouts of faults\n",
		x.Runs, len(x.Features), len(x.Were), x.Features, x.Clients, x.ClientsWere, x.Chaos, x.ChaosWere)
	line := newTimeline()
	o := x.Options
	o.Tracer = line
	res, err := RunSeed(x.Seed, o)
	if err != nil {
		return err
	}
	line.print(w)
	fmt.Fprintf(w, "seed %d: %v\n  replay: %s\n", x.Seed, res.Violation, x.Options.Replay(x.Seed))
	return nil
}
