package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// "With --write-out it says so as etcdutl does."
func TestStatusForms(t *testing.T) {
	file := saved(t, t.TempDir(), aBackup(t, 20))
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	digest := field(t, runs(t, 0, "snapshot", "status", file), "digest")
	var hash uint32
	if _, err := fmt.Sscanf(digest[:8], "%x", &hash); err != nil {
		t.Fatal(err)
	}
	for form, want := range map[string]string{
		"simple": fmt.Sprintf("%x, 41, 20, %s\n", hash, size(info.Size())),
		"fields": fmt.Sprintf("\"Hash\" : %d\n\"Revision\" : 41\n\"Keys\" : 20\n\"Size\" : %d\n", hash, info.Size()),
		"json":   fmt.Sprintf(`{"hash":%d,"revision":41,"totalKey":20,"totalSize":%d,"digest":"%s","compacted":0,"index":40}`+"\n", hash, info.Size(), digest),
	} {
		got := runs(t, 0, "snapshot", "status", file, "-w", form)
		if got != want || form == "json" && !json.Valid([]byte(got)) {
			t.Errorf("%s: %q, want %q", form, got, want)
		}
	}
	table := runs(t, 0, "snapshot", "status", file, "--write-out=table")
	for _, want := range []string{"HASH | REVISION | TOTAL KEYS | TOTAL SIZE |", fmt.Sprintf("| %8x |       41 |         20 |", hash)} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in:\n%s", want, table)
		}
	}
	for n, line := range strings.Split(strings.TrimSpace(table), "\n") {
		if len(line) != strings.Index(table, "\n") {
			t.Errorf("line %d is ragged:\n%s", n, table)
		}
	}
	runs(t, exitUsage, "snapshot", "status", file, "-w", "protobuf")
	for bytes, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 20480: "20.5 kB", 1_500_000: "1.5 MB", 2e9: "2 GB"} {
		if got := size(bytes); got != want {
			t.Errorf("%d bytes: %q, want %q", bytes, got, want)
		}
	}
}

// "--skip-hash-check: take a file without the SHA-256 at its end", whose blocks and
// keys are verified in any case.
func TestSkipHashCheck(t *testing.T) {
	dir := t.TempDir()
	backup := aBackup(t, 20)
	image := saved(t, dir, backup[:len(backup)-32])
	if said := runs(t, 0, "snapshot", "status", image, "--skip-hash-check"); field(t, said, "keys") != "20" {
		t.Errorf("it says %q", said)
	}
	runs(t, 0, restoreArgs(image, filepath.Join(dir, "a"), "--skip-hash-check")...)
	backup[len(backup)/2] ^= 1
	runs(t, exitFailed, restoreArgs(saved(t, dir, backup), filepath.Join(dir, "b"), "--skip-hash-check")...)
}
