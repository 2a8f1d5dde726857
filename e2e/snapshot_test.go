package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The phases of the load of a catch-up.
const (
	phaseAll      = iota // all members are there
	phaseWithout         // one is stopped
	phaseTransfer        // it is brought up
	phaseAfter
)

const (
	catchUpKills = 5
	// windowBytes is what a receiver asks for ahead (docs/snapshots.md): a kill
	// may cost as much, and no more.
	windowBytes = 8 << 20
)

// catchUp is a member that is brought up by a snapshot, and what it took.
type catchUp struct {
	*cluster
	victim *member
	// sent and received are what the members had counted when they were killed.
	sent, received, resumed float64
}

// A member is stopped under load until the log no longer reaches back to it, and
// started again. It is brought up by a snapshot while the load goes on, although
// it and the host that sends are killed five times in the middle; and what had
// come before a kill does not come again.
//
// "The leader must occasionally send snapshots to followers that lag behind."
// (Raft, section 7)
//
// E2E_SNAPSHOT_MIB is the size of the state, by default 80.
func TestSnapshotCatchUp(t *testing.T) {
	mib := envInt(t, "E2E_SNAPSHOT_MIB", 80)
	f := quorate
	// The transfer alone takes ten seconds, of which the last kill leaves more than
	// half: this process may be kept from looking for that long.
	f.extra = []string{"--snapshot-bandwidth", fmt.Sprint(max(mib/10, 1) << 20)}
	c := &catchUp{cluster: newCluster(t, f, 3)}
	o := startOverwriter(t, c.endpoints(), strings.Repeat("o", 128))
	o.awaitMore(t, 5000)
	c.victim = c.follower(t)
	c.victim.proc.kill()
	o.phase.Store(phaseWithout)
	begun := time.Now()
	fillState(t, c.leader(t), mib<<20)
	o.awaitMore(t, 1000)
	c.awaitCompaction(t)
	t.Logf("%d MiB written in %v while %s was away", mib, time.Since(begun).Round(time.Millisecond), c.victim.name)

	o.phase.Store(phaseTransfer)
	begun = time.Now()
	c.victim.start(t)
	bytes := c.killOver(t)
	c.awaitReady(t, c.victim, 3*time.Minute)
	took := time.Since(begun)
	o.phase.Store(phaseAfter)
	o.awaitMore(t, 5000)
	o.end()

	c.count(t)
	t.Logf("an image of %.1f MB; %.1f MB sent, %.1f MB received, %.0f blocks were there already after the kills; %v from start to ready, with %d kills",
		float64(bytes)/1e6, c.sent/1e6, c.received/1e6, c.resumed, took.Round(time.Millisecond), catchUpKills)
	for phase, name := range []string{"all members", "one stopped", "transfer and kills", "afterwards"} {
		t.Logf("%-18s %s", name, o.times(phase))
	}
	if most := float64(bytes) * 1.02; c.sent > most+catchUpKills*windowBytes || c.received > most+catchUpKills*windowBytes {
		t.Errorf("%.0f bytes sent and %.0f received of an image of %d: it did not go on where it had stopped", c.sent, c.received, bytes)
	}
	if c.resumed == 0 || c.received < float64(bytes)/2 {
		t.Errorf("%.0f blocks were there already after a kill, %.0f bytes were received", c.resumed, c.received)
	}
	o.verify(t, c.cluster)
	c.hashesEqual(t)
}

// fillState writes bytes as values of 1 KiB, sixteen at once.
func fillState(t testing.TB, m *member, bytes int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	const each = 16
	value := strings.Repeat("v", 1<<10)
	client := newClient(t, m.endpoint())
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				n := int(next.Add(1) - 1)
				if n*each<<10 >= bytes {
					return
				}
				var puts []clientv3.Op
				for i := range each {
					puts = append(puts, clientv3.OpPut(fmt.Sprintf("fill/%08d", n*each+i), value))
				}
				if _, err := client.Txn(ctx).Then(puts...).Commit(); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		t.Fatalf("%d of %d transactions that fill the state failed", n, next.Load())
	}
}

// awaitCompaction returns when the logs of those that run no longer reach back to
// the victim.
func (c *catchUp) awaitCompaction(t testing.TB) {
	t.Helper()
	eventually(t, time.Minute, "the logs are compacted", func() error {
		for _, m := range c.members {
			if m != c.victim && mustMetrics(t, m)["quorate_log_compactions_total"] == 0 {
				return fmt.Errorf("that of %s is not", m.name)
			}
		}
		return nil
	})
}

// killOver kills the receiver and the sender in turns, while the image comes in.
// It returns the image's size.
func (c *catchUp) killOver(t testing.TB) (bytes int64) {
	t.Helper()
	for n := range catchUpKills {
		var sender *member
		eventually(t, 2*time.Minute, fmt.Sprintf("the image comes in up to kill %d", n+1), func() error {
			part, have := c.arriving()
			if part == "" {
				if len(images(c.victim, ".snap")) > 0 {
					t.Fatalf("the image was whole before kill %d of %d; this machine is too slow, or sending is not throttled", n+1, catchUpKills)
				}
				return fmt.Errorf("nothing comes in")
			}
			if sender, bytes = c.holder(part); sender == nil {
				return fmt.Errorf("nobody has image %s", part)
			}
			if goal := bytes * int64(n+1) / (catchUpKills + 7); have < goal {
				return fmt.Errorf("%d bytes of %d are there", have, goal)
			}
			return nil
		})
		m, role := c.victim, "receives"
		if n%2 == 1 {
			m, role = sender, "sends"
		}
		leads := c.note(t, m)["etcd_server_is_leader"]
		m.proc.kill()
		m.start(t)
		t.Logf("kill %d: %s, which %s (leader: %v)", n+1, m.name, role, leads == 1)
	}
	return bytes
}

// images finds the files of images of a member.
func images(m *member, suffix string) map[string]int64 {
	found := map[string]int64{}
	names, _ := filepath.Glob(filepath.Join(m.dataDir, "wal", "snapshots", "group-0000000000000001", "*"+suffix))
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			found[strings.TrimSuffix(filepath.Base(name), suffix)] = info.Size()
		}
	}
	return found
}

// arriving is the image that the victim receives, and how much of it is there.
func (c *catchUp) arriving() (name string, have int64) {
	for name, have = range images(c.victim, ".part") {
	}
	return name, have
}

// holder is the member that has the whole image.
func (c *catchUp) holder(name string) (*member, int64) {
	for _, m := range c.members {
		if bytes, ok := images(m, ".snap")[name]; ok && m != c.victim {
			return m, bytes
		}
	}
	return nil, 0
}

// note adds what a member has counted, before it is killed.
func (c *catchUp) note(t testing.TB, m *member) (figures map[string]float64) {
	t.Helper()
	figures = mustMetrics(t, m)
	c.sent += figures["quorate_snapshot_sent_bytes_total"]
	c.received += figures["quorate_snapshot_received_bytes_total"]
	c.resumed += figures["quorate_snapshot_resumed_blocks_total"]
	return figures
}

// count adds what the members have counted since they were started last.
func (c *catchUp) count(t testing.TB) {
	t.Helper()
	for _, m := range c.members {
		c.note(t, m)
	}
}
