package sim

import (
	"context"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/smr"
)

// The liveness table: how long partial partitions cost a group its service, with
// and without the protections that are there for them. Each run is a core world
// of its own, with every checker at work. A leader is elected, entries are
// committed, the links are cut, and from then on somebody proposes to whoever
// leads. What is measured is the time until something new is committed, in
// election timeouts; for chains and rings, where the old leader can stay, how
// often it changes and how much of the time it serves.

// LivenessArms are the columns: what is switched off in each.
var LivenessArms = []struct {
	Name    string
	Without []string
}{
	{"plain Raft", []string{"pre-vote", "leader-heard", "check-quorum", "election-catch-up"}},
	{"pre-vote only", []string{"check-quorum", "election-catch-up"}},
	{"pre-vote + check-quorum", []string{"election-catch-up"}},
	{"+ election catch-up", nil},
}

// The lengths of a run, in election timeouts.
const (
	livenessLimit = 40  // what has not come by then never comes
	stableSpan    = 100 // for which chains and rings are watched
)

// partition is a row: a group, and what is done to its links.
type partition struct {
	name     string
	replicas int
	// behind draws who misses the last entries before the cut (bit per slot),
	// given who leads.
	behind func(s *source, n, leader int) uint
	// cut draws the directed links that stay.
	linked func(s *source, n, leader int, behind uint) func(from, to int) bool
	// stable rows are watched for leader changes.
	stable bool
	gate   float64
	graphs bool
}

// LivenessOptions says how much to measure. The zero value means its default.
type LivenessOptions struct {
	Seeds   int // of each row and arm, default 40
	Graphs  int // random graphs of each arm, default 400
	Base    uint64
	Workers int
}

// LivenessCell is what the seeds of a row came to under one arm.
type LivenessCell struct {
	// Times until new commits, ascending; Never came back.
	Times []float64
	Never int
	// Changes of the leader and Served, the share of the time in which something
	// was committed; of stable rows.
	Changes []float64
	Served  float64
	// Violations of safety.
	Violations []string
}

// LivenessRow is a kind of partition.
type LivenessRow struct {
	Name  string
	Gate  string
	Cells []LivenessCell // as LivenessArms
	// Failed says why the last column does not pass the gate; empty: it does.
	Failed string
	stable bool
}

// LivenessTable is all of it.
type LivenessTable struct {
	Rows    []LivenessRow
	Elapsed time.Duration
}

// Failed returns the rows that do not pass their gates.
func (t *LivenessTable) Failed() (failed []string) {
	for i := range t.Rows {
		if r := &t.Rows[i]; r.Failed != "" {
			failed = append(failed, r.Name+": "+r.Failed)
		}
	}
	return failed
}

// MeasureLiveness measures the table on all processors.
func MeasureLiveness(ctx context.Context, o LivenessOptions) (LivenessTable, error) {
	if o.Seeds <= 0 {
		o.Seeds = 40
	}
	if o.Graphs <= 0 {
		o.Graphs = 400
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	began := time.Now()
	rows := partitions()
	type job struct{ row, arm, seed int }
	var jobs []job
	for i := range rows {
		seeds := o.Seeds
		if rows[i].graphs {
			seeds = o.Graphs
		}
		for arm := range LivenessArms {
			for seed := range seeds {
				jobs = append(jobs, job{i, arm, seed})
			}
		}
	}
	runs := make([]livenessRun, len(jobs))
	errs := make([]error, len(jobs))
	var next atomic.Int64
	var group sync.WaitGroup
	for range o.Workers {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(jobs) || ctx.Err() != nil {
					return
				}
				j := jobs[i]
				runs[i], errs[i] = measure(&rows[j.row], LivenessArms[j.arm].Without, o.Base+uint64(j.seed))
			}
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return LivenessTable{}, err
	}
	t := LivenessTable{Rows: make([]LivenessRow, len(rows))}
	for i := range rows {
		t.Rows[i] = LivenessRow{Name: rows[i].name, Cells: make([]LivenessCell, len(LivenessArms)), stable: rows[i].stable}
	}
	for i, j := range jobs {
		if errs[i] != nil {
			return LivenessTable{}, errs[i]
		}
		t.Rows[j.row].Cells[j.arm].add(&runs[i])
	}
	for i := range rows {
		t.Rows[i].judge(&rows[i])
	}
	t.Elapsed = time.Since(began)
	return t, nil
}

