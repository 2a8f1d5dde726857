package host

import (
	"math/rand/v2"
	"testing"
)

// "No block stands in wanted twice", and none is forgotten that was asked for last.
func TestWantedBlocks(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 2000 {
		s := &sendBlocks{count: 40}
		for range 20 {
			first := rng.Uint32N(45)
			s.want(blockRange{first, first + 1 + rng.Uint32N(8)})
			var seen [40]bool
			for _, w := range s.wanted {
				if w.first >= w.end || w.end > 40 {
					t.Fatalf("%v", s.wanted)
				}
				for n := w.first; n < w.end; n++ {
					if seen[n] {
						t.Fatalf("block %d twice: %v", n, s.wanted)
					}
					seen[n] = true
				}
			}
			if first < 40 && len(s.wanted) < wantedMax && !seen[first] {
				t.Fatalf("block %d was asked for: %v", first, s.wanted)
			}
			if len(s.wanted) > 0 && rng.IntN(3) == 0 {
				s.sent()
			}
		}
	}
}
