package main

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// "quorate check DIR verifies ... every block and key of the snapshots", and changes
// nothing.
func TestCheckSnapshots(t *testing.T) {
	dir := t.TempDir()
	backup := aBackup(t, 50)
	member := filepath.Join(dir, "a")
	runs(t, 0, restoreArgs(saved(t, dir, backup), member)...)
	images := filepath.Join(member, "wal", "snapshots", "group-0000000000000001")
	if err := os.MkdirAll(images, 0o700); err != nil {
		t.Fatal(err)
	}
	image := backup[:len(backup)-sha256.Size]
	const name = "0000000000000064-0000000000000007" // 100 entries; aBackup's id
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(images, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(name+".snap", image)
	write("0000000000000070-0000000000000008.part", image[:512])
	write("0000000000000071-0000000000000009.new", nil)
	said := runs(t, 0, "check", member)
	for _, want := range []string{name + ": index 100, term 0, ", "50 keys at revision 101", "received in part", "was being written"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in:\n%s", want, said)
		}
	}
	if names, err := os.ReadDir(images); err != nil || len(names) != 3 {
		t.Errorf("it left %v, %v", names, err)
	}
	for what, b := range map[string][]byte{
		"altered": append(append([]byte(nil), image[:700]...), append([]byte("xxxx"), image[704:]...)...),
		"cut":     image[:len(image)-512],
		"empty":   nil,
	} {
		write(name+".snap", b)
		if said := runs(t, exitFailed, "check", member); !strings.Contains(said, name+": DAMAGED") {
			t.Errorf("%s: it says:\n%s", what, said)
		}
	}
	write(name+".snap", image)
	other := filepath.Join(filepath.Dir(images), "group-0000000000000005")
	if err := os.Rename(images, other); err != nil {
		t.Fatal(err)
	}
	if said := runs(t, exitFailed, "check", member); !strings.Contains(said, "is of group 1") {
		t.Errorf("it says:\n%s", said)
	}
}
