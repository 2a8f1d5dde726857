package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// write is a put that the cluster has acknowledged.
type write struct {
	key, value string
	revision   int64
	at         time.Time // when the acknowledgement came
}

// load writes from many clients until it is stopped. Every write has a key and
// a value of its own, so that one that is lost cannot hide behind another.
type load struct {
	stop    context.CancelFunc
	wg      sync.WaitGroup
	acked   atomic.Int64
	unknown atomic.Int64 // ended with an error: may have happened or not

	mu     sync.Mutex
	writes []write
}

const (
	loadClients  = 64
	writeTimeout = 2 * time.Second
	probeEvery   = 10 * time.Millisecond
)

// startLoad starts 64 clients that each have one write in flight, and a probe
// that starts a write every 10 ms whatever became of the ones before: clients
// that wait for a lost answer would hide that others are served again.
func startLoad(t testing.TB, endpoints []string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	t.Cleanup(func() { cancel(); l.wg.Wait() })
	for i := range loadClients {
		// Each begins at another member.
		client := newClient(t, rotate(endpoints, i)...)
		l.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.write(ctx, client, fmt.Sprintf("load/%02d/%07d", i, n))
			}
		})
	}
	probe := newClient(t, endpoints...)
	l.wg.Go(func() {
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.wg.Go(func() { l.write(ctx, probe, fmt.Sprintf("load/probe/%07d", n)) })
			}
		}
	})
	return l
}

func rotate(all []string, n int) []string {
	n %= len(all)
	return append(append([]string{}, all[n:]...), all[:n]...)
}

func (l *load) write(ctx context.Context, client *clientv3.Client, key string) {
	// Not below ctx: the end of the load must not cut writes off half way.
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	value := fmt.Sprintf("value of %s %d", key, time.Now().UnixNano())
	resp, err := client.Put(wctx, key, value)
	if err != nil {
		l.unknown.Add(1)
		return
	}
	w := write{key: key, value: value, revision: resp.Header.Revision, at: time.Now()}
	l.mu.Lock()
	l.writes = append(l.writes, w)
	l.mu.Unlock()
	l.acked.Add(1)
}

// end stops the load and returns what was acknowledged, in that order.
func (l *load) end() []write {
	l.stop()
	l.wg.Wait()
	slices.SortFunc(l.writes, func(a, b write) int { return a.at.Compare(b.at) })
	return l.writes
}

// longestGap is the longest time without an acknowledgement that ends within
// [from, to]: each gap counts for one kill.
func longestGap(writes []write, from, to time.Time) time.Duration {
	var longest time.Duration
	for i := 1; i < len(writes); i++ {
		if !writes[i].at.Before(from) && !writes[i].at.After(to) {
			longest = max(longest, writes[i].at.Sub(writes[i-1].at))
		}
	}
	return longest
}

// kill is one SIGKILL under load.
type kill struct {
	victim    string
	leader    bool
	at, until time.Time
}

// runFailover kills the leader and then every other member, each after the
// one before has come back, while 64 clients write. It then asks every member
// for every acknowledged write.
func runFailover(t *testing.T, f flavour) {
	c := newCluster(t, f, 3)
	begin := time.Now()
	l := startLoad(t, c.endpoints())
	l.awaitMore(t, c, 2000)

	leader := c.leader(t)
	victims := []*member{leader}
	for _, m := range c.members {
		if m != leader {
			victims = append(victims, m)
		}
	}
	if short() {
		victims = victims[:1]
	}
	var kills []kill
	for _, m := range victims {
		k := kill{victim: m.name, leader: m == c.leader(t), at: time.Now()}
		m.proc.kill()
		l.awaitMore(t, c, 500) // without it
		m.start(t)
		c.awaitReady(t, m, 30*time.Second)
		l.awaitMore(t, c, 500) // with it
		k.until = time.Now()
		kills = append(kills, k)
	}
	writes := l.end()
	took := time.Since(begin)
	for _, k := range kills {
		role := "follower"
		if k.leader {
			role = "leader"
		}
		gap := longestGap(writes, k.at, k.until)
		f.checkGap(t, role+" "+k.victim+" killed", gap)
	}
	t.Logf("%s: %d writes acknowledged in %v, %d with an error", f.name, len(writes), took.Round(time.Millisecond), l.unknown.Load())
	c.verifyWrites(t, writes)
	c.verifyHashes(t, writes)

	// All at once, and all come back.
	for _, m := range c.members {
		m.proc.kill()
	}
	for _, m := range c.members {
		m.start(t)
	}
	for _, m := range c.members {
		c.awaitReady(t, m, 30*time.Second)
	}
	c.verifyWrites(t, writes)
	c.verifyHashes(t, writes)
}

