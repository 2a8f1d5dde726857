package lab

import (
	"slices"
	"strings"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/sim"
	"github.com/quorate/quorate/smr"
)

// action is what a step does. An error ends the run.
type action interface{ act(r *run) error }

type (
	caption struct{ text string }
	stand   struct{ id smr.ReplicaID }
	elect   struct {
		id     smr.ReplicaID
		within span
	}
	transfer struct{ from, to smr.ReplicaID }
	notice   struct{ id, peer smr.ReplicaID }
	crash    struct {
		ids   []smr.ReplicaID
		power bool
	}
	restart struct {
		ids   []smr.ReplicaID
		newer bool // of a newer version than the others
	}
	pause struct {
		id          smr.ReplicaID
		apply, disk bool
		off         bool
	}
	// linksStep cuts or heals directed links.
	linksStep struct {
		pairs [][2]smr.ReplicaID
		heal  bool
	}
	withhold struct{ rule sim.Rule }
	release  struct{ rule sim.Rule }
	write    struct {
		key    byte
		value  string
		count  int
		bytes  int // of each command; zero: as few as there can be
		at     smr.ReplicaID
		client string
	}
	read struct {
		key    byte
		at     smr.ReplicaID
		local  bool
		client string
	}
	until struct {
		cond   condition
		within span
	}
	wait      struct{ d span }
	require   struct{ cond condition }
	recount   struct{}
	show      struct{ metrics []metric }
	rounds    struct{ seeds int }
	runsSwarm struct{ seeds int }
)

// step reads a line of the script.
func (p *parser) step() {
	st := Step{Line: p.line}
	if p.accept("as", "shipped:") {
		st.Only = "as shipped"
	} else if p.peek() == "without" {
		p.only(&st)
	}
	st.Text = strings.TrimSpace(p.raw[p.col()-1:])
	if i := strings.IndexByte(st.Text, '#'); i >= 0 {
		st.Text = strings.TrimSpace(st.Text[:i])
	}
	st.do = p.action()
	p.s.Steps = append(p.s.Steps, st)
}

// only reads "without a, b:".
func (p *parser) only(st *Step) {
	p.at++
	var names []string
	for last := false; !last; {
		w := &p.words[min(p.at, len(p.words)-1)]
		if last = strings.HasSuffix(w.text, ":"); last {
			w.text = strings.TrimSuffix(w.text, ":")
		}
		names = append(names, p.protection())
		if !last {
			p.expect(",")
		}
	}
	st.Only = "without " + strings.Join(names, ", ")
}

func (p *parser) action() action {
	col := p.col()
	var a action
	switch w := p.next("a step"); w {
	case "--":
		text := strings.TrimSpace(p.raw[min(len(p.raw), col+1):])
		p.at = len(p.words)
		return caption{text}
	case "stand":
		a = stand{p.replica()}
	case "elect":
		a = elect{p.replica(), p.within()}
	case "transfer":
		a = p.transfer()
	case "notice":
		a = p.notice()
	case "crash":
		a = p.crashStep(col)
	case "compact":
		a = p.compactStep(col)
	case "damage":
		a = p.damageStep(col)
	case "fill", "free":
		a = p.fillStep(col, w == "fill")
	case "kill":
		a = crash{p.replicas(), false}
	case "restart":
		a = p.restart()
	case "pause", "resume":
		a = p.pause(w == "resume")
	case "cut", "heal":
		a = p.links(w == "heal")
	case "partition":
		a = linksStep{pairs: p.partition()}
	case "hold", "drop":
		a = withhold{p.rule(w == "drop")}
	case "strip":
		a = p.strip()
	case "release":
		a = release{p.rule(false)}
	case "write":
		a = p.write()
	case "read":
		a = p.read()
	case "until":
		a = until{p.condition(), p.within()}
	case "for":
		a = wait{p.passing()}
	case "expect":
		a = require{p.condition()}
	case "count":
		a = recount{}
	case "show":
		a = p.show()
	case "rounds":
		p.expect("over")
		a = rounds{p.count("the number of seeds", 1, 10_000)}
		p.expect("seeds")
	case "swarm":
		a = p.runsSwarm()
	default:
		p.fail(col, "no step is called %q", w)
	}
	p.end()
	if _, ok := a.(runsSwarm); ok != p.swarm() {
		p.fail(col, "the step swarm is for the set-up swarm, and the only one there")
	}
	return a
}

