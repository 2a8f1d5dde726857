package wal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

const testDir = "data/wal"

func testOptions() Options {
	return Options{
		Identity: Identity{Cluster: 7, Replica: 3, Incarnation: 5}, Shard: 2,
		SegmentBytes: 16 << 10, Logger: quiet,
	}
}

func mustOpen(t testing.TB, fs vfs.FS, o Options) *Log {
	t.Helper()
	l, err := Open(fs, testDir, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l
}

func mustSync(t testing.TB, l *Log) []Ack {
	t.Helper()
	acks, err := l.Sync(nil)
	if err != nil {
		t.Fatalf("sync: %v", err)
	}
	return acks
}

func members(ids ...smr.ReplicaID) smr.Configuration {
	var c smr.Configuration
	for _, id := range ids {
		c.Members = append(c.Members, smr.Member{ID: id, Role: smr.Voter})
	}
	return c
}

func entry(index, term uint64, data string) smr.Entry {
	return smr.Entry{Index: index, Term: term, Kind: smr.KindCommand, Origin: 9, Request: index, Data: []byte(data)}
}

func run(first, last, term uint64, size int) []smr.Entry {
	var es []smr.Entry
	for i := first; i <= last; i++ {
		es = append(es, entry(i, term, fmt.Sprintf("%d/%d:%s", i, term, strings.Repeat("x", size))))
	}
	return es
}

// readAll reads the whole log of a group through Read.
func readAll(l *Log, g smr.GroupID, first, last uint64) ([]smr.Entry, error) {
	var es []smr.Entry
	for next := first; next <= last; next = first + uint64(len(es)) {
		var err error
		if es, err = l.Read(g, next, last, 3000, es); err != nil {
			return es, err
		}
	}
	return es, nil
}

func TestRoundTrip(t *testing.T) {
	fs := vfs.NewMem()
	l := mustOpen(t, fs, testOptions())
	l.Create(1, members(1, 2, 3))
	l.Create(2, members(3))
	hs := smr.HardState{Term: 2, Vote: 3, Commit: 1}
	es := run(1, 20, 1, 300)
	es[4].Kind = smr.KindConfiguration
	l.Append(1, 1, &hs, es[:10])
	l.Append(2, 1, nil, run(1, 1, 1, 5))
	l.Append(1, 2, nil, es[10:])
	l.Append(1, 3, nil, run(18, 25, 2, 10))
	if !l.Pending() || l.Buffered() == 0 {
		t.Fatal("nothing is pending after Append")
	}
	want := []Ack{{1, 3}, {2, 1}}
	if got := mustSync(t, l); !reflect.DeepEqual(got, want) {
		t.Fatalf("acks %v, want %v", got, want)
	}
	if l.Pending() {
		t.Fatal("pending after Sync")
	}
	log := append(append([]smr.Entry{}, es[:17]...), run(18, 25, 2, 10)...)
	check := func(l *Log) {
		t.Helper()
		got, err := readAll(l, 1, 1, 25)
		if err != nil || !reflect.DeepEqual(got, log) {
			t.Fatalf("read %d entries, %v", len(got), err)
		}
	}
	check(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, fs, testOptions())
	check(l)
	st, ok := l.State(1)
	wantState := smr.LogState{
		HardState: hs, Snapshot: smr.SnapshotMeta{Configuration: members(1, 2, 3)}, Last: 25,
		Terms: []smr.TermRun{{First: 1, Term: 1}, {First: 18, Term: 2}}, Configurations: es[4:5], Tail: log,
	}
	if !ok || !reflect.DeepEqual(st, wantState) {
		t.Fatalf("state %+v\nwant  %+v", st, wantState)
	}
	if got := l.Groups(); !reflect.DeepEqual(got, []smr.GroupID{1, 2}) {
		t.Fatalf("groups %v", got)
	}
	if _, err := l.Read(1, 26, 30, 100, nil); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("beyond the end: %v", err)
	}
	l.SetSnapshot(1, smr.SnapshotMeta{Index: 10, Term: 1, Configuration: members(1, 2)})
	mustSync(t, l)
	if _, err := l.Read(1, 10, 12, 100, nil); !errors.Is(err, ErrCompacted) {
		t.Fatalf("compacted: %v", err)
	}
	if got, err := l.Read(1, 11, 25, 1, nil); err != nil || len(got) != 1 || got[0].Index != 11 {
		t.Fatalf("at least one: %v, %v", got, err)
	}
}

