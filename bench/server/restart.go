package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/internal/load"
)

// runRestarts writes a number of keys to each system, and then kills all of its
// members and starts them again, so often, in turns. What is recorded is the time
// until every member answers a linearizable read.
func runRestarts(ctx context.Context, o *options, dir string, systems []system, t *table) (err error) {
	if o.restarts == 0 {
		return nil
	}
	t.RestartEntries = o.entries
	x := outage{
		what: "restart", result: "all serve", measure: restartAll,
		prepare: func(ctx context.Context, c *cluster) error { return fill(ctx, o, c) },
	}
	t.Restarts, err = x.inTurns(ctx, dir, systems, o.restarts)
	return err
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
