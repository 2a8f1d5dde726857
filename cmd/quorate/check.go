package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/datadir"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
	"github.com/quorate/quorate/wal"
)

func newCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check DIR...",
		Short: "Verify data directories and print what they hold",
		Long: `Verify data directories and print what they hold: the identity, every record of
the log with its checksums and its place in the chain, and every block and key of
the snapshots. DIR is a member's data directory, or a directory of several, such as
quorate-data.

Nothing is changed. Stop the member first: the log of one that runs looks as if
a write had been cut short at its end. The key-value store below kv/ verifies its
own blocks whenever it reads them; it is not read here.

Exit codes: 0 all is well, 1 damage was found, 3 a directory cannot be read or
holds nothing of quorate's.`,
		Example: "  quorate check /var/lib/quorate",
		Args:    usageErrors(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachMember(vfs.OS(), args, func(dir string) error {
				return checkMember(vfs.OS(), dir, cmd.OutOrStdout())
			})
		},
	}
}

// eachMember calls visit for each data directory among dirs and below them. All
// are visited; the errors come together.
func eachMember(fs vfs.FS, dirs []string, visit func(dir string) error) error {
	var errs []error
	for _, dir := range dirs {
		members, err := memberDirs(fs, dir)
		if err != nil {
			errs = append(errs, err)
		}
		for _, m := range members {
			errs = append(errs, visit(m))
		}
	}
	return errors.Join(errs...)
}

// memberDirs is dir, or the data directories in it.
func memberDirs(fs vfs.FS, dir string) ([]string, error) {
	_, err := datadir.Read(fs, dir)
	if !errors.Is(err, datadir.ErrEmpty) {
		return []string{dir}, nil // visit finds out what is wrong with it
	}
	names, listErr := fs.List(dir)
	if listErr != nil {
		return nil, &exitError{exitStart, fmt.Errorf("%s: %w", dir, listErr)}
	}
	slices.Sort(names)
	var members []string
	for _, name := range names {
		sub := fs.PathJoin(dir, name)
		if info, err := fs.Stat(sub); err != nil || !info.IsDir() {
			continue
		}
		if _, err := datadir.Read(fs, sub); !errors.Is(err, datadir.ErrEmpty) {
			members = append(members, sub)
		}
	}
	if len(members) == 0 {
		return nil, &exitError{exitStart, fmt.Errorf("%w; name the --data-dir of a member", err)}
	}
	return members, nil
}

// groupState is what a log holds of a group, followed over its records.
type groupState struct {
	hardState      smr.HardState
	snapshot, last uint64
	lastTerm       uint64
	members        int
}

// follow takes one record.
func (g *groupState) follow(r *wal.RecordInfo) {
	switch r.Kind {
	case "hard state":
		g.hardState = r.HardState
	case "group":
		g.hardState, g.last = r.HardState, r.Last
	case "entries":
		if n := len(r.Entries); n > 0 {
			g.last, g.lastTerm = r.Entries[n-1].Index, r.Entries[n-1].Term
		}
	}
	if s := r.Snapshot; s != nil {
		g.snapshot, g.members = s.Index, len(s.Configuration.Members)
		if r.Restart || s.Index > g.last {
			g.last, g.lastTerm = s.Index, s.Term
		}
	}
}

