package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// "A failing seed … shrinks (fewer faults, fewer clients, shorter) to a readable
// timeline", and the command that it prints fails in the same way.
func TestShrink(t *testing.T) {
	o := Options{Mode: Core, Seeds: 300, SeedBase: *flagBase, Without: []string{"election-catch-up"}, FailuresMax: 1}
	r, err := Run(context.Background(), o)
	if err != nil || len(r.Failures) == 0 {
		t.Fatalf("%v, %v", err, r.Failures)
	}
	f := &r.Failures[0]
	x, err := Shrink(context.Background(), f.Seed, Options{Mode: Core, Without: o.Without}, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d runs: %v to %v, %d to %d clients, chaos %d to %d", x.Runs, x.Were, x.Features, x.ClientsWere, x.Clients, x.ChaosWere, x.Chaos)
	if len(x.Features) >= len(x.Were) || x.Violation.Class != f.Violation.Class {
		t.Errorf("%v is left of %v, %v of %v", x.Features, x.Were, x.Violation, f.Violation)
	}
	var b bytes.Buffer
	if err := x.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{x.Violation.Error(), fmt.Sprintf("--seed %d ", x.Seed), "--without election-catch-up", "--only-features", "phase", "violation"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report does not hold %q:\n%s", want, &b)
		}
	}
	if _, err := Shrink(context.Background(), 1, Options{Mode: Core, Quiet: true}, time.Second); err == nil {
		t.Error("a seed that does not fail is shrunk")
	}
	if _, err := RunSeed(1, Options{Mode: Core, Only: []string{"gravity"}}); err == nil {
		t.Error("an unknown feature is taken")
	}
}

// Every feature can be left out alone, in both worlds, and is gone then; and each
// changes what happens: one that does nothing would be offered as a cause.
func TestOnly(t *testing.T) {
	for _, mode := range []Mode{Core, Full} {
		seen, does := map[string]bool{}, map[string]bool{}
		for seed := uint64(1); seed < 200; seed++ {
			names, _, _, err := drawn(seed, &Options{Mode: mode})
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				if !does[n] {
					does[n] = changes(t, seed, mode, n)
				}
				if seen[n] {
					continue
				}
				seen[n] = true
				left, _, _, err := drawn(seed, &Options{Mode: mode, Only: []string{n}})
				need := needs[mode][n]
				left = slices.DeleteFunc(left, func(l string) bool { return l == need && l != n })
				if err != nil || len(left) != 1 || left[0] != n {
					t.Errorf("%v seed %d: only %s leaves %v, %v", mode, seed, n, left, err)
				}
			}
		}
		for _, n := range FeatureNames(mode) {
			if !seen[n] {
				t.Errorf("no seed of the %v world has %s", mode, n)
			} else if !does[n] {
				t.Errorf("%s changes nothing in the %v world", n, mode)
			}
		}
	}
	for mode, n := range map[Mode]string{Full: "loss", Core: "pebble"} {
		if _, err := RunSeed(1, Options{Mode: mode, Only: []string{n}}); !errors.Is(err, ErrOptions) {
			t.Errorf("the %v world has no %s: %v", mode, n, err)
		}
	}
}

// changes reports whether a seed goes another way with a feature than without.
func changes(t *testing.T, seed uint64, mode Mode, name string) bool {
	t.Helper()
	digest := func(only ...string) uint64 {
		r, err := RunSeed(seed, Options{Mode: mode, Only: only, Chaos: 10})
		if err != nil {
			t.Fatal(err)
		}
		return r.Digest
	}
	base := []string{"none"}
	if need := needs[mode][name]; need != "" {
		base = append(base, need)
	}
	return digest(base...) != digest(append(base, name)...)
}
