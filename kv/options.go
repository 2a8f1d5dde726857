package kv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/smr"
)

// Config is fixed when a store is made. Nothing in it influences the state.
type Config struct {
	// FS and Dir say where pebble keeps its files. FS nil: the operating
	// system's. The store owns Dir.
	FS  vfs.FS
	Dir string
	// Group is written into the store and must be the same at every Open.
	Group smr.GroupID
	// CacheBytes bounds the cache of the keys' newest versions that puts use;
	// zero: 64 MiB. PointCacheBytes bounds the cache of what was read one key at
	// a time; zero: 32 MiB. BlockCacheBytes bounds pebble's cache; zero: 128 MiB.
	// MemTableBytes is how much is kept in memory until it is flushed; zero:
	// 64 MiB, or 4 MiB if Deterministic. The log is replayed from the last flush after a crash.
	CacheBytes, PointCacheBytes, BlockCacheBytes, MemTableBytes int64
	// Deterministic is for simulations: no compactions of pebble's by
	// themselves, no file is removed, and flushes happen inside Apply and Flush
	// only, in an order that repeats as long as no batch is half a memtable.
	Deterministic bool
	// SweepEntries bounds the work that Apply spends on removing compacted
	// versions, beside twice the number of its own entries; zero: 256.
	SweepEntries int
	// ViewBytes is how much a view reads from pebble at a time; zero: 256 KiB. After
	// 256 times as much it gives up what it holds of pebble's files.
	ViewBytes int
	// Logger takes pebble's messages and errors; nil: slog.Default.
	Logger *slog.Logger
	// Failed, if not nil, is told why the store cannot be used any more, when that
	// is found out beside Apply: by a reader that meets a damaged file, or as pebble
	// works in the background. It may be called by any goroutine, must return at
	// once and must not call the store. Apply returns that error from then on.
	Failed func(error)
}

func (c *Config) setDefaults() {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.CacheBytes <= 0 {
		c.CacheBytes = 64 << 20
	}
	if c.PointCacheBytes <= 0 {
		c.PointCacheBytes = 32 << 20
	}
	if c.BlockCacheBytes <= 0 {
		c.BlockCacheBytes = 128 << 20
	}
	if c.MemTableBytes <= 0 && c.Deterministic {
		c.MemTableBytes = 4 << 20
	}
	if c.MemTableBytes <= 0 {
		c.MemTableBytes = 64 << 20
	}
	if c.SweepEntries <= 0 {
		c.SweepEntries = 256
	}
	if c.ViewBytes <= 0 {
		c.ViewBytes = 256 << 10
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

// formatMajorVersion is pebble's format on disk. Raising it is a one-way
// upgrade of every store.
const formatMajorVersion = pebble.FormatTableFormatV6

// unlimited turns off a limit of pebble's on the number of files.
const unlimited = 1 << 30

// pebbleOptions returns how pebble runs on d: without a log of its own, since the
// log of the group is the log.
func (s *Store) pebbleOptions(d *disk) *pebble.Options {
	o := &pebble.Options{
		FS:                    diskFS{s.cfg.FS, d},
		Comparer:              comparer,
		FormatMajorVersion:    formatMajorVersion,
		DisableWAL:            true,
		MemTableSize:          uint64(s.cfg.MemTableBytes),
		CacheSize:             s.cfg.BlockCacheBytes,
		L0CompactionThreshold: 2,
		// Apply does the waiting.
		MemTableStopWritesThreshold: memTables,
		// Reads meet many versions in the memtables and level 0; beyond this
		// many files there, Apply waits for pebble's compactions.
		L0StopWritesThreshold: 1000,
		LBaseMaxBytes:         64 << 20,
		MaxOpenFiles:          1000,
		Logger:                pebbleLogger{s.cfg.Logger, d},
		EventListener: &pebble.EventListener{
			BackgroundError: d.backgroundError,
			DataCorruption:  d.dataCorruption,
			FlushEnd:        d.flushEnded,
		},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	o.Experimental.FileCacheShards = 2
	if s.cfg.Deterministic {
		o.DisableAutomaticCompactions = true
		o.DisableTableStats = true
		o.L0CompactionThreshold = unlimited
		o.L0StopWritesThreshold = unlimited
		o.FS = keepFiles{o.FS}
		o.Experimental.ReadSamplingMultiplier = -1
		o.Experimental.FileCacheShards = 1
	}
	return o
}

// keepFiles is a file system on which pebble's own files stay: pebble removes
// them on a goroutine of its own, at moments that cannot be repeated.
type keepFiles struct{ vfs.FS }

func (f keepFiles) Remove(name string) error {
	base := f.PathBase(name)
	if strings.HasSuffix(base, ".sst") || strings.HasSuffix(base, ".log") || strings.HasPrefix(base, "MANIFEST-") || strings.HasPrefix(base, "OPTIONS-") {
		return nil
	}
	return f.FS.Remove(name)
}

// pebbleLogger passes pebble's messages on.
type pebbleLogger struct {
	log  *slog.Logger
	disk *disk
}

func (l pebbleLogger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug(fmt.Sprintf("pebble: "+format, args...))
	}
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error(fmt.Sprintf("pebble: "+format, args...))
}

// Fatalf is called when pebble cannot go on. It does not know whether what it has
// written of its manifest is on disk: that is an error of the disk, which pebble
// returns to whoever wanted it, and nothing more may be written until the store is
// opened again. Everything else is a broken invariant.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf("pebble: "+format, args...)
	l.log.Error(msg)
	err := errors.New(msg)
	l.disk.kill(err)
	l.disk.fail(err)
	if strings.HasPrefix(msg, "pebble: MANIFEST ") {
		return
	}
	panic(msg)
}
