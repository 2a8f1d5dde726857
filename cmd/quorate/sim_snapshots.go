package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/sim"
)

func newSimSnapshotCrashes() *cobra.Command {
	var o sim.Options
	c := &cobra.Command{
		Use:   "snapshot-crashes",
		Short: "Crash hosts at every write, sync, rename and chunk of snapshots",
		Long: `Run seeds of the simulated world in which hosts crash while snapshots are taken,
sent, received and installed: at every write, sync and rename, and after every
chunk, on both sides. What comes of it is checked as in every seed: a host starts
from what its disk holds, and a state that comes from a snapshot is that of replay.

It prints how often hosts crashed at what, and fails if that never happened at one
of them: with few seeds that may be chance.

Exit codes: 0 no seed failed and every place was reached, 1 not, 2 wrong flags.`,
		Example: `  quorate sim snapshot-crashes --seeds 1000`,
		Args:    usageErrors(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o = sim.SnapshotCrashes(o)
			o.Progress, o.Program = cmd.OutOrStdout(), programName()
			r, err := sim.Run(cmd.Context(), o)
			if errors.Is(err, sim.ErrOptions) {
				return &exitError{exitUsage, err}
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s%d snapshots taken, %d installed, %d blocks were there already when a host went on\n%v, in %v\n",
				r.SnapshotCrashTable(), r.Marks[sim.MarkSnapshotTaken], r.Marks[sim.MarkSnapshotInstalled], r.Marks[sim.MarkSnapshotResumed], &r, r.Elapsed.Round(time.Second))
			if err := simVerdict(&r); err != nil {
				return err
			}
			if missed := r.SnapshotCrashesMissed(); len(missed) > 0 {
				return &exitError{exitFailed, fmt.Errorf("no host crashed there: %v", missed)}
			}
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&o.Seeds, "seeds", 1000, "how many seeds to run")
	f.Uint64Var(&o.SeedBase, "seed-base", 1, "the first seed")
	f.IntVar(&o.Workers, "workers", 0, "seeds at a time (default: one for each processor)")
	return c
}
