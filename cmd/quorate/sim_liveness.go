package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/sim"
)

func newSimLiveness() *cobra.Command {
	var o sim.LivenessOptions
	c := &cobra.Command{
		Use:   "liveness",
		Short: "Measure what partial partitions cost, against their gates",
		Long: `Measure how long a group is without service after its links are cut in ways that
are hard on leader elections: with plain Raft, and with each protection added.

A cell is the median (and the worst) of the election timeouts until something new
is committed; for chains and rings, how often the leader changes in a hundred
election timeouts, and the share of them in which something is committed. The
last column must pass the gates.

Exit codes: 0 every gate is passed, 1 one is not, 2 wrong flags.`,
		Args: usageErrors(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Seeds <= 0 || o.Graphs <= 0 {
				return &exitError{exitUsage, fmt.Errorf("--seeds %d --graphs %d: both are to be above zero", o.Seeds, o.Graphs)}
			}
			t, err := sim.MeasureLiveness(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s%d seeds each, %d random graphs, in %v\n", &t, o.Seeds, o.Graphs, t.Elapsed.Round(time.Millisecond))
			if failed := t.Failed(); len(failed) > 0 {
				return &exitError{exitFailed, errors.New("gates not passed: " + strings.Join(failed, "; "))}
			}
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&o.Seeds, "seeds", 40, "seeds of each row and column")
	f.IntVar(&o.Graphs, "graphs", 400, "random graphs")
	f.Uint64Var(&o.Base, "seed-base", 1, "the first seed")
	f.IntVar(&o.Workers, "workers", 0, "seeds at a time (default: one for each processor)")
	return c
}
