package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// logBytesMax is what the log of a member may take with the default settings.
//
// "EveryBytes x 17/16 + what is written during one flush + 3 x SegmentBytes"
// (docs/snapshots.md); a segment is taken for the flush.
const logBytesMax = 64<<20*17/16 + 16<<20 + 3*16<<20

// TestDiskUse writes E2E_PUTS values of 16 to 128 bytes over ten thousand keys and
// samples what the members take on the disk, which must level off; then a member
// is killed and must serve again within two seconds. A million puts take about a
// minute, so that it runs only when asked for.
func TestDiskUse(t *testing.T) {
	if os.Getenv("E2E_PUTS") == "" {
		t.Skip("E2E_PUTS is not set")
	}
	puts := int64(envInt(t, "E2E_PUTS", 0))
	c := newCluster(t, quorate, 3)
	p := startPuts(t, c, puts)
	samples := int64(20)
	most := make([]diskUse, len(c.members))
	for n := int64(1); n <= samples; n++ {
		goal := puts * n / samples
		eventually(t, 10*time.Minute, fmt.Sprintf("%d puts", goal), func() error {
			for i, m := range c.members {
				d := measureDisk(t, m)
				most[i].log = max(most[i].log, d.log)
			}
			if done := p.done.Load(); done < goal {
				return fmt.Errorf("%d are done", done)
			}
			return nil
		})
		line := fmt.Sprintf("%9d puts, %4.0f s:", goal, time.Since(p.begun).Seconds())
		for _, m := range c.members {
			d := measureDisk(t, m)
			live := mustMetrics(t, m)["quorate_log_live_bytes"]
			rss, _ := residentBytes(m.proc)
			line += fmt.Sprintf("  log %3d (live %3.0f) images %d kv %3d rss %3d", d.log>>20, live/(1<<20), d.images>>20, d.kv>>20, rss>>20)
		}
		t.Log(line + " MiB")
	}
	p.wg.Wait()
	for i, m := range c.members {
		t.Logf("%s: the log took %d MiB at most", m.name, most[i].log>>20)
		if most[i].log > logBytesMax {
			t.Errorf("%s: the log took %d bytes, the limit is %d", m.name, most[i].log, logBytesMax)
		}
	}
	t.Logf("%d puts failed", p.failed.Load())
	c.timeRestart(t, c.follower(t), 2*time.Second)
	c.hashesEqual(t)
}

// puts is a load of a certain number of puts, with the history compacted now and
// then.
type puts struct {
	begun        time.Time
	wg           sync.WaitGroup
	done, failed atomic.Int64
}

// compactEvery is the number of puts after which the history is compacted.
const compactEvery = 200_000

func startPuts(t testing.TB, c *cluster, n int64) *puts {
	p := &puts{begun: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); p.wg.Wait() })
	const clients, connections = 256, 12
	var conns []*clientv3.Client
	for i := range connections {
		conns = append(conns, newClient(t, c.members[i%len(c.members)].endpoint()))
	}
	var next atomic.Int64
	value := make([]byte, 128)
	for i := range value {
		value[i] = byte('a' + i%26)
	}
	for i := range clients {
		p.wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for ctx.Err() == nil && next.Add(1) <= n {
				resp, err := conns[i%connections].Put(ctx, fmt.Sprintf("key/%04d", random.IntN(10_000)), string(value[:16+random.IntN(113)]))
				if err != nil {
					p.failed.Add(1)
				}
				if p.done.Add(1)%compactEvery == 0 && err == nil {
					_, _ = conns[i%connections].Compact(ctx, resp.Header.Revision-10_000)
				}
			}
		})
	}
	return p
}

// timeRestart kills a member, starts it again, and takes the time until it says
// that it is ready.
func (c *cluster) timeRestart(t testing.TB, m *member, limit time.Duration) {
	t.Helper()
	m.proc.kill()
	from := time.Now()
	m.start(t)
	eventually(t, 30*time.Second, m.name+" is ready", func() error {
		resp, err := http.Get(m.clientURL + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz: %s", resp.Status)
		}
		return nil
	})
	took := time.Since(from)
	t.Logf("killed and started again, %s was ready after %v", m.name, took.Round(time.Millisecond))
	if took > limit {
		t.Errorf("%s was ready after %v, the limit is %v", m.name, took, limit)
	}
}
