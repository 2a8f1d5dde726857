package kv

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// Check verifies a store that nobody has open, and changes nothing: every block of
// its files, every live key against the digest, and the history against its index.
// cfg.FS, Dir, Group and Logger are used. progress, if not nil, is told how many of
// how many bytes of files are verified. It returns what is durable of the state.
//
// An error wraps smr.ErrCorrupt, ErrDigest, ErrForeignStore or ErrFormatVersion, is
// fs.ErrNotExist if there is no store, or ctx's, or pebble's.
func Check(ctx context.Context, cfg Config, progress func(done, total int64)) (Summary, error) {
	cfg.setDefaults()
	s := &Store{cfg: cfg}
	dir, err := newestDir(cfg.FS, cfg.Dir)
	if err == nil {
		_, err = cfg.FS.Stat(dir)
	}
	if err != nil {
		return Summary{}, fmt.Errorf("check key-value store in %s: %w", cfg.Dir, err)
	}
	o := s.pebbleOptions(newDisk(&cfg, dir))
	o.ReadOnly = true
	o.EnsureDefaults()
	db, err := pebble.Open(dir, o)
	if err != nil {
		if isForeign(err) {
			err = fmt.Errorf("%w: %w", ErrForeignStore, err)
		}
		return Summary{}, fmt.Errorf("check key-value store in %s: %w", dir, asCorrupt(err))
	}
	var sum Summary
	if _, err = load(db, cfg.Group); err == nil {
		if err = checkTables(ctx, db, o, dir, progress); err == nil {
			sum, err = inspect(ctx, db)
		}
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return Summary{}, fmt.Errorf("check key-value store in %s: %w", dir, asCorrupt(err))
	}
	return sum, nil
}

// checkTables verifies the checksum of every block.
func checkTables(ctx context.Context, db *pebble.DB, o *pebble.Options, dir string, progress func(done, total int64)) error {
	levels, err := db.SSTables()
	if err != nil {
		return err
	}
	var done, total int64
	for _, level := range levels {
		for i := range level {
			total += int64(level[i].Size)
		}
	}
	var damaged []error // all are named
	for _, level := range levels {
		for i := range level {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			name := o.FS.PathJoin(dir, fmt.Sprintf("%s.sst", level[i].BackingSSTNum))
			if err := checkTable(ctx, o, name); err != nil {
				damaged = append(damaged, fmt.Errorf("%s is damaged: %w: %w", name, smr.ErrCorrupt, err))
			}
			done += int64(level[i].Size)
			if progress != nil {
				progress(done, total)
			}
		}
	}
	return errors.Join(damaged...)
}

func checkTable(ctx context.Context, o *pebble.Options, name string) error {
	f, err := o.FS.Open(name)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(ctx, readable, o.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// inspect verifies what a store holds, as if it were a state that comes in.
func inspect(ctx context.Context, db *pebble.DB) (sum Summary, err error) {
	it, err := db.NewIter(nil)
	if err != nil {
		return Summary{}, err
	}
	in := NewInspector()
	n := 0
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			err = ctx.Err()
			break
		}
		var value []byte
		if value, err = it.ValueAndErr(); err == nil {
			err = in.pair(it.Key(), value)
		}
	}
	if err = errors.Join(err, it.Error(), it.Close()); err != nil || n == 0 {
		st := newState() // an empty store is one
		return Summary{Revision: st.revision, CompactRevision: st.compact, Digest: st.digest()}, err
	}
	return in.summary()
}

// newestDir is where the state of a store is that is not open; see settleDir.
func newestDir(fsys vfs.FS, dir string) (string, error) {
	found, err := generations(fsys, dir)
	if err != nil || len(found) == 0 {
		return dir, err
	}
	return restoredDir(dir, found[len(found)-1]), nil
}
