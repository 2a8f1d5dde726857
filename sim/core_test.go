package sim

import (
	"bufio"
	"context"
	"flag"
	"os"
	"strings"
	"testing"
)

var (
	flagSeeds   = flag.Int("seeds", 0, "how many seeds to run in each world (default: as many as the test says)")
	flagBase    = flag.Uint64("seed-base", 1, "the first seed")
	flagSeed    = flag.Uint64("seed", 0, "run this seed alone, in TestOne")
	flagWithout = flag.String("without", "", "protections to switch off, in TestOne")
	flagMode    = flag.String("mode", "core", "the world of TestOne: core or full")
	flagTrace   = flag.Bool("trace", false, "print the trace of TestOne")
)

// TestOne runs the seed that -seed names.
func TestOne(t *testing.T) {
	if *flagSeed == 0 {
		t.Skip("no -seed given")
	}
	o := Options{}
	if *flagMode == "full" {
		o.Mode = Full
	}
	if *flagWithout != "" {
		o.Without = strings.Split(*flagWithout, ",")
	}
	if *flagTrace {
		b := bufio.NewWriter(os.Stdout)
		defer b.Flush()
		o.Tracer = Printer{b}
	}
	r, err := RunSeed(*flagSeed, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("digest %x, %v virtual, %d messages, %d applied, %d operations", r.Digest, r.Virtual, r.Messages, r.Applied, r.Operations)
	t.Log(r.Marks.String())
	if r.Violation != nil {
		t.Error(r.Violation)
	}
}

func seeds(n int) int {
	if *flagSeeds > 0 {
		return *flagSeeds
	}
	if testing.Short() {
		return n / 10
	}
	return n
}

func TestCoreSeeds(t *testing.T) {
	r, err := Run(context.Background(), Options{Seeds: seeds(300), SeedBase: *flagBase, Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.String())
	t.Log(r.Marks.String())
	for _, f := range r.Failures {
		t.Errorf("seed %d: %v", f.Seed, f.Violation)
	}
}
