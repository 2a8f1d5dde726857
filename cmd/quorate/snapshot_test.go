package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runs runs a command to its end.
func runs(t *testing.T, code int, args ...string) string {
	t.Helper()
	c := start(t, args...)
	if got := c.end(); got != code {
		t.Fatalf("quorate %v: exit code %d, want %d:\n%s%s", args, got, code, &c.out, &c.err)
	}
	return c.out.String() + c.err.String()
}

// field is the value of a line that describe has printed.
func field(t *testing.T, text, name string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, " "); ok && k == name {
			return strings.TrimSpace(v)
		}
	}
	t.Fatalf("no %s in:\n%s", name, text)
	return ""
}

// "A backup is one command and a restore another": every key, revision and the
// digest are what they were, in a new cluster of three.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	p := freePorts(t, 6)
	c := start(t, "dev", "--temp", "--client-ports", strings.Join(p[:3], ","), "--peer-ports", strings.Join(p[3:], ","))
	for i := range 40 {
		put(t, c, p[i%3], fmt.Sprintf("key %d", i%30), "value") // some twice
	}
	file := filepath.Join(dir, "backup.db")
	saved := runs(t, 0, "snapshot", "save", file, "--endpoints", "127.0.0.1:1,127.0.0.1:"+p[1], "--dial-timeout", "2s")
	if code := c.stop(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, &c.err)
	}
	if field(t, saved, "keys") != "30" || field(t, saved, "revision") != "41" {
		t.Errorf("saved:\n%s", saved)
	}
	for _, f := range []string{"digest", "revision", "keys", "size", "index"} {
		if a, b := field(t, saved, f), field(t, runs(t, 0, "snapshot", "status", file), f); a != b {
			t.Errorf("%s: save says %s, status %s", f, a, b)
		}
	}
	refusesDamage(t, dir, file)

	names := []string{"a", "b", "c"}
	p = freePorts(t, 6)
	all := make([]*command, 3)
	for i := range names {
		args := serveArgs(dir, i, names, p[:3], p[3:])
		restored := runs(t, 0, "snapshot", "restore", file, "--name", names[i], "--data-dir", filepath.Join(dir, names[i]),
			"--initial-cluster", args[6], "--initial-advertise-peer-urls", "http://127.0.0.1:"+p[3+i])
		if field(t, restored, "digest") != field(t, saved, "digest") {
			t.Errorf("restored:\n%s", restored)
		}
	}
	for i := range names {
		all[i] = start(t, serveArgs(dir, i, names, p[:3], p[3:])...)
	}
	for i := range names {
		if got := get(t, all[i], p[i], "key 29"); got != "value" {
			t.Errorf("member %s has %q", names[i], got)
		}
	}
	again := filepath.Join(dir, "again.db")
	if b := runs(t, 0, "snapshot", "save", again, "--endpoints", "127.0.0.1:"+p[2]); field(t, b, "digest") != field(t, saved, "digest") || field(t, b, "revision") != "41" {
		t.Errorf("the new cluster's state is another one:\n%s", b)
	}
	put(t, all[0], p[0], "new", "x")
	if got := get(t, all[1], p[1], "new"); got != "x" {
		t.Errorf("the new cluster does not go on: %q", got)
	}
	for i := range names {
		if code := all[i].stop(); code != 0 {
			t.Fatalf("member %s: exit code %d:\n%s", names[i], code, &all[i].err)
		}
	}
	runs(t, exitStart, "snapshot", "restore", file, "--name", "a", "--data-dir", filepath.Join(dir, "a"),
		"--initial-cluster", "a=http://127.0.0.1:1", "--initial-advertise-peer-urls", "http://127.0.0.1:1")
}

// "A truncated or altered file is refused with what is wrong", and a restore of
// it leaves nothing.
func refusesDamage(t *testing.T, dir, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	altered := append([]byte(nil), b...)
	altered[len(b)/2] ^= 1
	tail := append([]byte(nil), b...)
	tail[len(b)-1] ^= 1
	for name, c := range map[string]struct {
		b    []byte
		says string
	}{
		"cut":       {b[:len(b)-512], "it ends after"},
		"empty":     {nil, "it ends after 0 bytes"},
		"altered":   {altered, "checksum does not match"},
		"tail":      {tail, "SHA-256"},
		"no sum":    {b[:len(b)-32], "--skip-hash-check"},
		"half sum":  {b[:len(b)-16], "in the SHA-256"},
		"of etcd":   {append(make([]byte, 16), "\xed\xda\x0c\xed\x02\x00\x00\x00\x00\x10\x00\x00 and the rest of a page"...), "etcdctl make-mirror"},
		"longer":    {append(append([]byte(nil), b...), 1), "bytes after the end"},
		"something": {[]byte(strings.Repeat("something else ", 100)), "not a snapshot"},
	} {
		bad := filepath.Join(dir, "bad.db")
		if err := os.WriteFile(bad, c.b, 0o600); err != nil {
			t.Fatal(err)
		}
		if said := runs(t, exitFailed, "snapshot", "status", bad); !strings.Contains(said, c.says) {
			t.Errorf("%s: it says %q", name, said)
		}
		into := filepath.Join(dir, "nothing")
		runs(t, exitFailed, "snapshot", "restore", bad, "--name", "a", "--data-dir", into, "--initial-cluster", "a=http://127.0.0.1:1", "--initial-advertise-peer-urls", "http://127.0.0.1:1")
		if left, _ := filepath.Glob(into + "*"); len(left) > 0 {
			t.Errorf("%s: a refused restore left %v", name, left)
		}
	}
}
