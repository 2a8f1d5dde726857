package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
