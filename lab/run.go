package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/sim"
	"github.com/quorate/quorate/smr"
)

// Result is what running an arm came to.
type Result struct {
	Scenario *Scenario
	Arm      *Arm
	// Observed says that everything was as the arm expects. Otherwise Missing
	// says what was not.
	Observed bool
	Missing  []string
	// Seen are the expectations that held, with what was seen.
	Seen      []string
	Violation *sim.Violation
	Figures   []string
	Recording *Recording
}

// protections are all that an arm can do without.
func protections() []string {
	var names []string
	for _, s := range sim.Protections() {
		names = append(names, s.Name)
	}
	return names
}

// Run runs an arm of a scenario. If ctx ends first, the error wraps its cause.
// The seed of a swarm that has begun is finished all the same.
func Run(ctx context.Context, s *Scenario, arm *Arm) (*Result, error) {
	r := &run{
		ctx: ctx, scenario: s, arm: arm, calls: map[string]*sim.Call{},
		rec: &Recording{Replicas: s.Setup.replicas(), Commands: map[uint64]string{}},
	}
	r.recorder = recorder{rec: r.rec, open: map[string][]int{}, lost: map[[2]smr.ReplicaID]string{}, refused: map[[2]smr.ReplicaID]string{}, asked: map[[2]smr.ReplicaID]asking{}, cuts: map[[2]smr.ReplicaID]int{}, counts: newCounts(), headOff: s.Setup.Swarm != ""}
	res := &Result{Scenario: s, Arm: arm, Recording: r.rec}
	if s.Setup.Swarm == "" {
		w, err := sim.NewScript(r.options(s.Setup.Seed, &r.recorder))
		if err != nil {
			return nil, err
		}
		r.world = w
		r.views = make([]sim.View, w.Replicas())
		r.rec.viewed = true
		r.rec.Timeout = w.ElectionTimeout()
		r.settle()
	}
	failed := r.play()
	if ctx.Err() != nil {
		if r.world != nil {
			r.world.Close()
		}
		return nil, fmt.Errorf("%s, %s was not finished: %w", s.Name, arm.Title(), ctx.Err())
	}
	r.conclude(res, failed)
	return res, nil
}

// run is one arm under way.
type run struct {
	ctx      context.Context
	scenario *Scenario
	arm      *Arm
	world    *sim.Script // nil: a swarm
	recorder recorder
	rec      *Recording
	views    []sim.View
	calls    map[string]*sim.Call // the newest of each client
	all      []*sim.Call
	figures  []string
	swarm    *sim.Result
	rounds   roundsResult
}

func (r *run) options(seed uint64, t sim.Tracer) sim.ScriptOptions {
	u := &r.scenario.Setup
	o := sim.ScriptOptions{
		Mode: sim.Full, Replicas: u.replicas(), Seed: seed, ElectionTimeout: u.Timeout, Delay: u.Delay, Sync: u.Sync,
		Patience: u.Patience, OneEntry: u.OneEntry, Lease: u.Lease, Snapshots: u.Snapshots, Without: r.arm.Without, Skip: r.arm.Ignore, Tracer: t,
	}
	if u.Cores > 0 {
		o.Mode, o.Logs, o.Terms, o.ManualTimers = sim.Core, u.Logs, u.Terms, u.Manual
	}
	return o
}

// play does the steps of the arm, until one fails or a violation is found. It
// returns why the run could not go on.
func (r *run) play() (failed string) {
	for i := range r.scenario.Steps {
		st := &r.scenario.Steps[i]
		if st.Only != "" && st.Only != r.arm.Title() {
			continue
		}
		if r.violation() != nil || r.ctx.Err() != nil {
			return ""
		}
		it := Item{At: r.now(), Kind: ItemStep, Text: st.Text, Letter: -1}
		if c, ok := st.do.(caption); ok {
			it.Kind, it.Text = ItemCaption, c.text
		}
		r.recorder.add(it)
		if err := st.do.act(r); err != nil {
			if r.violation() != nil {
				return ""
			}
			return fmt.Sprintf("line %d, %s: %v", st.Line, st.Text, err)
		}
	}
	return ""
}