// livenessRun is what one seed came to.
type livenessRun struct {
	time      float64 // until new commits; below zero: never
	changes   int
	served    float64
	violation *Violation
	seed      uint64
}

func (c *LivenessCell) add(r *livenessRun) {
	if r.violation != nil {
		c.Violations = append(c.Violations, fmt.Sprintf("seed %d: %v", r.seed, r.violation))
	}
	c.Changes = append(c.Changes, float64(r.changes))
	c.Served += r.served
	if r.time < 0 {
		c.Never++
	} else {
		c.Times = append(c.Times, r.time)
	}
}

func (r *LivenessRow) judge(p *partition) {
	for i := range r.Cells {
		c := &r.Cells[i]
		slices.Sort(c.Times)
		slices.Sort(c.Changes)
		c.Served /= float64(len(c.Changes))
		if len(c.Violations) > 0 {
			r.Failed = c.Violations[0]
		}
	}
	c := &r.Cells[len(r.Cells)-1]
	if p.stable {
		r.Gate = fmt.Sprintf("at most %.0f change", p.gate)
		if worst := last(c.Changes); worst > p.gate {
			r.Failed = fmt.Sprintf("the leader changes %.0f times in %d election timeouts", worst, stableSpan)
		}
		return
	}
	r.Gate = fmt.Sprintf("none never, at most %.0f", p.gate)
	switch worst := last(c.Times); {
	case c.Never > 0:
		r.Failed = fmt.Sprintf("%d of %d never come back", c.Never, len(c.Changes))
	case worst > p.gate:
		r.Failed = fmt.Sprintf("%.1f election timeouts", worst)
	}
}

func last(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	return v[len(v)-1]
}

// text is the cell as it is printed.
func (c *LivenessCell) text(stable bool) string {
	switch n := len(c.Times); {
	case stable:
		return fmt.Sprintf("%.0f (%.0f) changes, %.0f %%", c.Changes[len(c.Changes)/2], last(c.Changes), 100*c.Served)
	case n == 0:
		return "never"
	case c.Never > 0:
		return fmt.Sprintf("%d never, %.1f (%.1f)", c.Never, c.Times[n/2], last(c.Times))
	default:
		return fmt.Sprintf("%.1f (%.1f)", c.Times[n/2], last(c.Times))
	}
}

// String prints the table in Markdown, with the gates of the last column.
func (t *LivenessTable) String() string {
	var b strings.Builder
	b.WriteString("| partition |")
	for _, a := range LivenessArms {
		b.WriteString(" " + a.Name + " |")
	}
	b.WriteString(" gate | |\n|---|" + strings.Repeat("---|", len(LivenessArms)+2) + "\n")
	for i := range t.Rows {
		r := &t.Rows[i]
		fmt.Fprintf(&b, "| %s |", r.Name)
		for k := range r.Cells {
			b.WriteString(" " + r.Cells[k].text(r.stable) + " |")
		}
		verdict := "pass"
		if r.Failed != "" {
			verdict = "FAIL: " + r.Failed
		}
		fmt.Fprintf(&b, " %s | %s |\n", r.Gate, verdict)
	}
	return b.String()
}

