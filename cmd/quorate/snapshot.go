package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/snapshot"
)

func newSnapshot() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save, look at and restore backups",
		Example: `  quorate snapshot save backup.db --endpoints 127.0.0.1:2379
  quorate snapshot status backup.db
  quorate snapshot restore backup.db --name a --data-dir /var/lib/quorate \
    --initial-cluster a=http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380`,
		Args: usageErrors(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSnapshotSave(), newSnapshotStatus(), newSnapshotRestore())
	return cmd
}

// checker verifies a backup as its bytes come: the blocks, and what the state
// says of itself.
type checker struct {
	snapshot.Verifier
	keys *kv.Inspector
}

func newChecker() *checker {
	c := &checker{keys: kv.NewInspector()}
	c.State = c.keys
	return c
}

// finish returns what the backup holds, or what is wrong with it.
func (c *checker) finish() (kv.Summary, error) {
	if err := c.Finish(); err != nil {
		return kv.Summary{}, err
	}
	sum, err := c.keys.Finish()
	if err != nil {
		return sum, err
	}
	if h := c.Head(); h.Index != sum.Applied || h.Digest != sum.Digest {
		return sum, fmt.Errorf("the state is at %d with digest %x, the head says %d and %x: %w", sum.Applied, sum.Digest, h.Index, h.Digest, kv.ErrDigest)
	}
	return sum, nil
}

func describe(w io.Writer, sum kv.Summary, bytes int64) {
	fmt.Fprintf(w, "digest    %x\nrevision  %d\ncompacted %d\nkeys      %d\nsize      %d bytes\nindex     %d\n",
		sum.Digest, sum.Revision, max(sum.CompactRevision, 0), sum.Keys, bytes, sum.Applied)
}

func newSnapshotStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status FILE",
		Short: "Verify a backup and say what it holds",
		Long: `Verify a backup, every byte and every key of it, and say what it holds. Exit
codes: 0 it is whole, 1 it is not, 3 it cannot be read.`,
		Args: usageErrors(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			sum, bytes, err := verifyBackup(args[0], nil)
			if err != nil {
				return err
			}
			describe(cmd.OutOrStdout(), sum, bytes)
			return nil
		},
	}
}

// verifyBackup reads a backup to its end. also, if not nil, is given its state.
func verifyBackup(file string, also io.Writer) (kv.Summary, int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return kv.Summary{}, 0, &exitError{exitStart, err}
	}
	defer f.Close()
	check := newChecker()
	if also != nil {
		check.State = io.MultiWriter(check.keys, also)
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{check}, struct{ io.Reader }{f}, make([]byte, snapshot.BlockBytes))
	var sum kv.Summary
	if err == nil {
		sum, err = check.finish()
	}
	if err != nil {
		return sum, 0, &exitError{exitFailed, fmt.Errorf("%s is not a whole backup: %w", file, err)}
	}
	return sum, check.Bytes(), nil
}
