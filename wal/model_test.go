package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// model is what a log must hold.
type model map[smr.GroupID]*modelGroup

type modelGroup struct {
	hs      smr.HardState
	snap    smr.SnapshotMeta
	entries []smr.Entry // from snap.Index+1 on
}

func (g *modelGroup) last() uint64 { return g.snap.Index + uint64(len(g.entries)) }

func (g *modelGroup) term(i uint64) uint64 {
	if i == g.snap.Index {
		return g.snap.Term
	}
	return g.entries[i-g.snap.Index-1].Term
}

func (m model) clone() model {
	c := model{}
	for id, g := range m {
		x := *g
		x.entries = append([]smr.Entry(nil), g.entries...)
		c[id] = &x
	}
	return c
}

// step draws one operation and does it to the model and the log.
func (m model) step(r *rand.Rand, l *Log, seq uint64) {
	id := smr.GroupID(1 + r.IntN(4))
	g := m[id]
	if g == nil {
		g = &modelGroup{snap: smr.SnapshotMeta{Configuration: members(1, smr.ReplicaID(id+1))}}
		m[id] = g
		l.Create(id, g.snap.Configuration)
	}
	switch n := r.IntN(100); {
	case id == 4 && n < 97: // idle for most of the time
		if len(g.entries) > 0 {
			return
		}
		fallthrough
	case n < 70:
		g.append(r, l, id, seq)
	case n < 80:
		g.hs = smr.HardState{Term: g.hs.Term + 1, Vote: smr.ReplicaID(r.IntN(4)), Commit: g.hs.Commit}
		l.Append(id, seq, &g.hs, nil)
	case n < 98:
		g.compact(r, l, id)
	default:
		delete(m, id)
		l.Remove(id)
	}
}

func (g *modelGroup) append(r *rand.Rand, l *Log, id smr.GroupID, seq uint64) {
	first := g.last() + 1
	if back := uint64(r.IntN(6)); r.IntN(4) == 0 && first > g.snap.Index+back {
		first -= back
	}
	term := g.term(first - 1)
	if r.IntN(3) == 0 {
		term += uint64(r.IntN(3))
	}
	g.entries = g.entries[:first-g.snap.Index-1]
	var es []smr.Entry
	for i := range 1 + r.IntN(12) {
		size := r.IntN(200)
		if r.IntN(40) == 0 {
			size = r.IntN(7000)
		}
		e := entry(first+uint64(i), term, fmt.Sprintf("%d.%d.%s", id, seq, strings.Repeat("z", size)))
		if r.IntN(10) == 0 {
			e.Kind = smr.KindConfiguration
		}
		es = append(es, e)
	}
	g.entries = append(g.entries, es...)
	var hs *smr.HardState
	if r.IntN(2) == 0 {
		g.hs.Term = max(g.hs.Term, term)
		g.hs.Commit = max(g.hs.Commit, first)
		hs = &g.hs
	}
	l.Append(id, seq, hs, es)
}

func (g *modelGroup) compact(r *rand.Rand, l *Log, id smr.GroupID) {
	meta := smr.SnapshotMeta{Configuration: members(smr.ReplicaID(1 + r.IntN(5)))}
	if n := len(g.entries); n > 0 && r.IntN(8) > 0 {
		k := 1 + r.IntN(n)
		meta.Index = g.snap.Index + uint64(k)
		meta.Term = g.term(meta.Index)
		g.entries = append([]smr.Entry(nil), g.entries[k:]...)
	} else {
		meta.Index, meta.Term = g.last()+uint64(r.IntN(5)), g.term(g.last())+1
		g.entries = nil
	}
	g.snap = meta
	l.SetSnapshot(id, meta)
}

// diff says how the log differs from the model; empty: it does not.
func (m model) diff(l *Log) string {
	ids := l.Groups()
	if len(ids) != len(m) {
		return fmt.Sprintf("groups %v, want %d", ids, len(m))
	}
	for _, id := range ids {
		g := m[id]
		if g == nil {
			return fmt.Sprintf("group %d is there", id)
		}
		want := smr.LogState{HardState: g.hs, Snapshot: g.snap, Last: g.last(), Tail: g.entries}
		for _, e := range g.entries {
			if n := len(want.Terms); n == 0 || want.Terms[n-1].Term != e.Term {
				want.Terms = append(want.Terms, smr.TermRun{First: e.Index, Term: e.Term})
			}
			if e.Kind == smr.KindConfiguration {
				want.Configurations = append(want.Configurations, e)
			}
		}
		got, _ := l.State(id)
		if !same(got, want) {
			return fmt.Sprintf("group %d:\n got %s\nwant %s", id, describe(got), describe(want))
		}
		if d := g.diffRead(l, id); d != "" {
			return d
		}
	}
	return ""
}

