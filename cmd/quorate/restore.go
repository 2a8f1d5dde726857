package main

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/internal/datadir"
	"github.com/quorate/quorate/internal/settings"
	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// restoreFlags are those of serve that say who the member is.
var restoreFlags = []string{"name", "data-dir", "initial-cluster", "initial-cluster-token", "initial-advertise-peer-urls"}

func newSnapshotRestore() *cobra.Command {
	given := map[string]string{}
	var o restoreOptions
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a member's data directory of a backup",
		Long: `Make the data directory of a member of a new cluster, which begins with the
state of a backup. Run it for each member with the same FILE, --initial-cluster
and --initial-cluster-token, then start the members with the same settings. The
token must be another than the old cluster's if any of that may still run.

The directory must not exist, or be empty, as a mount point is. After an error
nothing is in its place.

Clients that hold revisions from after the backup, as controllers with caches do,
would take what comes next for what they have seen. --bump-revision 1000000000
--mark-compacted begins far behind all of these, and makes them read anew.`,
		Args: usageErrors(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := settings.Load(settings.Input{Flags: given})
			if err = errors.Join(err, o.check()); err != nil {
				return &exitError{exitUsage, err}
			}
			o.from.file, o.from.told = args[0], cmd.ErrOrStderr()
			return restore(s, &o, cmd.OutOrStdout())
		},
	}
	for _, f := range settings.Flags() {
		for _, name := range restoreFlags {
			if f.Name == name {
				cmd.Flags().VarPF(&rawFlag{name: name, given: given}, name, "", f.Usage)
			}
		}
	}
	cmd.Flags().VarPF(&rawFlag{name: "wal-dir", given: given}, "wal-dir", "", "").Hidden = true // refused, with the reason
	o.flags(cmd)
	return cmd
}

// restoreOptions are what is not a setting of the member's.
type restoreOptions struct {
	from source
	// bump raises the revision; markCompacted confirms that the history then goes.
	bump          int64
	markCompacted bool
}

func (o *restoreOptions) flags(cmd *cobra.Command) {
	o.from.flags(cmd)
	cmd.Flags().Int64Var(&o.bump, "bump-revision", 0, "by how much to raise the revision, so that clients which saw later ones than the backup's do not meet them again; give all members the same")
	cmd.Flags().BoolVar(&o.markCompacted, "mark-compacted", false, "discard the history before the raised revision; --bump-revision needs it")
}

func (o *restoreOptions) check() error {
	if o.bump < 0 || (o.bump > 0) != o.markCompacted {
		return errors.New("--bump-revision is at least 1 and comes with --mark-compacted, and that with it")
	}
	return nil
}

// restore builds the member's data below its directory, and gives it its place when
// it is whole.
func restore(s *settings.Settings, o *restoreOptions, out io.Writer) (err error) {
	fs := vfs.OS()
	dir := filepath.Clean(s.DataDir)
	f, err := datadir.Fill(fs, dir)
	if err != nil {
		return &exitError{exitStart, err}
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum, bytes, err := restoreKeys(fs, f.KV, o)
	if err != nil {
		return err
	}
	id := wanted(s).Identity.Seeded(seedOf(&sum))
	id.Incarnation = datadir.NewIncarnation()
	if err := seedLog(fs, f.WAL, &id, &sum); err != nil {
		return err
	}
	id.HasLog = true
	if err := f.Commit(id); err != nil {
		return err
	}
	fmt.Fprintf(out, "restored %s into %s, for member %s of cluster %s\n", o.from.file, dir, s.Name, hexID(id.Cluster))
	return describe(out, sum, bytes)
}

// restoreKeys makes the key-value store in dir of a backup. It is opened twice: the
// second time, all of it is under its own name, and what is on the disk counts.
func restoreKeys(fs vfs.FS, dir string, o *restoreOptions) (sum kv.Summary, bytes int64, err error) {
	err = withStore(fs, dir, func(store *kv.Store) error {
		sum, bytes, err = restoreFrom(store, &o.from)
		return err
	})
	if err != nil {
		return sum, bytes, err
	}
	err = withStore(fs, dir, func(store *kv.Store) error {
		if at, digest := store.Digest(); at != sum.Applied || digest != sum.Digest {
			return fmt.Errorf("restored the state at %d with digest %x, the backup has %d and %x: %w", at, digest, sum.Applied, sum.Digest, kv.ErrDigest)
		}
		if o.bump == 0 {
			return nil
		}
		if err := store.Bump(o.bump); err != nil {
			return err
		}
		sum.Revision, sum.CompactRevision = store.Revision(), store.CompactRevision()
		_, sum.Digest = store.Digest()
		return nil
	})
	return sum, bytes, err
}

// withStore calls use with the store in dir.
func withStore(fs vfs.FS, dir string, use func(*kv.Store) error) error {
	store := kv.New(kv.Config{FS: fs, Dir: dir, Group: keysGroup, Logger: slog.New(slog.DiscardHandler)})
	if _, err := store.Open(); err != nil {
		return err
	}
	return errors.Join(use(store), store.Close())
}

func restoreFrom(store *kv.Store, from *source) (sum kv.Summary, bytes int64, err error) {
	r, err := store.BeginRestore()
	if err != nil {
		return sum, 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if sum, bytes, err = from.verify("restored", r); err != nil {
		return sum, bytes, err
	}
	return sum, bytes, errors.Join(r.Finish(), r.Commit())
}

// seedOf names a state: members that begin with another one are of another cluster.
func seedOf(sum *kv.Summary) uint64 {
	b := binary.LittleEndian.AppendUint64(nil, sum.Applied)
	h := sha256.Sum256(append(b, sum.Digest[:]...))
	return max(binary.LittleEndian.Uint64(h[:]), 1)
}

// seedLog makes the log that begins at the backup.
func seedLog(fs vfs.FS, dir string, id *datadir.Identity, sum *kv.Summary) error {
	var ids []smr.ReplicaID
	for _, m := range id.Members {
		ids = append(ids, m.ID)
	}
	return host.SeedLog(
		host.Config{ID: id.Member, Cluster: id.Cluster, Incarnation: id.Incarnation, Dir: dir, FS: fs, Logger: slog.New(slog.DiscardHandler)},
		keysGroup, smr.SnapshotMeta{Index: sum.Applied, Term: 1, Configuration: host.Voters(ids...)})
}
