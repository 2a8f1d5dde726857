package lab

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/sim"
	"github.com/quorate/quorate/smr"
)

// ErrSyntax is wrapped by every error about a scenario's text.
var ErrSyntax = errors.New("cannot be read as a scenario")

// SyntaxError says where a file is wrong. Line and Column count from 1.
type SyntaxError struct {
	File         string
	Line, Column int
	Message      string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Unwrap returns ErrSyntax.
func (e *SyntaxError) Unwrap() error { return ErrSyntax }

// Parse reads a scenario. name is that of its file, without ".txt". The error
// is a *SyntaxError.
func Parse(name, text string) (s *Scenario, err error) {
	p := &parser{file: name + ".txt", s: &Scenario{Name: name, Source: text}}
	p.s.Setup.Logs, p.s.Setup.Terms = map[smr.ReplicaID][]uint64{}, map[smr.ReplicaID]uint64{}
	defer func() {
		if r := recover(); r != nil {
			bad, ok := r.(*SyntaxError)
			if !ok {
				panic(r)
			}
			s, err = nil, bad
		}
	}()
	if len(text) > SourceBytesMax {
		p.fail(1, "the file is longer than the %d bytes that a scenario may have", SourceBytesMax)
	}
	for line := range strings.Lines(strings.TrimPrefix(text, byteOrderMark)) {
		p.line++
		p.raw = strings.TrimRight(line, "\r\n")
		p.take()
	}
	p.finish()
	return p.s, nil
}

// SourceBytesMax bounds a scenario's file.
const SourceBytesMax = 64 << 10

// byteOrderMark is what some editors put before the text.
const byteOrderMark = "\ufeff"

// parser reads one line after another. Errors are thrown as *SyntaxError and
// caught in Parse.
type parser struct {
	file    string
	line    int
	raw     string
	s       *Scenario
	section string
	words   []word
	at      int
	gap     bool // an empty line ends a paragraph of the answer
}

type word struct {
	text string
	col  int
}

func (p *parser) fail(col int, format string, args ...any) {
	panic(&SyntaxError{p.file, max(p.line, 1), col, fmt.Sprintf(format, args...)})
}

// split cuts the line into words. Braces and bars are words of their own.
func (p *parser) split() {
	p.words, p.at = p.words[:0], 0
	start := -1
	end := func(i int) {
		if start >= 0 {
			p.words = append(p.words, word{p.raw[start:i], start + 1})
			start = -1
		}
	}
	for i, c := range p.raw {
		switch {
		case c == '#':
			end(i)
			return
		case c == ' ' || c == '\t':
			end(i)
		case c == '{' || c == '}' || c == '|' || c == ',':
			end(i)
			p.words = append(p.words, word{string(c), i + 1})
		case start < 0:
			start = i
		}
	}
	end(len(p.raw))
}

func (p *parser) more() bool { return p.at < len(p.words) }

// peek returns the next word, empty at the end of the line.
func (p *parser) peek() string {
	if !p.more() {
		return ""
	}
	return p.words[p.at].text
}

func (p *parser) col() int {
	if p.more() {
		return p.words[p.at].col
	}
	return len(strings.TrimRight(p.raw, " \t")) + 1
}

// accept takes the next words if they are these.
func (p *parser) accept(words ...string) bool {
	for i, w := range words {
		if p.at+i >= len(p.words) || p.words[p.at+i].text != w {
			return false
		}
	}
	p.at += len(words)
	return true
}

func (p *parser) expect(w string) {
	if !p.accept(w) {
		p.fail(p.col(), "expected %q", w)
	}
}

func (p *parser) next(what string) string {
	if !p.more() {
		p.fail(p.col(), "expected %s", what)
	}
	p.at++
	return p.words[p.at-1].text
}

func (p *parser) number(what string) uint64 {
	col := p.col()
	w := p.next(what)
	n, err := strconv.ParseUint(w, 10, 62)
	if err != nil {
		p.fail(col, "%q is not %s", w, what)
	}
	return n
}

func (p *parser) count(what string, least, most int) int {
	col := p.col()
	n := p.number(what)
	if n < uint64(least) || n > uint64(most) {
		p.fail(col, "%s is %d, it may be %d to %d", what, n, least, most)
	}
	return int(n)
}

func (p *parser) replica() smr.ReplicaID {
	most := p.s.Setup.replicas()
	if most == 0 {
		p.fail(p.col(), "the set-up must say how many hosts or cores there are, first")
	}
	return smr.ReplicaID(p.count("a replica's number", 1, most))
}

// swarm says that the set-up is a seed of the simulation, whose replicas cannot
// be asked for anything one by one.
func (p *parser) swarm() bool { return p.s.Setup.Swarm != "" }

// unlessSwarm fails where a condition looks into replicas and there is a swarm.
func (p *parser) unlessSwarm(col int, what string) {
	if p.swarm() {
		p.fail(col, "%s cannot be observed of a swarm; that can: %s, and violations", what, strings.Join(slices.Concat(swarmMetrics, anyMetrics), ", "))
	}
}

func (p *parser) isNumber() bool { _, err := strconv.ParseUint(p.peek(), 10, 62); return err == nil }

func (p *parser) replicas() []smr.ReplicaID {
	ids := []smr.ReplicaID{p.replica()}
	for p.isNumber() {
		ids = append(ids, p.replica())
	}
	return ids
}

// duration is "30ms" or "3 timeouts".
func (p *parser) duration() span {
	col := p.col()
	if p.isNumber() {
		n := p.count("a number of timeouts", 0, timeoutsMax)
		if !p.accept("timeouts") && !p.accept("timeout") {
			p.fail(p.col(), "expected \"timeouts\", or a time as in 30ms")
		}
		return span{timeouts: n}
	}
	w := p.next("a time as in 30ms or 3 timeouts")
	d, err := time.ParseDuration(w)
	if err != nil || d < 0 {
		p.fail(col, "%q is not a time as in 30ms or 3 timeouts", w)
	}
	return span{fixed: d}
}

// timeoutsMax bounds how long a step may let the world run.
const timeoutsMax = 10_000

// passing is the duration that a step lets pass. The work that it makes grows
// with the number of election timeouts in it, so that is what is bounded.
func (p *parser) passing() span {
	col := p.col()
	d := p.duration()
	timeout := p.s.Setup.Timeout
	if timeout == 0 {
		timeout = sim.ScriptTimeout
	}
	if d.fixed > timeoutsMax*timeout {
		p.fail(col, "%v is more than %d election timeouts; a step lasts no longer", d.fixed, timeoutsMax)
	}
	return d
}

// span is a length of time, in part in election timeouts.
type span struct {
	fixed    time.Duration
	timeouts int
}

func (d span) of(timeout time.Duration) time.Duration {
	return d.fixed + time.Duration(d.timeouts)*timeout
}

func (p *parser) end() {
	if p.more() {
		p.fail(p.col(), "did not expect %q here", p.peek())
	}
}

// take reads one line.
func (p *parser) take() {
	p.split()
	indented := strings.HasPrefix(p.raw, " ") || strings.HasPrefix(p.raw, "\t")
	if len(p.words) == 0 {
		p.gap = true
		return
	}
	if !indented && p.heading() {
		return
	}
	switch p.section {
	case "":
		p.prose()
	case "setup":
		p.setup()
	case "steps":
		p.step()
	case "expect":
		p.s.Expect = append(p.s.Expect, p.expectation())
	case "arm":
		a := &p.s.Arms[len(p.s.Arms)-1]
		if p.accept("ignore") {
			for p.more() {
				a.Ignore = append(a.Ignore, p.class())
			}
			return
		}
		a.Expect = append(a.Expect, p.expectation())
	}
}

// heading takes a line that is not indented: a field of the head or the
// beginning of a section.
func (p *parser) heading() bool {
	if p.section == "" {
		for name, field := range map[string]*string{"question:": &p.s.Question, "paper:": &p.s.Paper, "topic:": &p.s.Topic} {
			if p.peek() == name {
				if *field != "" {
					p.fail(1, "a second %q", name)
				}
				*field = strings.TrimSpace(strings.TrimPrefix(p.raw, name))
				return true
			}
		}
	}
	switch {
	case len(p.words) == 1 && slices.Contains([]string{"setup", "steps", "expect"}, p.peek()):
		// What follows is checked against the set-up, so that is whole by then.
		if p.peek() == "setup" && p.section != "" {
			p.fail(1, "there is one setup, and it stands before steps, expect and arms")
		}
		p.section = p.peek()
		return true
	case p.peek() == "arm":
		p.at++
		p.section = "arm"
		p.arm()
		return true
	}
	if p.section != "" {
		p.fail(1, "expected setup, steps, expect or arm, or an indented line of the section %q", p.section)
	}
	return false
}

func (p *parser) prose() {
	text := strings.TrimSpace(p.raw)
	if n := len(p.s.Answer); n > 0 && !p.gap {
		p.s.Answer[n-1] += " " + text
	} else {
		p.s.Answer = append(p.s.Answer, text)
	}
	p.gap = false
}

func (p *parser) arm() {
	a := Arm{Line: p.line}
	if !p.accept("as", "shipped") {
		p.expect("without")
		for {
			col := p.col()
			name := p.protection()
			if slices.Contains(a.Without, name) {
				p.fail(col, "%q stands twice", name)
			}
			if a.Without = append(a.Without, name); !p.accept(",") {
				break
			}
		}
	}
	p.end()
	if _, err := p.s.Arm(a.Without); err == nil {
		p.fail(1, "a second arm %s", a.Title())
	}
	p.s.Arms = append(p.s.Arms, a)
}

func (p *parser) protection() string {
	col := p.col()
	name := p.next("the name of a protection")
	if !slices.Contains(protections(), name) {
		p.fail(col, "no protection is called %q; there are %s", name, strings.Join(protections(), ", "))
	}
	return name
}

func (p *parser) class() sim.Class {
	col := p.col()
	name := sim.Class(p.next("a class of violations"))
	if !slices.Contains(sim.Classes(), name) {
		p.fail(col, "no class of violations is called %q", name)
	}
	return name
}

// setup reads a line of the set-up.
func (p *parser) setup() {
	s := &p.s.Setup
	col := p.col()
	w := p.next("a setting")
	if what := []string{"hosts", "cores", "swarm"}; slices.Contains(what, w) && (s.replicas() > 0 || s.Swarm != "") {
		p.fail(col, "a scenario has hosts, cores or a swarm, and only one of them, once")
	}
	switch w {
	case "hosts":
		s.Hosts = p.count("the number of hosts", 1, 8)
	case "cores":
		s.Cores = p.count("the number of cores", 1, 8)
	case "swarm":
		c := p.col()
		if s.Swarm = p.next("core or full"); s.Swarm != "core" && s.Swarm != "full" {
			p.fail(c, "expected core or full")
		}
	case "every":
		p.expect("fault")
		if s.EveryFault = true; !p.swarm() {
			p.fail(col, "every fault is for a swarm")
		}
	case "seed":
		s.Seed = p.number("a seed")
	case "one":
		p.expect("entry")
		p.expect("per")
		p.expect("message")
		s.OneEntry = true
	case "leader":
		p.expect("lease")
		if s.Lease = true; p.swarm() {
			p.fail(col, "leader lease is for hosts and cores")
		}
	case "timers":
		p.expect("by")
		p.expect("hand")
		if s.Manual = true; s.Cores == 0 {
			p.fail(col, "timers by hand are for cores")
		}
	case "timeout":
		if s.Timeout = p.fixed(); s.Timeout < time.Millisecond {
			p.fail(col, "an election timeout is at least 1ms")
		}
	case "delay":
		s.Delay = p.fixed()
	case "sync":
		s.Sync = p.fixed()
	case "patience":
		s.Patience = p.fixed()
	case "log":
		p.log()
	case "term":
		t := p.number("a term")
		for i := range s.replicas() {
			s.Terms[smr.ReplicaID(i+1)] = t
		}
	default:
		if !p.snapshotSetting(col, w) {
			p.fail(col, "no setting is called %q", w)
		}
	}
	p.end()
}

func (p *parser) fixed() time.Duration {
	col := p.col()
	d := p.duration()
	if d.fixed <= 0 || d.fixed > time.Minute {
		p.fail(col, "expected a time as in 30ms, at most a minute")
	}
	return d.fixed
}

// log reads "log 1 2 3 = 1 1 2": the terms of the entries of some replicas.
func (p *parser) log() {
	if p.s.Setup.Cores == 0 {
		p.fail(p.col(), "logs can be given to cores alone, and after their number")
	}
	ids := p.replicas()
	p.expect("=")
	terms := p.terms()
	for _, id := range ids {
		p.s.Setup.Logs[id] = terms
	}
}

func (p *parser) terms() []uint64 {
	var terms []uint64
	for p.isNumber() {
		terms = append(terms, uint64(p.count("a term", 1, 1000)))
	}
	if len(terms) == 0 && !p.accept("empty") {
		p.fail(p.col(), "expected the terms of the entries, or empty")
	}
	return terms
}

// finish checks what only the whole file shows.
func (p *parser) finish() {
	s := p.s
	p.raw = ""
	switch {
	case s.Question == "" || s.Paper == "" || s.Topic == "":
		p.fail(1, "the head must have question:, paper: and topic:")
	case len(s.Answer) == 0:
		p.fail(1, "the question has no answer")
	case s.Setup.replicas() == 0 && s.Setup.Swarm == "":
		p.fail(1, "the set-up has no hosts, cores or swarm")
	case len(s.Arms) == 0 || len(s.Arms[0].Without) > 0:
		p.fail(1, "the first arm must be the one as shipped")
	}
	for i := range s.Arms {
		if a := &s.Arms[i]; len(a.Expect)+len(s.Expect) == 0 {
			p.line = a.Line
			p.fail(1, "the arm %s expects nothing", a.Title())
		}
		if n := s.swarms(&s.Arms[i]); p.swarm() && n != 1 {
			p.line = s.Arms[i].Line
			p.fail(1, "the arm %s has the step swarm %d times; it runs by this step, once", s.Arms[i].Title(), n)
		}
	}
	for i := range s.Steps {
		st := &s.Steps[i]
		if st.Only != "" && !slices.ContainsFunc(s.Arms, func(a Arm) bool { return a.Title() == st.Only }) {
			p.line = st.Line
			p.fail(1, "there is no arm %s", st.Only)
		}
	}
}

// swarms is how often an arm runs a swarm.
func (s *Scenario) swarms(a *Arm) int {
	n := 0
	for i := range s.Steps {
		st := &s.Steps[i]
		if _, ok := st.do.(runsSwarm); ok && (st.Only == "" || st.Only == a.Title()) {
			n++
		}
	}
	return n
}
