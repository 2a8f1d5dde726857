package wal

import (
	"testing"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// FuzzSegment opens arbitrary bytes as a log.
func FuzzSegment(f *testing.F) {
	mem, _ := closedLog(f, 12)
	sum := segmentsOf(f, mem)
	f.Add(readFile(f, mem, fileName(sum.First)), uint8(sum.First))
	f.Add(make([]byte, 4096), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, number uint8) {
		if number == 0 {
			return
		}
		mem := vfs.NewMem()
		if err := vfs.MkdirAll(mem, testDir); err != nil {
			t.Fatal(err)
		}
		writeFile(t, mem, fileName(uint64(number)), 0, b)
		_, _ = Inspect(mem, testDir, func(RecordInfo) error { return nil })
		if l, err := Open(mem, testDir, testOptions()); err == nil {
			useLog(t, l)
		}
	})
}

// FuzzReplay opens a log whose checksums are right and whose records are
// anything: each is a kind, a length and so many bytes.
func FuzzReplay(f *testing.F) {
	add := func(records ...[]byte) {
		var b []byte
		for _, r := range records {
			b = append(b, r[0], byte(len(r)-1))
			b = append(b, r[1:]...)
		}
		f.Add(b)
	}
	c := members(1)
	create := smr.AppendConfiguration([]byte{byte(kindCreate), 1}, &c)
	e1 := entry(1, 1, "one")
	entries := smr.AppendEntry([]byte{byte(kindEntries), 1}, &e1)
	moved := smr.AppendEntry([]byte{byte(kindMoved), 1}, &e1)
	snapshot := appendSnapshot([]byte{byte(kindSnapshot), 1, 0}, &smr.SnapshotMeta{Index: 1, Term: 1, Configuration: c})
	state := []byte{byte(kindGroup), 1, 1, 1, 1, 5, 2, 1, 0, 0}
	add(create, entries, snapshot)
	add(create, entries, moved)
	add(state, snapshot, []byte{byte(kindRemove), 1}, create)
	f.Fuzz(func(t *testing.T, data []byte) {
		mem := vfs.NewMem()
		if err := vfs.MkdirAll(mem, testDir); err != nil {
			t.Fatal(err)
		}
		writeFile(t, mem, fileName(1), 0, forge(data))
		_, _ = Inspect(mem, testDir, func(RecordInfo) error { return nil })
		if l, err := Open(mem, testDir, testOptions()); err == nil {
			useLog(t, l)
		}
	})
}

// forge makes a segment of the records in data.
func forge(data []byte) []byte {
	o := testOptions()
	b := &buffer{bytes: make([]byte, sectorBytes+batchHead)}
	var sums []byte
	s := salt(o.Identity, o.Shard, 1)
	for len(data) >= 2 {
		n := min(int(data[1]), len(data)-2)
		start := len(b.bytes)
		b.bytes = append(b.bytes, data[0], 0, 0, 0, 0)
		b.bytes = append(b.bytes, data[2:2+n]...)
		b.end(start, record{})
		sealRecord(b.bytes[start:], s)
		sums = append(sums, b.bytes[len(b.bytes)-recordTail:]...)
		data = data[2+n:]
	}
	sh := segmentHeader{identity: o.Identity, shard: o.Shard, number: 1, capacity: o.SegmentBytes, sequence: 1}
	copy(b.bytes, sh.encode())
	h := batchHeader{sequence: 1, offset: sectorBytes, bodyBytes: len(b.bytes) - sectorBytes - batchHead, records: len(b.records), first: 1}
	// The group records that Open checks the number of are those in data.
	h.flags = flagCheckpoint
	h.seal(b.bytes[sectorBytes:], s, sums)
	return b.bytes
}

// useLog does with a log what a shard would.
func useLog(t *testing.T, l *Log) {
	for _, g := range l.Groups() {
		st, _ := l.State(g)
		if n := len(st.Tail); n > 0 && st.Tail[n-1].Index != st.Last {
			t.Fatalf("tail ends at %d, last is %d", st.Tail[n-1].Index, st.Last)
		}
		_, _ = l.Read(g, st.Snapshot.Index+1, st.Last, 100, nil)
	}
	l.Create(1<<40, members(1))
	l.Append(1<<40, 1, &smr.HardState{Term: 1}, run(1, 2, 1, 10))
	if _, err := l.Sync(nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzRecord decodes arbitrary payloads.
func FuzzRecord(f *testing.F) {
	e := entry(1, 1, "x")
	f.Add(byte(kindEntries), smr.AppendEntry([]byte{1}, &e))
	f.Add(byte(kindGroup), []byte{1, 1, 1, 1, 5, 2, 1, 0, 0})
	f.Fuzz(func(t *testing.T, kind byte, payload []byte) {
		n := uint64(0)
		r, err := decodeRecord(recordKind(kind), payload, func(*smr.Entry) { n++ })
		if err == nil && r.first != 0 && r.last-r.first+1 != n {
			t.Fatalf("%d entries from %d to %d", n, r.first, r.last)
		}
	})
}
