package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// "1 | failed while running; check: damage was found" (docs/operations.md): a bit of
// the key-value store that the disk has changed ends the member that reads it, with
// the file's name and without a panic, and check finds it.
func TestDamagedStore(t *testing.T) {
	c := newCluster(t, quorate, 1)
	m := c.members[0]
	client := newClient(t, m.endpoint())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	value := make([]byte, 64<<10)
	for i := range 40 {
		rand.Read(value)
		if _, err := client.Put(ctx, fmt.Sprintf("key %03d", i), string(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.proc.signal(syscall.SIGTERM, 20*time.Second); err != nil { // which flushes
		t.Fatal(err)
	}
	bin := mustBinary(t, quorate.binary)
	if out, errOut, err := runTool(time.Minute, "", bin, "check", m.dataDir); err != nil || !strings.Contains(out, "40 of") {
		t.Fatalf("check before the damage: %v\n%s%s", err, out, errOut)
	}
	table := ""
	tables, err := filepath.Glob(filepath.Join(m.dataDir, "kv", "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tables {
		if info, err := os.Stat(name); err == nil && info.Size() > 1<<20 {
			table = name
		}
	}
	f, err := os.OpenFile(table, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, 1<<20); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 16
	if _, err := f.WriteAt(b, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	_, errOut, err := runTool(time.Minute, "", bin, "check", m.dataDir)
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(errOut, filepath.Base(table)) {
		t.Errorf("check after the damage: %v\n%s", err, errOut)
	}
	m.start(t)
	c.awaitReady(t, m, time.Minute)
	for i := range 40 { // one of them is in the damaged block
		if _, err := client.Get(ctx, fmt.Sprintf("key %03d", i)); err != nil {
			break
		}
	}
	err = m.proc.wait(30 * time.Second)
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the member that has read it: %v", err)
	}
	if said := m.proc.output(); !strings.Contains(said, filepath.Base(table)) || strings.Contains(said, "panic") || strings.Contains(said, "goroutine ") {
		t.Errorf("it says:\n%s", tail(said, 30))
	}
	m.proc.stopped = true
}
