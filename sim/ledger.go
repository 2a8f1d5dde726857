package sim

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/quorate/quorate/smr"
)

// ledger is what the world itself knows in true time, beside the replicas and
// out of their reach: every entry that any log ever held, who led which term,
// what is committed, what a client was told. It finds the violations.
//
// Invariants:
//
//	(1) found is the first violation and never changes once set.
//	(2) commits and states hold indexes 1..len without a gap.
//	(3) floor ≤ len(commits).
type ledger struct {
	now     smr.Instant
	found   *Violation
	skipped []Class

	// heads and versions hold, for each index, the entries that any log ever
	// had there: one for each term.
	heads    []int32
	versions []version
	// leaders by term; zero: none seen.
	leaders []smr.ReplicaID
	// commits are the entries that were applied first at their index.
	commits []version
	// states are the digests of the state after each index, zero if unknown.
	states []uint64
	// places is the index at which the command of each id took effect, or zero.
	places []uint64
	// acknowledged are the ids of the commands whose success a client was told.
	acknowledged []uint64
	// identify tells the id of a command from its entry's data.
	identify func(data []byte) (id uint64, ok bool)
	// made is the highest id of a command that a client has made; nil: not known.
	made *uint64
	// floor is the highest index that a client knows the effect of, by a write's
	// acknowledgement or by a read's answer.
	floor uint64
}

// version is one entry as the ledger knows it.
type version struct {
	term, prevTerm uint64
	hash           uint64
	// in is the term of the replica that first applied it (commits alone). The
	// term in which a leader committed it is not above that.
	in   uint64
	next int32 // the next of the same index, or -1
}

func newLedger(skipped []Class) *ledger {
	return &ledger{skipped: skipped, identify: identifyCommand, heads: make([]int32, 0, 1024), versions: make([]version, 0, 1024)}
}

// fail records a violation, if it is the first and its class is looked for.
func (l *ledger) fail(class Class, replicas []smr.ReplicaID, format string, args ...any) {
	if l.found != nil || slices.Contains(l.skipped, class) {
		return
	}
	l.found = &Violation{Class: class, At: l.now, Replicas: replicas, Detail: fmt.Sprintf(format, args...)}
}

func ids(r ...smr.ReplicaID) []smr.ReplicaID { return r }

