package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, fs FS, name string) File {
	t.Helper()
	f, err := fs.Create(name, CategoryLog)
	must(t, err)
	return f
}

func content(t testing.TB, fs FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	return b
}

func names(t testing.TB, fs FS, dir string) string {
	t.Helper()
	list, err := fs.List(dir)
	must(t, err)
	return strings.Join(list, " ")
}

// Both file systems do the same with the same calls.
func TestMemIsLikeTheOS(t *testing.T) {
	disk := t.TempDir()
	for _, c := range []struct {
		fs   FS
		root string
	}{{NewMem(), "/x"}, {OS(), disk}, {NewFault(NewMem(), PolicyFunc(func(Op) Verdict { return Verdict{} }), nil), "/y"}} {
		fs := c.fs
		p := func(name string) string { return fs.PathJoin(c.root, name) }
		must(t, MkdirAll(fs, p("a/b")))
		f := create(t, fs, p("a/one"))
		_, err := f.Write([]byte("hello"))
		must(t, err)
		_, err = f.Write([]byte(" world"))
		must(t, err)
		must(t, f.Preallocate(0, 4096))
		must(t, f.SyncData())
		must(t, f.Close())
		w, err := fs.OpenReadWrite(p("a/one"), CategoryLog)
		must(t, err)
		_, err = w.WriteAt([]byte("J"), 0)
		must(t, err)
		_, err = w.WriteAt([]byte("!"), 9000)
		must(t, err)
		info, err := w.Stat()
		must(t, err)
		must(t, w.Close())
		want := append([]byte("Jello world"), make([]byte, 8990)...)
		want = append(want[:9000], '!')
		if got := content(t, fs, p("a/one")); !bytes.Equal(got, want) || info.Size() != 9001 {
			t.Fatalf("%d bytes, size %d", len(got), info.Size())
		}
		must(t, fs.Rename(p("a/one"), p("a/two")))
		must(t, fs.Link(p("a/two"), p("a/b/three")))
		if got := names(t, fs, p("a")); got != "b two" && got != "two b" {
			t.Fatalf("names %q", got)
		}
		if _, err := fs.Open(p("a/one")); !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := fs.Remove(p("a/b")); err == nil {
			t.Fatal("a directory with a file in it was removed")
		}
		must(t, fs.Remove(p("a/two")))
		if got := content(t, fs, p("a/b/three")); !bytes.Equal(got, want) {
			t.Fatal("the other link has lost its contents")
		}
		must(t, fs.RemoveAll(p("a")))
		if _, err := fs.Stat(p("a")); !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

func TestLockDir(t *testing.T) {
	for _, c := range []struct {
		fs  FS
		dir string
	}{{NewMem(), "/"}, {OS(), t.TempDir()}} {
		a, err := LockDir(c.fs, c.dir)
		must(t, err)
		if _, err := LockDir(c.fs, c.dir); !errors.Is(err, ErrLocked) {
			t.Fatal(err)
		}
		must(t, a.Close())
		b, err := LockDir(c.fs, c.dir)
		must(t, err)
		must(t, b.Close())
	}
}

// "ErrLocked says that another process … uses the directory", and nothing else.
func TestLockDirThatIsNone(t *testing.T) {
	for _, c := range []struct {
		fs  FS
		dir string
	}{{NewMem(), "/"}, {OS(), t.TempDir()}} {
		file := c.fs.PathJoin(c.dir, "file")
		must(t, create(t, c.fs, file).Close())
		for _, dir := range []string{file, c.fs.PathJoin(c.dir, "missing")} {
			if _, err := LockDir(c.fs, dir); err == nil || errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%s: %v", dir, err)
			}
		}
	}
	failing := NewFault(NewMem(), PolicyFunc(func(Op) Verdict { return Verdict{Err: syscall.ENOLCK} }), nil)
	if _, err := LockDir(failing, "/"); !errors.Is(err, syscall.ENOLCK) || errors.Is(err, ErrLocked) {
		t.Errorf("a file system without locks: %v", err)
	}
}

// "At a crash each unsynced write is on its own kept, lost, torn at a sector, or
// reordered."
func TestCrashTearsAtSectors(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f")
	must(t, SyncDir(m, "/"))
	_, err := f.WriteAt(bytes.Repeat([]byte("o"), 8*SectorBytes), 0)
	must(t, err)
	must(t, f.Sync())
	_, err = f.WriteAt(bytes.Repeat([]byte("n"), 12*SectorBytes), 0)
	must(t, err)
	if got := content(t, m.Crash(nil, 0), "f"); !bytes.Equal(got, bytes.Repeat([]byte("o"), 8*SectorBytes)) {
		t.Fatal("0% keeps more or less than what was synced")
	}
	if got := content(t, m.Crash(nil, 100), "f"); !bytes.Equal(got, content(t, m, "f")) {
		t.Fatal("100% loses something")
	}
	seen := map[string]bool{}
	for seed := range uint64(200) {
		got := content(t, m.Crash(rng(seed), 50), "f")
		var shape []byte
		for s := 0; s < len(got); s += SectorBytes {
			sector := got[s : s+SectorBytes]
			if !bytes.Equal(sector, bytes.Repeat(sector[:1], SectorBytes)) {
				t.Fatal("a sector is torn inside")
			}
			shape = append(shape, sector[0])
		}
		seen[string(shape)] = true
		if !bytes.Equal(got, content(t, m.Crash(rng(seed), 50), "f")) {
			t.Fatal("one seed, two crashes")
		}
	}
	if len(seen) < 100 {
		t.Fatalf("only %d different crashes in 200", len(seen))
	}
}

// "A create, rename or truncate is lost unless its directory was synced."
func TestCrashLosesNames(t *testing.T) {
	m := NewMem()
	must(t, MkdirAll(m, "d"))
	for _, name := range []string{"kept", "renamed", "removed"} {
		must(t, create(t, m, "d/"+name).Sync())
	}
	must(t, SyncDir(m, "d"))
	create(t, m, "d/created")
	must(t, m.Rename("d/renamed", "d/new"))
	must(t, m.Remove("d/removed"))
	if got := names(t, m.Crash(nil, 0), "d"); got != "kept removed renamed" {
		t.Fatalf("0%%: %q", got)
	}
	if got := names(t, m.Crash(nil, 100), "d"); got != "created kept new" {
		t.Fatalf("100%%: %q", got)
	}
	seen := map[string]bool{}
	for seed := range uint64(100) {
		got := names(t, m.Crash(rng(seed), 50), "d")
		if strings.Contains(got, "new") == strings.Contains(got, "renamed") {
			t.Fatalf("a rename was done by half: %q", got)
		}
		seen[got] = true
	}
	if len(seen) != 8 {
		t.Fatalf("%d of 8 crashes seen", len(seen))
	}
	must(t, SyncDir(m, "d"))
	if got := names(t, m.Crash(nil, 0), "d"); got != "created kept new" {
		t.Fatalf("after a sync: %q", got)
	}
}

func TestCrashSharesNothing(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f")
	must(t, SyncDir(m, "/"))
	_, err := f.Write(bytes.Repeat([]byte("a"), 6000))
	must(t, err)
	must(t, f.Sync())
	c := m.Crash(nil, 0)
	g, err := c.OpenReadWrite("f", CategoryLog)
	must(t, err)
	_, err = g.WriteAt([]byte("b"), 0)
	must(t, err)
	_, err = f.WriteAt([]byte("c"), 0)
	must(t, err)
	must(t, m.FlipBit("f", 8*5000))
	if a, b := content(t, m, "f"), content(t, c, "f"); a[0] != 'c' || b[0] != 'b' || a[5000] != 'a'^1 || b[5000] != 'a' {
		t.Fatal("the crash and the original write to the same pages")
	}
	if got := content(t, m.Crash(nil, 0), "f"); got[0] != 'a' || got[5000] != 'a'^1 {
		t.Fatal("a flipped bit is on the medium, and stays after a crash")
	}
}

// "After a failed sync the page is clean and old."
func TestFailedSync(t *testing.T) {
	m := NewMem()
	fail := false
	fs := NewFault(m, PolicyFunc(func(op Op) Verdict {
		if fail && op.Kind == OpSync {
			return Verdict{Err: syscall.EIO}
		}
		return Verdict{}
	}), nil)
	f := create(t, fs, "f")
	must(t, SyncDir(fs, "/"))
	_, err := f.Write([]byte("old"))
	must(t, err)
	must(t, f.SyncData())
	_, err = f.Write([]byte("new"))
	must(t, err)
	fail = true
	if err := f.SyncData(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	fail = false
	must(t, f.SyncData())
	if got := content(t, fs, "f"); string(got) != "old" {
		t.Fatalf("%q", got)
	}
}

func TestFault(t *testing.T) {
	var ops []string
	var verdict Verdict
	var slept time.Duration
	fs := NewFault(NewMem(), PolicyFunc(func(op Op) Verdict {
		ops = append(ops, fmt.Sprintf("%v %s %s %d+%d", op.Kind, op.Path, op.Target, op.Offset, op.Length))
		return verdict
	}), func(d time.Duration) { slept += d })
	f := create(t, fs, "f")
	write := func(v Verdict, s string) error {
		verdict = v
		_, err := f.Write([]byte(s))
		verdict = Verdict{}
		return err
	}
	must(t, write(Verdict{}, "abcd"))
	must(t, write(Verdict{Lose: true}, "efgh"))
	must(t, write(Verdict{Shift: -4}, "ijkl"))
	if err := write(Verdict{Err: syscall.ENOSPC, Partial: 2}, "mnop"); !IsNoSpace(err) {
		t.Fatal(err)
	}
	must(t, write(Verdict{Delay: time.Second}, "qr"))
	must(t, fs.Rename("f", "g"))
	if got := content(t, fs, "g"); string(got) != "abcdijkl\x00\x00\x00\x00mnqr" {
		t.Fatalf("%q", got)
	}
	verdict.Mutate = func(b []byte) { b[0] ^= 1 }
	b := make([]byte, 2)
	_, err := f.ReadAt(b, 0)
	must(t, err)
	if string(b) != "`b" || slept != time.Second {
		t.Fatalf("%q, slept %v", b, slept)
	}
	want := []string{"create f  0+0", "write f  0+4", "write f  4+4", "write f  8+4", "write f  12+4", "write f  14+2", "rename f g 0+0", "open g  0+0"}
	if !reflect.DeepEqual(ops[:len(want)], want) {
		t.Fatalf("%q", ops)
	}
}

func TestNoSpace(t *testing.T) {
	m := NewMem()
	m.SetFree(3 * 4096)
	f := create(t, m, "f")
	must(t, f.Preallocate(0, 8192))
	n, err := f.Write(make([]byte, 20000))
	if !IsNoSpace(err) || n != 3*4096 {
		t.Fatalf("%d, %v", n, err)
	}
	_, err = f.WriteAt([]byte("x"), 100) // there is a page already
	must(t, err)
	if !IsNoSpace(&os.PathError{Err: syscall.EDQUOT}) || IsNoSpace(io.EOF) {
		t.Fatal("IsNoSpace")
	}
}

// Pebble works on Mem, and what it has synced survives every crash.
func TestPebbleOnMem(t *testing.T) {
	m := NewMem()
	opts := func(fs FS) *pebble.Options {
		return &pebble.Options{FS: fs, Logger: silent{}, MemTableSize: 64 << 10}
	}
	must(t, MkdirAll(m, "db"))
	db, err := pebble.Open("db", opts(m))
	must(t, err)
	for i := range 300 {
		must(t, db.Set(fmt.Appendf(nil, "key%03d", i), make([]byte, 500), pebble.Sync))
	}
	for seed := range uint64(10) {
		crashed := m.Crash(rng(seed), int(seed)*10)
		db2, err := pebble.Open("db", opts(crashed))
		must(t, err)
		for i := range 300 {
			_, c, err := db2.Get(fmt.Appendf(nil, "key%03d", i))
			if err != nil {
				t.Fatalf("seed %d, key %d: %v", seed, i, err)
			}
			must(t, c.Close())
		}
		must(t, db2.Close())
	}
	must(t, db.Close())
}

type silent struct{}

func (silent) Infof(string, ...any)      {}
func (silent) Errorf(string, ...any)     {}
func (silent) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// The directories that MkdirAll makes survive a crash.
func TestMkdirAllIsDurable(t *testing.T) {
	m := NewMem()
	must(t, MkdirAll(m, "a/b/c"))
	if _, err := m.Crash(nil, 0).Stat("a/b/c"); err != nil {
		t.Fatal(err)
	}
	must(t, MkdirAll(OS(), filepath.Join(t.TempDir(), "a", "b")))
}

// A write past the page cache and a read through it see the same file; what is not
// whole sectors is refused, and nothing is written.
func TestDirectIsLikeAnyWrite(t *testing.T) {
	disk := t.TempDir()
	nothing := PolicyFunc(func(Op) Verdict { return Verdict{} })
	for i, c := range []struct {
		fs   FS
		root string
	}{{NewMem(), ""}, {OS(), disk}, {NewFault(NewMem(), nothing, nil), ""}, {NewFault(OS(), nothing, nil), disk}} {
		name := filepath.Join(c.root, fmt.Sprintf("f%d", i))
		if _, err := OpenDirect(c.fs, name); err == nil {
			t.Error("a file that is not there was opened")
		}
		f := create(t, c.fs, name)
		_, err := f.WriteAt(bytes.Repeat([]byte("o"), 20*SectorBytes), 0)
		must(t, err)
		d, err := OpenDirect(c.fs, name)
		if errors.Is(err, ErrNoDirect) && c.root != "" {
			t.Logf("not on this disk: %v", err)
			continue
		}
		must(t, err)
		want := content(t, c.fs, name)
		p := make([]byte, 64<<10)
		copy(p, bytes.Repeat([]byte("n"), 3*SectorBytes))
		_, err = d.WriteAt(p[:3*SectorBytes], 5*SectorBytes)
		must(t, err)
		copy(want[5*SectorBytes:], p[:3*SectorBytes])
		must(t, f.SyncData())
		if _, err := d.WriteAt(p[:100], 0); !IsNoDirect(err) {
			t.Errorf("100 bytes: %v", err)
		}
		if _, err := d.WriteAt(p[:SectorBytes], 100); !IsNoDirect(err) {
			t.Errorf("at 100: %v", err)
		}
		if got := content(t, c.fs, name); !bytes.Equal(got, want) {
			t.Error("it reads differently")
		}
		must(t, d.Close())
		must(t, f.Close())
	}
}

// The policy decides about a write past the page cache as about any other: it may
// fail in part, be lost, or go astray.
func TestFaultsOfDirectWrites(t *testing.T) {
	mem, failure := NewMem(), errors.New("no")
	var verdict Verdict
	fs := NewFault(mem, PolicyFunc(func(op Op) Verdict {
		if op.Kind != OpWrite || op.Path != "f" || op.Length == 0 {
			return Verdict{}
		}
		return verdict
	}), nil)
	f := create(t, fs, "f")
	must(t, f.Close())
	d, err := OpenDirect(fs, "f")
	must(t, err)
	p := bytes.Repeat([]byte("x"), 4*SectorBytes)
	for _, c := range []struct {
		verdict Verdict
		err     error
		size    int
	}{
		{Verdict{Lose: true}, nil, 0},
		{Verdict{Err: failure, Partial: SectorBytes + 100}, failure, SectorBytes},
		{Verdict{Shift: 2 * SectorBytes}, nil, 6 * SectorBytes},
	} {
		verdict = c.verdict
		if _, err := d.WriteAt(p, 0); !errors.Is(err, c.err) {
			t.Errorf("%+v: %v", c.verdict, err)
		}
		if n := len(content(t, mem, "f")); n != c.size {
			t.Errorf("%+v: %d bytes", c.verdict, n)
		}
	}
}
