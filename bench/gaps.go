package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// gaps is a load at all replicas, one after the other, that knows the longest
// time between two acknowledgements.
type gaps struct {
	s      breaker
	work   work
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup
	failed atomic.Int64

	mu    sync.Mutex
	acked int64
	last  time.Time
	most  time.Duration
}

func newGaps(s breaker, w work) *gaps {
	g := &gaps{s: s, work: w, last: time.Now()}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

func (g *gaps) run() {
	command := make([]byte, g.work.Payload)
	for i := range g.work.InFlight {
		g.all.Go(func() {
			for g.ctx.Err() == nil {
				err := g.s.ProposeAt(context.Background(), i%g.work.Replicas, 0, command)
				if err != nil {
					g.failed.Add(1)
					continue
				}
				g.ack(time.Now())
			}
		})
	}
}

func (g *gaps) ack(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acked++
	g.most = max(g.most, now.Sub(g.last))
	g.last = now
}

// reset forgets the gaps so far.
func (g *gaps) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.most, g.last = 0, time.Now()
}

func (g *gaps) count() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.acked
}

func (g *gaps) longest() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.most
}

// await returns when n commands are acknowledged.
func (g *gaps) await(n int64) error {
	for deadline := time.Now().Add(failoverMax); g.count() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return errNoAnswer
		}
	}
	return nil
}

func (g *gaps) stop() {
	g.cancel()
	g.all.Wait()
}
