package sim

import (
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// Occurrences come out by time, and those of one time in the order in which
// they went in.
func TestQueue(t *testing.T) {
	rng := fork(1, 1)
	var q queue
	var want []occurrence
	for i := range 5000 {
		o := occurrence{at: smr.Instant(rng.n(300)), ref: int32(i)}
		q.push(o)
		want = append(want, o)
	}
	sort.SliceStable(want, func(i, j int) bool { return want[i].at < want[j].at })
	for i := range want {
		o, ok := q.pop()
		if !ok || o.at != want[i].at || o.ref != want[i].ref {
			t.Fatalf("occurrence %d is %+v, want %+v", i, o, want[i])
		}
	}
	if _, ok := q.pop(); ok {
		t.Fatal("an empty queue gives an occurrence")
	}
}

func TestQueueDoesNotAllocate(t *testing.T) {
	var q queue
	for range 1000 {
		q.push(occurrence{at: 1})
	}
	if n := testing.AllocsPerRun(1000, func() {
		o, _ := q.pop()
		o.at += 7
		q.push(o)
	}); n != 0 {
		t.Errorf("%v allocations for a pop and a push", n)
	}
}

// A clock's alarm rings at the first instant at which the clock shows the time,
// or a hair later, never before.
func TestClock(t *testing.T) {
	rng := fork(2, 2)
	for range 2000 {
		c := clock{offset: smr.Instant(rng.between(0, time.Hour)), ppm: int64(rng.n(800_000)) - 400_000}
		at := smr.Instant(rng.between(0, time.Hour))
		d := c.local(at)
		if w := c.world(d); c.local(w) < d || w.Sub(at) > time.Microsecond*10 || at.Sub(w) > 10*time.Microsecond {
			t.Fatalf("clock %+v shows %d at %d, its alarm for that rings at %d", c, d, at, w)
		}
	}
	if (&clock{offset: 5}).world(smr.Never) != smr.Never {
		t.Error("never comes")
	}
}

func entries(first uint64, terms ...uint64) []smr.Entry {
	var es []smr.Entry
	for i, term := range terms {
		es = append(es, smr.Entry{Index: first + uint64(i), Term: term})
	}
	return es
}

func TestDisk(t *testing.T) {
	always, never := &disk{keepPermille: 1000}, &disk{keepPermille: 0}
	for _, d := range []*disk{always, never} {
		var marks Marks
		rng := fork(1, 1)
		d.add(&raft.Append{Seq: 1, Entries: entries(1, 1, 1)})
		if _, ok := d.begin(&rng, &marks); !ok {
			t.Fatal("no sync begins")
		}
		d.add(&raft.Append{Seq: 2, Entries: entries(3, 1), HardStateSet: true, HardState: smr.HardState{Term: 1}})
		if _, ok := d.begin(&rng, &marks); ok {
			t.Fatal("two syncs at a time")
		}
		if seq, err := d.finish(); err != nil || seq != 1 || d.log.last() != 2 {
			t.Fatalf("the sync covers write %d up to %d (%v): it covers what was there when it began", seq, d.log.last(), err)
		}
		// A truncation, not synced either.
		d.add(&raft.Append{Seq: 3, Entries: entries(2, 2)})
	}
	rng := fork(1, 1)
	if kept, lost, _ := always.crash(&rng); kept != 2 || lost != 0 || always.log.last() != 2 || always.log.term(2) != 2 || always.hs.Term != 1 {
		t.Errorf("kept %d, lost %d, log up to %d", kept, lost, always.log.last())
	}
	if kept, lost, _ := never.crash(&rng); kept != 0 || lost != 2 || never.log.last() != 2 || never.log.term(2) != 1 || never.hs.Term != 0 {
		t.Errorf("kept %d, lost %d, log up to %d", kept, lost, never.log.last())
	}
}

func TestEntryLog(t *testing.T) {
	var l entryLog
	if _, err := l.put(entries(2, 1)); err == nil {
		t.Error("a log takes entries that leave a gap")
	}
	if cut, err := l.put(entries(1, 1, 1, 2, 2)); cut || err != nil {
		t.Fatal(cut, err)
	}
	if cut, err := l.put(entries(4, 3, 3)); !cut || err != nil || l.last() != 5 || l.term(4) != 3 {
		t.Fatal(cut, err)
	}
	s := l.state(smr.HardState{}, 2)
	if !slices.Equal(s.Terms, []smr.TermRun{{First: 1, Term: 1}, {First: 3, Term: 2}, {First: 4, Term: 3}}) || len(s.Tail) != 2 || s.Tail[0].Index != 4 {
		t.Fatalf("%+v", s)
	}
	l.compact(smr.SnapshotMeta{Index: 3, Term: 2})
	if l.last() != 5 || l.term(3) != 2 || l.at(4).Term != 3 {
		t.Fatal("a compaction keeps what follows it")
	}
	l.compact(smr.SnapshotMeta{Index: 9, Term: 4})
	if l.last() != 9 || l.term(9) != 4 {
		t.Fatal("a snapshot beyond the log restarts it")
	}
}

// Each checker of the ledger finds what it is there for, and nothing in a run as
// it should be.
func TestLedger(t *testing.T) {
	command := func(index, term, id uint64) *smr.Entry {
		return &smr.Entry{Index: index, Term: term, Kind: smr.KindCommand, Data: appendCommand(nil, id, 0, 20)}
	}
	for _, c := range []struct {
		name string
		want Class
		run  func(l *ledger)
	}{
		{"all is well", "", func(l *ledger) {
			l.leads(1, 1)
			for who := smr.ReplicaID(1); who <= 3; who++ {
				l.appended(who, command(1, 1, 1), 0)
				l.appended(who, command(2, 1, 2), 1)
				l.applied(who, command(1, 1, 1), 7, 1)
				l.applied(who, command(2, 1, 2), 8, 1)
			}
			l.leads(1, 1)
			l.leads(2, 3)
			l.complete(2, 3, &entryLog{entries: entries(1, 1, 1, 2)})
		}},
		{"two leaders", ElectionSafety, func(l *ledger) { l.leads(1, 4); l.leads(2, 4) }},
		{"another command at (index, term)", LogMatching, func(l *ledger) { l.appended(1, command(1, 1, 1), 0); l.appended(2, command(1, 1, 2), 0) }},
		{"another predecessor", LogMatching, func(l *ledger) { l.appended(1, command(2, 3, 1), 1); l.appended(2, command(2, 3, 1), 2) }},
		{"terms go back", LogMatching, func(l *ledger) { l.appended(1, command(2, 3, 1), 4) }},
		{"a leader lacks an entry", LeaderCompleteness, func(l *ledger) {
			l.applied(1, command(1, 1, 1), 7, 1)
			l.complete(2, 2, &entryLog{})
		}},
		{"a leader has another entry", LeaderCompleteness, func(l *ledger) {
			l.applied(1, command(1, 1, 1), 7, 2)
			l.complete(2, 4, &entryLog{entries: entries(1, 3)})
		}},
		{"another entry is applied", StateMachineSafety, func(l *ledger) { l.applied(1, command(1, 1, 1), 7, 1); l.applied(2, command(1, 1, 2), 7, 1) }},
		{"another state is reached", StateMachineSafety, func(l *ledger) { l.applied(1, command(1, 1, 1), 7, 1); l.applied(2, command(1, 1, 1), 8, 1) }},
		{"a command takes effect twice", ExactlyOnce, func(l *ledger) { l.applied(1, command(1, 1, 1), 7, 1); l.applied(1, command(2, 1, 1), 8, 1) }},
		{"a command that nobody made", Contract, func(l *ledger) { l.made = new(uint64); l.applied(1, command(1, 1, 1<<60), 7, 1) }},
		{"an entry is left out", Contract, func(l *ledger) { l.applied(1, command(2, 1, 1), 7, 1) }},
	} {
		l := newLedger(nil)
		c.run(l)
		switch {
		case c.want == "" && l.found != nil:
			t.Errorf("%s: %v", c.name, l.found)
		case c.want != "" && (l.found == nil || l.found.Class != c.want):
			t.Errorf("%s: found %v, want %s", c.name, l.found, c.want)
		}
		l = newLedger([]Class{c.want})
		c.run(l)
		if l.found != nil && l.found.Class == c.want {
			t.Errorf("%s: found although its class is skipped", c.name)
		}
	}
}

// A read that returns what was overwritten before it began has no place in any
// order; one that runs beside the write may return either.
func TestHistory(t *testing.T) {
	write := func(value uint64, begin, end int64) operation {
		return operation{write: true, value: value, begin: begin, end: end}
	}
	read := func(value uint64, begin, end int64) operation {
		return operation{client: 1, value: value, begin: begin, end: end}
	}
	for _, c := range []struct {
		ops []operation
		ok  bool
	}{
		{[]operation{write(1, 1, 2), write(2, 3, 4), read(2, 5, 6)}, true},
		{[]operation{write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)}, false},
		{[]operation{write(1, 1, 2), write(2, 3, 9), read(1, 5, 6), read(2, 7, 8)}, true},
		{[]operation{write(1, 1, 2), write(2, 3, 9), read(2, 5, 6), read(1, 7, 8)}, false},
		{[]operation{write(1, 1, 2), write(2, 3, stillOpen), read(1, 5, 6), read(2, 7, 8)}, true},
		{[]operation{write(1, 1, 2), read(0, 3, 4)}, false},
		{[]operation{read(3, 3, 4)}, false},
	} {
		h := history{ops: c.ops}
		place := func(value uint64) uint64 { return value % 3 } // 3 was never written
		want := inOrder
		if !c.ok {
			want = outOfOrder
		}
		if commit, search := h.byCommit(0, place), h.bySearch(0, place); commit != want || search != want {
			t.Errorf("%+v: by the commits %v, by search %v", c.ops, commit, search)
		}
	}
}

