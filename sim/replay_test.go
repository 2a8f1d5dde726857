package sim

import "testing"

// "The same seed and binary give the same run to the byte."
func TestReplay(t *testing.T) {
	for _, mode := range []Mode{Core, Full} {
		for seed := *flagBase; seed < *flagBase+10; seed++ {
			first, err := RunSeed(seed, Options{Mode: mode})
			if err != nil {
				t.Fatal(err)
			}
			second, _ := RunSeed(seed, Options{Mode: mode})
			if first.Digest != second.Digest || first.Virtual != second.Virtual || first.Messages != second.Messages || first.Marks != second.Marks {
				t.Errorf("%v seed %d: digests %x and %x, %d and %d messages", mode, seed, first.Digest, second.Digest, first.Messages, second.Messages)
			}
			if first.Digest == 0 {
				t.Errorf("%v seed %d has no digest", mode, seed)
			}
		}
	}
}
