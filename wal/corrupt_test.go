package wal

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// closedLog returns a log of several segments that was closed, and what it
// holds.
func closedLog(t testing.TB, turns int) (*vfs.Mem, model) {
	t.Helper()
	mem := vfs.NewMem()
	m, _, l, err := play(mem, 5, turns, model{}, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return mem, m
}

func segmentsOf(t testing.TB, fs vfs.FS) Summary {
	t.Helper()
	sum, err := Inspect(fs, testDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func fileName(number uint64) string { return testDir + "/" + segmentName(number) }

// openDamaged opens a log with a fault in it, and fails the test if it shows
// anything but what was acknowledged.
func openDamaged(t *testing.T, mem *vfs.Mem, m model, what string, args ...any) error {
	t.Helper()
	l, err := Open(mem, testDir, testOptions())
	if err == nil {
		if d := m.diff(l); d != "" {
			t.Fatalf(what+": accepted: %s", append(args, d)...)
		}
		return nil
	}
	if !errors.Is(err, smr.ErrCorrupt) || !errors.As(err, new(*CorruptionError)) {
		t.Fatalf(what+": %v", append(args, err)...)
	}
	return err
}

// "A bit flip in what was acknowledged is told from a torn tail by the chain."
func TestBitFlipIsNeverAccepted(t *testing.T) {
	mem, m := closedLog(t, 60)
	sum := segmentsOf(t, mem)
	stride := int64(19)
	if testing.Short() {
		stride = 61
	}
	detected, harmless := 0, 0
	for n := sum.First; n <= sum.Last; n++ {
		size, step := sum.End, stride
		if n < sum.Last {
			info, _ := mem.Stat(fileName(n))
			size = info.Size()
		}
		for at := int64(0); at < size; at += step {
			step = stride
			if at%sectorBytes < batchHead+16 { // headers, heads and what follows them
				step = 1
			}
			disk := mem.Crash(nil, 0)
			if err := disk.FlipBit(fileName(n), at*8+(at+int64(n))%8); err != nil {
				t.Fatal(err)
			}
			if openDamaged(t, disk, m, "segment %d, byte %d", n, at) != nil {
				detected++
			} else {
				harmless++ // padding, the remains of an earlier life, the closing batch
			}
		}
	}
	if detected < 4*harmless/10 {
		t.Fatalf("%d flips detected, %d harmless", detected, harmless)
	}
}

// The error names what is lost, so that it can be fetched from the peers.
func TestCorruptionNamesGroupsAndIndexes(t *testing.T) {
	mem := vfs.NewMem()
	l := mustOpen(t, mem, testOptions())
	l.Create(1, members(1))
	l.Create(2, members(1))
	for i := uint64(1); i <= 9; i += 3 {
		l.Append(1, i, nil, run(i, i+2, 1, 20))
		l.Append(2, i, nil, run(i, i+2, 1, 20))
		mustSync(t, l)
	}
	at := findBytes(t, mem, fileName(1), "4/1:xx", 2)
	if err := mem.FlipBit(fileName(1), (at+5)*8); err != nil {
		t.Fatal(err)
	}
	want := Lost{Group: 2, First: 4, Last: 6}
	_, err := l.Read(2, 1, 9, 1<<20, nil)
	var c *CorruptionError
	if !errors.As(err, &c) || len(c.Lost) != 1 || c.Lost[0].Group != 2 || c.Lost[0].First != 4 {
		t.Fatalf("read: %v", err)
	}
	l.Close()
	_, err = Open(mem, testDir, testOptions())
	if !errors.As(err, &c) || !reflect.DeepEqual(c.Lost, []Lost{want}) || c.File != fileName(1) || c.Offset == 0 {
		t.Fatalf("open: %v", err)
	}
	if !strings.Contains(err.Error(), "group 2: entries 4 to 6") {
		t.Fatalf("message: %v", err)
	}
	visited := 0
	if _, err = Inspect(mem, testDir, func(RecordInfo) error { visited++; return nil }); !errors.As(err, &c) || visited != 4 {
		t.Fatalf("inspect: %d records, %v", visited, err)
	}
}

func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// findBytes returns where the nth occurrence of s is.
func findBytes(t testing.TB, fs vfs.FS, name, s string, n int) int64 {
	t.Helper()
	b, at := string(readFile(t, fs, name)), 0
	for ; n > 0; n-- {
		i := strings.Index(b[at:], s)
		if i < 0 {
			t.Fatalf("%q is not in %s", s, name)
		}
		at += i + 1
	}
	return int64(at - 1)
}

func writeFile(t testing.TB, fs vfs.FS, name string, at int64, b []byte) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, vfs.CategoryLog)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := vfs.SyncDir(fs, testDir); err != nil {
		t.Fatal(err)
	}
}

// A block that strayed, a lost write and a missing file are found, and what is
// left of an earlier life is not taken for the log.
func TestMisplacedAndMissing(t *testing.T) {
	mem, m := closedLog(t, 60)
	sum := segmentsOf(t, mem)
	if sum.Last-sum.First < 2 {
		t.Fatalf("%+v", sum)
	}
	data := readFile(t, mem, fileName(sum.Last))
	old := readFile(t, mem, fileName(sum.First))

	// A valid batch of this segment, at the end of it.
	disk := mem.Crash(nil, 0)
	writeFile(t, disk, fileName(sum.Last), sum.End, data[sectorBytes:3*sectorBytes])
	if err := openDamaged(t, disk, m, "batch of the same segment at the end"); err != nil {
		t.Fatal(err)
	}
	// The same place of an earlier segment, as it is in a recycled one.
	disk = mem.Crash(nil, 0)
	writeFile(t, disk, fileName(sum.Last), sum.End, old[sum.End:])
	if err := openDamaged(t, disk, m, "remains behind the end"); err != nil {
		t.Fatal(err)
	}
	// A whole earlier segment under the next number.
	disk = mem.Crash(nil, 0)
	writeFile(t, disk, fileName(sum.Last+1), 0, old)
	if err := openDamaged(t, disk, m, "earlier segment as the next one"); err != nil {
		t.Fatal(err)
	}
	// A lost write: a sector in the middle has what an earlier segment had there.
	for at := int64(sectorBytes); at+sectorBytes < min(sum.End, int64(len(old))); at += 5 * sectorBytes {
		disk = mem.Crash(nil, 0)
		writeFile(t, disk, fileName(sum.Last), at, old[at:at+sectorBytes])
		if err := openDamaged(t, disk, m, "sector at %d", at); err == nil && at < sum.End-2*sectorBytes {
			t.Fatalf("sector at %d of another segment was not noticed", at)
		}
	}
	for n := sum.First; n < sum.Last; n++ {
		disk = mem.Crash(nil, 0)
		if err := disk.Remove(fileName(n)); err != nil {
			t.Fatal(err)
		}
		if openDamaged(t, disk, m, "segment %d removed", n) == nil {
			t.Fatalf("segment %d is missing, and nobody noticed", n)
		}
	}
}

// "Without a proof the broken batch is the one that was being written: the log
// ends before it."
func TestTornTailIsDroppedAndCorruptionIsNot(t *testing.T) {
	mem := vfs.NewMem()
	l := mustOpen(t, mem, testOptions())
	l.Create(1, members(1))
	l.Append(1, 1, nil, run(1, 2, 1, 900))
	mustSync(t, l)
	end := l.current().end
	l.Append(1, 2, nil, run(3, 4, 1, 900))
	mustSync(t, l)
	third := l.current().end

	torn := mem.Crash(nil, 0) // without Close: the batch is the last one
	writeFile(t, torn, fileName(1), end+2*sectorBytes, make([]byte, sectorBytes))
	l2 := mustOpen(t, torn, testOptions())
	if st, _ := l2.State(1); st.Last != 2 {
		t.Fatalf("last %d", st.Last)
	}
	// The next batch goes where the torn one was.
	l2.Append(1, 1, nil, run(3, 3, 2, 10))
	mustSync(t, l2)
	l2.Close()
	l2 = mustOpen(t, torn, testOptions())
	if st, _ := l2.State(1); st.Last != 3 || st.Terms[len(st.Terms)-1].Term != 2 {
		t.Fatalf("%+v", st)
	}

	l.Append(1, 3, nil, run(5, 5, 1, 10))
	mustSync(t, l)
	writeFile(t, mem, fileName(1), end+2*sectorBytes, make([]byte, sectorBytes))
	disk := mem.Crash(nil, 0)
	before := readFile(t, disk, fileName(1))
	var c *CorruptionError
	if _, err := Open(disk, testDir, testOptions()); !errors.As(err, &c) || c.Offset != end {
		t.Fatalf("damage at %d, proof at %d: %v", end, third, err)
	}
	if !reflect.DeepEqual(before, readFile(t, disk, fileName(1))) {
		t.Fatal("a damaged log was changed")
	}
}

// "Neither the remains in a recycled segment, nor a block that strayed here from
// elsewhere, can be taken for valid" (package comment).
func TestChecksumsAreBoundToTheirPlace(t *testing.T) {
	o := testOptions()
	here := salt(o.Identity, o.Shard, 5)
	b := &buffer{}
	b.reset(1)
	b.entries(kindEntries, 1, run(1, 3, 1, 10))
	rec := b.bytes[batchHead:]
	sealRecord(rec, here)
	h := batchHeader{sequence: 9, former: 77, offset: 4096, bodyBytes: len(rec), records: 1, first: 2}
	h.seal(b.bytes, here, rec[len(rec)-recordTail:])
	if got, ok := decodeBatchHeader(b.bytes, here, 4096); !ok || got != h || !verifyBody(b.bytes, &got, here, nil) || !checkRecord(rec, here) {
		t.Fatalf("its own place: %+v", got)
	}
	if _, ok := decodeBatchHeader(b.bytes, here, 4608); ok {
		t.Error("accepted at another offset")
	}
	other := o.Identity
	other.Replica++
	for what, s := range map[string]uint32{
		"segment": salt(o.Identity, o.Shard, 4), "shard": salt(o.Identity, o.Shard+1, 5), "replica": salt(other, o.Shard, 5),
	} {
		if _, ok := decodeBatchHeader(b.bytes, s, 4096); ok || checkRecord(rec, s) {
			t.Errorf("accepted in another %s", what)
		}
	}
}

// A batch that is in order but does not follow the one before it is not taken:
// the one before is another than was written.
func TestChainIsFollowed(t *testing.T) {
	mem := vfs.NewMem()
	l := mustOpen(t, mem, testOptions())
	l.Create(1, members(1))
	l.Append(1, 1, nil, run(1, 1, 1, 10))
	mustSync(t, l)
	fork := mem.Crash(nil, 0)
	at := l.current().end
	l.Append(1, 2, nil, run(2, 2, 1, 10))
	mustSync(t, l)
	l.Append(1, 3, nil, run(3, 3, 1, 10))
	mustSync(t, l)
	l2 := mustOpen(t, fork, testOptions())
	l2.Append(1, 2, nil, run(2, 2, 2, 10))
	mustSync(t, l2)
	// Batch 2 of the one history in front of batch 3 of the other.
	b := readFile(t, fork, fileName(1))
	writeFile(t, mem, fileName(1), at, b[at:at+sectorBytes])
	l.Close()
	l3, err := Open(mem, testDir, testOptions())
	if err == nil {
		st, _ := l3.State(1)
		t.Fatalf("two histories were joined: %+v", st)
	}
	if !errors.Is(err, smr.ErrCorrupt) {
		t.Fatal(err)
	}
}

// "Open writes it again, and syncs, before it reports what it holds."
func TestOpenWritesTheLastBatchAgain(t *testing.T) {
	mem := vfs.NewMem()
	l := mustOpen(t, mem, testOptions())
	l.Create(1, members(1))
	at := l.current().end
	mustSync(t, l)
	var ops []string
	fs := vfs.NewFault(mem.Crash(nil, 100), vfs.PolicyFunc(func(op vfs.Op) vfs.Verdict {
		if op.Kind == vfs.OpWrite && op.Offset == at || op.Kind == vfs.OpSync {
			ops = append(ops, op.Kind.String())
		}
		return vfs.Verdict{}
	}), nil)
	mustOpen(t, fs, testOptions())
	if len(ops) < 2 || ops[0] != "write" || ops[1] != "sync" {
		t.Fatalf("operations: %v", ops)
	}
}

// Bits that flip under an open log: Read reports them or is not concerned.
func TestReadNeverReturnsDamagedEntries(t *testing.T) {
	mem := vfs.NewMem()
	l := mustOpen(t, mem, testOptions())
	l.Create(1, members(1))
	want := run(1, 30, 1, 50)
	for i := range want {
		l.Append(1, uint64(i), nil, want[i:i+1])
		if i%3 == 0 {
			mustSync(t, l)
		}
	}
	mustSync(t, l)
	failed := 0
	for at := int64(0); at < l.current().end; at += 3 {
		bit := at*8 + at%8
		if err := mem.FlipBit(fileName(1), bit); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(l, 1, 1, 30)
		if err != nil {
			var c *CorruptionError
			if !errors.As(err, &c) || len(c.Lost) != 1 || c.Lost[0].Group != 1 {
				t.Fatalf("byte %d: %v", at, err)
			}
			failed++
		}
		if err == nil && len(got) != 30 || len(got) > 0 && !reflect.DeepEqual(got, want[:len(got)]) {
			t.Fatalf("byte %d: %d entries, %v", at, len(got), err)
		}
		if err := mem.FlipBit(fileName(1), bit); err != nil {
			t.Fatal(err)
		}
	}
	if failed < 100 {
		t.Fatalf("only %d flips were noticed", failed)
	}
}
