package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/quorate/quorate/internal/load"
)

// runRestarts writes a number of keys to each system, and then kills all of its
// members and starts them again, so often, in turns. What is recorded is the time
// until every member answers a linearizable read.
func runRestarts(ctx context.Context, o *options, dir string, systems []system, t *table) error {
	if o.restarts == 0 {
		return nil
	}
	t.RestartEntries = o.entries
	clusters := map[string]*cluster{}
	defer func() {
		for _, c := range clusters {
			c.stop()
		}
	}()
	for trial := range o.restarts {
		for _, s := range systems {
			if s.members < 3 {
				continue
			}
			if clusters[s.name] == nil {
				c, err := startCluster(ctx, dir, s)
				if err != nil {
					return err
				}
				clusters[s.name] = c
				if err := fill(ctx, o, c); err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
			}
			took, err := restartAll(ctx, clusters[s.name])
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			fmt.Fprintf(os.Stderr, "%d/%d restart %-12s all serve after %.0f ms\n", trial+1, o.restarts, s.name, took.Seconds()*1e3)
			t.Restarts = recordTrial(t.Restarts, s.name, took)
		}
	}
	return nil
}

// fill writes until so many writes are acknowledged.
func fill(ctx context.Context, o *options, c *cluster) error {
	endpoints, err := c.leaderFirst(ctx)
	if err != nil {
		return err
	}
	for done, seed := uint64(0), uint64(0); done < uint64(o.entries); seed++ {
		r, err := load.Run(ctx, load.Options{
			Work: load.Put, Endpoints: endpoints, Clients: 256, Conns: o.conns,
			KeyBytes: 16, ValueBytes: 16, Keys: o.keys, Prefix: "k", Window: 2 * time.Second, Seed: seed,
		})
		if err != nil {
			return err
		}
		if r.Ops == 0 {
			return errors.New("no write was acknowledged")
		}
		done += r.Ops
	}
	return nil
}

// restartAll kills all members and starts them.
func restartAll(ctx context.Context, c *cluster) (time.Duration, error) {
	for _, m := range c.members {
		m.kill()
	}
	at := time.Now()
	for _, m := range c.members {
		if err := m.start(); err != nil {
			return 0, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	for _, m := range c.members {
		if err := m.await(ctx); err != nil {
			return 0, fmt.Errorf("%w\n%s", err, c.tail())
		}
	}
	return time.Since(at), nil
}
