package host_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/vfs"
)

// images are the files of the group on a disk that end with suffix, in order.
func images(t *testing.T, m *vfs.Mem, suffix string) (names []string) {
	t.Helper()
	const dir = "d/snapshots/group-0000000000000001"
	all, err := m.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if strings.HasSuffix(n, suffix) {
			names = append(names, m.PathJoin(dir, n))
		}
	}
	return names
}

// flip changes one bit of a file.
func flip(t *testing.T, m *vfs.Mem, name string, off int64) {
	t.Helper()
	f, err := m.OpenReadWrite(name, vfs.CategorySnapshot)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// pass lets a time pass.
func (w *workbench) pass(d time.Duration) {
	for end := w.now.Add(d); w.now < end; {
		w.step()
	}
}

// docs/snapshots.md: "It is the only one that is kept: the log follows it, and no
// older one. If it cannot be read any more the start says so".
func TestOneImageIsKept(t *testing.T) {
	w := newWorkbench(t, [4]*vfs.Mem{}, 1, 2, 3)
	w.write(200)
	n := w.nodes[3]
	w.pass(10 * time.Second)
	names := images(t, n.mem, ".snap")
	if len(names) != 1 {
		t.Fatalf("%d images are kept: %v", len(names), names)
	}
	n.stop()
	n.start()
	if n.book.restored != 1 {
		t.Fatal("the image was not restored")
	}
	n.stop()
	flip(t, n.mem, names[0], 5000)
	rt, err := host.NewRuntime(n.config(), host.Env{Sender: n, Seed: 99})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	_, err = rt.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1, 2, 3), Machine: &book{}}, w.now)
	if !errors.Is(err, host.ErrConfig) || !strings.Contains(err.Error(), "no snapshot fills the gap") {
		t.Fatal(err)
	}
}
