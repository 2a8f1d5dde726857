package main

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"testing"
)

func runSimCommand(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), append([]string{"sim"}, args...), &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

func TestSimLiveness(t *testing.T) {
	code, out := runSimCommand(t, "liveness", "--seeds", "2", "--graphs", "10")
	if code != 0 || strings.Count(out, "| pass |") != 9 || !strings.Contains(out, "constrained election (5)") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if code, out := runSimCommand(t, "liveness", "more"); code != exitUsage {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

// It says where hosts have crashed, and is no success if there is a place at which
// none has, as in a run of one seed.
func TestSimSnapshotCrashes(t *testing.T) {
	code, out := runSimCommand(t, "snapshot-crashes", "--seeds", "1")
	if code != exitFailed || !strings.Contains(out, "| a chunk |") || !strings.Contains(out, "1 full seeds run, 0 failed") || !strings.Contains(out, "no host crashed there: [") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if code, out := runSimCommand(t, "snapshot-crashes", "--seeds", "0"); code != exitUsage {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

// A failing seed is found, shrunk, and the command that shrinking prints fails in
// the same way.
func TestSimShrink(t *testing.T) {
	const without = "vote-persistence"
	code, out := runSimCommand(t, "--core", "--seeds", "50", "--failures-max", "1", "--without", without)
	found := regexp.MustCompile(`seed (\d+): (\S+) at`).FindStringSubmatch(out)
	if code != exitFailed || found == nil {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	// The command that is printed shrinks it.
	shrink := regexp.MustCompile(`shrink: .* sim (--seed.*)`).FindStringSubmatch(out)
	if shrink == nil || !strings.Contains(shrink[1], "--shrink") {
		t.Fatalf("no command to shrink with:\n%s", out)
	}
	code, out = runSimCommand(t, strings.Fields(shrink[1])...)
	replay := regexp.MustCompile(`replay: .* sim (--seed.*)`).FindStringSubmatch(out)
	if code != exitFailed || replay == nil || !strings.Contains(out, "violation  "+found[2]) {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	code, out = runSimCommand(t, strings.Fields(replay[1])...)
	if code != exitFailed || !strings.Contains(out, ": "+found[2]+" at") {
		t.Errorf("%s: exit code %d:\n%s", replay[1], code, out[max(0, len(out)-2000):])
	}
	for _, args := range [][]string{{"--shrink"}, {"--core", "--seed", "1", "--quiet", "--shrink"}, {"--core", "--seed", "1", "--only-features", "gravity"}, {"--seed", "1", "--skip", "nonsense"}, {"liveness", "--seeds", "0"}, {"liveness", "--graphs", "0"}} {
		if code, out := runSimCommand(t, args...); code != exitUsage {
			t.Errorf("%v: exit code %d:\n%s", args, code, out)
		}
	}
}

// A run that is interrupted says so, and is no success.
func TestSimInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"sim", "--seeds", "100000"}, &stdout, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "interrupted after 0 seeds") {
		t.Errorf("exit code %d:\n%s%s", code, &stdout, &stderr)
	}
}