// checkGap says how long nobody was served, and holds it to f's bound.
func (f *flavour) checkGap(t testing.TB, event string, gap time.Duration) {
	t.Helper()
	t.Logf("%s: %s: longest gap between acknowledged writes %v", f.name, event, gap.Round(time.Millisecond))
	if f.gapMax != 0 && gap >= f.gapMax {
		t.Errorf("%s: %s: no write was acknowledged for %v, want less than %v", f.name, event, gap, f.gapMax)
	}
}

// awaitMore waits until n more writes are acknowledged.
func (l *load) awaitMore(t testing.TB, c *cluster, n int64) {
	t.Helper()
	goal := l.acked.Load() + n
	eventually(t, 30*time.Second, fmt.Sprintf("%d more writes acknowledged", n), func() error {
		for _, m := range c.members {
			if m.proc.exited() && !m.proc.stopped {
				t.Fatalf("%s has exited by itself: %v\n%s", m.name, m.proc.err, tail(m.proc.output(), 20))
			}
		}
		if have := l.acked.Load(); have < goal {
			return fmt.Errorf("%d are missing", goal-have)
		}
		return nil
	})
}

// verifyWrites reads everything from each member and looks for every
// acknowledged write, with the revision that was promised.
func (c *cluster) verifyWrites(t testing.TB, writes []write) {
	t.Helper()
	for _, m := range c.members {
		found := readAll(t, m)
		missing := 0
		for _, w := range writes {
			got, ok := found[w.key]
			if ok && got.value == w.value && got.revision == w.revision {
				continue
			}
			if missing++; missing <= 5 {
				t.Errorf("%s %s: acknowledged write of %s at revision %d: found %v, value %q at revision %d",
					c.flavour.name, m.name, w.key, w.revision, ok, got.value, got.revision)
			}
		}
		if missing > 0 {
			t.Errorf("%s %s: %d of %d acknowledged writes are lost or changed", c.flavour.name, m.name, missing, len(writes))
		}
	}
}

// readAll reads the whole load.
func readAll(t testing.TB, m *member) map[string]write {
	t.Helper()
	return readRange(t, m, "load/", "load0")
}

// readRange reads a range by pages, through a linearizable first page and at its
// revision from there on.
func readRange(t testing.TB, m *member, from, to string) map[string]write {
	t.Helper()
	kv := pb.NewKVClient(dial(t, m.endpoint()))
	found := map[string]write{}
	req := &pb.RangeRequest{Key: b(from), RangeEnd: b(to), Limit: 10000}
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		resp, err := kv.Range(ctx, req)
		cancel()
		if err != nil {
			t.Fatalf("%s: reading everything back: %v", m.name, err)
		}
		for _, e := range resp.Kvs {
			found[string(e.Key)] = write{key: string(e.Key), value: string(e.Value), revision: e.ModRevision}
		}
		if !resp.More {
			return found
		}
		if req.Revision == 0 {
			req.Revision = resp.Header.Revision
		}
		req.Key = append(resp.Kvs[len(resp.Kvs)-1].Key, 0)
	}
}

// verifyHashes asks every member for the hash of the state at one revision.
func (c *cluster) verifyHashes(t testing.TB, writes []write) {
	t.Helper()
	var revision int64
	for _, w := range writes {
		revision = max(revision, w.revision)
	}
	c.verifyHashesAt(t, revision)
}

// hashesEqual is verifyHashes at the revision that the cluster has come to.
func (c *cluster) hashesEqual(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	resp, err := newClient(t, c.endpoints()...).Get(ctx, "any")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range c.members {
		c.awaitReady(t, m, 30*time.Second)
	}
	c.verifyHashesAt(t, resp.Header.Revision)
}

func (c *cluster) verifyHashesAt(t testing.TB, revision int64) {
	t.Helper()
	var first *pb.HashKVResponse
	for _, m := range c.members {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		resp, err := pb.NewMaintenanceClient(dial(t, m.endpoint())).HashKV(ctx, &pb.HashKVRequest{Revision: revision})
		cancel()
		if err != nil {
			t.Errorf("%s: HashKV at revision %d: %v", m.name, revision, err)
			continue
		}
		if first == nil {
			first = resp
		}
		if resp.Hash != first.Hash || resp.CompactRevision != first.CompactRevision || resp.Hash == 0 {
			t.Errorf("%s: HashKV at revision %d: %d compacted at %d, another member says %d compacted at %d",
				m.name, revision, resp.Hash, resp.CompactRevision, first.Hash, first.CompactRevision)
		}
	}
}

