package wal

import (
	"testing"
	"time"
)

// "How many batches took up to 1 ms, 2 ms, 4 ms, …": each duration counts for the
// first bar whose bound it does not exceed.
func TestSyncTimeBuckets(t *testing.T) {
	for d := time.Duration(0); d < time.Minute; d = d*5/4 + 7*time.Microsecond {
		want := SyncTimeBuckets - 1
		for i := SyncTimeBuckets - 2; i >= 0 && d <= SyncTimeBound(i); i-- {
			want = i
		}
		if got := syncTimeBucket(d); got != want {
			t.Fatalf("%v counts for bar %d, want %d", d, got, want)
		}
	}
	for i := range SyncTimeBuckets - 1 {
		if at, after := syncTimeBucket(SyncTimeBound(i)), syncTimeBucket(SyncTimeBound(i)+1); at != i || after != i+1 {
			t.Errorf("the bound of bar %d counts for %d, what follows for %d", i, at, after)
		}
	}
}