// Herlihy and Wing 1990: a history is linearizable if some order explains it. The
// search finds one if and only if the commits could have come in one that does.
func TestHistoryBothWays(t *testing.T) {
	rng := fork(3, 3)
	var seen [2]int
	for range 3000 {
		h, writes := history{}, 1+rng.n(4)
		ends := rng.n(8)
		for i := range writes + 1 + rng.n(4) {
			begin := int64(20*rng.n(8) + i)
			op := operation{client: i, write: i < writes, value: uint64(i + 1), begin: begin, end: begin + int64(20*(1+rng.n(1+ends))+10)}
			if !op.write {
				op.value = uint64(rng.n(writes + 1))
			}
			h.ops = append(h.ops, op)
		}
		want := outOfOrder
		places := make([]uint64, writes+1)
		var arrange func(n uint64)
		arrange = func(n uint64) {
			if n > uint64(writes) && h.byCommit(0, func(v uint64) uint64 { return places[v] }) == inOrder {
				want = inOrder
			}
			for v := 1; v <= writes; v++ {
				if places[v] == 0 {
					places[v] = n
					arrange(n + 1)
					places[v] = 0
				}
			}
		}
		arrange(1)
		if got := h.bySearch(0, func(uint64) uint64 { return 1 }); got != want {
			t.Fatalf("by search %v, by the commits %v: %+v", got, want, h.ops)
		}
		seen[want]++
	}
	if seen[0] < 300 || seen[1] < 300 {
		t.Fatalf("%d histories in order, %d out of order", seen[0], seen[1])
	}
}

