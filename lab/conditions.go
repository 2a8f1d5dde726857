package lab

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/sim"
	"github.com/quorate/quorate/smr"
)

// condition is something that can be observed of a run. seen says what is.
type condition interface {
	holds(r *run) (ok bool, seen string)
}

type (
	leads struct {
		id   smr.ReplicaID
		term uint64
	}
	anyLeader struct{ none bool }
	follows   struct{ id smr.ReplicaID }
	isUp      struct {
		id smr.ReplicaID
		up bool
	}
	logIs struct {
		id    smr.ReplicaID
		terms []uint64
	}
	equal struct {
		logs bool
		ids  []smr.ReplicaID
	}
	clientIs struct {
		client string
		state  sim.CallState
		reads  bool
		key    byte
		value  string
	}
	violates struct{ classes []sim.Class } // empty: none
	negation struct{ cond condition }
	compares struct {
		metric metric
		op     string
		value  uint64
		span   span
	}
)

// metric is a number that a run has.
type metric struct {
	name string
	id   smr.ReplicaID
	rule sim.Rule
	mark sim.Mark
}

// The metrics, by what follows their name.
var (
	replicaMetrics = []string{"term", "commit", "applied", "last", "persisted"}
	peerMetrics    = map[string]string{"appends": "to", "rejected": "from", "blocks": "to", "block-bytes": "to"}
	plainMetrics   = []string{"leaders", "syncs", "elected", "never", "rounds-median", "rounds-most"}
	// swarmMetrics are of swarms alone, anyMetrics of all runs.
	swarmMetrics = []string{"mark", "swarm-applied", "swarm-operations", "swarm-faults"}
	anyMetrics   = []string{"elections", "messages", "elapsed"}
	operators    = []string{"=", "!=", "<", "<=", ">", ">="}
)

func (p *parser) expectation() Expectation {
	e := Expectation{Line: p.line}
	text, _, _ := strings.Cut(p.raw, "#")
	e.Text = strings.TrimSpace(text)
	p.accept("expect")
	e.cond = p.condition()
	p.end()
	return e
}

func (p *parser) condition() condition {
	col := p.col()
	w := p.next("a condition")
	if c := p.conditionOfReplicas(col, w); c != nil {
		p.unlessSwarm(col, fmt.Sprintf("%q", w))
		return c
	}
	switch w {
	case "not":
		return negation{p.condition()}
	case "no":
		p.expect("violation")
		return violates{}
	case "violation":
		c := violates{[]sim.Class{p.class()}}
		for p.accept("or") {
			c.classes = append(c.classes, p.class())
		}
		return c
	}
	if m, ok := p.metric(w); ok {
		return p.comparison(m)
	}
	return p.clientIs(col, w)
}

// conditionOfReplicas reads one that looks into replicas; nil if w begins another.
func (p *parser) conditionOfReplicas(col int, w string) condition {
	switch w {
	case "leader":
		c := leads{id: p.replica()}
		if p.accept("of", "term") {
			c.term = p.number("a term")
		}
		return c
	case "a":
		p.expect("leader")
		return anyLeader{}
	case "no":
		if p.accept("leader") {
			return anyLeader{none: true}
		}
	case "follower":
		return follows{p.replica()}
	case "entry":
		return p.entryCondition()
	case "taking", "receiving":
		return busyWith{p.replica(), w == "receiving"}
	case "up", "down":
		return isUp{p.replica(), w == "up"}
	case "log":
		c := logIs{id: p.replica()}
		p.expect("=")
		c.terms = p.terms()
		return c
	case "logs", "states":
		p.expect("equal")
		p.unlessSwarm(col, fmt.Sprintf("%q", w))
		c := equal{logs: w == "logs"}
		if p.isNumber() {
			c.ids = p.replicas()
		}
		return c
	}
	return nil
}

// metric reads what follows a metric's name; its last word was that name.
func (p *parser) metric(name string) (metric, bool) {
	m := metric{name: name}
	switch col := p.words[p.at-1].col; {
	case slices.Contains(anyMetrics, name):
		return m, true
	case slices.Contains(swarmMetrics, name):
		if !p.swarm() {
			p.fail(col, "%q is of a swarm alone", name)
		}
		if name == "mark" {
			m.mark = p.mark()
		}
		return m, true
	case slices.Contains(replicaMetrics, name) || slices.Contains(snapshotMetrics, name) || peerMetrics[name] != "" || name == "held" || slices.Contains(plainMetrics, name):
		p.unlessSwarm(col, fmt.Sprintf("%q", name))
	}
	switch {
	case slices.Contains(replicaMetrics, name) || slices.Contains(snapshotMetrics, name):
		m.id = p.replica()
	case peerMetrics[name] != "":
		if p.accept(peerMetrics[name]) {
			m.id = p.replica()
		}
	case name == "held":
		if p.more() && !slices.Contains(operators, p.peek()) {
			m.rule = p.rule(false)
		}
	default:
		return m, slices.Contains(plainMetrics, name)
	}
	return m, true
}

// mark reads the name of a branch that a seed can reach.
func (p *parser) mark() sim.Mark {
	col := p.col()
	name := p.next("the name of a mark, as in crash")
	m, ok := sim.MarkNamed(name)
	if !ok {
		p.fail(col, "no mark is called %q; quorate sim prints those that its seeds reach", name)
	}
	return m
}

