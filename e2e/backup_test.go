package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A backup that is taken under load by quorate and, when the load is over, by
// quorate and by etcdctl; then a new cluster of three of it, whose every key,
// revision and hash is what it was, also in its history; and damaged files, which
// are refused with what is wrong.
//
// "restore is run for each member of the new cluster with the same file; every
// key, revision and the digest are what they were." (docs/snapshots.md)
//
// E2E_BACKUP_MIB is the size of the state, by default 8.
func TestBackup(t *testing.T) {
	c := newCluster(t, quorate, 3)
	dir := workDir(t)
	fillState(t, c.leader(t), envInt(t, "E2E_BACKUP_MIB", 8)<<20)
	old := c.writeHistory(t)
	c.saveUnderLoad(t, filepath.Join(dir, "under-load.db"))

	ours, theirs := filepath.Join(dir, "ours.db"), filepath.Join(dir, "theirs.db")
	begun := time.Now()
	saved := tool(t, binaries.subject, "snapshot", "save", ours, "--endpoints", c.members[1].endpoint())
	t.Logf("saved in %v:\n%s", time.Since(begun).Round(time.Millisecond), saved)
	tool(t, binaries.etcdctl, "--endpoints", c.members[2].endpoint(), "--command-timeout", "2m", "snapshot", "save", theirs)
	begun = time.Now()
	status := tool(t, binaries.subject, "snapshot", "status", ours)
	t.Logf("verified in %v", time.Since(begun).Round(time.Millisecond))
	if !strings.Contains(saved, status) || tool(t, binaries.subject, "snapshot", "status", theirs) != status {
		t.Errorf("saved:\n%s\nstatus:\n%s\nof etcdctl's:\n%s", saved, status, tool(t, binaries.subject, "snapshot", "status", theirs))
	}
	want := takeContents(t, c.members[0], old)
	for _, m := range c.members {
		m.proc.kill()
	}
	refusesDamaged(t, dir, theirs)

	restored := prepareCluster(t, quorate, 3)
	for i, m := range restored.members {
		begun := time.Now()
		restored.restore(t, m, []string{ours, theirs}[i%2])
		t.Logf("restored %s in %v", m.name, time.Since(begun).Round(time.Millisecond))
	}
	for _, m := range restored.members {
		m.start(t)
	}
	for _, m := range restored.members {
		restored.awaitReady(t, m, 30*time.Second)
		want.compare(t, m, takeContents(t, m, old))
	}
	o := startOverwriter(t, restored.endpoints(), "the new cluster goes on")
	o.awaitMore(t, 500)
	restored.members[1].proc.kill()
	restored.members[1].start(t)
	restored.awaitReady(t, restored.members[1], 30*time.Second)
	o.awaitMore(t, 500)
	o.end()
	o.verify(t, restored)
	restored.hashesEqual(t)
}

// tool runs a program that must end with status 0.
func tool(t testing.TB, build func() (string, error), args ...string) string {
	t.Helper()
	stdout, stderr, err := runTool(5*time.Minute, "", mustBinary(t, build), args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", args, err, stdout, stderr)
	}
	return stdout
}

// writeHistory writes keys over and over, and deletes some. It returns a revision
// in the middle of that.
func (c *cluster) writeHistory(t testing.TB) (middle int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := newClient(t, c.endpoints()...)
	for n := range 300 {
		key := fmt.Sprintf("history/%02d", n%40)
		if n%7 == 3 {
			if _, err := client.Delete(ctx, key); err != nil {
				t.Fatal(err)
			}
			continue
		}
		resp, err := client.Put(ctx, key, fmt.Sprint("value ", n))
		if err != nil {
			t.Fatal(err)
		}
		if n < 150 {
			middle = resp.Header.Revision
		}
	}
	return middle
}

// saveUnderLoad takes a backup while clients write, and shows what that costs.
func (c *cluster) saveUnderLoad(t testing.TB, file string) {
	t.Helper()
	leader := c.leader(t)
	o := startOverwriter(t, c.endpoints(), strings.Repeat("o", 128))
	o.awaitMore(t, 1000)
	o.phase.Store(1)
	o.awaitMore(t, 5000)
	before, _ := residentBytes(leader.proc)
	heapBefore := mustMetrics(t, leader)["go_memstats_heap_inuse_bytes"]
	o.phase.Store(2)
	begun := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tool(t, binaries.subject, "snapshot", "save", file, "--endpoints", leader.endpoint())
	}()
	var resident int64
	var heap float64
	eventually(t, 5*time.Minute, "the backup is saved", func() error {
		now, _ := residentBytes(leader.proc)
		resident = max(resident, now)
		if figures, err := metrics(leader); err == nil {
			heap = max(heap, figures["go_memstats_heap_inuse_bytes"])
		}
		select {
		case <-done:
			return nil
		default:
			return errNotYet
		}
	})
	took := time.Since(begun)
	o.phase.Store(3)
	o.end()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("under load: %.1f MB saved of the leader in %v; its memory %d MiB before and %d meanwhile, heap %d and %d",
		float64(info.Size())/1e6, took.Round(time.Millisecond), before>>20, resident>>20, int64(heapBefore)>>20, int64(heap)>>20)
	t.Logf("before    %s", o.times(1))
	t.Logf("meanwhile %s", o.times(2))
	tool(t, binaries.subject, "snapshot", "status", file)
}

