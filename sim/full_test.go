package sim

import (
	"context"
	"os"
	"testing"
)

func TestFullSeeds(t *testing.T) {
	r, err := Run(context.Background(), Options{Mode: Full, Seeds: seeds(200), SeedBase: *flagBase, Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.String())
	t.Log(r.Marks.String())
	for _, f := range r.Failures {
		t.Errorf("seed %d: %v", f.Seed, f.Violation)
	}
}
