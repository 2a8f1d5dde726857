package kv

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
	ourvfs "github.com/quorate/quorate/vfs"
)

// TestViewUnderLoad measures what a view costs the state machine that goes on:
// the time to make it, the longest Apply while it is read, and memory. It runs
// with QUORATE_MEASURE=<MiB of state>.
func TestViewUnderLoad(t *testing.T) {
	mib, _ := strconv.Atoi(os.Getenv("QUORATE_MEASURE"))
	if mib == 0 {
		t.Skip("QUORATE_MEASURE is not set")
	}
	s, _ := openStore(t, Config{FS: ourvfs.OS(), Dir: t.TempDir() + "/kv", Group: 1, Logger: slog.New(slog.DiscardHandler)})
	index := uint64(0)
	apply := func(n int) time.Duration {
		batch := make([]smr.Committed, 64)
		for i := range batch {
			index++
			c := putCmd(fmt.Sprintf("key-%08d", index%uint64(n)), string(state1k))
			batch[i] = smr.Committed{Entry: smr.Entry{Index: index, Kind: smr.KindCommand, Data: AppendCommand(nil, &c)}}
		}
		begun := time.Now()
		if err := s.Apply(batch); err != nil {
			t.Fatal(err)
		}
		return time.Since(begun)
	}
	keys := mib << 10
	for index < uint64(keys) {
		apply(keys)
	}
	run := func(name string, until func() bool) {
		var took []time.Duration
		var peak uint64
		var m runtime.MemStats
		before, begun := index, time.Now()
		for n := 0; !until(); n++ {
			took = append(took, apply(keys))
			if n%64 == 0 {
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapInuse)
			}
		}
		slices.Sort(took)
		t.Logf("%-22s %7.0f entries/s; Apply of 64: p50 %v p99 %v max %v; heap %d MiB", name,
			float64(index-before)/time.Since(begun).Seconds(), took[len(took)/2], took[len(took)*99/100], took[len(took)-1], peak>>20)
	}
	stopTheWorld(t, s)
	for range 2 {
		end := time.Now().Add(3 * time.Second)
		run("without a view", func() bool { return time.Now().After(end) })
		begun := time.Now()
		view, err := s.View()
		if err != nil {
			t.Fatal(err)
		}
		made := time.Since(begun)
		var done atomic.Bool
		var read int64
		go func() {
			read, _ = io.Copy(io.Discard, struct{ io.Reader }{view})
			done.Store(true)
		}()
		run("while a view is read", done.Load)
		t.Logf("the view was made in %v; %d MiB read in %v", made, read>>20, time.Since(begun).Round(time.Millisecond))
		view.Close()
	}
}

// stopTheWorld measures the pause of the naive design, in which nothing is applied
// while the state is written.
func stopTheWorld(t *testing.T, s *Store) {
	begun := time.Now()
	view, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(t.TempDir() + "/state")
	if err != nil {
		t.Fatal(err)
	}
	written, err := io.Copy(f, struct{ io.Reader }{view})
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("stopping the world: %d MiB written and synced in %v", written>>20, time.Since(begun).Round(time.Millisecond))
	f.Close()
	view.Close()
}

var state1k = make([]byte, 1000)

// BenchmarkRestore brings in a state of 256 MiB, in values of 1 KiB that compression
// makes no smaller, onto a disk.
func BenchmarkRestore(b *testing.B) {
	config := func() Config { return Config{Dir: b.TempDir() + "/kv", Group: 7, Logger: testConfig(nil).Logger} }
	donor, _ := openStore(b, config())
	rng, value := rand.NewChaCha8([32]byte{}), make([]byte, 1<<10)
	for i := range 256 << 10 {
		_, _ = rng.Read(value)
		c := putCmd(fmt.Sprintf("key-%08d", i*7919%(256<<10)), string(value))
		if err := donor.Apply([]smr.Committed{{Entry: smr.Entry{Index: uint64(i + 1), Kind: smr.KindCommand, Data: AppendCommand(nil, &c)}}}); err != nil {
			b.Fatal(err)
		}
	}
	s, _ := openStore(b, config())
	b.SetBytes(256 << 20)
	for b.Loop() {
		if err := bring(b, donor, s, 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}
