package raft

import (
	"flag"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed of TestRandom alone")
	seedsFlag = flag.Uint64("seeds", 400, "run as many seeds of TestRandom")
)

// swarm draws the features of a run: each seed leaves some out altogether.
func swarm(c *cluster) {
	pick := func(values ...int) int { return values[c.rng.IntN(len(values))] }
	c.faults = faults{
		loss: pick(0, 20, 200), duplicate: pick(0, 50), slow: pick(0, 0, 100),
		crash: pick(0, 10, 30), partition: pick(0, 20), compact: pick(0, 50), change: pick(0, 0, 10),
		admin: pick(0, 10), propose: pick(300, 900), read: pick(0, 200), hunter: pick(0, 1) == 1,
		diskMillis: pick(0, 2, 10), voteHunter: pick(0, 0, 1) == 1, rivals: pick(0, 20), restartMillis: pick(20, 400),
	}
}

func swarmConfig(seed uint64) Config {
	cfg := Config{}
	if seed%2 == 0 {
		cfg.AppendEntriesMax = 1
	}
	if seed%3 == 0 {
		cfg.TailBytesMax = 500
		cfg.ApplyBacklogBytesMax = 400
		cfg.CommittedBytesMax = 300
	}
	if seed%5 == 0 {
		cfg.InflightMessagesMax = 2
		cfg.AppendBytesMax = 200
		cfg.UncommittedBytesMax = 2000
	}
	return cfg
}

func runSeed(seed uint64, d time.Duration, opts ...Option) *cluster {
	members := []int{1, 2, 3, 3, 3, 5, 5}[seed%7]
	c := newCluster(seed, max(members, 3), members, swarmConfig(seed), faults{}, opts...)
	swarm(c)
	c.storm(d)
	return c
}

// huntVotes runs a seed that is dangerous to votes: rivals stand at once, voters
// crash just after they have voted, on slow disks, and are back in no time.
func huntVotes(seed uint64, d time.Duration, opts ...Option) *cluster {
	c := newCluster(seed, 3, 3, Config{ElectionTimeout: 20 * time.Millisecond}, faults{}, opts...)
	c.faults = faults{rivals: 300, voteHunter: true, hunter: seed%2 == 0, propose: 50, diskMillis: 20, restartMillis: 5}
	c.storm(d)
	return c
}

// huntCommits runs a seed that is dangerous to commits: leaders reach a few
// followers only, with one entry a message, and crash soon.
func huntCommits(seed uint64, d time.Duration, opts ...Option) *cluster {
	c := newCluster(seed, 5, 5, Config{AppendEntriesMax: 1, ElectionTimeout: 20 * time.Millisecond}, faults{}, opts...)
	c.faults = faults{rivals: 300, hunter: true, propose: []int{0, 100}[seed%2], loss: 100, restartMillis: 5 + 35*int(seed/2%2)}
	c.storm(d)
	return c
}

// The five properties of Raft Figure 3, linearizability of read indexes, the
// core's own invariants, and progress after healing, under every fault.
func TestRandom(t *testing.T) {
	seeds := *seedsFlag
	if testing.Short() {
		seeds = 100
	}
	first, last := uint64(1), seeds
	if *seedFlag > 0 {
		first, last = *seedFlag, *seedFlag
	}
	var sum stats
	for seed := first; seed <= last; seed++ {
		c := runSeed(seed, 3*time.Second, Poison(), Paranoid())
		if c.violation == "" {
			c.heal()
		}
		if c.violation != "" {
			t.Errorf("seed %d: %s", seed, c.violation)
		}
		s := c.stats
		sum.elections += s.elections
		sum.commits += s.commits
		sum.crashes += s.crashes
		sum.snapshots += s.snapshots
		sum.fetches += s.fetches
		sum.reads += s.reads
		sum.truncations += s.truncations
		sum.changes += s.changes
		sum.restarts += s.restarts
	}
	t.Logf("%+v", sum)
	if testing.Short() || first == last {
		return
	}
	// A simulation that does nothing passes: it must have been to all places.
	if sum.elections < 400 || sum.commits < 5000 || sum.crashes < 100 || sum.snapshots < 50 || sum.fetches < 50 || sum.reads < 500 || sum.truncations < 20 || sum.changes < 50 {
		t.Errorf("the faults did not reach what they are for: %+v", sum)
	}
}

// What a protection protects from is found within a few seeds when it is
// switched off, and nothing is found in the same seeds as shipped.
func TestRandomFindsWhatProtectionsPrevent(t *testing.T) {
	for _, c := range []struct {
		without string
		run     func(uint64, time.Duration, ...Option) *cluster
		seeds   uint64
	}{
		// Found by the seeds 10, 10, 14 and 268 at the time of writing.
		{"vote-persistence", huntVotes, 80},
		{"own-term-commit", huntCommits, 200},
		{"sync", runSeed, 200},
		{"joint", runSeed, 800},
	} {
		off, err := Without(c.without)
		if err != nil {
			t.Fatal(err)
		}
		found := ""
		for seed := uint64(1); seed <= c.seeds; seed++ {
			if v := c.run(seed, 3*time.Second, off).violation; v != "" {
				found = v
				t.Logf("without %s, seed %d: %s", c.without, seed, v)
				if v := c.run(seed, 3*time.Second).violation; v != "" {
					t.Errorf("as shipped, seed %d: %s", seed, v)
				}
				break
			}
		}
		if found == "" {
			t.Errorf("without %s, %d seeds have found nothing", c.without, c.seeds)
		}
	}
	for seed := uint64(1); seed <= 50; seed++ {
		for _, run := range []func(uint64, time.Duration, ...Option) *cluster{huntVotes, huntCommits} {
			if v := run(seed, 3*time.Second, Poison(), Paranoid()).violation; v != "" {
				t.Errorf("as shipped, seed %d: %s", seed, v)
			}
		}
	}
}

// The same seed gives the same run.
func TestRandomIsDeterministic(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		a, b := runSeed(seed, time.Second), runSeed(seed, time.Second)
		if a.stats != b.stats || a.seq != b.seq || sprint(a.committed) != sprint(b.committed) {
			t.Errorf("seed %d: %+v, %+v", seed, a.stats, b.stats)
		}
	}
}
