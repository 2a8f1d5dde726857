package host_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
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
	if !errors.Is(err, host.ErrDamaged) || !strings.Contains(err.Error(), "no snapshot fills the gap") {
		t.Fatal(err)
	}
}

// docs/snapshots.md: "a block is damaged on the sender's disk | the sender, which
// verifies what it sends, says that the image is not to be had, and offers another
// one, which is taken anew".
func TestSenderHasDamagedImage(t *testing.T) {
	for _, block := range []int64{0, 3} {
		w := newWorkbench(t, away(t), 1, 2)
		w.until("a leader", func() bool { return w.leader() != nil })
		l, v := w.leader(), w.nodes[3]
		damaged := images(t, l.mem, ".snap")
		for _, name := range damaged {
			flip(t, l.mem, name, block*4096+100)
		}
		v.start()
		w.until("host 3 is brought up", func() bool { return v.book.restored == 1 && v.book.count() == 203 })
		if st := l.rt.Stats(); st.SnapshotsTaken == 0 || st.SnapshotBlocksSent > 30 {
			t.Errorf("%d images taken, %d blocks sent of images of 12", st.SnapshotsTaken, st.SnapshotBlocksSent)
		}
		if v.rt.Stats().BadFrames > 0 {
			t.Error("a damaged block was sent")
		}
		w.pass(10 * time.Second)
		left := images(t, l.mem, ".snap")
		if len(left) != 1 || slices.Contains(damaged, left[0]) {
			t.Errorf("the leader had %v, and has %v", damaged, left)
		}
		w.stop()
	}
}

// docs/snapshots.md: "a block is lost, or damaged on its way | … after three damaged
// copies the image is given up, and the leader offers again".
func TestBlocksDamagedOnTheWay(t *testing.T) {
	w := newWorkbench(t, away(t), 1, 2)
	w.until("a leader", func() bool { return w.leader() != nil })
	v := w.nodes[3]
	damaged := 0
	w.bulk = func(b []byte) []byte {
		damaged++
		b[len(b)-10] ^= 1
		return b
	}
	v.start()
	w.pass(10 * time.Second)
	t.Logf("%d blocks were damaged in 10 s", damaged)
	if v.rt.Stats().BadFrames < 3*5 || damaged > 600 || v.book.restored != 0 {
		t.Errorf("%d blocks were damaged in 10 s, host 3 has seen %d", damaged, v.rt.Stats().BadFrames)
	}
	w.bulk = nil
	w.until("host 3 is brought up", func() bool { return v.book.restored == 1 && v.book.count() == 203 })
	w.stop()
}

// docs/snapshots.md: "A slow link is not taken for one that loses".
func TestSlowLink(t *testing.T) {
	for _, every := range []time.Duration{20 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second} {
		for _, queue := range []int{1, 1000} {
			w := newWorkbench(t, away(t), 1, 2)
			w.until("a leader", func() bool { return w.leader() != nil })
			v := w.nodes[3]
			w.bulkEvery, w.bulkMax, w.bulkAt = every, queue, w.now.Add(every)
			start := w.now
			v.start()
			w.until("host 3 is brought up", func() bool { return v.book.restored == 1 })
			took := w.now.Sub(start)
			sent := w.nodes[1].rt.Stats().SnapshotBlocksSent + w.nodes[2].rt.Stats().SnapshotBlocksSent
			blocks := (v.rt.Stats().SnapshotBytesReceived + 4095) / 4096
			t.Logf("a block in %v, %d may wait: %d blocks, %d sent, installed after %v", every, queue, blocks, sent, took)
			if sent > blocks+5 || took > time.Duration(blocks+5)*every+time.Second {
				t.Error("that is too much, or took too long")
			}
			w.stop()
		}
	}
}

