package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

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
func (c *checker) finish() (sum kv.Summary, err error) {
	if err := c.Finish(); errors.Is(err, snapshot.ErrNoSum) {
		return sum, fmt.Errorf("%w; if it is an image of a member's wal/snapshots, --skip-hash-check takes it as it is", err)
	} else if err != nil {
		return sum, err
	}
	h := c.Head()
	if h.Group != keysGroup {
		return sum, fmt.Errorf("it is of group %d, and the keys are group %d", h.Group, keysGroup)
	}
	if sum, err = c.keys.Finish(); err != nil {
		return sum, err
	}
	if h.Index != sum.Applied || h.Digest != sum.Digest {
		return sum, fmt.Errorf("the state is at %d with digest %x, the head says %d and %x: %w", sum.Applied, sum.Digest, h.Index, h.Digest, kv.ErrDigest)
	}
	return sum, nil
}

// progress tells now and then how much of a file was done.
type progress struct {
	out         io.Writer
	what        string
	done, total int64
	shown       time.Time
}

func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	if time.Since(p.shown) >= time.Second {
		p.shown = time.Now()
		fmt.Fprintf(p.out, "%d of %d MiB %s\n", p.done>>20, p.total>>20, p.what)
	}
	return len(b), nil
}

// source is a backup in a file.
type source struct {
	file string
	// noSum takes an image, which has no SHA-256 at its end.
	noSum bool
	// told is where the progress goes.
	told io.Writer
}

func (s *source) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.noSum, "skip-hash-check", false, "take a file without the SHA-256 at its end, such as an image of a member's; blocks and keys are verified in any case")
}

// verify reads a backup to its end. also, if not nil, is given its state, and what
// says what happens to it.
func (s *source) verify(what string, also io.Writer) (sum kv.Summary, bytes int64, err error) {
	f, err := os.Open(s.file)
	if err != nil {
		return sum, 0, &exitError{exitStart, err}
	}
	defer f.Close()
	told := &progress{out: s.told, what: what, shown: time.Now()}
	if info, err := f.Stat(); err == nil {
		told.total = info.Size()
	}
	check := newChecker()
	check.NoSum = s.noSum
	if also != nil {
		check.State = io.MultiWriter(check.keys, also)
	}
	_, err = io.CopyBuffer(io.MultiWriter(check, told), struct{ io.Reader }{f}, make([]byte, snapshot.BlockBytes))
	if err == nil {
		sum, err = check.finish()
	}
	if errors.Is(err, snapshot.ErrBolt) {
		err = fmt.Errorf("%w; an etcd can serve it (etcdutl snapshot restore), and etcdctl make-mirror copies its keys from there to this cluster", err)
	}
	if err != nil {
		return sum, 0, &exitError{exitFailed, fmt.Errorf("%s is not a whole backup: %w", s.file, err)}
	}
	return sum, check.Bytes(), nil
}
