package wal

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// marksDiff says which invariant of the marks does not hold; empty: all do. Invariant
// (2) is what reading shows.
func marksDiff(l *Log) string {
	marks, live := map[uint64]int{}, map[uint64]int64{}
	for _, g := range l.sorted() {
		if n := len(g.marks); n > 0 != (g.last > g.snapshot.Index) {
			return fmt.Sprintf("group %d: %d marks for a log from %d to %d", g.id, n, g.snapshot.Index+1, g.last)
		}
		for i, m := range g.marks {
			last := g.last
			if i+1 < len(g.marks) {
				last = g.marks[i+1].first - 1
			}
			switch {
			case i == 0 && m.first > g.snapshot.Index+1, last < m.first:
				return fmt.Sprintf("(1) group %d: mark %d spans %d to %d in a log from %d to %d", g.id, i, m.first, last, g.snapshot.Index+1, g.last)
			case l.segment(m.segment) == nil:
				return fmt.Sprintf("(3) group %d: mark %d is in segment %d, which is not in use", g.id, i, m.segment)
			case last <= g.snapshot.Index:
				return fmt.Sprintf("(4) group %d: mark %d spans %d to %d in a log from %d on", g.id, i, m.first, last, g.snapshot.Index+1)
			}
			marks[m.segment]++
			live[m.segment] += m.bytes
		}
	}
	for _, s := range l.segments {
		if s.marks != marks[s.number] || s.live != live[s.number] {
			return fmt.Sprintf("(3) segment %d counts %d marks of %d bytes, which are %d of %d", s.number, s.marks, s.live, marks[s.number], live[s.number])
		}
	}
	return ""
}

// checkReads reads each entry of a group alone, and the whole log from it on.
func checkReads(t *testing.T, l *Log, id smr.GroupID, want []smr.Entry) {
	t.Helper()
	if d := marksDiff(l); d != "" {
		t.Fatal(d)
	}
	last := want[len(want)-1].Index
	for i := range want {
		es, err := l.Read(id, want[i].Index, want[i].Index, 1, nil)
		if err != nil || !reflect.DeepEqual(es, want[i:i+1]) {
			t.Fatalf("entry %d: %d entries, %v", want[i].Index, len(es), err)
		}
		if i%97 != 0 {
			continue
		}
		if es, err = l.Read(id, want[i].Index, last, 1<<40, nil); err != nil || !reflect.DeepEqual(es, want[i:]) {
			t.Fatalf("entries from %d on: %d entries, %v", want[i].Index, len(es), err)
		}
	}
}

// A log gets longer, is truncated and compacted, and opened again, with few marks:
// every entry is found all the time.
func TestThinnedMarks(t *testing.T) {
	fs, o := vfs.NewMem(), testOptions()
	o.SegmentBytes, o.marksMax = 128<<10, 8
	l := mustOpen(t, fs, o)
	l.Create(1, members(1))
	l.Create(2, members(1))
	var want []smr.Entry
	add := func(first, term uint64) {
		es := run(first, first+19, term, 100)
		if len(want) > 0 {
			want = want[:first-want[0].Index]
		}
		want = append(want, es...)
		l.Append(1, first, nil, es)
		l.Append(2, first, nil, run(first, first+19, term, 50))
		mustSync(t, l)
	}
	for i := uint64(1); i < 1500; i += 20 {
		add(i, 1)
	}
	g := l.groups[1]
	reopen := func() {
		l.Close()
		l = mustOpen(t, fs, o)
		g = l.groups[1]
	}
	if len(g.marks) > o.marksMax+l.Stats().Segments || g.width == 0 {
		t.Fatalf("%d marks of width %d", len(g.marks), g.width)
	}
	checkReads(t, l, 1, want)
	was := slices.Clone(g.marks)
	if reopen(); !reflect.DeepEqual(g.marks, was) {
		t.Errorf("opened again, the marks are\n%v\nand were\n%v", g.marks, was)
	}
	checkReads(t, l, 1, want)
	add(1490, 2)               // truncates within a wide mark,
	add(1471, 3)               // before the beginning of the one that this began,
	add(g.marks[1].first+1, 4) // and far behind, right after the beginning of one
	for i := want[len(want)-1].Index + 1; i < 3000; i += 20 {
		add(i, 5)
	}
	checkReads(t, l, 1, want)

	reopen()
	checkReads(t, l, 1, want)

	for len(want) > 400 {
		m := smr.SnapshotMeta{Index: want[300].Index, Term: want[300].Term, Configuration: members(1)}
		l.SetSnapshot(1, m)
		l.SetSnapshot(2, m)
		mustSync(t, l)
		want = want[301:]
		checkReads(t, l, 1, want)
	}
	if g.width != 0 && len(g.marks) < o.marksMax/4 {
		t.Errorf("%d marks of width %d: narrow ones would do", len(g.marks), g.width)
	}
}