func TestReferenceFailover(t *testing.T) { runFailover(t, reference) }
func TestFailover(t *testing.T)          { runFailover(t, quorate) }

// runCleanStop ends the leader with SIGTERM, which it must survive with exit
// code 0, and finds everything after the restart.
func runCleanStop(t *testing.T, f flavour) {
	c := newCluster(t, f, 3)
	l := startLoad(t, c.endpoints())
	l.awaitMore(t, c, 500)
	m := c.leader(t)
	from := time.Now()
	if err := m.proc.signal(syscall.SIGTERM, 20*time.Second); err != nil && !(f.endsBySignal && strings.Contains(err.Error(), "signal: terminated")) {
		t.Errorf("%s: SIGTERM: %v\n%s", f.name, err, tail(m.proc.output(), 15))
	}
	l.awaitMore(t, c, 500)
	m.start(t)
	c.awaitReady(t, m, 30*time.Second)
	until := time.Now()
	writes := l.end()
	f.checkGap(t, "leader stopped by SIGTERM", longestGap(writes, from, until))
	t.Logf("%s: %d writes acknowledged, %d with an error", f.name, len(writes), l.unknown.Load())
	c.verifyWrites(t, writes)
	c.verifyHashes(t, writes)
}

func TestReferenceCleanStop(t *testing.T) { runCleanStop(t, reference) }
func TestCleanStop(t *testing.T)          { runCleanStop(t, quorate) }

// runLagging lets a member miss many writes and then come back.
func runLagging(t *testing.T, f flavour) {
	c := newCluster(t, f, 3)
	m := c.follower(t)
	m.proc.kill()
	l := startLoad(t, c.endpoints())
	missed := int64(20000)
	if short() {
		missed = 3000
	}
	goal := l.acked.Load() + missed
	eventually(t, 60*time.Second, "writes that one member misses", func() error {
		if l.acked.Load() < goal {
			return errNotYet
		}
		return nil
	})
	from := time.Now()
	m.start(t)
	c.awaitReady(t, m, 30*time.Second)
	t.Logf("%s: a member that missed %d writes serves after %v", f.name, missed, time.Since(from).Round(time.Millisecond))
	writes := l.end()
	c.verifyWrites(t, writes)
	c.verifyHashes(t, writes)
}

// The reference takes a snapshot early, so that it sends it to the member.
func TestReferenceLagging(t *testing.T) {
	f := referenceFast
	f.extra = append([]string{"--snapshot-count", "1000", "--snapshot-catchup-entries", "500"}, f.extra...)
	runLagging(t, f)
}

func TestLagging(t *testing.T) { runLagging(t, quorate) }

// TestReferenceFailoverSeesALostWrite proves that the check can fail.
func TestReferenceFailoverSeesALostWrite(t *testing.T) {
	c := newCluster(t, referenceFast, 1)
	client := newClient(t, c.endpoints()...)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	resp, err := client.Put(ctx, "load/1", "one")
	if err != nil {
		t.Fatal(err)
	}
	kept := write{key: "load/1", value: "one", revision: resp.Header.Revision}
	probe := &recorder{TB: t}
	c.verifyWrites(probe, []write{kept})
	if probe.errors != 0 {
		t.Errorf("a kept write was reported as lost")
	}
	for _, lost := range []write{
		{key: "load/2", value: "two", revision: resp.Header.Revision + 1},
		{key: "load/1", value: "another", revision: resp.Header.Revision},
		{key: "load/1", value: "one", revision: resp.Header.Revision + 1},
	} {
		probe := &recorder{TB: t}
		c.verifyWrites(probe, []write{kept, lost})
		if probe.errors == 0 {
			t.Errorf("the loss of %+v was not reported", lost)
		}
	}
	at := func(ms int) write { return write{at: time.Unix(0, int64(ms)*1e6)} }
	if got := longestGap([]write{at(0), at(10), at(300), at(310), at(900)}, at(15).at, at(400).at); got != 290*time.Millisecond {
		t.Errorf("longest gap %v, want 290 ms", got)
	}
}

// recorder counts errors instead of failing the test.
type recorder struct {
	testing.TB
	errors int
}

func (r *recorder) Errorf(string, ...any) { r.errors++ }