// restore makes the member's data directory of a backup.
func (c *cluster) restore(t testing.TB, m *member, file string) {
	t.Helper()
	args := []string{"snapshot", "restore", file}
	for i := 1; i+1 < len(m.args); i += 2 {
		switch m.args[i] {
		case "--name", "--data-dir", "--initial-cluster", "--initial-cluster-token", "--initial-advertise-peer-urls":
			args = append(args, m.args[i], m.args[i+1])
		}
	}
	tool(t, binaries.subject, args...)
}

// contents are what a backup must bring back.
type contents struct {
	now, old []keyHash // all keys, now and at an old revision
	revision int64
	hash     uint32
}

// keyHash is a key, and a hash of it with its value, revisions, version and lease.
type keyHash struct {
	key string
	sum [sha256.Size]byte
}

func takeContents(t testing.TB, m *member, old int64) (all contents) {
	t.Helper()
	kv := pb.NewKVClient(dial(t, m.endpoint()))
	all.now, all.revision = everything(t, kv, 0)
	all.old, _ = everything(t, kv, old)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	resp, err := pb.NewMaintenanceClient(dial(t, m.endpoint())).HashKV(ctx, &pb.HashKVRequest{Revision: all.revision})
	if err != nil {
		t.Fatal(err)
	}
	all.hash = resp.Hash
	return all
}

// everything reads all keys by pages, at a revision or as they are now.
func everything(t testing.TB, kv pb.KVClient, revision int64) (all []keyHash, at int64) {
	t.Helper()
	req := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Limit: 10000, Revision: revision}
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		resp, err := kv.Range(ctx, req)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if req.Revision == 0 {
			req.Revision = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(kv)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, keyHash{string(kv.Key), sha256.Sum256(b)})
		}
		if !resp.More {
			return all, req.Revision
		}
		req.Key = []byte(all[len(all)-1].key + "\x00")
	}
}

func (want contents) compare(t testing.TB, m *member, got contents) {
	t.Helper()
	if got.revision != want.revision || got.hash != want.hash {
		t.Errorf("%s: revision %d and hash %d, it was %d and %d", m.name, got.revision, got.hash, want.revision, want.hash)
	}
	for name, both := range map[string][2][]keyHash{"now": {want.now, got.now}, "at the old revision": {want.old, got.old}} {
		if len(both[0]) < 30 || len(both[0]) != len(both[1]) {
			t.Errorf("%s, %s: %d keys, there were %d", m.name, name, len(both[1]), len(both[0]))
			continue
		}
		for i, kv := range both[0] {
			if got := both[1][i]; got != kv {
				t.Errorf("%s, %s: the key %q is there with hash %x, it was %q with %x", m.name, name, got.key, got.sum[:4], kv.key, kv.sum[:4])
				break
			}
		}
	}
}

// refusesDamaged gives status and restore files that are no whole backup: they
// must say what is wrong, and leave nothing behind.
func refusesDamaged(t testing.TB, dir, file string) {
	t.Helper()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	altered := bytes.Clone(whole)
	altered[len(altered)/3] ^= 0x10
	for name, c := range map[string]struct {
		bytes []byte
		says  string
	}{
		"truncated":           {whole[:len(whole)/2], "it ends after"},
		"truncated by a byte": {whole[:len(whole)-1], "SHA-256"},
		"altered":             {altered, "checksum does not match"},
		"of nothing":          {nil, "it ends after 0 bytes"},
	} {
		bad, into := filepath.Join(dir, "bad.db"), filepath.Join(dir, "into")
		if err := os.WriteFile(bad, c.bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"snapshot", "status", bad},
			{"snapshot", "restore", bad, "--name", "a", "--data-dir", into, "--initial-cluster", "a=http://127.0.0.1:1", "--initial-advertise-peer-urls", "http://127.0.0.1:1"},
		} {
			_, said, err := runTool(time.Minute, "", mustBinary(t, binaries.subject), args...)
			if err == nil || !strings.Contains(said, c.says) {
				t.Errorf("a backup %s: %s: error %v, it says %q and not %q", name, args[1], err, said, c.says)
			}
		}
		if left, _ := filepath.Glob(into + "*"); len(left) > 0 {
			t.Errorf("a backup %s: the restore has left %v", name, left)
		}
	}
}
