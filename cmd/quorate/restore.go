package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

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
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a member's data directory of a backup",
		Long: `Make the data directory of a member of a new cluster, which begins with the
state of a backup. Run it for each member with the same FILE, --initial-cluster
and --initial-cluster-token, then start the members with the same settings. The
token must be another than the old cluster's if any of that may still run.

The directory must not exist, or be empty. After an error nothing is in its
place.`,
		Args: usageErrors(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := settings.Load(settings.Input{Flags: given})
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return restore(s, args[0], cmd.OutOrStdout())
		},
	}
	for _, f := range settings.Flags() {
		for _, name := range restoreFlags {
			if f.Name == name {
				cmd.Flags().VarPF(&rawFlag{name: name, given: given}, name, "", f.Usage)
			}
		}
	}
	return cmd
}

// restore builds the directory beside its place, and puts it there when it is
// whole.
func restore(s *settings.Settings, file string, out io.Writer) error {
	names, err := os.ReadDir(s.DataDir)
	if err == nil && len(names) > 0 {
		return &exitError{exitStart, fmt.Errorf("%s is not empty: name another --data-dir, or move what is there away", s.DataDir)}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return &exitError{exitStart, err}
	}
	aside := s.DataDir + ".restoring"
	if err := os.RemoveAll(aside); err != nil {
		return &exitError{exitStart, err}
	}
	sum, bytes, err := restoreInto(aside, wanted(s), file)
	if err == nil {
		if err = os.Remove(s.DataDir); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		fs := vfs.OS()
		err = errors.Join(os.Rename(aside, s.DataDir), vfs.SyncDir(fs, fs.PathDir(s.DataDir)))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(aside))
	}
	fmt.Fprintf(out, "restored %s into %s, for member %s of cluster %s\n", file, s.DataDir, s.Name, hexID(wanted(s).Identity.Cluster))
	describe(out, sum, bytes)
	return nil
}

func restoreInto(dir string, want datadir.Request, file string) (sum kv.Summary, bytes int64, err error) {
	fs := vfs.OS()
	d, err := datadir.Open(fs, dir, want)
	if err != nil {
		return sum, 0, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	log := slog.New(slog.DiscardHandler)
	store := kv.New(kv.Config{FS: fs, Dir: d.KV, Group: keysGroup, Logger: log})
	if _, err := store.Open(); err != nil {
		return sum, 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	r, err := store.BeginRestore()
	if err != nil {
		return sum, 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if sum, bytes, err = verifyBackup(file, r); err != nil {
		return sum, bytes, err
	}
	if err := errors.Join(r.Finish(), r.Commit()); err != nil {
		return sum, bytes, err
	}
	if at, digest := store.Digest(); at != sum.Applied || digest != sum.Digest {
		return sum, bytes, fmt.Errorf("restored the state at %d with digest %x, the backup has %d and %x: %w", at, digest, sum.Applied, sum.Digest, kv.ErrDigest)
	}
	var ids []smr.ReplicaID
	for _, m := range d.Identity.Members {
		ids = append(ids, m.ID)
	}
	id := &d.Identity
	err = host.SeedLog(
		host.Config{ID: id.Member, Cluster: id.Cluster, Incarnation: id.Incarnation, Dir: d.WAL, FS: fs, Logger: log},
		keysGroup, smr.SnapshotMeta{Index: sum.Applied, Term: 1, Configuration: host.Voters(ids...)})
	if err == nil {
		err = d.LogMade()
	}
	return sum, bytes, err
}