// checkMember verifies one data directory.
func checkMember(fs vfs.FS, dir string, out io.Writer) error {
	fmt.Fprintf(out, "%s\n", dir)
	id, err := datadir.Read(fs, dir)
	if err != nil {
		fmt.Fprintf(out, "  identity  DAMAGED\n")
		return damage(err)
	}
	fmt.Fprintf(out, "  identity  %s, incarnation %x\n", id, id.Incarnation)
	for _, m := range id.Members {
		fmt.Fprintf(out, "            member %x %s %s\n", uint64(m.ID), m.Name, m.PeerURL)
	}
	shards, err := shardDirs(fs, dir)
	if err != nil {
		return &exitError{exitStart, err}
	}
	if len(shards) == 0 && id.HasLog {
		fmt.Fprintln(out, "  log       MISSING")
		return damage(fmt.Errorf("%s: %w, although it was made", dir, wal.ErrMissing))
	}
	if len(shards) == 0 {
		fmt.Fprintln(out, "  log       none yet")
	}
	var errs []error
	for _, shard := range shards {
		errs = append(errs, checkShard(fs, shard, id, out))
	}
	errs = append(errs, checkImages(fs, dir, out))
	return errors.Join(errs...)
}

func checkShard(fs vfs.FS, dir string, id *datadir.Identity, out io.Writer) error {
	groups := map[smr.GroupID]*groupState{}
	sum, err := wal.Inspect(fs, dir, func(r wal.RecordInfo) error {
		g := groups[r.Group]
		if g == nil {
			g = &groupState{}
			groups[r.Group] = g
		}
		if r.Kind == "remove" {
			delete(groups, r.Group)
			return nil
		}
		g.follow(&r)
		return nil
	})
	if err != nil {
		fmt.Fprintf(out, "  log       %s: DAMAGED\n            %v\n", fs.PathBase(dir), err)
		return damage(err)
	}
	if own := (wal.Identity{Cluster: id.Cluster, Replica: id.Member, Incarnation: id.Incarnation}); sum.Identity != own && sum.Batches > 0 {
		fmt.Fprintf(out, "  log       %s: FOREIGN\n", fs.PathBase(dir))
		return damage(fmt.Errorf("%s is the log of member %x of cluster %x, incarnation %x", dir, uint64(sum.Identity.Replica), sum.Identity.Cluster, sum.Identity.Incarnation))
	}
	if id.HasLog && sum.Batches == 0 {
		fmt.Fprintf(out, "  log       %s: MISSING\n", fs.PathBase(dir))
		return damage(fmt.Errorf("%s: %w, although it was made", dir, wal.ErrMissing))
	}
	fmt.Fprintf(out, "  log       %s: segments %d to %d (%d bytes), %d batches, %d records, %d entries\n",
		fs.PathBase(dir), sum.First, sum.Last, sum.Bytes, sum.Batches, sum.Records, sum.Entries)
	if sum.Torn {
		fmt.Fprintln(out, "            a batch was being written at the end; it was not acknowledged")
	}
	ids := make([]smr.GroupID, 0, len(groups))
	for g := range groups {
		ids = append(ids, g)
	}
	slices.Sort(ids)
	for _, gid := range ids {
		g := groups[gid]
		fmt.Fprintf(out, "  group %-3d  entries %d to %d, term %d, commit at least %d, %d members\n",
			gid, g.snapshot+1, g.last, g.hardState.Term, g.hardState.Commit, g.members)
	}
	fmt.Fprintln(out, "  ok")
	return nil
}

// shardDirs are the directories of the shards' logs.
func shardDirs(fs vfs.FS, dir string) ([]string, error) {
	base := fs.PathJoin(dir, "wal")
	names, err := fs.List(base)
	if err != nil {
		if _, statErr := fs.Stat(base); statErr != nil {
			return nil, nil // the member was never started
		}
		return nil, err
	}
	var dirs []string
	for _, name := range names {
		if strings.HasPrefix(name, "shard-") {
			dirs = append(dirs, fs.PathJoin(base, name))
		}
	}
	slices.Sort(dirs)
	return dirs, nil
}

// damage gives what a check found its exit code.
func damage(err error) error {
	if errors.Is(err, smr.ErrCorrupt) || errors.Is(err, datadir.ErrDamaged) {
		return &exitError{exitFailed, err}
	}
	if errors.Is(err, datadir.ErrForeign) {
		return &exitError{exitStart, err}
	}
	return &exitError{exitFailed, err}
}
