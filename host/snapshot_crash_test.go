package host_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/transport"
	"github.com/quorate/quorate/vfs"
)

// workbench is three runtimes of one group without goroutines, a clock or a network:
// all take a turn in each step, and what was sent arrives in the next.
type workbench struct {
	t     *testing.T
	now   smr.Instant
	nodes [4]*node // 1 to 3
	sent  []sentFrame
	bulk  func([]byte) []byte // if set, changes what goes over the bulk connections; nil: it is lost
	// One frame in bulkEvery goes over the bulk connections, if that is set, the
	// next one at bulkAt; bulkQueue waits, and its sender is told no above bulkMax.
	bulkEvery time.Duration
	bulkAt    smr.Instant
	bulkQueue []sentFrame
	bulkMax   int
	stalled   *node // whose disk stands still
}

type node struct {
	w     *workbench
	id    smr.ReplicaID
	life  uint64
	mem   *vfs.Mem
	rt    *host.Runtime
	group *host.Group
	book  *book
	fail  func(what string) error // of its books
	every int64                   // EveryBytes, if not the usual
	shard int64                   // ShardBytes, if not the usual
	// The power goes at the operation on the disk of number crashAt, or when
	// the block of number crashAtBlock has been sent.
	crashAt, crashAtBlock int
	blocks                int
	ops                   int
	frozen                *vfs.Mem
}

type sentFrame struct {
	from, to smr.ReplicaID
	b        []byte
}

var errPower = errors.New("the power is gone")

func (n *node) Before(op vfs.Op) vfs.Verdict {
	if n.frozen != nil {
		return vfs.Verdict{Err: errPower}
	}
	if op.Kind.Mutates() {
		if n.ops++; n.ops == n.crashAt {
			n.frozen = n.mem.Crash(rand.New(rand.NewPCG(uint64(n.crashAt), 5)), 50)
			return vfs.Verdict{Err: errPower}
		}
	}
	return vfs.Verdict{}
}

func (n *node) Send(to uint64, b *transport.Buffer) error { return n.send(to, b, false) }

func (n *node) SendBulk(to uint64, b *transport.Buffer) error { return n.send(to, b, true) }

func (n *node) send(to uint64, b *transport.Buffer, block bool) error {
	if block && n.frozen == nil {
		if n.blocks++; n.blocks == n.crashAtBlock {
			n.frozen = n.mem.Crash(rand.New(rand.NewPCG(uint64(n.blocks), 6)), 50)
		}
	}
	if n.frozen == nil {
		frame := bytes.Clone(b.B)
		if block && n.w.bulk != nil {
			frame = n.w.bulk(frame)
		}
		switch f := (sentFrame{n.id, smr.ReplicaID(to), frame}); {
		case frame == nil:
		case block && n.w.bulkEvery > 0 && len(n.w.bulkQueue) >= n.w.bulkMax:
			b.Release()
			return transport.ErrQueueFull
		case block && n.w.bulkEvery > 0:
			n.w.bulkQueue = append(n.w.bulkQueue, f)
		default:
			n.w.sent = append(n.w.sent, f)
		}
	}
	b.Release()
	return nil
}

func (n *node) config() host.Config {
	every := max(n.every, 16<<10)
	return host.Config{
		ID: n.id, Cluster: 7, Incarnation: uint64(n.id), Dir: "d", FS: vfs.NewFault(n.mem, n, nil), SegmentBytes: 64 << 10, Logger: quiet,
		Snapshots: host.SnapshotConfig{EveryBytes: every, ShardBytes: n.shard, TailBytes: 1 << 10, BlockBytes: 4096, WindowBytes: 8192, BandwidthBytes: -1, KeepFor: 5 * time.Second},
	}
}

func (n *node) start() {
	n.life++
	n.ops, n.blocks, n.frozen, n.book = 0, 0, nil, &book{fail: n.fail}
	rt, err := host.NewRuntime(n.config(), host.Env{Sender: n, Seed: uint64(n.id)<<32 + n.life})
	if err == nil {
		n.group, err = rt.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1, 2, 3), Machine: n.book}, n.w.now)
	}
	if err == nil {
		n.rt = rt
	} else if n.frozen == nil {
		n.w.t.Fatalf("host %d does not start: %v", n.id, err)
	}
}

func (n *node) stop() {
	if n.rt != nil {
		n.rt.Close()
	}
	n.rt = nil
}

// stop stops all.
func (w *workbench) stop() {
	for _, n := range w.nodes[1:] {
		n.stop()
	}
}

