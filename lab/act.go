package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/sim"
	"github.com/quorate/quorate/smr"
)

func (a caption) act(*run) error { return nil }

func (a stand) act(r *run) error {
	if err := r.world.Stand(a.id); err != nil {
		return err
	}
	r.settle()
	return nil
}

// act lets the replica stand, and again whenever it has lost. If another one
// leads that it can talk with, that one hands its office over.
func (a elect) act(r *run) error {
	limit := r.now().Add(a.within.of(r.timeout()))
	standing := func() bool { return r.view(a.id).Role != raft.Follower }
	leading := func() bool { return r.view(a.id).Role == raft.Leader }
	for !leading() {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if r.now() >= limit {
			return fmt.Errorf("not within %v: %s", a.within.of(r.timeout()), roleText(r.view(a.id)))
		}
		if l := r.leaderFor(a.id); l != 0 {
			r.world.Transfer(l, a.id)
			r.settle()
			r.pass(min(limit, r.now().Add(r.timeout())), leading)
			continue
		}
		if err := r.world.Stand(a.id); err != nil {
			return err
		}
		r.settle()
		// An election that neither wins nor loses is begun again.
		r.pass(min(limit, r.now().Add(r.timeout())), func() bool { return !standing() || leading() })
		if r.violation() != nil {
			return nil
		}
		if !standing() {
			again := r.timeout() / 5 // before others stand
			if r.scenario.Setup.Manual {
				again = r.timeout() / 2
			}
			r.pass(min(limit, r.now().Add(again)), standing)
		}
	}
	return nil
}

// leaderFor returns a leader that the replica can talk with, or zero.
func (r *run) leaderFor(id smr.ReplicaID) smr.ReplicaID {
	for _, l := range r.leaders() {
		if r.world.Open(l, id) && r.world.Open(id, l) && r.view(l).Term >= r.view(id).Term {
			return l
		}
	}
	return 0
}

func (a transfer) act(r *run) error {
	if v := r.view(a.from); !v.Up || v.Role != raft.Leader {
		return fmt.Errorf("only a leader hands over: %s", roleText(v))
	}
	r.world.Transfer(a.from, a.to)
	r.settle()
	return nil
}

func (a notice) act(r *run) error {
	r.world.Notice(a.id, a.peer)
	r.settle()
	return nil
}

func (a crash) act(r *run) error {
	for _, id := range a.ids {
		r.world.Crash(id, a.power)
		r.look()
	}
	return nil
}

func (a restart) act(r *run) error {
	for _, id := range a.ids {
		if r.scenario.Setup.Hosts > 0 {
			if err := r.world.Upgrade(id, a.newer); err != nil {
				return err
			}
		}
		r.world.Restart(id)
		r.settle()
	}
	return nil
}

func (a pause) act(r *run) error {
	what := "all"
	switch {
	case a.apply:
		what = "its state machine"
	case a.disk:
		what = "its disk"
	default:
		what = "the whole replica"
	}
	if a.off {
		r.recorder.add(Item{At: r.now(), Kind: ItemResume, Replica: a.id, Letter: -1, Text: what + " goes on"})
		r.world.Resume(a.id, a.apply, a.disk)
	} else {
		r.recorder.add(Item{At: r.now(), Kind: ItemPause, Replica: a.id, Letter: -1, Text: what + " is paused"})
		r.world.Pause(a.id, a.apply, a.disk)
	}
	r.look()
	r.settle()
	return nil
}

func (a linksStep) act(r *run) error {
	for _, p := range a.pairs {
		if a.heal {
			r.world.Heal(p[0], p[1])
		} else {
			r.world.Cut(p[0], p[1])
		}
	}
	r.recordCuts()
	return nil
}

// recordCuts notes which links are cut from now on.
func (r *run) recordCuts() {
	var links [][2]smr.ReplicaID
	for a := smr.ReplicaID(1); int(a) <= r.world.Replicas(); a++ {
		for b := smr.ReplicaID(1); int(b) <= r.world.Replicas(); b++ {
			if a != b && !r.world.Open(a, b) {
				links = append(links, [2]smr.ReplicaID{a, b})
			}
		}
	}
	r.rec.cut(r.now(), links)
}