// conclude ends the world and looks at the expectations.
func (r *run) conclude(res *Result, failed string) {
	if failed != "" {
		res.Missing = append(res.Missing, failed)
	}
	if r.world != nil {
		r.look()
	}
	var last []Expectation // of violations: after the world's last checks
	for _, e := range slices.Concat(r.scenario.Expect, r.arm.Expect) {
		if _, ok := e.cond.(violates); ok {
			last = append(last, e)
		} else {
			r.expect(res, &e)
		}
	}
	if r.world != nil {
		r.world.Finish()
	}
	if len(last) == 0 {
		last = []Expectation{{Line: r.arm.Line, Text: "no violation", cond: violates{}}}
	}
	for i := range last {
		r.expect(res, &last[i])
	}
	if v := r.violation(); v != nil {
		res.Violation = v
		r.recorder.add(Item{At: v.At, Kind: ItemViolation, Text: ViolationText(v), Letter: -1})
	}
	res.Figures = r.figures
	res.Observed = len(res.Missing) == 0
	r.rec.End = r.now()
}

func (r *run) expect(res *Result, e *Expectation) {
	ok, seen := e.cond.holds(r)
	if ok {
		res.Seen = append(res.Seen, fmt.Sprintf("%s (%s)", e.Text, seen))
		return
	}
	res.Missing = append(res.Missing, fmt.Sprintf("line %d, %s: %s", e.Line, e.Text, seen))
}

// ViolationText is a violation on one line: the property, the virtual time, the
// replicas, and what happened.
func ViolationText(v *sim.Violation) string {
	who := ""
	if len(v.Replicas) > 0 {
		who = fmt.Sprintf(", replicas %v", v.Replicas)
	}
	return fmt.Sprintf("%s at %v%s: %s", v.Class, time.Duration(v.At), who, firstLine(v.Detail))
}

func firstLine(s string) string {
	l, _, _ := strings.Cut(s, "\n")
	return l
}

func (r *run) violation() *sim.Violation {
	switch {
	case r.world != nil:
		return r.world.Violation()
	case r.swarm != nil:
		return r.swarm.Violation
	}
	return nil
}

func (r *run) now() smr.Instant {
	switch {
	case r.world != nil:
		return r.world.Now()
	case r.swarm != nil:
		return smr.Instant(r.swarm.Virtual)
	}
	return 0
}

func (r *run) timeout() time.Duration {
	if r.world == nil {
		return 0
	}
	return r.world.ElectionTimeout()
}

func (r *run) view(id smr.ReplicaID) *sim.View { return &r.views[id-1] }

func (r *run) leaders() []smr.ReplicaID {
	var ls []smr.ReplicaID
	for i := range r.views {
		if r.views[i].Up && r.views[i].Role == raft.Leader {
			ls = append(ls, r.views[i].ID)
		}
	}
	return ls
}

// settle lets everything happen that is due at once.
func (r *run) settle() {
	for r.ctx.Err() == nil && r.world.Next() <= r.world.Now() && r.world.Step() {
		r.look()
	}
	r.look()
}

// pass lets the world happen until cond holds, t is reached or the context ends;
// it reports whether cond held.
func (r *run) pass(t smr.Instant, cond func() bool) bool {
	for {
		if cond != nil && cond() {
			return true
		}
		if r.ctx.Err() != nil {
			return false
		}
		if r.world.Next() > t || !r.world.Step() {
			break
		}
		r.look()
	}
	r.world.Wait(t)
	return cond != nil && cond()
}