// docs/snapshots.md: "a block is lost, … | the blocks from there on are asked for
// again".
func TestBlocksAreLost(t *testing.T) {
	for _, lost := range []int{1, 3, 10} { // of ten; 10: all, for two seconds
		w := newWorkbench(t, away(t), 1, 2)
		w.until("a leader", func() bool { return w.leader() != nil })
		v := w.nodes[3]
		rng := rand.New(rand.NewPCG(2, uint64(lost)))
		blocks, lostBlocks, start := 0, 0, w.now
		w.bulk = func(b []byte) []byte {
			blocks++
			if rng.IntN(10) < lost && (lost < 10 || w.now.Sub(start) < 2*time.Second) {
				lostBlocks++
				return nil
			}
			return b
		}
		v.start()
		w.until("host 3 is brought up", func() bool { return v.book.restored == 1 })
		t.Logf("%d of ten lost: %d blocks sent, %d lost, %v", lost, blocks, lostBlocks, w.now.Sub(start))
		if lostBlocks == 0 || blocks > 12+3*lostBlocks || w.now.Sub(start) > 5*time.Second {
			t.Error("that is too much, or took too long")
		}
		w.stop()
	}
}

// docs/snapshots.md: "A state machine that panics in one of these ends the snapshot
// that it was about, and nothing else".
func TestPanicsOfViewsAndRestorations(t *testing.T) {
	for _, what := range []string{"begin", "write", "finish", "close", "read", "close view"} {
		w := newWorkbench(t, away(t), 1, 2)
		w.until("a leader", func() bool { return w.leader() != nil })
		v, panics := w.nodes[3], 0
		v.fail = func(at string) error {
			if what == "close" && at == "finish" && panics == 0 {
				return errors.New("so that it is closed before it is used")
			}
			if at == what && panics < 2 {
				panics++
				panic("a bug in " + at)
			}
			return nil
		}
		v.start()
		w.until("host 3 is brought up", func() bool { return v.book.restored > 0 && v.book.count() == 203 })
		w.write(200)
		w.until("host 3 follows", func() bool { return v.book.count() == 403 })
		w.until("images are taken", func() bool { return v.rt.Stats().SnapshotsTaken > 0 })
		if panics == 0 || what != "close view" && what != "close" && panics != 2 {
			t.Errorf("%s: %d panics", what, panics)
		}
		w.stop()
	}
}

// The same beside the job, where a panic would end the process.
func TestPanicOnAGoroutine(t *testing.T) {
	var panics atomic.Int32
	b := &book{fail: func(what string) error {
		if what == "read" && panics.Add(1) == 1 {
			panic("a bug in Read")
		}
		return nil
	}}
	h, err := host.Open(host.Config{ID: 1, Cluster: 7, Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	g, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1), Machine: b})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := g.Propose(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "an image after a panic", func() bool {
		if err := g.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		return h.Stats().SnapshotsTaken > 0
	})
	if panics.Load() < 2 {
		t.Error("there was no panic")
	}
}

// docs/snapshots.md: "images at most double what is written. While it is followers
// that keep the log from being compacted up to the image that there is, no other one
// is taken", and "given up when the log exceeds HardBytes (…; for a state in memory
// twice its last image, if that is larger)": a follower answers, and its disk stands
// still.
func TestImagesWhileAFollowerLags(t *testing.T) {
	w := newWorkbench(t, [4]*vfs.Mem{}, 1, 2, 3)
	w.write(20)
	l := w.leader()
	for _, n := range w.nodes[1:] {
		if n != l {
			w.stalled = n
		}
	}
	const every, hard = 16 << 10, 128 << 10
	var written, imageBytes, taken, compactions int64
	for range 60 {
		w.write(20)
		written += 20 * 300
		st := l.rt.Stats()
		if n := int64(st.SnapshotsTaken); n > taken {
			taken, imageBytes = n, imageBytes+written // its state is all that was written
		}
		log := l.group.Snapshots().LogBytes
		if most := max(hard, 2*written) + every/16 + 2*20*400; log > most {
			t.Fatalf("after %d bytes the log has %d, at most %d", written, log, most)
		}
		compactions = int64(st.Compactions)
	}
	t.Logf("%d bytes of commands, %d images of %d bytes in all, %d compactions", written, taken, imageBytes, compactions)
	if imageBytes > 2*written || taken < 2 || compactions < 1 {
		t.Error("too many images, or none")
	}
	// It is the same after a restart, although the image is of an earlier life.
	follower := w.nodes[6-l.id-w.stalled.id]
	w.stalled = nil
	w.pass(5 * time.Second)
	follower.stop()
	follower.start()
	w.write(100)
	if n := follower.rt.Stats().SnapshotsTaken; n > 0 {
		t.Errorf("%d images for 30 kB although the last one has %d", n, written)
	}
	w.stop()
}