// within reads the bound of a wait.
func (p *parser) within() span {
	if p.accept("within") {
		return p.passing()
	}
	return span{timeouts: 20}
}

func (p *parser) pause(off bool) action {
	s := pause{off: off}
	s.apply = p.accept("apply")
	s.disk = !s.apply && p.accept("disk")
	s.id = p.replica()
	return s
}

func (p *parser) strip() action {
	col := p.col()
	r := p.rule(false)
	if r.Strip = true; r.Kind != "append" {
		p.fail(col, "expected append: no other message has entries that can be taken off")
	}
	return withhold{r}
}

func (p *parser) read() action {
	s := read{key: p.key()}
	p.expect("at")
	s.at = p.replica()
	s.local = p.accept("locally")
	s.client = p.client()
	return s
}

func (p *parser) runsSwarm() action {
	s := runsSwarm{1}
	if p.accept("over") {
		s.seeds = p.count("the number of seeds", 1, 1000)
		p.expect("seeds")
	}
	return s
}

func (p *parser) restart() action {
	a := restart{ids: p.replicas()}
	col := p.col()
	if a.newer = p.accept("newer"); a.newer && p.s.Setup.Hosts == 0 {
		p.fail(col, "hosts alone have versions")
	}
	return a
}

func (p *parser) transfer() action {
	from := p.replica()
	p.expect("to")
	col := p.col()
	to := p.replica()
	if from == to {
		p.fail(col, "%d cannot hand over to itself", from)
	}
	return transfer{from, to}
}

func (p *parser) notice() action {
	id := p.replica()
	return notice{id, p.replica()}
}

// show reads "messages, appends to 2, elapsed".
func (p *parser) show() action {
	var s show
	for {
		col := p.col()
		m, ok := p.metric(p.next("a metric"))
		if !ok {
			p.fail(col, "expected a metric, as in messages or commit 1")
		}
		if s.metrics = append(s.metrics, m); !p.accept(",") {
			return s
		}
	}
}

// links reads "1-2" (both ways), "1->2", several of them, or for heal nothing:
// all.
func (p *parser) links(heal bool) action {
	s := linksStep{heal: heal}
	if heal && !p.more() {
		s.pairs = p.all(func(_, _ smr.ReplicaID) bool { return true })
	}
	for p.more() {
		w := p.words[p.at]
		a, b, oneWay := strings.Cut(w.text, "->")
		if !oneWay {
			var ok bool
			if a, b, ok = strings.Cut(w.text, "-"); !ok {
				p.fail(w.col, "expected links as in 1-2 or 1->2")
			}
		}
		from, to := p.end2(w, a), p.end2(w, b)
		if from == to {
			p.fail(w.col, "there is no link from %d to itself", from)
		}
		s.pairs = append(s.pairs, [2]smr.ReplicaID{from, to})
		if !oneWay {
			s.pairs = append(s.pairs, [2]smr.ReplicaID{to, from})
		}
		p.at++
	}
	if len(s.pairs) == 0 {
		p.fail(p.col(), "expected links as in 1-2 or 1->2")
	}
	return s
}

// end2 reads one end of a link.
func (p *parser) end2(w word, text string) smr.ReplicaID {
	if len(text) == 1 && text[0] >= '1' && int(text[0]-'0') <= p.s.Setup.replicas() {
		return smr.ReplicaID(text[0] - '0')
	}
	p.fail(w.col, "expected links as in 1-2 or 1->2, between replicas 1 to %d", p.s.Setup.replicas())
	return 0
}

