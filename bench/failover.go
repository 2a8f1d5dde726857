package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/bench/internal/report"
)

const (
	// probeInterval is how often a write is sent at each survivor, whatever
	// became of the ones before: a client that waits for an answer that is lost
	// would hide that others are served again.
	probeInterval = 2 * time.Millisecond
	// probesBefore is how many writes are acknowledged before anything happens.
	probesBefore = 100
	failoverMax  = 30 * time.Second
)

// failovers is how long systems are without a leader.
type failovers struct {
	Rows    []failoverRow    `json:"rows"`
	Targets []report.Verdict `json:"targets"`
}

// failoverRow is a system's trials.
type failoverRow struct {
	System   string   `json:"system"`
	What     string   `json:"what"` // failover or handover
	MedianMs float64  `json:"median_ms"`
	MaxMs    float64  `json:"max_ms"`
	Trials   []outage `json:"trials"`
}

// outage is one trial.
type outage struct {
	// GapMs of a failover is the time from the end of the leader to the first
	// acknowledgement of a write that was sent afterwards; of a hand-over the
	// longest time between two acknowledgements.
	GapMs float64 `json:"gap_ms"`
	// Failed requests of a hand-over.
	Failed int `json:"failed"`
}

// runFailover ends the leader of each system, in turns, and lets those that can
// hand over as planned.
func runFailover(o *options) (result, error) {
	names, err := selectSystems(o.peersOr("hashicorp,etcdraft,dragonboat,quorate"))
	if err != nil {
		return nil, err
	}
	f := &failovers{}
	for i := range o.trialsOr(10) {
		for _, name := range names {
			for _, what := range []string{"failover", "handover"} {
				if what == "handover" && name != "quorate" {
					continue
				}
				x := o.order(what, name, write(128, 16, 1), i)
				x.Window = failoverMax
				var got outage
				if err := spawn(o, x, &got); err != nil {
					return nil, fmt.Errorf("%s of %s: %w", what, name, err)
				}
				fmt.Fprintf(os.Stderr, "%d %s %-12s %.1f ms, %d failed\n", i+1, what, name, got.GapMs, got.Failed)
				f.record(name, what, got)
			}
		}
	}
	f.finish()
	return f, nil
}

func (f *failovers) record(name, what string, got outage) {
	i := slices.IndexFunc(f.Rows, func(r failoverRow) bool { return r.System == name && r.What == what })
	if i < 0 {
		i = len(f.Rows)
		f.Rows = append(f.Rows, failoverRow{System: name, What: what})
	}
	f.Rows[i].Trials = append(f.Rows[i].Trials, got)
}

// finish works out the medians and compares quorate's with what is wanted.
func (f *failovers) finish() {
	var over, hand, failed float64
	var overKnown, handKnown bool
	for i := range f.Rows {
		r := &f.Rows[i]
		var gaps []float64
		for _, t := range r.Trials {
			gaps = append(gaps, t.GapMs)
			failed += float64(t.Failed)
		}
		r.MedianMs, r.MaxMs = report.Median(gaps), slices.Max(gaps)
		switch {
		case r.System == "quorate" && r.What == "failover":
			over, overKnown = r.MedianMs, true
		case r.System == "quorate":
			hand, handKnown = r.MedianMs, true
		}
	}
	f.Targets = []report.Verdict{
		report.AtMost("leader's host closed → next write", over, 300, "ms", overKnown),
		report.AtMost("planned hand-over: longest gap", hand, 10, "ms", handKnown),
		report.AtMost("planned hand-over: failed requests", failed, 0, "requests", handKnown),
	}
}

func (f *failovers) tables() []report.Table {
	t := report.Table{Title: "Without a leader", Head: []string{"", "system", "median ms", "max ms", "each"}}
	for _, r := range f.Rows {
		var each []string
		for _, x := range r.Trials {
			each = append(each, report.Digits(x.GapMs))
		}
		what := "leader's host closed → next write"
		if r.What == "handover" {
			what = "planned hand-over: longest gap between two answers"
		}
		t.Add(what, r.System, report.Digits(r.MedianMs), report.Digits(r.MaxMs), strings.Join(each, " "))
	}
	return []report.Table{t, report.Verdicts(f.Targets)}
}

