package host_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// durableBook says that it is durable up to where it was flushed last.
type durableBook struct {
	*book
	flushed uint64
	flushes int
}

func (b *durableBook) Durable() (uint64, error) { return b.flushed, nil }
func (b *durableBook) Flush() error {
	b.flushed, _ = b.Digest()
	b.flushes++
	return nil
}

// shortBook keeps its last pages alone.
type shortBook struct{ *book }

func (b shortBook) Apply(batch []smr.Committed) error {
	err := b.book.Apply(batch)
	b.pages = b.pages[max(0, len(b.pages)-2):]
	return err
}

// crowd is many groups of one host, in one shard.
type crowd struct {
	t      *testing.T
	rt     *host.Runtime
	now    smr.Instant
	groups []*host.Group
}

func newCrowd(t *testing.T, n int, machine func() smr.StateMachine) *crowd {
	rt, err := host.NewRuntime(host.Config{
		ID: 1, Cluster: 7, Incarnation: 1, Dir: "d", FS: vfs.NewMem(), SegmentBytes: 64 << 10, Logger: quiet,
		Snapshots: host.SnapshotConfig{EveryBytes: 64 << 10, BlockBytes: 4096},
	}, host.Env{Sender: &node{w: &workbench{}}, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	c := &crowd{t: t, rt: rt, now: 1}
	for i := range n {
		g, err := rt.StartGroup(host.GroupConfig{ID: smr.GroupID(i + 1), Members: host.Voters(1), Machine: machine()}, c.now)
		if err != nil {
			t.Fatal(err)
		}
		c.groups = append(c.groups, g)
	}
	return c
}

func (c *crowd) step() {
	c.now = c.now.Add(2 * time.Millisecond)
	s := c.rt.Shards()[0]
	s.Turn(c.now)
	s.Syncer().Turn()
	s.Job().Turn(c.now)
	c.rt.Workers()[0].Turn()
}

// write has a command of that size applied by a group.
func (c *crowd) write(group, size int) {
	c.t.Helper()
	done := false
	if err := c.groups[group].Submit(bytes.Repeat([]byte{byte(group)}, size), c.now.Add(time.Minute), func(_ smr.Result, err error) {
		if err != nil {
			c.t.Fatal(err)
		}
		done = true
	}); err != nil {
		c.t.Fatal(err)
	}
	for range 1000 {
		if c.step(); done {
			return
		}
	}
	c.t.Fatalf("group %d: no answer", group+1)
}

// docs/snapshots.md: "With many groups a shard's log is bounded as a whole": none of
// them has a log as large as EveryBytes, and all together would fill the disk.
func TestLogOfAShardIsBounded(t *testing.T) {
	const groups, command, commands = 200, 500, 8000
	const bound = 2 * 8 * (64 << 10) // the default of ShardBytes
	machines := map[string]func() smr.StateMachine{
		"memory": func() smr.StateMachine { return shortBook{&book{}} },
		"disk":   func() smr.StateMachine { return &durableBook{book: &book{}} },
	}
	loads := map[string]func(i int) int{ // the group of the i-th command
		"all alike":   func(i int) int { return i % groups },
		"one by one":  func(i int) int { return i * groups / commands },
		"one is busy": func(i int) int { return i % 2 * (i % groups) },
	}
	for kind, machine := range machines {
		for load, group := range loads {
			t.Run(fmt.Sprintf("%s, %s", kind, load), func(t *testing.T) {
				c := newCrowd(t, groups, machine)
				for range 500 {
					c.step() // they elect themselves
				}
				live, files := int64(0), int64(0)
				for i := range commands {
					c.write(group(i), command)
					st := c.rt.Stats()
					live, files = max(live, st.Log.LiveBytes), max(files, st.Log.Bytes)
				}
				t.Logf("up to %d bytes, in files of %d", live, files)
				if live < bound/2 {
					t.Errorf("the log never holds more than %d bytes: the bound is not what holds it back", live)
				}
				if most := int64(bound + bound/16 + 128<<10); live > most {
					t.Errorf("the log holds up to %d bytes, at most %d are allowed", live, most)
				}
				if most := int64(2*(bound+bound/16) + 4*64<<10); files > most {
					t.Errorf("the log's files take up to %d bytes, at most %d are allowed", files, most)
				}
			})
		}
	}
}

// "A shard whose log is twice as large waits for no follower": one whose disk stands
// still acknowledges nothing, and is heard all the same.
func TestLogOfAShardWaitsForNoFollower(t *testing.T) {
	const shard = 32 << 10 // a follower alone may make it HardBytes, 128 KiB
	w := newWorkbench(t, [4]*vfs.Mem{})
	for _, n := range w.nodes[1:] {
		n.shard = shard
		n.start()
	}
	w.write(3)
	w.until("all are equal", func() bool {
		return w.nodes[1].book.count() == 3 && w.nodes[2].book.count() == 3 && w.nodes[3].book.count() == 3
	})
	l := w.leader()
	w.stalled = w.nodes[1+int(l.id)%3]
	most := int64(0)
	for st := l.rt.Stats(); st.CompactionsForShard == 0; st = l.rt.Stats() {
		most = max(most, st.Log.LiveBytes)
		w.write(1)
	}
	if most < 2*shard-shard/16 || most > 2*shard+shard/8 {
		t.Errorf("the log is compacted with %d bytes", most)
	}
	w.stalled = nil
	w.until("the follower is equal again", func() bool { return w.nodes[1+int(l.id)%3].book.count() == l.book.count() })
	w.stop()
}
