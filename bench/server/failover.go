package main

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	// probeInterval is how often a write is sent to each survivor, whatever
	// became of the ones before: a client that waits for an answer that is lost
	// would hide that others are served again.
	probeInterval = 5 * time.Millisecond
	probeTimeout  = 10 * time.Second
	// settle is the time between a member's return and the next kill.
	settle = time.Second
)

// runFailovers kills the leader of each system so often, in turns, and records
// how long it takes until a write that is sent afterwards is acknowledged.
func runFailovers(ctx context.Context, o *options, dir string, systems []system, t *table) (err error) {
	x := outage{what: "leader killed", result: "next write", measure: failOver}
	t.Failovers, err = x.inTurns(ctx, dir, systems, o.failovers)
	return err
}

// failOver kills the leader under a light load, measures, and starts it again.
func failOver(ctx context.Context, c *cluster) (time.Duration, error) {
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	leader, err := c.leader(ctx)
	if err != nil {
		return 0, err
	}
	probing, stop := context.WithCancel(ctx)
	acked := make(chan probe, 1024)
	var probes sync.WaitGroup
	defer probes.Wait()
	defer stop()
	for _, m := range c.members {
		if m != leader {
			probes.Go(func() { m.probe(probing, &probes, acked) })
		}
	}
	// Some writes before it.
	for range 20 {
		if err := awaitProbe(ctx, acked, time.Time{}); err != nil {
			return 0, err
		}
	}
	at := time.Now()
	leader.kill()
	// The process is gone: what is sent from now on it cannot have taken.
	if err := awaitProbe(ctx, acked, time.Now()); err != nil {
		return 0, err
	}
	gap := time.Since(at)
	if err := leader.start(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	return gap, leader.await(ctx)
}

// probe is an acknowledged write.
type probe struct{ sent time.Time }

func (m *member) probe(ctx context.Context, probes *sync.WaitGroup, acked chan<- probe) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		probes.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			p := probe{sent: time.Now()}
			if _, err := m.kv.Put(bounded, &pb.PutRequest{Key: []byte("probe"), Value: []byte("probe")}); err == nil {
				select {
				case acked <- p:
				case <-ctx.Done():
				}
			}
		})
	}
}

// awaitProbe waits for the acknowledgement of a write that was sent after since.
func awaitProbe(ctx context.Context, acked <-chan probe, since time.Time) error {
	timeout := time.After(probeTimeout)
	for {
		select {
		case p := <-acked:
			if p.sent.After(since) {
				return nil
			}
		case <-timeout:
			return errors.New("no write was acknowledged within 10 s")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
