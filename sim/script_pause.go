package sim

import (
	"slices"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// Letter is one thing that a replica says to another: a message of the cores,
// or what hosts say beside them.
type Letter struct {
	// Kind as in "append", "append-reply", "vote", "forward", "read-ask".
	Kind     string
	From, To smr.ReplicaID
	Term     uint64
	// Message is nil for what is no message of a core.
	Message *raft.Message
	// Count of commands in a forward.
	Count int
	// Block is the number of a block of a snapshot, plus one.
	Block uint64
}

// Rule withholds letters on their way. Zero values match everything.
type Rule struct {
	// Drop loses the letters; otherwise they are held until they are released.
	Drop bool
	// Strip lets appends go on without Entry and what follows it, or without any
	// entries if that is zero: as a leader sends them that has less room in a
	// message. It goes before all that hold or drop.
	Strip    bool
	Kind     string
	From, To smr.ReplicaID
	// Entry is the index of an entry that the message carries.
	Entry uint64
	Term  uint64
	// Block is the number of a block of a snapshot, plus one.
	Block uint64
	// Times is how many letters the rule is for. Zero: without end.
	Times int
}

func (r *Rule) matches(l *Letter) bool {
	if r.Kind != "" && r.Kind != l.Kind || r.From != 0 && r.From != l.From || r.To != 0 && r.To != l.To || r.Term != 0 && r.Term != l.Term || r.Block != 0 && r.Block != l.Block {
		return false
	}
	if r.Entry == 0 {
		return true
	}
	return l.Message != nil && slices.ContainsFunc(l.Message.Entries, func(e smr.Entry) bool { return e.Index == r.Entry })
}

type heldLetter struct {
	o occurrence
	l Letter
}

// Withhold adds a rule. Earlier rules go first.
func (s *Script) Withhold(r Rule) { s.rules = append(s.rules, r) }

// Release ends the rules that are the same as r but for Drop, Strip and Times, or all
// if r is zero, and lets the letters arrive that they hold.
func (s *Script) Release(r Rule) {
	r.Drop, r.Strip, r.Times = false, false, 0
	s.rules = slices.DeleteFunc(s.rules, func(x Rule) bool {
		x.Drop, x.Strip, x.Times = false, false, 0
		return r == Rule{} || x == r
	})
	kept := s.held[:0]
	for _, h := range s.held {
		if !r.matches(&h.l) {
			kept = append(kept, h)
			continue
		}
		h.o.at = s.common.now
		s.driver.renew(&h.o)
		s.common.queue.push(h.o)
	}
	s.held = kept
}

// Held is how many letters that match r are held.
func (s *Script) Held(r Rule) int {
	n := 0
	for i := range s.held {
		if r.matches(&s.held[i].l) {
			n++
		}
	}
	return n
}

// intercepted withholds the letters of a delivery that a rule is for. What is
// left of it goes on its way.
func (s *Script) intercepted(o *occurrence) bool {
	if len(s.rules) == 0 {
		return false
	}
	letters := s.stripped(o)
	rules := make([]int, len(letters)) // for each letter, the rule or -1
	passed := 0
	for i := range letters {
		rules[i] = s.rule(&letters[i], false)
		if rules[i] < 0 {
			passed++
		}
	}
	if passed == len(letters) {
		return false
	}
	for i := range letters {
		if rules[i] < 0 {
			continue
		}
		part := *o
		if len(letters) > 1 {
			part = s.driver.split(o, func(n int) bool { return n == i })
		}
		if s.rules[rules[i]].Drop {
			s.driver.drop(&part)
		} else {
			s.held = append(s.held, heldLetter{part, letters[i]})
		}
	}
	if len(letters) == 1 {
		return true
	}
	if passed > 0 {
		rest := s.driver.split(o, func(n int) bool { return rules[n] < 0 })
		s.act(func() { s.driver.dispatch(&rest) })
	}
	s.driver.free(o)
	return true
}

// stripped takes the entries off the letters of a delivery that a rule strips, and
// returns the letters as they are then.
func (s *Script) stripped(o *occurrence) []Letter {
	letters := s.driver.letters(o)
	changed := false
	for i := range letters {
		m := letters[i].Message
		if m == nil || m.Type != raft.MsgAppend || len(m.Entries) == 0 {
			continue
		}
		if n := s.rule(&letters[i], true); n >= 0 {
			s.driver.strip(o, i, s.rules[n].Entry)
			changed = true
		}
	}
	if changed {
		return s.driver.letters(o)
	}
	return letters
}

// strip takes the entry at an index off m, and those after it.
func strip(m *raft.Message, index uint64) {
	if n := slices.IndexFunc(m.Entries, func(e smr.Entry) bool { return e.Index >= index }); n >= 0 {
		m.Entries = m.Entries[:n]
	}
}

// rule returns the first rule for a letter that strips, or that does not, and
// counts it.
func (s *Script) rule(l *Letter, strips bool) int {
	for i := range s.rules {
		r := &s.rules[i]
		if r.Times < 0 || r.Strip != strips || !r.matches(l) {
			continue
		}
		if r.Times > 0 {
			if r.Times--; r.Times == 0 {
				r.Times = -1 // used up
			}
		}
		return i
	}
	return -1
}

// pauseReason is what of a replica stands still.
type pauseReason uint8

const (
	pauseNone pauseReason = iota
	pauseAll
	pauseApply
	pauseDisk
)

type pauseKey struct {
	id     smr.ReplicaID
	reason pauseReason
}

type stashedOccurrence struct {
	o   occurrence
	key pauseKey
}

func pauseOf(apply, disk bool) pauseReason {
	switch {
	case apply:
		return pauseApply
	case disk:
		return pauseDisk
	}
	return pauseAll
}

// Pause stops a replica as a stopped virtual machine does, or its state machine
// or its disk alone.
func (s *Script) Pause(id smr.ReplicaID, apply, disk bool) {
	s.paused[pauseKey{id, pauseOf(apply, disk)}] = true
}

// Resume lets what Pause has stopped go on.
func (s *Script) Resume(id smr.ReplicaID, apply, disk bool) {
	key := pauseKey{id, pauseOf(apply, disk)}
	delete(s.paused, key)
	kept := s.stashed[:0]
	for _, x := range s.stashed {
		if x.key != key {
			kept = append(kept, x)
			continue
		}
		x.o.at = max(x.o.at, s.common.now)
		s.common.queue.push(x.o)
	}
	s.stashed = kept
}

// stash puts an occurrence away that falls under a pause.
func (s *Script) stash(o *occurrence) bool {
	if o.what == whatRestart {
		return false
	}
	id := smr.ReplicaID(o.who + 1)
	for _, reason := range [...]pauseReason{pauseAll, s.driver.reason(o)} {
		if key := (pauseKey{id, reason}); reason != pauseNone && s.paused[key] {
			s.stashed = append(s.stashed, stashedOccurrence{*o, key})
			return true
		}
	}
	return false
}
