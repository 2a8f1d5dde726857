package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// "lab run exits 0 when what the chosen arm expects was observed, 1 when it was
// not, 2 on a file that cannot be read; a violation that the checkers found is a
// line of its own that begins violation:"
func TestLabRunExits(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	head := "question: Why?\npaper: Raft\ntopic: Tests\n\nSo.\n\nsetup\n  hosts 3\n\n"
	page := filepath.Join(dir, "out.html")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"figure-8"}, 0, "verdict: as expected as shipped"},
		{[]string{"figure-8", "--without", "own-term-commit", "--html", page}, 0, "\nviolation: leader-completeness at "},
		{[]string{write("fails.txt", head+"arm as shipped\n  commit 1 = 7\n")}, 1, "✗ line 11, commit 1 = 7: commit 1 is 0"},
		{[]string{write("bad.txt", head+"steps\n  jump\n")}, 2, "bad.txt:11:3: no step is called"},
		{[]string{filepath.Join(dir, "missing.txt")}, 2, "no such file"},
		{[]string{write("noname", head+"arm as shipped\n  commit 1 = 0\n")}, 0, "verdict: as expected"},
		{[]string{write("mark.txt", "\ufeff"+head+"arm as shipped\n  commit 1 = 0\n")}, 0, "verdict: as expected"},
		{[]string{"/dev/zero"}, 2, "longer than the 65536 bytes"},
		{[]string{"figure-9"}, 2, "no scenario is called"},
		{[]string{"figure-8.txt"}, 2, "the scenario of the lab is called figure-8"},
		{[]string{"figure-8", "--without", " own-term-commit,,own-term-commit"}, 0, "as expected without own-term-commit"},
		{[]string{"figure-8", "--html", filepath.Join(dir, "none", "out.html")}, 2, "the page cannot be written: open"},
		{[]string{"figure-8", "--html", dir}, 2, "verdict: as expected"},
		{[]string{"figure-8", "--without", "sync"}, 2, "has no arm"},
		{[]string{"figure-8", "--with", "luck"}, 2, "unknown flag"},
	} {
		var out bytes.Buffer
		code := run(context.Background(), append([]string{"lab", "run"}, c.args...), &out, &out)
		if code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%v: exit code %d, want %d and %q in:\n%s", c.args, code, c.code, c.want, out.String())
		}
		if strings.Contains(out.String(), "\x1b[") {
			t.Errorf("%v: colours, and no terminal", c.args)
		}
	}
	if b, err := os.ReadFile(page); err != nil || !bytes.Contains(b, []byte("<svg")) {
		t.Errorf("the page was not written: %v", err)
	}
}

// "1  it was not, or the run was interrupted": a signal ends a long run.
func TestLabRunIsInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "long.txt")
	text := "question: Why?\npaper: Raft\ntopic: Tests\n\nSo.\n\nsetup\n  hosts 8\n\nsteps\n  elect 1\n  for 10000 timeouts\n\narm as shipped\n  no violation\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	var out bytes.Buffer
	if code := run(ctx, []string{"lab", "run", path}, &out, &out); code != 1 || !strings.Contains(out.String(), "interrupted: long, as shipped was not finished") {
		t.Errorf("exit code %d:\n%s", code, out.String())
	}
}

func TestLabList(t *testing.T) {
	var out bytes.Buffer
	if code := run(context.Background(), []string{"lab", "list"}, &out, &out); code != 0 {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	if n := strings.Count(out.String(), "\n"); n < 18 || !strings.Contains(out.String(), "Can there be two leaders after a partition?") {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}

// fullDevice is a writer that has no room.
type fullDevice struct{}

func (fullDevice) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// What cannot be written has not been shown.
func TestLabOutputIsFull(t *testing.T) {
	for _, args := range [][]string{{"lab", "list"}, {"lab", "run", "figure-8"}} {
		var out bytes.Buffer
		if code := run(context.Background(), args, fullDevice{}, &out); code != 1 || !strings.Contains(out.String(), "no space left") {
			t.Errorf("%v: exit code %d: %s", args, code, out.String())
		}
	}
}