// step lets everybody take a turn, and starts again who has lost power.
func (w *workbench) step() {
	w.now = w.now.Add(2 * time.Millisecond)
	frames := w.sent
	w.sent = nil
	if len(w.bulkQueue) > 0 && w.now >= w.bulkAt {
		frames = append(frames, w.bulkQueue[0])
		w.bulkQueue, w.bulkAt = w.bulkQueue[1:], w.now.Add(w.bulkEvery)
	}
	for _, f := range frames {
		if to := w.nodes[f.to]; to.rt != nil {
			_ = to.rt.Deliver(f.from, transport.PoisonFrame(f.b))
		}
	}
	for _, n := range w.nodes[1:] {
		if n.rt != nil {
			s := n.rt.Shards()[0]
			s.Turn(w.now)
			if n != w.stalled {
				s.Syncer().Turn()
			}
			s.Fetcher().Turn()
			s.Job().Turn(w.now)
			n.rt.Workers()[0].Turn()
		}
		if n.frozen != nil {
			frozen := n.frozen
			n.stop()
			n.mem, n.crashAt, n.crashAtBlock = frozen, 0, 0
			n.start()
		}
	}
}

func (w *workbench) until(what string, cond func() bool) {
	w.t.Helper()
	for range 20_000 {
		if cond() {
			return
		}
		w.step()
	}
	for _, n := range w.nodes[1:] {
		if n.rt != nil {
			w.t.Logf("host %d: %+v", n.id, n.group.Status())
		}
	}
	w.t.Fatalf("not reached: %s", what)
}

func (w *workbench) leader() *node {
	for _, n := range w.nodes[1:] {
		if n.rt != nil && n.group.Status().Role == raft.Leader {
			return n
		}
	}
	return nil
}

func newWorkbench(t *testing.T, disks [4]*vfs.Mem, run ...int) *workbench {
	w := &workbench{t: t, now: 1}
	for i := 1; i <= 3; i++ {
		w.nodes[i] = &node{w: w, id: smr.ReplicaID(i), mem: vfs.NewMem()}
		if disks[i] != nil {
			w.nodes[i].mem = disks[i].Crash(nil, 100)
		}
	}
	for _, i := range run {
		w.nodes[i].start()
	}
	return w
}

func (w *workbench) write(n int) {
	w.until("a leader", func() bool { return w.leader() != nil })
	done := 0
	for i := range n {
		l := w.leader()
		if err := l.group.Submit(fmt.Appendf(nil, "%0300d", i), w.now.Add(time.Minute), func(_ smr.Result, err error) {
			if err != nil {
				w.t.Fatal(err)
			}
			done++
		}); err != nil {
			w.t.Fatal(err)
		}
		w.until("an answer", func() bool { return done > i })
	}
}

// raft.md 15: "a crash at any step leaves the old or the new one, never half of
// one": a crash at every write, sync, rename and removal, while a follower is
// brought up by a snapshot, of the follower; and after every block, of the host
// that sends.
func TestCrashAtEveryStepOfATransfer(t *testing.T) {
	w := newWorkbench(t, [4]*vfs.Mem{}, 1, 2, 3)
	w.write(3)
	w.nodes[3].stop()
	w.write(200)
	var disks [4]*vfs.Mem
	for i := 1; i <= 3; i++ {
		w.nodes[i].stop()
		disks[i] = w.nodes[i].mem
	}
	for _, side := range []string{"receiver", "sender"} {
		crashes, resumed := 0, uint64(0)
		for at := 1; ; at++ {
			w := newWorkbench(t, disks, 1, 2)
			w.until("a leader", func() bool { return w.leader() != nil })
			victim := w.nodes[3]
			if side == "sender" {
				victim = w.leader()
			}
			life := victim.life
			if side == "receiver" {
				life++
				victim.crashAt = at
			} else {
				victim.crashAtBlock = at
			}
			if w.nodes[3].start(); w.nodes[3].rt == nil {
				w.step()
			}
			w.until(fmt.Sprintf("host 3 equals the others, the %s crashed at operation %d", side, at), func() bool {
				l := w.leader()
				if l == nil || w.nodes[3].rt == nil {
					return false
				}
				resumed = max(resumed, w.nodes[3].rt.Stats().SnapshotBlocksResumed)
				a, digestA := l.book.Digest()
				b, digestB := w.nodes[3].book.Digest()
				return a == b && digestA == digestB && w.nodes[3].group.Status().Applied == a && len(l.book.pages) == 203
			})
			if w.nodes[3].book.restored == 0 {
				t.Fatalf("%s, operation %d: host 3 was not brought up by a snapshot", side, at)
			}
			crashed := victim.life > life
			for i := 1; i <= 3; i++ {
				w.nodes[i].stop()
			}
			if !crashed {
				break
			}
			crashes++
		}
		t.Logf("%s: %d crashes, up to %d blocks were there already", side, crashes, resumed)
		if crashes < 5 || side == "receiver" && resumed == 0 {
			t.Errorf("%s: only %d crashes, %d blocks resumed", side, crashes, resumed)
		}
	}
}