func (a withhold) act(r *run) error {
	r.world.Withhold(a.rule)
	return nil
}

func (a release) act(r *run) error {
	r.world.Release(a.rule)
	r.settle()
	return nil
}

func (a write) act(r *run) error {
	c := r.world.WriteBytes(a.client, a.at, a.key, a.count, a.bytes)
	if a.count == 1 {
		r.rec.Commands[c.ID] = fmt.Sprintf("%c=%s", registerNames[a.key], a.value)
	} else {
		for i := range a.count {
			r.rec.Commands[c.ID+uint64(i)] = fmt.Sprintf("#%d", i+1)
		}
	}
	r.called(c)
	return nil
}

func (a read) act(r *run) error {
	if a.local {
		r.called(r.world.ReadLocal(a.client, a.at, a.key))
	} else {
		r.called(r.world.Read(a.client, a.at, a.key))
	}
	return nil
}

func (r *run) called(c *sim.Call) {
	text := fmt.Sprintf("%s asks replica %d for %s", c.Client, c.Replica, r.callText(c))
	if c.Write {
		text = fmt.Sprintf("%s proposes %s at replica %d", c.Client, r.callText(c), c.Replica)
	}
	r.recorder.add(Item{At: r.now(), Kind: ItemCall, Replica: c.Replica, Letter: -1, Text: text})
	r.calls[c.Client] = c
	r.all = append(r.all, c)
	r.settle()
}

func (a until) act(r *run) error {
	limit := a.within.of(r.timeout())
	var seen string
	ok := r.pass(r.now().Add(limit), func() bool {
		var ok bool
		ok, seen = a.cond.holds(r)
		return ok
	})
	if !ok {
		return fmt.Errorf("not within %v: %s", limit, seen)
	}
	return nil
}

func (a wait) act(r *run) error {
	r.pass(r.now().Add(a.d.of(r.timeout())), nil)
	return nil
}

func (a require) act(r *run) error {
	if ok, seen := a.cond.holds(r); !ok {
		return errors.New(seen)
	}
	return nil
}

func (a recount) act(r *run) error {
	r.recorder.counts = newCounts()
	r.recorder.counts.since = r.now()
	r.recorder.counts.syncs = r.world.Syncs()
	return nil
}

func (a show) act(r *run) error {
	for i := range a.metrics {
		m := &a.metrics[i]
		v := r.measure(m)
		if m.name == "elapsed" {
			r.figure("%s: %v", m.text(), time.Duration(v).Round(100*time.Microsecond))
		} else {
			r.figure("%s: %d", m.text(), v)
		}
	}
	return nil
}

// measure returns a metric's value.
func (r *run) measure(m *metric) uint64 {
	c := &r.recorder.counts
	switch m.name {
	case "term":
		return r.view(m.id).Term
	case "commit":
		return r.view(m.id).Commit
	case "applied":
		return r.view(m.id).Applied
	case "last":
		return r.view(m.id).Last
	case "persisted":
		return r.view(m.id).Persisted
	case "appends":
		return ofReplica(c.appends, m.id)
	case "rejected":
		return ofReplica(c.rejected, m.id)
	case "blocks":
		return ofReplica(c.blocks, m.id)
	case "block-bytes":
		return ofReplica(c.blockBytes, m.id)
	case "held":
		return uint64(r.world.Held(m.rule))
	case "elections":
		return c.elections
	case "leaders":
		return uint64(len(r.leaders()))
	case "messages":
		return c.messages
	case "syncs":
		return r.world.Syncs() - c.syncs
	case "elapsed":
		return uint64(r.now().Sub(c.since))
	}
	if m.name == "mark" && r.swarm != nil {
		return r.swarm.Marks[m.mark]
	}
	if n, ok := r.measureSnapshots(m); ok {
		return n
	}
	return r.measureMany(m.name)
}

func ofReplica(counts map[smr.ReplicaID]uint64, id smr.ReplicaID) uint64 {
	if id != 0 {
		return counts[id]
	}
	sum := uint64(0)
	for _, n := range counts {
		sum += n
	}
	return sum
}

