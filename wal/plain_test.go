package wal

import (
	"testing"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// A log of plain segments is a log like any other: what was acknowledged is there
// after a crash, and it may be opened either way.
func TestPlainSegments(t *testing.T) {
	fs := vfs.NewMem()
	plain := testOptions()
	plain.Plain = true
	l := mustOpen(t, fs, plain)
	l.Create(1, members(1, 2, 3))
	for i := uint64(1); i <= 100; i++ {
		l.Append(1, i, nil, run(i, i, 1, 1000))
		mustSync(t, l)
	}
	st := l.Stats()
	if st.Segments < 3 {
		t.Fatalf("%d segments: the test writes too little to fill one", st.Segments)
	}
	for _, s := range l.segments {
		if s.size != s.end {
			t.Errorf("%s has %d bytes, of which %d are written: a plain segment only grows as it is appended to", s.name, s.size, s.end)
		}
	}
	l.SetSnapshot(1, smr.SnapshotMeta{Index: 60, Term: 1, Configuration: members(1, 2, 3)})
	l.Append(1, 101, nil, run(101, 101, 1, 10))
	mustSync(t, l)
	if n := l.Stats().Recycled; n != 0 {
		t.Errorf("%d segments wait to be written again", n)
	}
	for _, o := range []Options{testOptions(), plain} {
		crashed := fs.Crash(nil, 0)
		l := mustOpen(t, crashed, o)
		got, err := readAll(l, 1, 61, 101)
		if err != nil || len(got) != 41 {
			t.Errorf("plain %v: %d entries after a crash, %v", o.Plain, len(got), err)
		}
		l.Append(1, 102, nil, run(102, 102, 1, 10))
		mustSync(t, l)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