// docs/snapshots.md: "the log overtakes the image | the transfer ends, the sender is
// told, and what had come is removed": host 2, whose log reaches back, leads while
// half of the image of host 1 has come.
func TestLogOvertakesTransfer(t *testing.T) {
	w := newWorkbench(t, [4]*vfs.Mem{})
	w.nodes[2].every = 1 << 30
	for _, n := range w.nodes[1:] {
		n.start()
	}
	ended, end := context.WithCancel(t.Context())
	end()
	lead := func(id smr.ReplicaID) {
		w.until("the leader", func() bool {
			l := w.leader()
			if l != nil && l.id != id {
				_ = l.group.Transfer(ended, id) // it does not wait
			}
			return l != nil && l.id == id
		})
	}
	w.write(3)
	lead(1)
	v := w.nodes[3]
	v.stop()
	w.write(200)
	blocks := 0
	w.bulk = func(b []byte) []byte {
		if blocks++; blocks > 6 {
			return nil
		}
		return b
	}
	v.start()
	w.until("six blocks came", func() bool { return v.group.Snapshots().Blocks == 6 })
	lead(2)
	w.write(1)
	w.until("host 3 follows the log", func() bool { return v.book.count() == 204 })
	w.pass(5 * time.Second)
	if st := v.group.Snapshots(); v.book.restored != 0 || st.Receiving != 0 {
		t.Errorf("restored %d times, %+v", v.book.restored, st)
	}
	if names := images(t, v.mem, ".part"); len(names) > 0 {
		t.Errorf("%v are left", names)
	}
	sent := w.nodes[1].rt.Stats().SnapshotBlocksSent
	w.pass(5 * time.Second)
	if more := w.nodes[1].rt.Stats().SnapshotBlocksSent - sent; more > 0 {
		t.Errorf("%d blocks are still sent", more)
	}
	w.stop()
}

// docs/snapshots.md: "the state machine cannot take the image in | it is tried again,
// after an election timeout first, then twice as long each time"; and smr: Close
// "may be called at any time after which nothing else is": once.
func TestRestorationFails(t *testing.T) {
	w := newWorkbench(t, away(t), 1, 2)
	w.until("a leader", func() bool { return w.leader() != nil })
	v, begun, closed := w.nodes[3], 0, 0
	full := true
	v.fail = func(what string) error {
		switch {
		case what == "begin":
			begun++
		case what == "close":
			closed++
		case what == "finish" && full:
			return errors.New("no room")
		}
		return nil
	}
	v.start()
	w.pass(10 * time.Second)
	if begun < 4 || begun > 8 || closed != begun {
		t.Errorf("%d restorations in 10 s, closed %d times", begun, closed)
	}
	full = false
	w.until("host 3 is brought up", func() bool { return v.book.restored == 1 })
	w.pass(time.Second)
	if closed != begun {
		t.Errorf("%d restorations, closed %d times", begun, closed)
	}
	if n := len(images(t, v.mem, ".snap")); n != 1 {
		t.Errorf("host 3 has %d images", n)
	}
	w.stop()
}

// host.Group.Compact: "What this replica has applied when it is called is in it":
// also what was applied a moment ago.
func TestCompactAfterPropose(t *testing.T) {
	for range 10 {
		h, err := host.Open(host.Config{ID: 1, Cluster: 7, Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		g, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1), Machine: &book{}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Propose(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		at := g.Status().Applied
		if err := g.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "an image of what was applied", func() bool { return g.Snapshots().Newest >= at })
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