func (p *parser) all(cut func(a, b smr.ReplicaID) bool) [][2]smr.ReplicaID {
	var pairs [][2]smr.ReplicaID
	n := smr.ReplicaID(p.s.Setup.replicas())
	for a := smr.ReplicaID(1); a <= n; a++ {
		for b := smr.ReplicaID(1); b <= n; b++ {
			if a != b && cut(a, b) {
				pairs = append(pairs, [2]smr.ReplicaID{a, b})
			}
		}
	}
	return pairs
}

// partition reads "{1 2} | {3 4 5}": the links between the sets.
func (p *parser) partition() [][2]smr.ReplicaID {
	side := map[smr.ReplicaID]int{}
	for n := 1; ; n++ {
		p.expect("{")
		for p.peek() != "}" {
			col := p.col()
			id := p.replica()
			if side[id] != 0 {
				p.fail(col, "replica %d stands twice", id)
			}
			side[id] = n
		}
		p.at++
		if !p.accept("|") {
			break
		}
	}
	return p.all(func(a, b smr.ReplicaID) bool { return side[a] != 0 && side[b] != 0 && side[a] != side[b] })
}

// letterKinds are the messages of cores, and what hosts say beside them.
var letterKinds = func() (kinds []string) {
	for _, t := range raft.MessageTypes() {
		kinds = append(kinds, t.String())
	}
	return append(kinds, "forward", "forward-reject", "read-ask", "read-reply",
		"snapshot-offer", "snapshot-fetch", "snapshot-block", "snapshot-status")
}()

// rule reads "append from 1 to 2 with entry 3 of term 2 once". Every part may
// be left out; all of it for release.
func (p *parser) rule(drop bool) sim.Rule {
	r := sim.Rule{Drop: drop}
	col := p.col()
	if p.more() && !slices.Contains([]string{"from", "to", "with", "of", "once"}, p.peek()) {
		if r.Kind = p.next("a kind of message"); r.Kind == "everything" {
			r.Kind = ""
		} else if !slices.Contains(letterKinds, r.Kind) {
			p.fail(col, "no message is called %q; there are %s, and everything", r.Kind, strings.Join(letterKinds, ", "))
		}
	}
	for p.more() {
		switch {
		case p.accept("from"):
			r.From = p.replica()
		case p.accept("to"):
			r.To = p.replica()
		case p.accept("with", "entry"):
			r.Entry = p.number("an index")
		case p.accept("with", "block"):
			r.Block = p.number("the number of a block") + 1
		case p.accept("of", "term"):
			r.Term = p.number("a term")
		case p.accept("once"):
			r.Times = 1
		default:
			return r
		}
	}
	return r
}

// write reads "write x=5 at 2 by ann", or "write 64 commands at 1 by load".
func (p *parser) write() action {
	s := write{count: 1}
	if p.isNumber() {
		s.count = p.count("the number of commands", 1, 1000)
		p.expect("commands")
		s.key = registers - 1
		if col := p.col(); p.peek() == "of" {
			if s.bytes = p.bytesOf("a command"); s.count*s.bytes > batchBytesMax {
				p.fail(col, "a batch has at most %d bytes", batchBytesMax)
			}
			p.hostsOnly(col, "a size of commands is")
		}
	} else {
		w := p.words[min(p.at, len(p.words)-1)]
		key, value, ok := strings.Cut(p.next("a register and its value as in x=5"), "=")
		if !ok || value == "" {
			p.fail(w.col, "expected a register and its value as in x=5")
		}
		s.key, s.value = p.register(w.col, key), value
	}
	p.expect("at")
	s.at = p.replica()
	s.client = p.client()
	return s
}

const batchBytesMax = 16 << 20

// registers of a scenario are named by letters.
const registers = 8
const registerNames = "xyzuvwab"

func (p *parser) register(col int, name string) byte {
	if i := strings.Index(registerNames, name); len(name) == 1 && i >= 0 {
		return byte(i)
	}
	p.fail(col, "%q is not one of the registers x, y, z, u, v, w, a, b", name)
	return 0
}

func (p *parser) key() byte {
	col := p.col()
	return p.register(col, p.next("a register"))
}

func (p *parser) client() string {
	p.expect("by")
	return p.next("a client's name")
}
