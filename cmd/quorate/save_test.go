package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// "FILE is there whole or not at all": what is no endpoint saves nothing, and a
// backup that was there stays.
func TestSaveWithoutEndpoints(t *testing.T) {
	file := filepath.Join(t.TempDir(), "backup.db")
	if err := os.WriteFile(file, []byte("a good backup"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, endpoints := range []string{"", ",", "127.0.0.1:1,", "unix:///socket", "http://", "127.0.0.1", "127.0.0.1:"} {
		if said := runs(t, exitUsage, "snapshot", "save", file, "--endpoints", endpoints); !strings.Contains(said, "--endpoints") {
			t.Errorf("--endpoints %q: it says %q", endpoints, said)
		}
	}
	runs(t, exitFailed, "snapshot", "save", file, "--endpoints", "127.0.0.1:1,http://127.0.0.1:1/", "--dial-timeout", "1s")
	if b, err := os.ReadFile(file); err != nil || string(b) != "a good backup" {
		t.Errorf("the backup that was there is %q, %v", b, err)
	}
	if left, _ := filepath.Glob(file + "?*"); len(left) > 0 {
		t.Errorf("it has left %v", left)
	}
}