func (g *modelGroup) diffRead(l *Log, id smr.GroupID) string {
	es, err := readAll(l, id, g.snap.Index+1, g.last())
	if err != nil || len(es)+len(g.entries) > 0 && !reflect.DeepEqual(es, g.entries) {
		return fmt.Sprintf("group %d: read of %d..%d: %d entries, %v", id, g.snap.Index+1, g.last(), len(es), err)
	}
	return ""
}

func describe(s smr.LogState) string {
	b := fmt.Sprintf("%+v %+v last %d, terms %v, %d configurations, tail", s.HardState, s.Snapshot, s.Last, s.Terms, len(s.Configurations))
	for _, e := range s.Tail {
		b += fmt.Sprintf(" %d/%d/%d", e.Index, e.Term, len(e.Data))
	}
	return b
}

// same compares two states; nil and empty are the same.
func same(a, b smr.LogState) bool {
	for _, s := range []*smr.LogState{&a, &b} {
		if len(s.Tail) == 0 {
			s.Tail = nil
		}
		if len(s.Terms) == 0 {
			s.Terms = nil
		}
		if len(s.Configurations) == 0 {
			s.Configurations = nil
		}
	}
	return reflect.DeepEqual(a, b)
}

var errPower = errors.New("the power is gone")

// powerCut lets n operations that change the disk happen and then none at all.
// Of the one that it cuts short, a write is half done.
type powerCut struct{ n, done int }

func (p *powerCut) Before(op vfs.Op) vfs.Verdict {
	if !op.Kind.Mutates() {
		return vfs.Verdict{}
	}
	if p.done++; p.done > p.n {
		v := vfs.Verdict{Err: errPower}
		if p.done == p.n+1 && op.Kind == vfs.OpWrite {
			v.Partial = int(op.Length / 2)
		}
		return v
	}
	return vfs.Verdict{}
}

// play runs a scripted workload until it ends or the power goes, and returns
// what is acknowledged, and what it was about to acknowledge.
func play(fs vfs.FS, seed uint64, turns int, m model, check bool) (acked, inflight model, l *Log, err error) {
	return playOn(fs, testOptions(), seed, turns, m, check)
}

func playOn(fs vfs.FS, o Options, seed uint64, turns int, m model, check bool) (acked, inflight model, l *Log, err error) {
	acked = m.clone()
	l, err = Open(fs, testDir, o)
	if err != nil {
		return acked, acked, nil, err
	}
	if d := m.diff(l); d != "" && check {
		return acked, acked, l, fmt.Errorf("after opening: %s", d)
	}
	r := rng(seed)
	seq := uint64(0)
	for range turns {
		m = acked.clone()
		for range 1 + r.IntN(4) {
			seq++
			m.step(r, l, seq)
		}
		_, err := l.Sync(nil)
		if errors.Is(err, ErrNoSpace) {
			_, err = l.Sync(nil) // "the next Sync tries again"
		}
		if err != nil {
			return acked, m, l, err
		}
		acked = m
		if d := marksDiff(l); d != "" && check {
			return acked, m, l, errors.New(d)
		}
		if id := smr.GroupID(1 + r.IntN(4)); check && m[id] != nil && l.Failed() == nil {
			if d := m[id].diffRead(l, id); d != "" {
				return acked, m, l, errors.New(d)
			}
		}
	}
	return acked, acked, l, nil
}

func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		o := testOptions()
		if seed%2 == 1 {
			o.marksMax = 2 + int(seed/2)%5
		}
		mem := vfs.NewMem()
		m := model{}
		for life := range uint64(6) {
			var l *Log
			var err error
			m, _, l, err = playOn(mem, o, seed*100+life, 60, m, true)
			if err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
			if life%2 == 0 {
				l.Close()
			} else {
				mem = mem.Crash(rng(seed), int(seed)%101)
			}
		}
	}
}

