package wal

import (
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// nullFile takes writes and keeps nothing.
type nullFile struct{ vfs.File }

func (nullFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nullFile) SyncData() error                        { return nil }

func batch64(first uint64) []smr.Entry {
	es := make([]smr.Entry, 64)
	data := make([]byte, 128)
	for i := range es {
		es[i] = smr.Entry{Index: first + uint64(i), Term: 1, Kind: smr.KindCommand, Origin: 1 << 60, Request: uint64(i), Data: data}
	}
	return es
}

// The hot path allocates nothing: neither filling nor syncing.
func TestHotPathDoesNotAllocate(t *testing.T) {
	o := testOptions()
	o.SegmentBytes = 64 << 20
	l := mustOpen(t, vfs.NewMem(), o)
	l.current().f, l.current().direct = nullFile{}, nullFile{}
	l.current().size = o.SegmentBytes
	l.next = &segment{}
	l.Create(1, members(1))
	es, hs := batch64(1), smr.HardState{Term: 1}
	acks := make([]Ack, 0, 8)
	turn := func() {
		hs.Commit = es[0].Index
		l.Append(1, es[0].Index, &hs, es)
		acks, _ = l.Sync(acks[:0])
		for i := range es {
			es[i].Index += 64
		}
	}
	for range 100 {
		turn()
	}
	if n := testing.AllocsPerRun(500, turn); n != 0 {
		t.Fatalf("%v allocations per turn", n)
	}
	if err := l.Failed(); err != nil {
		t.Fatal(err)
	}
}

// A buffer for large batches stays while they come, and goes when they do not.
func TestLargeBufferIsKept(t *testing.T) {
	large, small := run(1, 10, 1, 1<<20), run(1, 1, 1, 10)
	b := &buffer{}
	b.reset(1)
	b.entries(kindEntries, 1, large)
	grown := cap(b.bytes)
	for range 5 {
		for range bufferSmallMax - 1 {
			b.reset(1)
			b.entries(kindEntries, 1, small)
		}
		b.reset(1)
		b.entries(kindEntries, 1, large)
		if cap(b.bytes) != grown {
			t.Fatalf("a buffer of %d bytes after one of %d", cap(b.bytes), grown)
		}
	}
	for range bufferSmallMax + 2 {
		b.reset(1)
		b.entries(kindEntries, 1, small)
	}
	if cap(b.bytes) != bufferBytesMin {
		t.Fatalf("a buffer of %d bytes is kept for nothing", cap(b.bytes))
	}
}

// countedFile counts what is read.
type countedFile struct {
	vfs.File
	reads, bytes int
}

func (f *countedFile) ReadAt(p []byte, off int64) (int, error) {
	f.reads++
	f.bytes += len(p)
	return f.File.ReadAt(p, off)
}

// What is wanted is read in large pieces, and what is not is not: neither beyond
// the last entry, nor the records of others that lie between.
func TestReadsAreLarge(t *testing.T) {
	o := testOptions()
	o.SegmentBytes = 32 << 20
	l := mustOpen(t, vfs.NewMem(), o)
	for g := smr.GroupID(1); g <= 3; g++ {
		l.Create(g, members(1))
	}
	const entries, size = 4000, 500
	for i := uint64(1); i <= entries; i += 20 {
		l.Append(1, i, nil, run(i, i+19, 1, size))
		mustSync(t, l)
		if i <= entries/2 { // group 3 lies scattered
			l.Append(2, i, nil, run(i, i+19, 1, 20*size))
			l.Append(3, i, nil, run(i, i+19, 1, size))
			mustSync(t, l)
		}
	}
	f := &countedFile{File: l.current().f}
	l.current().f = f
	for _, c := range []struct {
		group       smr.GroupID
		first, last uint64
		reads       int
	}{
		{1, entries/2 + 21, entries, entries/2*size*3/2/readAheadBytes + 1},
		{1, entries - 9, entries, 1},
		{2, 1, entries / 2, 2 * entries / 2 * 20 * size / readAheadBytes},
		{3, 1, entries / 2, 5 * entries / 2 * size / markBytes},
	} {
		f.reads, f.bytes = 0, 0
		es, err := l.Read(c.group, c.first, c.last, 1<<40, nil)
		if err != nil || uint64(len(es)) != c.last+1-c.first {
			t.Fatalf("group %d: %d entries, %v", c.group, len(es), err)
		}
		wanted := 0
		for i := range es {
			if es[i].Index != c.first+uint64(i) {
				t.Fatalf("entry %d stands where %d belongs", es[i].Index, c.first+uint64(i))
			}
			wanted += es[i].Size()
		}
		if f.reads > c.reads || f.bytes > 2*wanted+readAheadBytes {
			t.Errorf("group %d, entries %d to %d of %d bytes: %d reads of %d bytes, want at most %d", c.group, c.first, c.last, wanted, f.reads, f.bytes, c.reads)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	l := mustOpen(b, vfs.NewMem(), testOptions())
	l.Create(1, members(1))
	es := batch64(1)
	b.ReportAllocs()
	for b.Loop() {
		l.Append(1, 1, nil, es)
		for i := range es {
			es[i].Index += 64
		}
		l.take()
		l.taken.reset(0)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/entry")
}

func benchSync(b *testing.B, entries int) {
	o := testOptions()
	o.SegmentBytes = 64 << 20
	start := time.Now()
	o.Now = func() smr.Instant { return smr.Instant(time.Since(start)) }
	l, err := Open(vfs.OS(), b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	l.Create(1, members(1))
	es := batch64(1)[:entries]
	acks := make([]Ack, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		l.Append(1, 1, nil, es)
		if acks, err = l.Sync(acks[:0]); err != nil {
			b.Fatal(err)
		}
		for i := range es {
			es[i].Index += uint64(entries)
		}
	}
	st := l.Stats()
	b.ReportMetric(float64(st.SyncTime.Nanoseconds())/float64(st.Syncs), "ns/sync")
	b.ReportMetric(float64(entries)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

func BenchmarkSync1(b *testing.B)  { benchSync(b, 1) }
func BenchmarkSync64(b *testing.B) { benchSync(b, 64) }

// Batches of a megabyte, and every 64 MiB the log is compacted, as by a host at its
// defaults: what are segments worth that are written again?
func BenchmarkSyncLarge(b *testing.B) {
	for _, recycle := range []int{-1, 2, 4, 8} {
		b.Run(fmt.Sprintf("recycle=%d", recycle), func(b *testing.B) { benchSyncLarge(b, recycle) })
	}
}

func benchSyncLarge(b *testing.B, recycle int) {
	o := testOptions()
	o.SegmentBytes, o.RecycleMax = 16<<20, recycle
	l, err := Open(vfs.OS(), b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	l.Create(1, members(1))
	const entries = 64
	es := run(1, entries, 1, 16<<10)
	b.SetBytes(entries * 16 << 10)
	acks := make([]Ack, 0, 8)
	for n := 1; b.Loop(); n++ {
		l.Append(1, 1, nil, es)
		if n%64 == 0 {
			l.SetSnapshot(1, smr.SnapshotMeta{Index: es[entries-1].Index, Term: 1, Configuration: members(1)})
		}
		if acks, err = l.Sync(acks[:0]); err != nil {
			b.Fatal(err)
		}
		for i := range es {
			es[i].Index += entries
		}
	}
}

func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	o := testOptions()
	o.SegmentBytes, o.NoSync = 64<<20, true
	l, err := Open(vfs.OS(), dir, o)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	l.Create(1, members(1))
	es := batch64(1)
	const n = 200_000 / 64
	for range n {
		l.Append(1, 1, nil, es)
		if _, err := l.Sync(nil); err != nil {
			b.Fatal(err)
		}
		for i := range es {
			es[i].Index += 64
		}
	}
	var dst []smr.Entry
	b.ReportAllocs()
	for b.Loop() {
		for next := uint64(1); next <= n*64; next += uint64(len(dst)) {
			if dst, err = l.Read(1, next, n*64, 1<<20, dst[:0]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(n*64), "ns/entry")
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	o := testOptions()
	o.SegmentBytes = 64 << 20
	o.NoSync = true
	l, err := Open(vfs.OS(), dir, o)
	if err != nil {
		b.Fatal(err)
	}
	l.Create(1, members(1))
	const n = 1_000_000 / 64
	es := batch64(1)
	for range n {
		l.Append(1, 1, nil, es)
		if _, err := l.Sync(nil); err != nil {
			b.Fatal(err)
		}
		for i := range es {
			es[i].Index += 64
		}
	}
	l.Close()
	for b.Loop() {
		l, err := Open(vfs.OS(), dir, o)
		if err != nil {
			b.Fatal(err)
		}
		if st, _ := l.State(1); st.Last != n*64 {
			b.Fatal(st.Last)
		}
		l.Close()
	}
}