func TestTailIsBounded(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions()
	o.TailBytesMax = 3 * (smr.EntryOverhead + 104)
	l := mustOpen(t, fs, o)
	l.Create(1, members(1))
	l.Append(1, 1, nil, run(1, 99, 1, 100)[:99])
	mustSync(t, l)
	l.Close()
	st, _ := mustOpen(t, fs, o).State(1)
	if len(st.Tail) == 0 || len(st.Tail) > 3 || st.Tail[len(st.Tail)-1].Index != 99 || st.Last != 99 {
		t.Fatalf("tail of %d entries", len(st.Tail))
	}
}

func TestForeignLogIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	mustOpen(t, fs, testOptions()).Close()
	for _, change := range []func(*Options){
		func(o *Options) { o.Identity.Cluster++ },
		func(o *Options) { o.Identity.Replica++ },
		func(o *Options) { o.Identity.Incarnation++ },
		func(o *Options) { o.Shard++ },
	} {
		o := testOptions()
		change(&o)
		_, err := Open(fs, testDir, o)
		if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), testOptions().Identity.String()) || !strings.Contains(err.Error(), o.Identity.String()) {
			t.Fatalf("%+v: %v", o.Identity, err)
		}
	}
	o := testOptions()
	o.Identity.Incarnation = 0
	if l := mustOpen(t, fs, o); l.Identity() != testOptions().Identity {
		t.Fatalf("identity %v", l.Identity())
	}
	if _, err := Open(fs, testDir, o); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
}

