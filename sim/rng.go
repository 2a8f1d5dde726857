package sim

import "time"

// source is a small seeded random source (SplitMix64). Each part of a world has
// its own, forked from the seed, so that a change in one part's draws leaves
// the others' alone.
type source struct{ state uint64 }

// mix64 is the finalizer of SplitMix64: a bijection that spreads every bit.
func mix64(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// fork returns a source for the part named by tag.
func fork(seed, tag uint64) source {
	return source{mix64(mix64(seed+0x9e3779b97f4a7c15) ^ mix64(tag*0xd1342543de82ef95+1))}
}

func (s *source) next() uint64 {
	s.state += 0x9e3779b97f4a7c15
	return mix64(s.state)
}

// n draws from [0, n); n below 2 gives 0 without a draw.
func (s *source) n(n int) int {
	if n < 2 {
		return 0
	}
	return int(s.next() >> 1 % uint64(n))
}

// permille is true p times in a thousand; p of zero draws nothing.
func (s *source) permille(p int) bool { return p > 0 && s.n(1000) < p }

// flip is true half of the time.
func (s *source) flip() bool { return s.next()>>63 == 1 }

// between draws from [lo, hi].
func (s *source) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(s.next()>>1%uint64(hi-lo+1))
}

// pick draws one of the choices.
func pick[T any](s *source, choices ...T) T { return choices[s.n(len(choices))] }
