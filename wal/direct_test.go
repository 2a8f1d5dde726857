package wal

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"syscall"
	"testing"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// countedFS counts what is written past the page cache, and may refuse it.
type countedFS struct {
	*vfs.Mem
	writes, refuse int // the refuse-th write and all later ones are refused; zero: none
	failure        error
}

func (c *countedFS) OpenDirect(name string) (vfs.Direct, error) {
	d, err := c.Mem.OpenDirect(name)
	return countedDirect{d, c}, err
}

type countedDirect struct {
	vfs.Direct
	fs *countedFS
}

func (d countedDirect) WriteAt(p []byte, off int64) (int, error) {
	if d.fs.writes++; d.fs.refuse > 0 && d.fs.writes >= d.fs.refuse {
		return 0, &os.PathError{Op: "write", Path: "segment", Err: d.fs.failure}
	}
	return d.Direct.WriteAt(p, off)
}

// fill writes batches of all sizes, a large one among them, over several segments.
func fill(t *testing.T, l *Log) {
	t.Helper()
	l.Create(1, members(1))
	hs := smr.HardState{Term: 1}
	for next := uint64(1); next < 2000; {
		n := next % 7 * next % 90
		es := run(next, next+n, 1, int(next*131%700))
		l.Append(1, next, &hs, es)
		mustSync(t, l)
		next += n + 1
	}
}

// Every batch, and the zeros before it, goes past the page cache where the file
// system can do that: buffers are aligned as the disk needs it.
func TestBatchesArePastThePageCache(t *testing.T) {
	fs := &countedFS{Mem: vfs.NewMem()}
	l := mustOpen(t, fs, testOptions())
	fill(t, l)
	st := l.Stats()
	if l.pageCache || uint64(fs.writes) < st.Syncs {
		t.Errorf("%d writes past the page cache, %d syncs", fs.writes, st.Syncs)
	}
	for _, b := range []*buffer{l.fill, l.taken} {
		if !vfs.DirectAligned(b.bytes[:sectorBytes], 0) {
			t.Errorf("a buffer of %d bytes is not aligned", cap(b.bytes))
		}
	}
	want, err := readAll(l, 1, 1, l.groups[1].last)
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	l = mustOpen(t, fs.Crash(nil, 0), testOptions())
	if got, err := readAll(l, 1, 1, l.groups[1].last); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d entries after a crash, %d before: %v", len(got), len(want), err)
	}
	closeLog(t, l)
}

// Where a write past the page cache turns out to be refused, nothing was written,
// and the log goes on through the page cache.
func TestRefusedDirectWrites(t *testing.T) {
	for _, failure := range []error{syscall.EINVAL, syscall.EOPNOTSUPP} {
		for _, at := range []int{1, 2, 3, 50} {
			fs := &countedFS{Mem: vfs.NewMem(), refuse: at, failure: failure}
			l := mustOpen(t, fs, testOptions())
			fill(t, l)
			if !l.pageCache || fs.writes > at+1 {
				t.Errorf("%v at %d: %d tries", failure, at, fs.writes)
			}
			if _, err := readAll(l, 1, 1, l.groups[1].last); err != nil {
				t.Errorf("%v at %d: %v", failure, at, err)
			}
			closeLog(t, l)
			closeLog(t, mustOpen(t, fs.Crash(nil, 0), testOptions()))
		}
	}
}

// Any other failure is what it is without the page cache too: a full disk is tried
// again, everything else ends the log.
func TestFailedDirectWrites(t *testing.T) {
	for failure, want := range map[error]error{syscall.ENOSPC: ErrNoSpace, syscall.EIO: ErrFailed} {
		fs := &countedFS{Mem: vfs.NewMem()}
		l := mustOpen(t, fs, testOptions())
		l.Create(1, members(1))
		mustSync(t, l)
		fs.refuse, fs.failure = fs.writes+1, failure
		l.Append(1, 1, nil, run(1, 3, 1, 10))
		if _, err := l.Sync(nil); !errors.Is(err, want) || l.pageCache {
			t.Errorf("%v: %v", failure, err)
		}
		fs.refuse = 0
		if failure == syscall.ENOSPC {
			if acks := mustSync(t, l); !slices.Equal(acks, []Ack{{1, 1}}) {
				t.Errorf("when there is room again: %v", acks)
			}
		}
		_ = l.Close()
	}
}

// On a real disk: what was written past the page cache is read through it, by the
// log that wrote it and by the next one.
func TestDirectWritesOnADisk(t *testing.T) {
	for _, pageCache := range []bool{false, true} {
		o, fs := testOptions(), vfs.OS()
		o.PageCache, o.SegmentBytes = pageCache, 1<<20
		t.Chdir(t.TempDir())
		l := mustOpen(t, fs, o)
		if !pageCache && l.pageCache {
			t.Log("this file system cannot be written past the page cache")
		}
		l.Create(1, members(1))
		var want []smr.Entry
		for next := uint64(1); next < 500; next++ {
			es := run(next, next, 1, int(next*977%20000))
			l.Append(1, next, nil, es)
			mustSync(t, l)
			want = append(want, es...)
			// What is read first fills the page cache; the next write lies beside it.
			got, err := l.Read(1, next, next, 1, nil)
			if err != nil || !reflect.DeepEqual(got, es) {
				t.Fatalf("entry %d: %v", next, err)
			}
		}
		for range 2 {
			if got, err := readAll(l, 1, 1, 499); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("page cache %v: %d entries of %d: %v", pageCache, len(got), len(want), err)
			}
			closeLog(t, l)
			l = mustOpen(t, fs, o)
		}
		closeLog(t, l)
	}
}

func closeLog(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