func TestMisuseFailsTheLog(t *testing.T) {
	cases := map[string]func(l *Log){
		"unknown group":     func(l *Log) { l.Append(9, 1, nil, run(1, 1, 1, 1)) },
		"gap":               func(l *Log) { l.Append(1, 1, nil, run(7, 7, 1, 1)) },
		"below snapshot":    func(l *Log) { l.Append(1, 1, nil, run(2, 2, 1, 1)) },
		"term goes back":    func(l *Log) { l.Append(1, 1, nil, run(6, 6, 0, 1)) },
		"hard state back":   func(l *Log) { l.Append(1, 1, &smr.HardState{Term: 1}, nil) },
		"second vote":       func(l *Log) { l.Append(1, 1, &smr.HardState{Term: 2, Vote: 3}, nil) },
		"created twice":     func(l *Log) { l.Create(1, members(1)) },
		"gap in the middle": func(l *Log) { l.Append(1, 1, nil, []smr.Entry{entry(6, 1, ""), entry(8, 1, "")}) },
	}
	for name, misuse := range cases {
		l := mustOpen(t, vfs.NewMem(), testOptions())
		l.Create(1, members(1))
		l.Append(1, 1, &smr.HardState{Term: 2, Vote: 1}, run(1, 5, 1, 1))
		l.SetSnapshot(1, smr.SnapshotMeta{Index: 3, Term: 1})
		mustSync(t, l)
		misuse(l)
		if _, err := l.Sync(nil); !errors.Is(err, ErrMisuse) || !errors.Is(err, ErrFailed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// "If existing log entry has same index and term as snapshot's last included
// entry, retain log entries following it" (Raft, figure 13); else discard all.
func TestSnapshotThatDoesNotMatchRestartsTheLog(t *testing.T) {
	for _, c := range []struct {
		index, term, last uint64
	}{{3, 1, 5}, {3, 2, 3}, {9, 2, 9}, {5, 1, 5}} {
		fs := vfs.NewMem()
		l := mustOpen(t, fs, testOptions())
		l.Create(1, members(1))
		l.Append(1, 1, nil, run(1, 5, 1, 1))
		l.SetSnapshot(1, smr.SnapshotMeta{Index: c.index, Term: c.term, Configuration: members(4)})
		mustSync(t, l)
		if st, _ := reopenAfterCrash(t, fs, testOptions()).State(1); st.Last != c.last || uint64(len(st.Tail)) != c.last-c.index {
			t.Errorf("snapshot at %d of term %d: %+v", c.index, c.term, st)
		}
		l.Append(1, 2, nil, run(c.last+1, c.last+2, 3, 1))
		mustSync(t, l)
		l.Close()
		st, _ := mustOpen(t, fs, testOptions()).State(1)
		if st.Last != c.last+2 || st.Snapshot.Index != c.index || st.Snapshot.Term != c.term || uint64(len(st.Tail)) != c.last+2-c.index {
			t.Errorf("snapshot at %d of term %d: %+v", c.index, c.term, st)
		}
	}
}

func TestBatchLargerThanASegment(t *testing.T) {
	fs := vfs.NewMem()
	l := mustOpen(t, fs, testOptions())
	l.Create(1, members(1))
	big := []smr.Entry{entry(1, 1, strings.Repeat("a", 100<<10)), entry(2, 1, "b"), entry(3, 1, strings.Repeat("c", 50<<10))}
	l.Append(1, 1, nil, big)
	mustSync(t, l)
	l.Append(1, 2, nil, run(4, 30, 1, 1000))
	mustSync(t, l)
	l = reopenAfterCrash(t, fs, testOptions())
	got, err := readAll(l, 1, 1, 30)
	if err != nil || !reflect.DeepEqual(got[:3], big) || len(got) != 30 {
		t.Fatalf("%d entries, %v", len(got), err)
	}
}

func reopenAfterCrash(t testing.TB, fs *vfs.Mem, o Options) *Log {
	t.Helper()
	return mustOpen(t, fs.Crash(nil, 0), o)
}

// "The data counts as not written, whatever a second sync says."
func TestFailedSyncIsFinal(t *testing.T) {
	mem := vfs.NewMem()
	failing := false
	fs := vfs.NewFault(mem, vfs.PolicyFunc(func(op vfs.Op) vfs.Verdict {
		if failing && op.Kind == vfs.OpSync {
			failing = false // the next one would succeed
			return vfs.Verdict{Err: syscall.EIO}
		}
		return vfs.Verdict{}
	}), nil)
	l := mustOpen(t, fs, testOptions())
	l.Create(1, members(1))
	l.Append(1, 1, nil, run(1, 3, 1, 10))
	mustSync(t, l)
	l.Append(1, 2, nil, run(4, 6, 1, 10))
	failing = true
	for range 3 {
		if acks, err := l.Sync(nil); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) || len(acks) != 0 {
			t.Fatalf("acks %v, error %v", acks, err)
		}
	}
	if _, err := l.Read(1, 1, 1, 1, nil); !errors.Is(err, ErrFailed) {
		t.Fatalf("read: %v", err)
	}
	l.Close()
	if st, _ := mustOpen(t, fs, testOptions()).State(1); st.Last != 3 {
		t.Fatalf("last is %d: what a failed sync left in doubt was lost with the pages", st.Last)
	}
}

func TestNoSpaceIsReportedAndPasses(t *testing.T) {
	mem := vfs.NewMem()
	l := mustOpen(t, mem, testOptions())
	l.Create(1, members(1))
	mustSync(t, l)
	mem.SetFree(20 << 10)
	index, full := uint64(1), false
	var acked uint64
	for range 1000 {
		l.Append(1, index, nil, run(index, index, 1, 1000))
		acks, err := l.Sync(nil)
		if err != nil {
			if !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrFailed) || len(acks) != 0 {
				t.Fatalf("acks %v, error %v", acks, err)
			}
			full = true
			break
		}
		acked, index = index, index+1
	}
	if !full || !l.Stats().NoSpace || !l.Pending() {
		t.Fatalf("full %v, stats %+v", full, l.Stats())
	}
	crashed := mustOpen(t, mem.Crash(nil, 0), testOptions())
	if st, _ := crashed.State(1); st.Last != acked {
		t.Fatalf("last %d, acknowledged %d", st.Last, acked)
	}
	if _, err := l.Sync(nil); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("still full: %v", err)
	}
	l.Append(1, index+1, nil, run(index+1, index+1, 1, 1000))
	mem.SetFree(-1)
	if acks := mustSync(t, l); !reflect.DeepEqual(acks, []Ack{{1, index}}) {
		t.Fatalf("acks %v", acks)
	}
	if acks := mustSync(t, l); !reflect.DeepEqual(acks, []Ack{{1, index + 1}}) {
		t.Fatalf("acks %v", acks)
	}
	if got, err := readAll(l, 1, 1, index+1); err != nil || uint64(len(got)) != index+1 {
		t.Fatalf("%d entries, %v", len(got), err)
	}
}