// A search that grows out of hand ends, and says so.
func TestSearchIsBounded(t *testing.T) {
	var h history
	for i := range 60 {
		h.ops = append(h.ops, operation{client: i, write: true, value: uint64(i + 1), begin: int64(i), end: int64(1000 + i)})
	}
	h.ops = append(h.ops, operation{client: 60, value: 1, begin: 100, end: 200}, operation{client: 61, value: 2, begin: 300, end: 400}, operation{client: 60, value: 1, begin: 500, end: 600})
	place := func(value uint64) uint64 { return value }
	if got := h.bySearch(0, place); got != undecided {
		t.Errorf("by search: %v", got)
	}
	if got := h.byCommit(0, place); got != outOfOrder {
		t.Errorf("by the commits: %v", got)
	}
}

// Cuts overlap: a link is whole when the last cut that holds it has healed.
func TestLinks(t *testing.T) {
	var l links
	a := l.add([][2]uint8{{0, 1}, {1, 0}}, 0)
	b := l.add([][2]uint8{{0, 1}}, 0)
	if l.open(0, 1) || l.open(1, 0) || !l.open(0, 2) {
		t.Fatal("cut links are open")
	}
	l.set(a, false)
	l.set(a, false)
	if l.open(0, 1) || !l.open(1, 0) {
		t.Fatal("a cut that is left does not hold")
	}
	l.set(b, false)
	if !l.open(0, 1) {
		t.Fatal("a healed link is cut")
	}
	l.set(b, true)
	l.mend()
	if !l.open(0, 1) {
		t.Fatal("a mended link is cut")
	}
}

func BenchmarkCoreSeed(b *testing.B) {
	var virtual time.Duration
	var messages uint64
	seed := uint64(1)
	for b.Loop() {
		r, err := RunSeed(seed, Options{})
		if err != nil || r.Violation != nil {
			b.Fatal(err, r.Violation)
		}
		seed++
		virtual += r.Virtual
		messages += r.Messages
	}
	b.ReportMetric(virtual.Hours()/b.Elapsed().Minutes(), "cluster-hours/min")
	b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "messages/s")
}
