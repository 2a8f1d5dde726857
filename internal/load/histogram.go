package load

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts durations in buckets: one for each nanosecond below 32, and
// from there on 16 for each power of two, so that a bucket is at most 1/16 of
// its durations wide. It may be added to by any number of goroutines.
type histogram struct {
	counts   [61 * 16]atomic.Uint64
	sum, max atomic.Int64 // nanoseconds
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))].Add(1)
	h.sum.Add(int64(d))
	h.raise(int64(d))
}

func (h *histogram) raise(d int64) {
	for {
		m := h.max.Load()
		if d <= m || h.max.CompareAndSwap(m, d) {
			return
		}
	}
}

func bucket(ns uint64) int {
	if ns < 32 {
		return int(ns)
	}
	exp := bits.Len64(ns) - 5
	return exp*16 + int(ns>>exp)
}

// lowest is the least duration of a bucket.
func lowest(bucket int) time.Duration {
	if bucket < 32 {
		return time.Duration(bucket)
	}
	exp := bucket/16 - 1
	return time.Duration(uint64(bucket-exp*16) << exp)
}

// addTo adds h to sum.
func (h *histogram) addTo(sum *histogram) {
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			sum.counts[i].Add(n)
		}
	}
	sum.sum.Add(h.sum.Load())
	sum.raise(h.max.Load())
}

func (h *histogram) count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// quantile returns the middle of the bucket that q of all durations reach, and
// never more than the longest.
func (h *histogram) quantile(q float64) time.Duration {
	total := h.count()
	var seen uint64
	for i := range h.counts {
		if seen += h.counts[i].Load(); seen > 0 && float64(seen) >= q*float64(total) {
			return min((lowest(i)+lowest(i+1))/2, time.Duration(h.max.Load()))
		}
	}
	return 0
}
