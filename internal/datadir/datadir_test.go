package datadir

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

func member(n uint64) Identity {
	return Identity{Cluster: 7, Member: smr.ReplicaID(n), Name: string(rune('a' + n - 1)), Members: []Member{
		{1, "a", "http://a:2380"}, {2, "b", "http://b:2380"}, {3, "c", "http://c:2380"},
	}}
}

func open(t *testing.T, fsys vfs.FS, want Request) *Dir {
	t.Helper()
	d, err := Open(fsys, "/base/d", want)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func closeDir(t *testing.T, d *Dir) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestIdentityIsKept(t *testing.T) {
	fsys := pebblevfs.NewMem()
	first := open(t, fsys, Request{Identity: member(1)})
	if !first.New || first.Identity.Incarnation == 0 || first.WAL != "/base/d/wal" || first.KV != "/base/d/kv" {
		t.Fatalf("%+v", first)
	}
	closeDir(t, first)
	second := open(t, fsys, Request{Identity: member(1), Joining: true})
	defer closeDir(t, second)
	if second.New || !reflect.DeepEqual(second.Identity, first.Identity) {
		t.Fatalf("%+v\n%+v", second.Identity, first.Identity)
	}
}

// Once it is noted that the log was made, the directory remembers it: through a
// power cut, and when the settings change the names.
func TestLogMadeIsKept(t *testing.T) {
	fsys := pebblevfs.NewCrashableMem()
	first := open(t, fsys, Request{Identity: member(1)})
	if id, err := Read(fsys, "/base/d"); err != nil || id.HasLog {
		t.Fatalf("before: %+v, %v", id, err)
	}
	if err := first.LogMade(); err != nil {
		t.Fatal(err)
	}
	renamed := member(1)
	renamed.Name, renamed.Members[0].Name = "z", "z"
	for _, request := range []Request{{Identity: member(1)}, {Identity: renamed}, {Identity: renamed, Remembered: true}} {
		fsys = fsys.CrashClone(pebblevfs.CrashCloneCfg{})
		d := open(t, fsys, request)
		id, err := Read(fsys, "/base/d")
		if err != nil || !d.Identity.HasLog || !id.HasLog || id.Incarnation != first.Identity.Incarnation {
			t.Fatalf("%+v, %+v, %v", d.Identity, id, err)
		}
		if err := d.LogMade(); err != nil {
			t.Fatal(err)
		}
	}
}

// "An incarnation: a replica that comes back with an empty log is told so."
func TestAnotherDirectoryIsAnotherIncarnation(t *testing.T) {
	a := open(t, pebblevfs.NewMem(), Request{Identity: member(1)})
	b := open(t, pebblevfs.NewMem(), Request{Identity: member(1)})
	if a.Identity.Incarnation == b.Identity.Incarnation {
		t.Fatal("two directories have one incarnation")
	}
}

func TestTwoProcessesNeverShareADirectory(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(vfs.OS(), dir, Request{Identity: member(1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(vfs.OS(), dir, Request{Identity: member(1)}); !errors.Is(err, vfs.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("second Open: %v", err)
	}
	closeDir(t, d)
	d, err = Open(vfs.OS(), dir, Request{Identity: member(1)})
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	closeDir(t, d)
}

// "Refused at start-up, with both identities in the message."
func TestForeignDirectoryIsRefused(t *testing.T) {
	fsys := pebblevfs.NewMem()
	closeDir(t, open(t, fsys, Request{Identity: member(1)}))
	other := member(1)
	other.Cluster = 8
	for _, c := range []struct {
		want Request
		text string
	}{
		{Request{Identity: member(2)}, `holds member 1 ("a") of cluster 7, and the settings say member 2 ("b") of cluster 7`},
		{Request{Identity: other}, `holds member 1 ("a") of cluster 7, and the settings say member 1 ("a") of cluster 8`},
		{Request{Identity: member(2), Remembered: true}, `("b")`},
	} {
		if _, err := Open(fsys, "/base/d", c.want); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v", err)
		}
	}
	// A refusal gives the lock back.
	closeDir(t, open(t, fsys, Request{Identity: member(1)}))
}

// "Members that were restored from different backups refuse one another": their
// clusters differ, and each is found again with the settings that it was made with.
func TestSeeds(t *testing.T) {
	clusters := map[uint64]bool{}
	for seed := range uint64(3) {
		fsys := pebblevfs.NewMem()
		id := member(1).Seeded(seed)
		id.Incarnation = 9
		if clusters[id.Cluster] || id.Cluster == 0 {
			t.Fatalf("seed %d: cluster %x again", seed, id.Cluster)
		}
		clusters[id.Cluster] = true
		if err := errors.Join(makeDir(fsys, "/base/d"), write(fsys, "/base/d", &id)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			d := open(t, fsys, Request{Identity: member(1)})
			closeDir(t, d)
			if !reflect.DeepEqual(d.Identity, id) {
				t.Fatalf("seed %d: %+v", seed, d.Identity)
			}
		}
		renamed := member(1)
		renamed.Name = "z"
		d := open(t, fsys, Request{Identity: renamed})
		closeDir(t, d)
		if d.Identity.Seed != seed || d.Identity.Cluster != id.Cluster {
			t.Fatalf("renamed: %+v", d.Identity)
		}
		other := member(1)
		other.Cluster = 8
		if _, err := Open(fsys, "/base/d", Request{Identity: other}); !errors.Is(err, ErrForeign) || seed > 0 && !strings.Contains(err.Error(), "restored from backup") {
			t.Fatalf("another token: %v", err)
		}
	}
}

func TestRememberedMembers(t *testing.T) {
	fsys := pebblevfs.NewMem()
	closeDir(t, open(t, fsys, Request{Identity: member(2)}))
	alone := Identity{Cluster: 99, Member: 98, Name: "b"}
	d := open(t, fsys, Request{Identity: alone, Remembered: true})
	defer closeDir(t, d)
	if d.Identity.Cluster != 7 || len(d.Identity.Members) != 3 {
		t.Fatalf("%+v", d.Identity)
	}
}

func TestRenamedMember(t *testing.T) {
	fsys := pebblevfs.NewMem()
	closeDir(t, open(t, fsys, Request{Identity: member(1)}))
	renamed := member(1)
	renamed.Name, renamed.Members[0].Name = "z", "z"
	d := open(t, fsys, Request{Identity: renamed})
	closeDir(t, d)
	if id, err := Read(fsys, "/base/d"); err != nil || id.Name != "z" || id.Incarnation != d.Identity.Incarnation {
		t.Fatalf("%v, %v", id, err)
	}
}

func TestOtherContent(t *testing.T) {
	for name, want := range map[string]error{"wal": ErrDamaged, "kv": ErrDamaged, "member": ErrForeign} {
		fsys := pebblevfs.NewMem()
		if err := fsys.MkdirAll("/base/d/"+name, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(fsys, "/base/d", Request{Identity: member(1)}); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
		if names, err := fsys.List("/base/d"); err != nil || len(names) != 1 {
			t.Errorf("%s: a refusal has left %v, %v", name, names, err)
		}
	}
	fsys := pebblevfs.NewMem()
	if _, err := Open(fsys, "/base/d", Request{Identity: member(1), Joining: true}); !errors.Is(err, ErrJoin) {
		t.Errorf("joining: %v", err)
	}
	if _, err := fsys.Stat("/base"); err == nil {
		t.Error("joining: a refusal has made the directory")
	}
	if _, err := Read(pebblevfs.NewMem(), "/nowhere"); !errors.Is(err, ErrEmpty) {
		t.Errorf("missing directory: %v", err)
	}
}

func TestEveryChangedByteIsNoticed(t *testing.T) {
	id := member(1)
	id.Incarnation = 5
	b, err := encode(&id)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for _, bit := range []byte{1, 0x20, 0x80} {
			c := bytes.Clone(b)
			c[i] ^= bit
			if _, err := decode(c); !errors.Is(err, smr.ErrCorrupt) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
		}
		if _, err := decode(b[:i]); !errors.Is(err, smr.ErrCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

// After a power cut at any moment the directory is without an identity or has
// it whole, and once Open has returned it has it.
func TestPowerCut(t *testing.T) {
	for seed := range uint64(50) {
		fsys := pebblevfs.NewCrashableMem()
		first := open(t, fsys, Request{Identity: member(1)})
		crashed := fsys.CrashClone(pebblevfs.CrashCloneCfg{UnsyncedDataPercent: int(seed % 101), RNG: rand.New(rand.NewPCG(seed, 1))})
		id, err := Read(crashed, "/base/d")
		if err != nil || id.Incarnation != first.Identity.Incarnation {
			t.Fatalf("seed %d: %v, %v", seed, id, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	id := member(3).Seeded(4)
	id.Incarnation = 1
	b, err := encode(&id)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := decode(b)
		if err != nil {
			if !errors.Is(err, smr.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := encode(id)
		if err != nil {
			t.Fatal(err)
		}
		if id2, err := decode(again); err != nil || !reflect.DeepEqual(id, id2) {
			t.Fatalf("%+v: %v", id, err)
		}
	})
}

var _ io.Closer = (*Dir)(nil)