// Wide marks of a group that rests are moved in steps, and every entry is found.
func TestMoveWideMarks(t *testing.T) {
	o := testOptions()
	o.SegmentBytes, o.marksMax = 8<<20, 2
	l := mustOpen(t, vfs.NewMem(), o)
	l.Create(1, members(1))
	l.Create(2, members(1))
	const entries = 900
	want := run(1, entries, 1, 2000)
	for i := 0; i < entries; i += 30 {
		l.Append(1, uint64(i), nil, want[i:i+30])
		mustSync(t, l)
	}
	if m := l.groups[1].marks[0]; m.bytes < 2*moveStep {
		t.Fatalf("a mark of %d bytes does not need several steps", m.bytes)
	}
	checkReads(t, l, 1, want)
	moved := uint64(0)
	for i := uint64(1); l.segments[0].number == 1; i++ {
		if i > 200 {
			t.Fatalf("the first segment is still in use; moved are %d bytes", moved)
		}
		l.Append(2, i, nil, run(i, i, 1, 300_000))
		l.SetSnapshot(2, smr.SnapshotMeta{Index: i, Term: 1, Configuration: members(1)})
		mustSync(t, l)
		now := l.Stats().MovedBytes
		if now-moved > 2*moveStep+64<<10 {
			t.Fatalf("%d bytes were moved in one step", now-moved)
		}
		if now != moved {
			checkReads(t, l, 1, want)
		}
		moved = now
	}
	if moved < entries*2000 {
		t.Errorf("%d bytes were moved, want all %d", moved, entries*2000)
	}
}

// What the log keeps in memory of ten million entries, and how far before an entry a
// read begins.
func TestMarksOfTenMillionEntries(t *testing.T) {
	const entries, size, capacity = 10_000_000, 60, 64 << 20
	l := &Log{groups: map[smr.GroupID]*group{1: {id: 1, exists: true}}}
	if err := l.o.complete(); err != nil {
		t.Fatal(err)
	}
	g := l.groups[1]
	l.segments = []*segment{{number: 1}}
	var index uint64
	add := func() {
		s := l.current()
		if s.end+size > capacity {
			s = &segment{number: s.number + 1}
			l.segments = append(l.segments, s)
		}
		index++
		l.apply(&record{kind: kindEntries, group: 1, first: index, last: index, size: size}, s, s.end)
		s.end += size
	}
	for range entries {
		add()
	}
	if bytes := cap(g.marks) * int(unsafe.Sizeof(mark{})); bytes > 512<<10 {
		t.Errorf("%d marks take %d bytes", len(g.marks), bytes)
	}
	if d := marksDiff(l); d != "" {
		t.Error(d)
	}
	for i, m := range g.marks {
		if m.bytes > 2*entries*size/(marksMax/2) {
			t.Fatalf("mark %d of %d spans %d bytes", i, len(g.marks), m.bytes)
		}
	}
	if n := testing.AllocsPerRun(10*marksMax, add); n != 0 {
		t.Errorf("a further entry allocates %v times", n)
	}
}