// partitions are the rows. Ng et al. 2023 (Omni-Paxos, §2) name the first three
// kinds; the others are one-way links, and everything at once.
func partitions() []partition {
	nobody := func(*source, int, int) uint { return 0 }
	star := func(middle int) func(from, to int) bool {
		return func(from, to int) bool { return from == middle || to == middle }
	}
	ring := func(n int, chain bool) func(*source, int, int, uint) func(int, int) bool {
		return func(_ *source, _, leader int, _ uint) func(int, int) bool {
			return func(from, to int) bool {
				// The leader is at one end of a chain.
				a, b := (from-leader+n)%n, (to-leader+n)%n
				return a-b == 1 || b-a == 1 || !chain && (a-b == n-1 || b-a == n-1)
			}
		}
	}
	constrained := func(n int) partition {
		return partition{
			name: fmt.Sprintf("constrained election (%d)", n), replicas: n, gate: 7, behind: another,
			linked: func(_ *source, _, leader int, behind uint) func(int, int) bool {
				middle := star(bits.TrailingZeros(behind))
				return func(from, to int) bool { return from != leader && to != leader && middle(from, to) }
			},
		}
	}
	return []partition{
		{name: "quorum loss (5)", replicas: 5, gate: 5, behind: nobody, linked: func(s *source, n, leader int, _ uint) func(int, int) bool {
			return star(bits.TrailingZeros(another(s, n, leader)))
		}},
		constrained(5), constrained(4),
		{name: "chained (3)", replicas: 3, gate: 1, stable: true, behind: nobody, linked: ring(3, true)},
		{name: "ring of 4", replicas: 4, gate: 1, stable: true, behind: nobody, linked: ring(4, false)},
		{name: "ring of 5", replicas: 5, gate: 1, stable: true, behind: nobody, linked: ring(5, false)},
		// Of four, for of five the others are a quorum by themselves.
		{name: "leader heard by one only (4)", replicas: 4, gate: 5, behind: nobody, linked: func(s *source, n, leader int, _ uint) func(int, int) bool {
			one := bits.TrailingZeros(another(s, n, leader))
			return func(from, to int) bool { return from != leader || to == one }
		}},
		{name: "leader that hears nothing (5)", replicas: 5, gate: 5, behind: nobody, linked: func(_ *source, _, leader int, _ uint) func(int, int) bool {
			return func(_, to int) bool { return to != leader }
		}},
		{name: "random graphs (5)", replicas: 5, gate: 10, graphs: true, behind: someBehind, linked: randomGraph},
	}
}

// another draws one that does not lead.
func another(s *source, n, leader int) uint { return 1 << ((leader + 1 + s.n(n-1)) % n) }

// someBehind draws less than half, without the leader.
func someBehind(s *source, n, leader int) uint {
	behind := uint(0)
	for i := range n {
		if i != leader && bits.OnesCount(behind) < (n-1)/2 && s.flip() {
			behind |= 1 << i
		}
	}
	return behind
}

// randomGraph draws a graph of whole links in which one replica at least reaches
// a quorum.
func randomGraph(s *source, n, _ int, _ uint) func(from, to int) bool {
	for {
		var links [replicasMax]uint
		for i := range n {
			for j := range i {
				if s.flip() {
					links[i] |= 1 << j
					links[j] |= 1 << i
				}
			}
		}
		for i := range n {
			if bits.OnesCount(links[i])+1 > n/2 {
				return func(from, to int) bool { return links[from]>>to&1 == 1 }
			}
		}
	}
}

// measure runs one seed of a row.
func measure(p *partition, without []string, seed uint64) (livenessRun, error) {
	w, err := newProbe(p.replicas, seed, without)
	if err != nil {
		return livenessRun{}, err
	}
	run := livenessRun{time: -1, seed: seed}
	w.guarded(func() { w.cutAndWatch(p, &run) })
	run.violation = w.found
	return run, nil
}

