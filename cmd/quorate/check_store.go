package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"

	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/vfs"
)

// progressBytes is how large a store is of which a check says how far it has come.
const progressBytes = 1 << 30

// checkStore verifies the key-value store of a data directory.
func checkStore(ctx context.Context, fs vfs.FS, dir string, out io.Writer) error {
	shown := int64(0)
	progress := func(done, total int64) {
		if tenth := done * 10 / max(total, 1); total >= progressBytes && tenth > shown {
			shown = tenth
			fmt.Fprintf(out, "  keys      %d %% of %d MB verified\n", 10*tenth, total/1e6)
		}
	}
	sum, err := kv.Check(ctx, kv.Config{
		FS: fs, Dir: fs.PathJoin(dir, "kv"), Group: keysGroup, Logger: slog.New(slog.DiscardHandler),
	}, progress)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		fmt.Fprintln(out, "  keys      none yet")
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		fmt.Fprintf(out, "  keys      DAMAGED\n            %v\n", err)
		return damage(err)
	}
	fmt.Fprintf(out, "  keys      %d of %d bytes at revision %d, compacted to %d; durable to entry %d\n",
		sum.Keys, sum.Bytes, sum.Revision, sum.CompactRevision, sum.Applied)
	return nil
}