// "Crash at every single write, sync, create and rename; afterwards every
// acknowledged write is there, and the hard state never goes back."
func TestCrashAtEveryOperation(t *testing.T) {
	const seed, turns = 11, 90
	seeds := []uint64{seed}
	if !testing.Short() {
		seeds = append(seeds, 12)
	}
	for _, seed := range seeds {
		count := &powerCut{n: 1 << 30}
		_, _, l, err := play(vfs.NewFault(vfs.NewMem(), count, nil), seed, turns, model{}, false)
		if err != nil {
			t.Fatal(err)
		}
		if st := l.Stats(); st.MovedBytes == 0 || l.current().number < 8 || l.segments[0].number < 3 {
			t.Fatalf("the workload moves %d bytes and uses segments %d to %d: it does not reach what it is to test",
				st.MovedBytes, l.segments[0].number, l.current().number)
		}
		for n := range count.done {
			crashAt(t, seed, turns, n)
		}
	}
}

func crashAt(t *testing.T, seed uint64, turns, n int) {
	mem := vfs.NewMem()
	acked, inflight, _, err := play(vfs.NewFault(mem, &powerCut{n: n}, nil), seed, turns, model{}, false)
	if err != nil && !errors.Is(err, errPower) { // nil: it failed after the last acknowledgement
		t.Fatalf("operation %d: %v", n, err)
	}
	for i, keep := range []int{0, 100, 25, 50, 75} {
		disk := mem.Crash(rng(uint64(n*10+i)), keep)
		l, err := Open(disk, testDir, testOptions())
		if err != nil {
			t.Fatalf("seed %d, operation %d, %d%% kept: %v", seed, n, keep, err)
		}
		now := acked
		if d := acked.diff(l); d != "" {
			now = inflight
			if d2 := inflight.diff(l); d2 != "" {
				t.Fatalf("seed %d, operation %d, %d%% kept:\nas acknowledged: %s\nas about to be: %s", seed, n, keep, d, d2)
			}
		}
		// What was reported is on disk, whatever happens next; and going on
		// from here, with a crash soon, works.
		again := disk.Crash(nil, 0) // before Close, which would sync
		l.Close()
		cut := &powerCut{n: 3 + n%17}
		acked, inflight, _, err := play(vfs.NewFault(again, cut, nil), seed+1, 10, now, true)
		if err != nil && !errors.Is(err, errPower) {
			t.Fatalf("seed %d, operation %d, %d%% kept, second life: %v", seed, n, keep, err)
		}
		last, err := Open(again.Crash(rng(uint64(n)), 50), testDir, testOptions())
		if err != nil {
			t.Fatalf("seed %d, operation %d, %d%% kept, third life: %v", seed, n, keep, err)
		}
		if d := acked.diff(last); d != "" {
			if d2 := inflight.diff(last); d2 != "" {
				t.Fatalf("seed %d, operation %d, %d%% kept, third life:\n%s\n%s", seed, n, keep, d, d2)
			}
		}
	}
}

// An error once at each operation: nothing acknowledged may be missing, nothing
// else may be there. A full disk is no failure unless a sync finds it.
func TestErrorAtEveryOperation(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		errorAtEveryOperation(t, cause)
	}
}

func errorAtEveryOperation(t *testing.T, cause error) {
	const seed, turns = 21, 60
	for n := 0; ; n++ {
		kind := vfs.OpKind(0)
		mem := vfs.NewMem()
		i, hit := 0, false
		fs := vfs.NewFault(mem, vfs.PolicyFunc(func(op vfs.Op) vfs.Verdict {
			if op.Kind.Mutates() {
				i++
			}
			if i == n+1 && !hit {
				hit, kind = true, op.Kind
				return vfs.Verdict{Err: cause, Partial: int(op.Length / 2)}
			}
			return vfs.Verdict{}
		}), nil)
		acked, inflight, l, err := play(fs, seed, turns, model{}, false)
		if !hit {
			break
		}
		if cause == syscall.ENOSPC && l != nil && err != nil && kind != vfs.OpSync && kind != vfs.OpSyncDir && kind != vfs.OpRename {
			t.Fatalf("operation %d, a %v, found no space, and the log has failed: %v", n, kind, err)
		}
		if l != nil {
			l.Close()
		}
		l2, err2 := Open(mem, testDir, testOptions())
		if err2 != nil {
			t.Fatalf("operation %d: %v after %v", n, err2, err)
		}
		if d := acked.diff(l2); d != "" {
			if d2 := inflight.diff(l2); d2 != "" {
				t.Fatalf("operation %d failed with %v:\n%s\n%s", n, err, d, d2)
			}
		}
	}
}
