package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// restoreArgs restore file for a cluster of one.
func restoreArgs(file, dir string, more ...string) []string {
	return append([]string{"snapshot", "restore", file, "--name", "a", "--data-dir", dir,
		"--initial-cluster", "a=http://127.0.0.1:1", "--initial-advertise-peer-urls", "http://127.0.0.1:1"}, more...)
}

// saved writes a backup to a file.
func saved(t *testing.T, dir string, backup []byte) (file string) {
	t.Helper()
	file = filepath.Join(dir, "backup.db")
	if err := os.WriteFile(file, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// "The directory must not exist, or be empty, as a mount point is": it is filled
// where it is, and nothing beside it is touched.
func TestRestoreInPlace(t *testing.T) {
	base := t.TempDir()
	file := saved(t, base, aBackup(t, 20))
	for _, name := range []string{"new/", "there", "there-too/"} {
		dir := filepath.Join(base, name)
		beside := dir + ".restoring"
		if err := os.MkdirAll(beside, 0o700); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(name, "new") {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		before, _ := os.Stat(dir)
		runs(t, 0, restoreArgs(file, base+"/"+name)...)
		after, err := os.Stat(dir)
		if err != nil || before != nil && !os.SameFile(before, after) {
			t.Errorf("%s: the directory is another one: %v", name, err)
		}
		if _, err := os.Stat(beside); err != nil {
			t.Errorf("%s: what was beside it is gone: %v", name, err)
		}
		runs(t, 0, "check", dir)
		if said := runs(t, exitStart, restoreArgs(file, dir)...); !strings.Contains(said, "is not empty") {
			t.Errorf("%s, again: it says %q", name, said)
		}
	}
	// What is refused leaves the directory that was there, empty.
	empty := filepath.Join(base, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	runs(t, exitFailed, restoreArgs(saved(t, base, []byte("no backup")), empty)...)
	if names, err := os.ReadDir(empty); err != nil || len(names) > 0 {
		t.Errorf("a refused restore left %v, %v", names, err)
	}
}

// "Members that were restored from different backups refuse one another": the
// majority goes on, and who does not belong says why.
func TestRestoreFromDifferentBackups(t *testing.T) {
	dir := t.TempDir()
	names, p := []string{"a", "b", "c"}, freePorts(t, 6)
	var clusters [3]string
	for i, keys := range []int{20, 20, 30} {
		args := serveArgs(dir, i, names, p[:3], p[3:])
		said := runs(t, 0, "snapshot", "restore", saved(t, dir, aBackup(t, keys)), "--name", names[i], "--data-dir", filepath.Join(dir, names[i]),
			"--initial-cluster", args[6], "--initial-advertise-peer-urls", "http://127.0.0.1:"+p[3+i])
		first, _, _ := strings.Cut(said, "\n")
		clusters[i] = first[strings.LastIndex(first, " ")+1:]
	}
	if clusters[0] != clusters[1] || clusters[1] == clusters[2] {
		t.Fatalf("clusters %v", clusters)
	}
	var all [3]*command
	for i := range all {
		all[i] = start(t, append(serveArgs(dir, i, names, p[:3], p[3:]), "--log-level", "warn")...)
	}
	put(t, all[0], p[0], "new", "x")
	if got := get(t, all[1], p[1], "new"); got != "x" {
		t.Errorf("member b has %q", got)
	}
	logs(t, filepath.Join(dir, "c.log"), "belongs to cluster "+clusters[0]+", this host to "+clusters[2])
	for i := range all {
		if code := all[i].stop(); code != 0 {
			t.Errorf("member %s: exit code %d:\n%s", names[i], code, &all[i].err)
		}
	}
}

// logs waits until the log in a file has text.
func logs(t *testing.T, file, text string) {
	t.Helper()
	tick, deadline := time.NewTicker(10*time.Millisecond), time.After(within)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(file)
		if strings.Contains(string(b), text) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s has no %q, but: %v\n%s", file, text, err, b)
		}
	}
}

func TestRestoreUsage(t *testing.T) {
	dir := t.TempDir()
	file := saved(t, dir, aBackup(t, 3))
	if said := runs(t, exitUsage, restoreArgs(file, filepath.Join(dir, "a"), "--wal-dir", "/elsewhere")...); !strings.Contains(said, "DATA-DIR/wal") {
		t.Errorf("it says %q", said)
	}
	for _, flags := range [][]string{{"--bump-revision", "5"}, {"--mark-compacted"}, {"--bump-revision=-5", "--mark-compacted"}, {"--bump-revision", "x"}} {
		if said := runs(t, exitUsage, restoreArgs(file, filepath.Join(dir, "a"), flags...)...); !strings.Contains(said, "bump-revision") {
			t.Errorf("%v: it says %q", flags, said)
		}
	}
}

// "--bump-revision: by how much to raise the revision, so that clients which saw
// later ones than the backup's do not meet them again."
func TestRestoreBumped(t *testing.T) {
	dir := t.TempDir()
	file := saved(t, dir, aBackup(t, 20)) // at revision 41
	p := freePorts(t, 2)
	args := serveArgs(dir, 0, []string{"a"}, p[:1], p[1:])
	said := runs(t, 0, "snapshot", "restore", file, "--name", "a", "--data-dir", filepath.Join(dir, "a"), "--bump-revision", "1000", "--mark-compacted",
		"--initial-cluster", args[6], "--initial-advertise-peer-urls", "http://127.0.0.1:"+p[1])
	if field(t, said, "revision") != "1041" || field(t, said, "compacted") != "1041" {
		t.Errorf("restored:\n%s", said)
	}
	c := start(t, args...)
	put(t, c, p[0], "new", "x")
	resp, err := kvAt(t, p[0]).Range(t.Context(), &pb.RangeRequest{Key: []byte("new")})
	if err != nil || resp.Header.Revision != 1042 || resp.Kvs[0].ModRevision != 1042 {
		t.Errorf("%v, %v", resp, err)
	}
	if _, err := kvAt(t, p[0]).Range(t.Context(), &pb.RangeRequest{Key: []byte("key 3"), Revision: 41}); err == nil || !strings.Contains(err.Error(), "compacted") {
		t.Errorf("at an old revision: %v", err)
	}
	if got := get(t, c, p[0], "key 3"); got != "value 23" {
		t.Errorf("key 3 is %q", got)
	}
	again := filepath.Join(dir, "again.db")
	runs(t, 0, "snapshot", "save", again, "--endpoints", "127.0.0.1:"+p[0])
	if got := field(t, runs(t, 0, "snapshot", "status", again), "revision"); got != "1042" {
		t.Errorf("a backup of it is at revision %s", got)
	}
	if code := c.stop(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, &c.err)
	}
}