// prober sends writes and reports which are acknowledged.
type prober struct {
	s       breaker
	command []byte
	ctx     context.Context
	stop    context.CancelFunc
	all     sync.WaitGroup
	acked   chan time.Time // when what is acknowledged was sent
	failed  atomic.Int64
}

func newProber(s breaker, w work) *prober {
	p := &prober{s: s, command: make([]byte, w.Payload), acked: make(chan time.Time, 1<<16)}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// probe sends a write at a replica every probeInterval.
func (p *prober) probe(replica int) {
	p.all.Go(func() {
		tick := time.NewTicker(probeInterval)
		defer tick.Stop()
		for {
			select {
			case <-p.ctx.Done():
				return
			case <-tick.C:
			}
			p.all.Go(func() {
				sent := time.Now()
				if err := p.s.ProposeAt(p.ctx, replica, 0, p.command); err != nil {
					if p.ctx.Err() == nil {
						p.failed.Add(1)
					}
					return
				}
				select {
				case p.acked <- sent:
				case <-p.ctx.Done():
				}
			})
		}
	})
}

var errNoAnswer = errors.New("no write was acknowledged in time")

// await waits for the acknowledgement of a write that was sent after since.
func (p *prober) await(since time.Time) error {
	timeout := time.After(failoverMax)
	for {
		select {
		case sent := <-p.acked:
			if sent.After(since) {
				return nil
			}
		case <-timeout:
			return errNoAnswer
		}
	}
}

// jobFailover ends the leader's replica under a light load at all of them.
func jobFailover(x *order) (any, error) {
	s, err := x.start()
	if err != nil {
		return nil, err
	}
	b, ok := s.(breaker)
	if !ok {
		return nil, errors.Join(errors.New("no replica of it can be ended"), s.Close())
	}
	leader := b.Leader(0)
	p := newProber(b, x.Work)
	for i := range x.Work.Replicas {
		if i != leader {
			p.probe(i)
		}
	}
	// Only those at the leader itself are certain to be acknowledged before.
	for range probesBefore {
		if err := b.ProposeAt(p.ctx, leader, 0, p.command); err != nil {
			return nil, fmt.Errorf("before anything happened: %w", err)
		}
	}
	at := time.Now()
	err = b.Break(leader)
	// The replica is gone: what is sent from now on it cannot have taken.
	err = errors.Join(err, p.await(time.Now()))
	gap := time.Since(at)
	p.stop()
	// Requests that wait for the lost replica may take their time: the process
	// ends without them.
	return outage{GapMs: gap.Seconds() * 1e3}, err
}

// jobHandOver lets the leader hand over while writes arrive at all replicas.
func jobHandOver(x *order) (any, error) {
	s, err := x.start()
	if err != nil {
		return nil, err
	}
	h, ok := s.(hander)
	if !ok {
		return nil, errors.Join(errors.New("it cannot hand over"), s.Close())
	}
	leader := h.Leader(0)
	g := newGaps(h, x.Work)
	g.run()
	if err := g.await(probesBefore); err != nil {
		return nil, err
	}
	g.reset()
	before := g.count()
	ctx, cancel := context.WithTimeout(context.Background(), failoverMax)
	defer cancel()
	err = errors.Join(h.HandOver(ctx, leader), g.await(before+probesBefore*int64(x.Work.InFlight)))
	got := outage{GapMs: g.longest().Seconds() * 1e3, Failed: int(g.failed.Load())}
	g.stop()
	if err == nil && h.Leader(0) == leader {
		err = errors.New("the leader is the same as before")
	}
	return got, errors.Join(err, s.Close())
}
