package host

import (
	"errors"
	"fmt"
	"path"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wal"
)

// SeedLog makes, in an empty directory, the log of a host whose group g begins
// at m: for a group that is restored from a backup. Its state machine must then
// be at m.Index. All members must be seeded alike: give those that were not another
// Cluster, so that they refuse one another. cfg needs ID, Cluster,
// Incarnation, Dir, FS and Shards alone. The log is synced when it returns.
func SeedLog(cfg Config, g smr.GroupID, m smr.SnapshotMeta) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	shard := uint64(g) % uint64(cfg.Shards)
	log, err := wal.Open(cfg.FS, path.Join(cfg.Dir, fmt.Sprintf("shard-%03d", shard)), wal.Options{
		Identity:     wal.Identity{Cluster: cfg.Cluster, Replica: cfg.ID, Incarnation: cfg.Incarnation},
		Shard:        uint32(shard),
		SegmentBytes: cfg.SegmentBytes,
		Logger:       cfg.Logger,
	})
	if err != nil {
		return fmt.Errorf("making the log of a restored group: %w", err)
	}
	if len(log.Groups()) > 0 {
		return errors.Join(fmt.Errorf("%w: %s holds a log already; a group is restored into an empty directory", ErrConfig, cfg.Dir), log.Close())
	}
	log.Create(g, m.Configuration)
	log.SetSnapshot(g, m)
	log.Append(g, 1, &smr.HardState{Term: m.Term, Commit: m.Index}, nil)
	_, err = log.Sync(nil)
	if err = errors.Join(err, log.Close()); err != nil {
		return fmt.Errorf("making the log of a restored group: %w", err)
	}
	return nil
}