// An idle group's few records must not keep the segments of all others.
func TestIdleGroupDoesNotPinSegments(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions()
	l := mustOpen(t, fs, o)
	l.Create(1, members(1, 2))
	idle := run(1, 3, 1, 200)
	l.Append(1, 1, &smr.HardState{Term: 4, Vote: 2}, idle)
	l.Create(2, members(3))
	mustSync(t, l)
	index := uint64(0)
	for range 400 {
		l.Append(2, index, nil, run(index+1, index+5, 1, 100))
		index += 5
		mustSync(t, l)
		if index%20 == 0 {
			l.SetSnapshot(2, smr.SnapshotMeta{Index: index - 2, Term: 1, Configuration: members(3)})
		}
	}
	st := l.Stats()
	if st.Segments > 6 || st.MovedBytes == 0 {
		t.Fatalf("%+v", st)
	}
	l = reopenAfterCrash(t, fs, o)
	state, _ := l.State(1)
	if !reflect.DeepEqual(state.Tail, idle) || state.HardState != (smr.HardState{Term: 4, Vote: 2}) || !reflect.DeepEqual(state.Terms, []smr.TermRun{{First: 1, Term: 1}}) {
		t.Fatalf("%+v", state)
	}
	if names, _ := fs.List(testDir); len(names) > 10 {
		t.Fatalf("files: %v", names)
	}
}

// docs/snapshots.md: "what an idle group has left in an old segment is moved at
// once": the log does not grow to the number of segments from which on more than
// a trifle is moved.
func TestTrifleIsMovedAtOnce(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions()
	o.SegmentBytes = 64 << 10
	l := mustOpen(t, fs, o)
	l.Create(1, members(1, 2))
	l.Append(1, 1, nil, run(1, 1, 1, 100))
	l.Create(2, members(3))
	mustSync(t, l)
	most, files := 0, 0
	for index := uint64(0); index < 2000; index += 5 {
		l.Append(2, index+1, nil, run(index+1, index+5, 1, 200))
		mustSync(t, l)
		if index%20 == 0 && index > 40 {
			l.SetSnapshot(2, smr.SnapshotMeta{Index: index - 40, Term: 1, Configuration: members(3)})
		}
		names, err := fs.List(testDir)
		if err != nil {
			t.Fatal(err)
		}
		most, files = max(most, l.Stats().Segments), max(files, len(names)-1) // one is the lock
	}
	if most > 2 || files > 3 || l.Stats().MovedBytes == 0 {
		t.Fatalf("up to %d segments in use, %d files; %+v", most, files, l.Stats())
	}
	l = reopenAfterCrash(t, fs, o)
	if got, err := readAll(l, 1, 1, 1); err != nil || len(got) != 1 {
		t.Fatalf("the idle group has %d entries, %v", len(got), err)
	}
}

