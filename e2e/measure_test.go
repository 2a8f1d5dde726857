package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// metrics are the figures without labels that a member shows.
func metrics(m *member) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.clientURL+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	found := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(text, 64); err == nil {
			found[name] = v
		}
	}
	return found, lines.Err()
}

// mustMetrics waits until the member shows them.
func mustMetrics(t testing.TB, m *member) (found map[string]float64) {
	t.Helper()
	eventually(t, 20*time.Second, m.name+" shows its metrics", func() (err error) {
		found, err = metrics(m)
		return err
	})
	return found
}

// diskUse is what a member's directory takes on the disk, in bytes, as du counts.
type diskUse struct{ log, images, kv, other int64 }

// measureDisk counts the blocks of all files. One that is removed meanwhile is
// not there any more.
func measureDisk(t testing.TB, m *member) (d diskUse) {
	t.Helper()
	err := filepath.WalkDir(m.dataDir, func(path string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		bytes := info.Size()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes = st.Blocks * 512
		}
		switch rel := strings.TrimPrefix(path, m.dataDir); {
		case strings.HasSuffix(path, ".wal"):
			d.log += bytes
		case strings.Contains(rel, "snapshots"):
			d.images += bytes
		case strings.HasPrefix(rel, string(filepath.Separator)+"kv"):
			d.kv += bytes
		default:
			d.other += bytes
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// residentBytes is what the process has in memory, now and at most, zero where
// that cannot be read.
func residentBytes(p *process) (now, peak int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			now = n << 10
		case "VmHWM:":
			peak = n << 10
		}
	}
	return now, peak
}

// overwriter is a load that writes the same keys over and over, so that the state
// does not grow by it, and takes the time of every write.
type overwriter struct {
	stop  context.CancelFunc
	wg    sync.WaitGroup
	phase atomic.Int32
	acked atomic.Int64

	mu      sync.Mutex
	took    [4][]time.Duration // by the phase in which the write ended
	refused [4]int
	newest  map[string]int64 // the revision of the newest acknowledged write of each key
}

const (
	overwriteClients = 32
	overwriteKeys    = 100 // of each client
)

func startOverwriter(t testing.TB, endpoints []string, value string) *overwriter {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	o := &overwriter{stop: cancel, newest: map[string]int64{}}
	t.Cleanup(o.end)
	for i := range overwriteClients {
		client := newClient(t, rotate(endpoints, i)...)
		o.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				o.write(ctx, client, fmt.Sprintf("over/%02d/%03d", i, n%overwriteKeys), value)
			}
		})
	}
	return o
}

func (o *overwriter) write(ctx context.Context, client *clientv3.Client, key, value string) {
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	begun := time.Now()
	resp, err := client.Put(wctx, key, value)
	took, phase := time.Since(begun), o.phase.Load()
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.refused[phase]++
		return
	}
	o.acked.Add(1)
	o.took[phase] = append(o.took[phase], took)
	o.newest[key] = resp.Header.Revision
}

func (o *overwriter) end() {
	o.stop()
	o.wg.Wait()
}

// awaitMore waits until n more writes are acknowledged.
func (o *overwriter) awaitMore(t testing.TB, n int64) {
	t.Helper()
	goal := o.acked.Load() + n
	eventually(t, time.Minute, fmt.Sprintf("%d more writes acknowledged", n), func() error {
		if have := o.acked.Load(); have < goal {
			return fmt.Errorf("%d are missing", goal-have)
		}
		return nil
	})
}

// times describes the writes of a phase.
func (o *overwriter) times(phase int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	took := slices.Clone(o.took[phase])
	if len(took) == 0 {
		return "no writes"
	}
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))].Round(10 * time.Microsecond) }
	return fmt.Sprintf("%d writes, p50 %v, p99 %v, longest %v; %d with an error", len(took), at(0.5), at(0.99), at(1), o.refused[phase])
}

// verify asks each member for the acknowledged writes: a key must be as new as
// the newest write of it that was acknowledged.
func (o *overwriter) verify(t testing.TB, c *cluster) {
	t.Helper()
	for _, m := range c.members {
		found := readRange(t, m, "over/", "over0")
		missing := 0
		for key, revision := range o.newest {
			if got := found[key]; got.revision < revision {
				if missing++; missing <= 3 {
					t.Errorf("%s: %s is of revision %d, a write at %d was acknowledged", m.name, key, got.revision, revision)
				}
			}
		}
		if missing > 0 {
			t.Errorf("%s: acknowledged writes of %d keys are lost", m.name, missing)
		}
	}
}

// envInt is a setting, or its default.
func envInt(t testing.TB, name string, def int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is not a positive number", name, text)
	}
	return n
}