func hashEntry(e *smr.Entry) uint64 {
	h := mix64(uint64(e.Kind)<<56 ^ e.Origin ^ e.Request<<8 ^ e.Session<<16 ^ e.Sequence<<24 ^ uint64(len(e.Data)))
	b := e.Data
	for len(b) >= 8 {
		h = mix64(h ^ binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	for _, c := range b {
		h = mix64(h ^ uint64(c) ^ 0x100)
	}
	return h
}

// appended notes that a log holds e after an entry of prevTerm. An (index,
// term) names one entry and one predecessor for ever: by induction that is log
// matching.
func (l *ledger) appended(who smr.ReplicaID, e *smr.Entry, prevTerm uint64) {
	for uint64(len(l.heads)) <= e.Index {
		l.heads = append(l.heads, -1)
	}
	hash := hashEntry(e)
	for i := l.heads[e.Index]; i >= 0; i = l.versions[i].next {
		v := &l.versions[i]
		if v.term != e.Term {
			continue
		}
		if v.hash != hash || v.prevTerm != prevTerm {
			l.fail(LogMatching, ids(who), "entry %d of term %d differs from another replica's, or follows one of term %d there and of term %d here", e.Index, e.Term, v.prevTerm, prevTerm)
		}
		return
	}
	if prevTerm > e.Term {
		l.fail(LogMatching, ids(who), "entry %d of term %d follows one of term %d", e.Index, e.Term, prevTerm)
	}
	l.versions = append(l.versions, version{term: e.Term, prevTerm: prevTerm, hash: hash, next: l.heads[e.Index]})
	l.heads[e.Index] = int32(len(l.versions) - 1)
}

// leads notes that who plays the leader of term. It reports whether that is
// news.
func (l *ledger) leads(who smr.ReplicaID, term uint64) bool {
	const termMax = 1 << 20
	if term == 0 || term > termMax {
		l.fail(Contract, ids(who), "leads term %d", term)
		return false
	}
	for uint64(len(l.leaders)) <= term {
		l.leaders = append(l.leaders, 0)
	}
	switch l.leaders[term] {
	case 0:
		l.leaders[term] = who
		return true
	case who:
		return false
	}
	l.fail(ElectionSafety, ids(l.leaders[term], who), "two leaders of term %d", term)
	return false
}

// leader is who was seen to lead term, or zero.
func (l *ledger) leader(term uint64) smr.ReplicaID {
	if term >= uint64(len(l.leaders)) {
		return 0
	}
	return l.leaders[term]
}

// terms is a log as the ledger looks at it: entries above base, of no term beyond
// its end.
type terms interface {
	base() uint64
	termOrZero(index uint64) uint64
}

// complete checks a new leader's log: everything committed in earlier terms is
// there.
func (l *ledger) complete(who smr.ReplicaID, term uint64, log terms) {
	for i := len(l.commits); i > 0; i-- {
		c := &l.commits[i-1]
		index := uint64(i)
		if index <= log.base() {
			return
		}
		if c.in >= term {
			continue // perhaps committed in this term or a later one
		}
		if log.termOrZero(index) != c.term {
			l.fail(LeaderCompleteness, ids(who), "the leader elected in term %d has entry %d of term %d, committed is one of term %d", term, index, log.termOrZero(index), c.term)
			return
		}
		// (index, term) names one log up to there: log matching.
		return
	}
}

// applied notes that who, being in term in, applied e and reached state.
func (l *ledger) applied(who smr.ReplicaID, e *smr.Entry, state, in uint64) {
	hash := hashEntry(e)
	at := e.Index - 1
	switch n := uint64(len(l.commits)); {
	case at < n:
		c := &l.commits[at]
		if c.term != e.Term || c.hash != hash {
			l.fail(StateMachineSafety, ids(who), "applies entry %d of term %d, another replica applied one of term %d there", e.Index, e.Term, c.term)
		} else if l.states[at] == 0 {
			l.states[at] = state // it was applied within a batch
		} else if state != 0 && l.states[at] != state {
			l.fail(StateMachineSafety, ids(who), "reaches state %x at index %d, another replica reached %x", state, e.Index, l.states[at])
		}
	case at == n:
		l.commits = append(l.commits, version{term: e.Term, hash: hash, in: in})
		l.states = append(l.states, state)
		l.placed(who, e)
	default:
		l.fail(Contract, ids(who), "applies entry %d while %d was never applied", e.Index, n+1)
	}
}

// placed notes where a command took effect.
func (l *ledger) placed(who smr.ReplicaID, e *smr.Entry) {
	if e.Kind != smr.KindCommand {
		return
	}
	id, ok := l.identify(e.Data)
	if !ok || l.made != nil && id > *l.made {
		l.fail(Contract, ids(who), "entry %d holds a command that no client made", e.Index)
		return
	}
	for uint64(len(l.places)) <= id {
		l.places = append(l.places, 0)
	}
	if l.places[id] != 0 {
		l.fail(ExactlyOnce, ids(who), "command %d is committed at %d and again at %d", id, l.places[id], e.Index)
		return
	}
	l.places[id] = e.Index
}

// place returns the index at which the command took effect, zero if it has not.
func (l *ledger) place(id uint64) uint64 {
	if id >= uint64(len(l.places)) {
		return 0
	}
	return l.places[id]
}

// known raises the floor: a client knows the effect of index.
func (l *ledger) known(index uint64) {
	if index > l.floor {
		l.floor = index
	}
}

// The commands of the simulated clients: id (8 bytes, little endian) | key byte
// | padding. Command id writes the value id to the register key.
const commandBytesMin = 9

func appendCommand(dst []byte, id uint64, key byte, size int) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, id)
	dst = append(dst, key)
	for i := commandBytesMin; i < size; i++ {
		dst = append(dst, byte(i)^key)
	}
	return dst
}

func identifyCommand(data []byte) (uint64, bool) {
	if len(data) < commandBytesMin {
		return 0, false
	}
	return commandID(data), true
}

func commandID(data []byte) uint64 { return binary.LittleEndian.Uint64(data) }
func commandKey(data []byte) byte  { return data[8] }