// Entries that cannot be read keep their segment until they are compacted, and no
// longer: after that the few entries of other idle groups are moved as before.
func TestMovesGoOnAfterDamage(t *testing.T) {
	fs := vfs.NewMem()
	l := mustOpen(t, fs, testOptions())
	for g := smr.GroupID(1); g <= 3; g++ {
		l.Create(g, members(3))
	}
	index := uint64(0)
	write := func() {
		for range 200 {
			l.Append(2, index+1, nil, run(index+1, index+5, 1, 100))
			index += 5
			mustSync(t, l)
			l.SetSnapshot(2, smr.SnapshotMeta{Index: index - 2, Term: 1, Configuration: members(3)})
		}
	}
	l.Append(1, 1, nil, run(1, 3, 1, 200))
	mustSync(t, l)
	at := l.groups[1].marks[0]
	if err := fs.FlipBit(l.path(at.segment), 8*(at.off+300)); err != nil {
		t.Fatal(err)
	}
	write()
	if st := l.Stats(); st.MovedBytes > 0 || l.segments[0].number != at.segment {
		t.Fatalf("damaged entries were moved: %+v", st)
	}
	l.Append(3, 1, nil, run(1, 3, 1, 200))
	l.SetSnapshot(1, smr.SnapshotMeta{Index: 3, Term: 1, Configuration: members(3)})
	write()
	if st := l.Stats(); st.Segments > 4 || st.MovedBytes == 0 {
		t.Errorf("the damaged entries are compacted, and nothing is moved: %+v", st)
	}
	if got, err := readAll(l, 3, 1, 3); err != nil || len(got) != 3 {
		t.Errorf("the idle group has %d entries, %v", len(got), err)
	}
}

// A truncation in the middle of a Read: what it returns is of one log.
func TestReadAcrossATruncation(t *testing.T) {
	var during func()
	fs := vfs.NewFault(vfs.NewMem(), vfs.PolicyFunc(func(op vfs.Op) vfs.Verdict {
		if f := during; op.Kind == vfs.OpRead && f != nil {
			during = nil
			f()
		}
		return vfs.Verdict{}
	}), nil)
	o := testOptions()
	o.SegmentBytes = 1 << 20
	l := mustOpen(t, fs, o)
	l.Create(1, members(1))
	old := run(1, 100, 1, 300)
	l.Append(1, 1, nil, old)
	mustSync(t, l)
	during = func() {
		l.Append(1, 2, nil, run(3, 100, 2, 300))
		mustSync(t, l)
	}
	got, err := l.Read(1, 1, 100, 1<<20, nil)
	if err != nil || len(got) < 3 || !reflect.DeepEqual(got, old[:len(got)]) {
		t.Fatalf("%d entries, the last of term %d, %v", len(got), got[len(got)-1].Term, err)
	}
}

func TestRemovedGroupIsGone(t *testing.T) {
	fs := vfs.NewMem()
	l := mustOpen(t, fs, testOptions())
	l.Create(1, members(1))
	l.Append(1, 1, &smr.HardState{Term: 9}, run(1, 3, 1, 10))
	mustSync(t, l)
	l.Remove(1)
	mustSync(t, l)
	l = reopenAfterCrash(t, fs, testOptions())
	if len(l.Groups()) != 0 {
		t.Fatal(l.Groups())
	}
	l.Create(1, members(2))
	l.Append(1, 1, nil, run(1, 1, 1, 1))
	mustSync(t, l)
	if st, _ := reopenAfterCrash(t, fs, testOptions()).State(1); st.Last != 0 {
		t.Fatal("the crash copy shares state with what it was copied from")
	}
}

func TestInspect(t *testing.T) {
	fs := vfs.NewMem()
	l := mustOpen(t, fs, testOptions())
	l.Create(1, members(1))
	for i := uint64(1); i <= 40; i++ {
		l.Append(1, i, &smr.HardState{Term: i}, run(i, i, i, 1000))
		mustSync(t, l)
	}
	l.Close()
	var entries, states uint64
	sum, err := Inspect(fs, testDir, func(r RecordInfo) error {
		entries += uint64(len(r.Entries))
		if r.Kind == "hard state" {
			states++
		}
		return nil
	})
	if err != nil || sum.Entries != 40 || entries != 40 || states != 40 || sum.Identity != testOptions().Identity || sum.Shard != 2 || sum.Last-sum.First < 2 {
		t.Fatalf("%+v, %d entries, %d states, %v", sum, entries, states, err)
	}
	stop := errors.New("stop")
	if _, err := Inspect(fs, testDir, func(RecordInfo) error { return stop }); err != stop {
		t.Fatal(err)
	}
}

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
