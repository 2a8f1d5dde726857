package sim

import "testing"

// Seeds that once failed, each with what was wrong. They pass from the fix on.
// What a seed does changes with the code around it, so beside each stands the
// test that holds the cause, where there is one.
func TestSeedsThatOnceFailed(t *testing.T) {
	for _, c := range []struct {
		mode Mode
		seed uint64
		why  string
	}{
		// The log failed after a batch that went through, while it prepared the
		// next segment, and nobody was told: the replica ran on and wrote nothing.
		{Full, 72, "wal: TestFailureAfterTheBatch"},
		{Full, 50181, "wal: TestFailureAfterTheBatch"},
		{Full, 51277, "wal: TestFailureAfterTheBatch"},
		// A receiver waited for a host that it heard and that did not hear it, while
		// the leader offered another host's snapshot: no quorum for long.
		{Full, 60152, "host: imageOffered"},
	} {
		r, err := RunSeed(c.seed, Options{Mode: c.mode})
		if err != nil {
			t.Fatal(err)
		}
		if r.Violation != nil {
			t.Errorf("%v seed %d (%s): %v", c.mode, c.seed, c.why, r.Violation)
		}
	}
}
