package sim

import (
	"fmt"

	"github.com/quorate/quorate/smr"
)

// entryLog is a log as the world keeps it, independent of the code under test:
// entries (start.Index, last()].
type entryLog struct {
	start   smr.SnapshotMeta
	entries []smr.Entry
}

func (l *entryLog) last() uint64 { return l.start.Index + uint64(len(l.entries)) }

func (l *entryLog) base() uint64 { return l.start.Index }

func (l *entryLog) at(index uint64) *smr.Entry { return &l.entries[index-l.start.Index-1] }

// term of the entry at index, which lies in [start.Index, last()].
func (l *entryLog) term(index uint64) uint64 {
	if index == l.start.Index {
		return l.start.Term
	}
	return l.at(index).Term
}

func (l *entryLog) termOrZero(index uint64) uint64 {
	if index < l.start.Index || index > l.last() {
		return 0
	}
	return l.term(index)
}

// put writes entries at their indexes and truncates what follows. It reports
// whether it truncated anything.
func (l *entryLog) put(entries []smr.Entry) (truncated bool, err error) {
	if len(entries) == 0 {
		return false, nil
	}
	first := entries[0].Index
	if first <= l.start.Index || first > l.last()+1 {
		return false, fmt.Errorf("entries from %d do not fit a log of (%d, %d]", first, l.start.Index, l.last())
	}
	keep := first - l.start.Index - 1
	truncated = keep < uint64(len(l.entries))
	l.entries = append(l.entries[:keep], entries...)
	return truncated, nil
}

// compact drops the entries up to m.Index, or all if the log does not hold that
// entry.
func (l *entryLog) compact(m smr.SnapshotMeta) {
	if m.Index <= l.start.Index {
		return
	}
	if m.Index <= l.last() && l.term(m.Index) == m.Term {
		l.entries = append(l.entries[:0], l.entries[m.Index-l.start.Index:]...)
	} else {
		l.entries = l.entries[:0]
	}
	l.start = m
}

// state is what a replica finds when it opens this log, with the last tail
// entries in memory.
func (l *entryLog) state(hs smr.HardState, tail int) smr.LogState {
	s := smr.LogState{HardState: hs, Snapshot: l.start, Last: l.last()}
	var term uint64
	for i := range l.entries {
		e := &l.entries[i]
		if i == 0 || e.Term != term {
			s.Terms = append(s.Terms, smr.TermRun{First: e.Index, Term: e.Term})
			term = e.Term
		}
		if e.Kind == smr.KindConfiguration {
			s.Configurations = append(s.Configurations, *e)
		}
	}
	tail = min(tail, len(l.entries))
	s.Tail = append([]smr.Entry(nil), l.entries[len(l.entries)-tail:]...)
	return s
}