// look records what has changed of the replicas and the calls.
func (r *run) look() {
	var changed []sim.View
	for i := range r.views {
		was := &r.views[i]
		var now sim.View
		r.world.View(smr.ReplicaID(i+1), &now)
		if sameView(was, &now) {
			continue
		}
		r.lookLog(was, &now)
		*was = now
		now.Log = slices.Clone(now.Log)
		changed = append(changed, now)
	}
	for _, c := range r.all {
		r.answered(c)
	}
	if len(changed) == 0 {
		return
	}
	if n := len(r.rec.Items); n > 0 && r.rec.Items[n-1].At == r.world.Now() && r.rec.Items[n-1].Changed == nil {
		r.rec.Items[n-1].Changed = changed
		return
	}
	r.recorder.add(Item{At: r.world.Now(), Kind: ItemState, Letter: -1, Changed: changed})
}

func sameView(a, b *sim.View) bool {
	return a.ID == b.ID && a.Up == b.Up && a.Paused == b.Paused && a.ApplyPaused == b.ApplyPaused && a.DiskPaused == b.DiskPaused &&
		a.Role == b.Role && a.Term == b.Term && a.Leader == b.Leader && a.Commit == b.Commit && a.Applied == b.Applied &&
		a.Persisted == b.Persisted && a.Last == b.Last && a.First == b.First && a.Snapshots == b.Snapshots &&
		a.Taken == b.Taken && a.Installed == b.Installed && a.Resumed == b.Resumed && slices.Equal(a.Log, b.Log)
}

// lookLog tells of entries that were taken away.
func (r *run) lookLog(was, now *sim.View) {
	if was.ID == 0 {
		return
	}
	same := 0
	for same < min(len(was.Log), len(now.Log)) && was.Log[same].Term == now.Log[same].Term {
		same++
	}
	if same == len(was.Log) {
		return
	}
	what := "truncates its log after entry %d: %d go"
	if !now.Up || !was.Up {
		what = "finds its log up to entry %d on disk: %d are lost"
	}
	r.recorder.add(Item{At: r.world.Now(), Kind: ItemLog, Replica: now.ID, Letter: -1, Text: fmt.Sprintf(what, same, len(was.Log)-same)})
}

// answered tells of a call that has ended.
func (r *run) answered(c *sim.Call) {
	if c.State == sim.CallWaiting {
		return
	}
	r.all = slices.DeleteFunc(slices.Clone(r.all), func(x *sim.Call) bool { return x == c })
	text := c.Client + " is told: " + r.callText(c) + " is "
	switch {
	case c.State == sim.CallDone && !c.Write:
		text = fmt.Sprintf("%s reads %s", c.Client, r.valueText(c))
		if c.Local {
			text += fmt.Sprintf(" in %d's own state", c.Replica)
		}
	case c.State == sim.CallUnknown:
		text = fmt.Sprintf("%s does not learn what became of %s", c.Client, r.callText(c))
	case c.State == sim.CallRefused:
		text += "not done"
	default:
		text += "done"
	}
	if c.Err != nil {
		text += " (" + shortError(c.Err) + ")"
	}
	r.recorder.add(Item{At: r.world.Now(), Kind: ItemAnswer, Replica: c.Replica, Letter: -1, Text: text})
}

func shortError(err error) string {
	s, _, _ := strings.Cut(err.Error(), ":")
	return s
}

func (r *run) callText(c *sim.Call) string {
	switch {
	case c.Local:
		return "its own " + registerNames[c.Key:c.Key+1]
	case !c.Write:
		return "the read of " + registerNames[c.Key:c.Key+1]
	case c.Count > 1:
		return fmt.Sprintf("the batch of %d", c.Count)
	}
	return r.rec.Commands[c.ID]
}

func (r *run) valueOf(c *sim.Call) string {
	_, v, _ := strings.Cut(r.rec.Commands[c.Value], "=")
	return v
}

func (r *run) valueText(c *sim.Call) string {
	name := registerNames[c.Key : c.Key+1]
	if c.Value == 0 {
		return name + ", which nobody has written"
	}
	return name + "=" + r.valueOf(c)
}

// figure notes a number or a line for people to read.
func (r *run) figure(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.figures = append(r.figures, text)
	r.recorder.add(Item{At: r.now(), Kind: ItemFigure, Text: text, Letter: -1})
}
