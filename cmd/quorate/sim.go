package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/sim"
)

func init() { commands = append(commands, newSim) }

func newSim() *cobra.Command {
	var o sim.Options
	var seed uint64
	var core, verbose, shrink bool
	var skip []string
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run seeds of the simulated world",
		Long: `Run seeds of the simulated world: a cluster under a virtual clock, with a network,
disks, clocks and clients that a seed decides all about, and checkers that watch
every step. Without --core each replica is a whole host with its log on a disk
that crashes; with --core it is the protocol alone, which is faster.

Every failing seed is printed with the commands that replay it and that shrink it,
which leaves out of it what it does not need to fail. The last line
says how many seeds ran and failed, how much time passed in the worlds, and the
rate. Before it come how often each coverage mark was hit, and in how many of the
seeds that aimed at it. From 100 seeds on, a mark fails the run that was aimed at so
often that missing it is no chance.

--without switches off a protection, to see what it is there for:

` + protectionList() + `
Exit codes: 0 no seed failed, 1 a seed failed, a mark was missed or the run was
interrupted, 2 wrong flags.`,
		Example: `  quorate sim --seeds 1000
  quorate sim --core --for 10m
  quorate sim --seed 42 --verbose
  quorate sim --core --without own-term-commit --seeds 1000
  quorate sim --core --without own-term-commit --seed 42 --shrink
  quorate sim liveness`,
		Args: usageErrors(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Mode = sim.Full
			if core {
				o.Mode = sim.Core
			}
			for _, s := range skip {
				o.Skip = append(o.Skip, sim.Class(s))
			}
			if cmd.Flags().Changed("seed") {
				if o.Seeds > 0 || o.For > 0 {
					return &exitError{exitUsage, errors.New("--seed runs one seed; leave --seeds and --for out")}
				}
				o.SeedBase, o.Seeds = seed, 1
			}
			if o.Seeds == 0 && o.For == 0 {
				o.Seeds = 100
			}
			if shrink {
				return shrinkSeed(cmd, o)
			}
			return runSim(cmd, o, verbose)
		},
	}
	f := c.Flags()
	f.IntVar(&o.Seeds, "seeds", 0, "how many seeds to run (default 100 if --for is not given)")
	f.DurationVar(&o.For, "for", 0, "begin no further seed after this time")
	f.Uint64Var(&o.SeedBase, "seed-base", 1, "the first seed")
	f.Uint64Var(&seed, "seed", 0, "run this seed alone")
	f.BoolVar(&core, "core", false, "the protocol alone, not whole hosts")
	f.BoolVar(&verbose, "verbose", false, "print everything that happens; needs --seed")
	f.StringSliceVar(&o.Without, "without", nil, "protections to switch off")
	f.StringSliceVar(&skip, "skip", nil, "classes of violations to leave unreported, so that what they lead to is found")
	f.BoolVar(&o.Quiet, "quiet", false, "leave every fault out")
	f.BoolVar(&o.Beyond, "beyond", false, "let the disks of a majority change and lose in silence what was synced; demand only that no answer is wrong")
	f.BoolVar(&o.EveryFault, "every-fault", false, "let every fault take part, where a seed draws some of them")
	f.BoolVar(&shrink, "shrink", false, "leave out of the failing --seed what it does not need to fail, and print its timeline")
	f.StringSliceVar(&o.Only, "only-features", nil, "leave out every feature but these, or \"none\" (some are of one world alone): "+strings.Join(sim.FeatureNames(sim.Core, sim.Full), ", "))
	f.IntVar(&o.Clients, "clients", 0, "how many clients (default: what the seed draws)")
	f.IntVar(&o.Chaos, "chaos", 0, "how many election timeouts of faults (default: what the seed draws)")
	f.IntVar(&o.Workers, "workers", 0, "seeds at a time (default: one for each processor)")
	f.IntVar(&o.FailuresMax, "failures-max", 0, "stop after so many failing seeds (default: never)")
	c.AddCommand(newSimLiveness(), newSimSnapshotCrashes())
	return c
}

// programName is how this program was called.
func programName() string {
	if strings.Contains(os.Args[0], "go-build") { // by go run, which removes it
		return "go run ./cmd/quorate"
	}
	return os.Args[0]
}

// shrinkTime bounds how long a seed is shrunk.
const shrinkTime = 2 * time.Minute

func shrinkSeed(cmd *cobra.Command, o sim.Options) error {
	if o.Seeds != 1 {
		return &exitError{exitUsage, errors.New("--shrink works on one seed; name it with --seed")}
	}
	o.Program = programName()
	x, err := sim.Shrink(cmd.Context(), o.SeedBase, o, shrinkTime)
	if errors.Is(err, sim.ErrOptions) {
		return &exitError{exitUsage, err}
	}
	if err != nil {
		return err
	}
	if err := x.Print(cmd.OutOrStdout()); err != nil {
		return err
	}
	return &exitError{exitFailed, errors.New("the seed fails")}
}

func protectionList() string {
	var b strings.Builder
	for _, p := range sim.Protections() {
		fmt.Fprintf(&b, "  %-18s %s\n", p.Name, p.Meaning)
	}
	return b.String()
}

func runSim(cmd *cobra.Command, o sim.Options, verbose bool) error {
	out := cmd.OutOrStdout()
	if verbose {
		if o.Seeds != 1 {
			return &exitError{exitUsage, errors.New("--verbose prints one seed; name it with --seed")}
		}
		w := bufio.NewWriter(out)
		defer w.Flush()
		o.Tracer = sim.Printer{W: w}
		out = w
	}
	o.Progress, o.Program = out, programName()
	r, err := sim.Run(cmd.Context(), o)
	if errors.Is(err, sim.ErrOptions) {
		return &exitError{exitUsage, err}
	}
	if err != nil {
		return err
	}
	median, worst := r.Recovery()
	fmt.Fprintf(out, "marks: %s\nafter the healing a write was answered within %.1f election timeouts (median), %.1f (worst)\ndigest %016x, %v\n",
		&r.Marks, median, worst, r.Digest, r.Elapsed.Round(time.Millisecond))
	if text := r.CoverageText(); text != "" {
		fmt.Fprintf(out, "seeds that reached what they drew: %s\n", text)
	}
	fmt.Fprintln(out, &r)
	return simVerdict(&r)
}

// simVerdict is the error that a run of seeds ends with.
func simVerdict(r *sim.Report) error {
	var missed []string
	for _, c := range r.Missed() {
		missed = append(missed, fmt.Sprintf("%v, in %d seeds", &c, c.Drawn))
	}
	switch {
	case len(r.Failures) > 0:
		return &exitError{exitFailed, fmt.Errorf("%d of %d seeds failed", len(r.Failures), r.Seeds)}
	case r.Interrupted:
		return &exitError{exitFailed, fmt.Errorf("interrupted after %d seeds", r.Seeds)}
	case len(missed) > 0:
		return &exitError{exitFailed, fmt.Errorf("the faults never reached what they are there for: %s", strings.Join(missed, "; "))}
	}
	return nil
}
