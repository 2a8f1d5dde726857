package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// outage is what is done to a cluster, and how long it takes to get over it.
type outage struct {
	// what is done and result what has come back then, for people.
	what, result string
	// prepare, if not nil, is done once to each new cluster.
	prepare func(context.Context, *cluster) error
	measure func(context.Context, *cluster) (time.Duration, error)
}

// inTurns does it so many times to each replicated system that takes writes, one after the
// other, and returns what it took, also what it took until an error.
func (x *outage) inTurns(ctx context.Context, dir string, systems []system, times int) (all []trials, err error) {
	clusters := map[string]*cluster{}
	defer func() {
		for _, c := range clusters {
			c.stop()
		}
	}()
	for n := range times {
		for _, s := range systems {
			if s.members < 3 || s.reads {
				continue
			}
			if clusters[s.name] == nil {
				c, err := startCluster(ctx, dir, s)
				if err != nil {
					return all, err
				}
				clusters[s.name] = c
				if x.prepare != nil {
					if err := x.prepare(ctx, c); err != nil {
						return all, fmt.Errorf("%s: %w", s.name, err)
					}
				}
			}
			took, err := x.measure(ctx, clusters[s.name])
			if err != nil {
				return all, fmt.Errorf("%s: %w", s.name, err)
			}
			fmt.Fprintf(os.Stderr, "%d/%d %s %-12s %s after %.0f ms\n", n+1, times, x.what, s.name, x.result, took.Seconds()*1e3)
			all = recordTrial(all, s.name, took)
		}
	}
	return all, nil
}