// newProbe builds a world without clients and without any fault but the links
// that are cut.
func newProbe(replicas int, seed uint64, without []string) (*world, error) {
	const timeout = 100 * time.Millisecond
	f := features{
		replicas: replicas, electionTimeout: timeout, heartbeats: 5,
		delayMin: timeout / 200, delayMax: timeout / 20, syncMin: timeout / 500, syncMax: timeout / 50, stallMax: timeout,
		keys: 1, valueBytes: commandBytesMin, tailOnRestart: 1 << 30,
	}
	w := &world{features: f, common: newCommon(seed, &Options{}), clockR: fork(seed, 4), diskR: fork(seed, 5), turnR: fork(seed, 6)}
	w.net = network{rng: fork(seed, 3), delayMin: f.delayMin, delayMax: f.delayMax, inOrder: true}
	var err error
	if w.options, err = coreOptions(without); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	for i := range replicas {
		w.voters |= 1 << i
		w.config.Members = append(w.config.Members, smr.Member{ID: smr.ReplicaID(i + 1), Role: smr.Voter})
	}
	for i := range w.config.Members {
		r := newReplica(i, &f)
		r.disk.log.start.Configuration = w.config
		w.replicas = append(w.replicas, r)
		w.queue.push(occurrence{what: whatRestart, who: uint8(i)})
	}
	return w, nil
}

// pass lets the world happen until t, or until done.
func (w *world) pass(t smr.Instant, done func() bool) bool {
	for w.found == nil && !done() {
		if len(w.queue.heap) == 0 || w.queue.heap[0].at > t {
			w.now = max(w.now, t)
			return false
		}
		w.current, _ = w.queue.pop()
		w.now = w.current.at
		w.steps++
		w.dispatch(&w.current)
	}
	return w.found == nil
}

// offer proposes a command to everybody who leads, or thinks so.
func (w *world) offer() {
	for _, r := range w.replicas {
		if r.core == nil || r.state.Role.String() != "leader" {
			continue
		}
		w.commandIDs++
		e := []smr.Entry{{Kind: smr.KindCommand, Data: appendCommand(nil, w.commandIDs, 0, commandBytesMin)}}
		if r.core.Propose(w.clock(r), e) == nil {
			w.touch(r)
		}
	}
}

func (w *world) cutAndWatch(p *partition, run *livenessRun) {
	et := w.features.electionTimeout
	never := func() bool { return false }
	s := fork(w.seed, 8)
	// A leader, and some entries that everybody has.
	w.pass(w.now.Add(100*et), func() bool { return w.leader() != nil && w.maxCommit > 0 })
	w.pass(w.now.Add(et), never)
	leader := w.leader()
	if leader == nil {
		w.fail(Liveness, nil, "no leader before any link was cut")
		return
	}
	// A few entries that those who are behind miss. It is over before anybody
	// stands.
	behind := p.behind(&s, p.replicas, leader.slot)
	away := w.net.add(cutPairs(p.replicas, behind, true, true), 0)
	w.offer()
	w.pass(w.now.Add(2*et/5), never)
	linked := p.linked(&s, p.replicas, leader.slot, behind)
	var pairs [][2]uint8
	for i := range p.replicas {
		for j := range p.replicas {
			if i != j && !linked(i, j) {
				pairs = append(pairs, [2]uint8{uint8(i), uint8(j)})
			}
		}
	}
	w.net.set(away, false)
	w.net.add(pairs, 0)
	w.watch(p, run)
}

// watch measures what the cut has done.
func (w *world) watch(p *partition, run *livenessRun) {
	et := w.features.electionTimeout
	began, before, elections := w.now, w.maxCommit, w.marks[MarkElection]
	span := livenessLimit
	if p.stable {
		span = stableSpan
	}
	served, seen := 0, w.maxCommit
	for i := range span {
		for k := range 10 {
			w.offer()
			at := began.Add(et*time.Duration(i) + et*time.Duration(k+1)/10)
			w.pass(at, func() bool { return run.time < 0 && w.maxCommit > before })
			if run.time < 0 && w.maxCommit > before {
				run.time = float64(w.now.Sub(began)) / float64(et)
				if !p.stable {
					return
				}
				w.pass(at, func() bool { return false })
			}
		}
		if w.maxCommit > seen {
			served++
		}
		seen = w.maxCommit
	}
	run.changes, run.served = int(w.marks[MarkElection]-elections), float64(served)/float64(span)
}
