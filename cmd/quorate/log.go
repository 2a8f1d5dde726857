package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/roster"
	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
	"github.com/quorate/quorate/wal"
)

type logOptions struct {
	group    uint64
	from, to uint64
	entries  bool
}

func newLog() *cobra.Command {
	o := &logOptions{}
	cmd := &cobra.Command{
		Use:   "log DIR",
		Short: "Print the records of a data directory's log",
		Long: `Print the records of a data directory's log, in the order in which they were
written. DIR is a member's data directory, or a directory of several.

Each line begins with the segment, the offset in it and the batch. Entries follow
their record, one a line; an index that stands twice was written over, and the
last one counts.

Nothing is changed. Values are not printed, keys are.`,
		Example: `  quorate log quorate-data/dev1
  quorate log --entries --from 1000 --to 1010 /var/lib/quorate`,
		Args: usageErrors(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := bufio.NewWriter(cmd.OutOrStdout())
			err := eachMember(vfs.OS(), args, func(dir string) error { return printLog(vfs.OS(), dir, o, out) })
			return errors.Join(err, out.Flush())
		},
	}
	fs := cmd.Flags()
	fs.Uint64Var(&o.group, "group", 0, "only this group; 0: all")
	fs.Uint64Var(&o.from, "from", 0, "only entries from this index on, and no other records")
	fs.Uint64Var(&o.to, "to", 0, "only entries up to this index, and no other records")
	fs.BoolVar(&o.entries, "entries", false, "only entries")
	return cmd
}

func printLog(fs vfs.FS, dir string, o *logOptions, out io.Writer) error {
	shards, err := shardDirs(fs, dir)
	if err != nil {
		return &exitError{exitStart, err}
	}
	if len(shards) == 0 {
		return &exitError{exitStart, fmt.Errorf("%s holds no log; name the --data-dir of a member that was started", dir)}
	}
	var errs []error
	for _, shard := range shards {
		fmt.Fprintf(out, "%s\n", shard)
		if _, err := wal.Inspect(fs, shard, func(r wal.RecordInfo) error { return o.print(&r, out) }); err != nil {
			errs = append(errs, damage(err))
		}
	}
	return errors.Join(errs...)
}

// print prints one record, unless the options leave it out.
func (o *logOptions) print(r *wal.RecordInfo, out io.Writer) error {
	if o.group != 0 && r.Group != smr.GroupID(o.group) {
		return nil
	}
	only := o.entries || o.from != 0 || o.to != 0
	if !only {
		fmt.Fprintf(out, "%d:%d batch %d group %d %s%s\n", r.Segment, r.Offset, r.Batch, r.Group, r.Kind, recordText(r))
	}
	for i := range r.Entries {
		e := &r.Entries[i]
		if e.Index < o.from || o.to != 0 && e.Index > o.to {
			continue
		}
		if _, err := fmt.Fprintf(out, "    %d term %d %s\n", e.Index, e.Term, entryText(r.Group, e)); err != nil {
			return err
		}
	}
	return nil
}

func recordText(r *wal.RecordInfo) string {
	switch {
	case r.Kind == "hard state":
		return fmt.Sprintf(" term %d vote %x commit %d", r.HardState.Term, uint64(r.HardState.Vote), r.HardState.Commit)
	case r.Kind == "group":
		return fmt.Sprintf(" term %d vote %x commit %d, snapshot %d, last %d", r.HardState.Term, uint64(r.HardState.Vote), r.HardState.Commit, r.Snapshot.Index, r.Last)
	case r.Snapshot != nil:
		return fmt.Sprintf(" at %d term %d: %s", r.Snapshot.Index, r.Snapshot.Term, configurationText(&r.Snapshot.Configuration))
	case len(r.Entries) > 0:
		return fmt.Sprintf(" %d to %d", r.Entries[0].Index, r.Entries[len(r.Entries)-1].Index)
	}
	return ""
}

func configurationText(c *smr.Configuration) string {
	text := ""
	for _, m := range c.Members {
		role := map[smr.Role]string{smr.Voter: "voter", smr.Learner: "learner", smr.Witness: "witness"}[m.Role]
		text += fmt.Sprintf(" %x %s", uint64(m.ID), role)
	}
	if c.Joint {
		text += " joint"
	}
	return "members" + text
}

// entryText says what an entry is for.
func entryText(group smr.GroupID, e *smr.Entry) string {
	switch e.Kind {
	case smr.KindEmpty:
		return "empty (a leader's first)"
	case smr.KindConfiguration:
		c, _, err := smr.DecodeConfiguration(e.Data)
		if err != nil {
			return "configuration that cannot be read"
		}
		return configurationText(&c)
	case smr.KindSession:
		return "session"
	}
	if group == rosterGroup {
		member, urls, err := roster.Decode(e.Data)
		if err != nil {
			return "announcement that cannot be read"
		}
		return fmt.Sprintf("member %x serves clients at %s", uint64(member), strings.Join(urls, ","))
	}
	var c kv.Command
	if err := kv.DecodeCommand(e.Data, &c); err != nil {
		return fmt.Sprintf("command of %d bytes", len(e.Data))
	}
	switch c.Kind {
	case kv.CommandPut:
		return fmt.Sprintf("put %q, value of %d bytes", c.Put.Key, len(c.Put.Value))
	case kv.CommandDeleteRange:
		return fmt.Sprintf("delete %q to %q", c.DeleteRange.Key, c.DeleteRange.RangeEnd)
	case kv.CommandTxn:
		return fmt.Sprintf("transaction of %d compares, %d and %d operations", len(c.Txn.Compare), len(c.Txn.Success), len(c.Txn.Failure))
	case kv.CommandCompact:
		return fmt.Sprintf("compact to revision %d", c.Compact.Revision)
	}
	return fmt.Sprintf("command of kind %d", c.Kind)
}