func (p *parser) comparison(m metric) condition {
	c := compares{metric: m}
	col := p.col()
	if c.op = p.next("a comparison"); !slices.Contains(operators, c.op) {
		p.fail(col, "%q is no comparison; there are %s", c.op, strings.Join(operators, " "))
	}
	if m.name == "elapsed" {
		at := p.col()
		if c.span = p.duration(); c.span.timeouts > 0 && p.swarm() {
			p.fail(at, "a swarm draws its election timeout; expected a time as in 30ms")
		}
		return c
	}
	c.value = p.number("a number")
	return c
}

// clientIs reads "ann done" or "ann reads x=5".
func (p *parser) clientIs(col int, name string) condition {
	if !slices.ContainsFunc(p.s.Steps, func(st Step) bool {
		switch a := st.do.(type) {
		case write:
			return a.client == name
		case read:
			return a.client == name
		}
		return false
	}) {
		p.fail(col, "%q is neither a condition nor a client of the steps before", name)
	}
	c := clientIs{client: name}
	at := p.col()
	switch w := p.next("what is expected of the client"); w {
	case "waiting":
		c.state = sim.CallWaiting
	case "done":
		c.state = sim.CallDone
	case "refused":
		c.state = sim.CallRefused
	case "unknown":
		c.state = sim.CallUnknown
	case "reads":
		c.state, c.reads = sim.CallDone, true
		kc := p.col()
		key, value, ok := strings.Cut(p.next("a register and its value"), "=")
		if !ok {
			p.fail(kc, "expected a register and its value as in x=5, or x= for none")
		}
		c.key, c.value = p.register(kc, key), value
	default:
		p.fail(at, "a client is waiting, done, refused or unknown, or reads x=5; not %q", w)
	}
	return c
}

func (c leads) holds(r *run) (bool, string) {
	v := r.view(c.id)
	return v.Up && v.Role == raft.Leader && (c.term == 0 || v.Term == c.term), roleText(v)
}

func (c negation) holds(r *run) (bool, string) {
	ok, seen := c.cond.holds(r)
	return !ok, seen
}

func roleText(v *sim.View) string {
	if !v.Up {
		return fmt.Sprintf("%d is down", v.ID)
	}
	return fmt.Sprintf("%d is %s in term %d", v.ID, v.Role, v.Term)
}

func (c anyLeader) holds(r *run) (bool, string) {
	ls := r.leaders()
	return (len(ls) == 0) == c.none, fmt.Sprintf("leaders: %v", ls)
}

func (c follows) holds(r *run) (bool, string) {
	v := r.view(c.id)
	return v.Up && v.Role == raft.Follower, roleText(v)
}

func (c isUp) holds(r *run) (bool, string) {
	v := r.view(c.id)
	return v.Up == c.up, roleText(v)
}

func (c logIs) holds(r *run) (bool, string) {
	v := r.view(c.id)
	return slices.EqualFunc(v.Log, c.terms, func(e sim.LogEntry, t uint64) bool { return e.Term == t }), "log " + logText(v)
}

func logText(v *sim.View) string {
	if len(v.Log) == 0 {
		return "empty"
	}
	var b strings.Builder
	for i, e := range v.Log {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprint(&b, e.Term)
	}
	return b.String()
}

func (c equal) holds(r *run) (bool, string) {
	ids := c.ids
	if len(ids) == 0 {
		for i := range r.views {
			ids = append(ids, smr.ReplicaID(i+1))
		}
	}
	first := r.view(ids[0])
	for _, id := range ids[1:] {
		v := r.view(id)
		if c.logs && !slices.Equal(v.Log, first.Log) {
			return false, fmt.Sprintf("log %d: %s; log %d: %s", first.ID, logText(first), id, logText(v))
		}
		if !c.logs && (v.Applied != first.Applied || v.Digest != first.Digest) {
			return false, fmt.Sprintf("%d has state %x at %d; %d has %x at %d", first.ID, first.Digest, first.Applied, id, v.Digest, v.Applied)
		}
	}
	return true, "equal"
}

func (c clientIs) holds(r *run) (bool, string) {
	call := r.calls[c.client]
	if call == nil {
		return false, c.client + " has asked nothing"
	}
	seen := fmt.Sprintf("%s is %s", c.client, call.State)
	if call.State == sim.CallDone && !call.Write {
		seen = fmt.Sprintf("%s read %s", c.client, r.valueText(call))
	}
	if call.Err != nil {
		seen += ": " + call.Err.Error()
	}
	ok := call.State == c.state
	if c.reads && ok {
		ok = !call.Write && call.Key == c.key && r.valueOf(call) == c.value
	}
	return ok, seen
}

func (c violates) holds(r *run) (bool, string) {
	v := r.violation()
	seen := "no violation"
	if v != nil {
		seen = string(v.Class)
	}
	if len(c.classes) == 0 {
		return v == nil, seen
	}
	return v != nil && slices.Contains(c.classes, v.Class), seen
}

func (c compares) holds(r *run) (bool, string) {
	have, want := r.measure(&c.metric), c.value
	seen := fmt.Sprint(have)
	if c.metric.name == "elapsed" {
		want = uint64(c.span.of(r.timeout()))
		seen = time.Duration(have).String()
	}
	var ok bool
	switch c.op {
	case "=":
		ok = have == want
	case "!=":
		ok = have != want
	case "<":
		ok = have < want
	case "<=":
		ok = have <= want
	case ">":
		ok = have > want
	case ">=":
		ok = have >= want
	}
	return ok, c.metric.text() + " is " + seen
}

func (m *metric) text() string {
	if m.name == "mark" {
		return "mark " + m.mark.String()
	}
	if m.id == 0 {
		return m.name
	}
	if p := peerMetrics[m.name]; p != "" {
		return fmt.Sprintf("%s %s %d", m.name, p, m.id)
	}
	return fmt.Sprintf("%s %d", m.name, m.id)
}