// measureMany returns a metric of a run of many seeds, or of a swarm.
func (r *run) measureMany(name string) uint64 {
	q := &r.rounds
	switch name {
	case "elected":
		return uint64(len(q.terms))
	case "never":
		return uint64(q.never)
	case "rounds-median":
		if len(q.terms) > 0 {
			return q.terms[len(q.terms)/2]
		}
	case "rounds-most":
		if len(q.terms) > 0 {
			return q.terms[len(q.terms)-1]
		}
	}
	if r.swarm == nil {
		return 0
	}
	switch name {
	case "swarm-applied":
		return r.swarm.Applied
	case "swarm-operations":
		return uint64(r.swarm.Operations)
	case "swarm-faults":
		n := uint64(0)
		for i := range r.rec.Items {
			switch r.rec.Items[i].Kind {
			case ItemCrash, ItemPause, ItemCut:
				n++
			}
		}
		return n
	}
	return 0
}

// roundsResult are the terms of the first leaders of many seeds, ascending.
type roundsResult struct {
	terms []uint64
	never int
}

// roundsTimeouts is how long a seed may take to elect.
const roundsTimeouts = 50

// act runs the set-up with many seeds until a first leader, and shows how many
// terms that took.
func (a rounds) act(r *run) error {
	q := &r.rounds
	for seed := range uint64(a.seeds) {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		w, err := sim.NewScript(r.options(1000+seed, nil))
		if err != nil {
			return err
		}
		if t := r.firstLeader(w); t > 0 {
			q.terms = append(q.terms, t)
		} else {
			q.never++
		}
		w.Finish()
	}
	slices.Sort(q.terms)
	r.figure("%d seeds: %d elected a leader, %d did not within %d election timeouts", a.seeds, len(q.terms), q.never, roundsTimeouts)
	for i := 0; i < len(q.terms); {
		n := i
		for n < len(q.terms) && q.terms[n] == q.terms[i] {
			n++
		}
		share := (n - i) * 20 / a.seeds
		r.figure("elected in term %2d: %4d  %s", q.terms[i], n-i, strings.Repeat("█", max(share, 1)))
		i = n
	}
	return nil
}

func (r *run) firstLeader(w *sim.Script) uint64 {
	end := smr.Instant(0).Add(roundsTimeouts * w.ElectionTimeout())
	var v sim.View
	for r.ctx.Err() == nil && w.Next() <= end && w.Step() {
		for id := range w.Replicas() {
			if w.View(smr.ReplicaID(id+1), &v); v.Role == raft.Leader {
				return v.Term
			}
		}
	}
	return 0
}

// act runs seeds of the simulation, with their faults. The first is recorded; what
// is counted of the others is added to it.
func (a runsSwarm) act(r *run) error {
	u := &r.scenario.Setup
	o := sim.Options{Without: r.arm.Without, Skip: r.arm.Ignore, EveryFault: u.EveryFault, Tracer: &r.recorder}
	if u.Swarm == "full" {
		o.Mode = sim.Full
	}
	virtual, messages := time.Duration(0), uint64(0)
	for n := range uint64(a.seeds) {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		res, err := sim.RunSeed(u.Seed+n, o)
		if err != nil {
			return err
		}
		virtual, messages = virtual+res.Virtual, messages+res.Messages
		if o.Tracer = nil; n == 0 {
			r.swarm = &res
		} else {
			r.addSeed(&res)
		}
		if res.Violation != nil {
			r.figure("seed %d fails", res.Seed)
			break
		}
	}
	r.figure("%d seeds: %v in virtual time, %d messages, %d entries applied, %d client operations ended", a.seeds, virtual.Round(time.Millisecond), messages, r.swarm.Applied, r.swarm.Operations)
	r.figure("faults and branches that took part: %s", r.swarm.Marks.String())
	return nil
}

func (r *run) addSeed(res *sim.Result) {
	t := r.swarm
	t.Violation, t.Applied, t.Operations = res.Violation, t.Applied+res.Applied, t.Operations+res.Operations
	for k, n := range res.Marks {
		t.Marks[k] += n
	}
}
