package wal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// A batch goes through, and what follows it (preparing the next segment) fails:
// the batch is acknowledged, and the failure is told too, by a Sync for which
// Pending asks although nothing was filled since.
func TestFailureAfterTheBatch(t *testing.T) {
	broken := false
	policy := vfs.PolicyFunc(func(op vfs.Op) vfs.Verdict {
		if broken && (op.Kind == vfs.OpCreate || op.Kind == vfs.OpSyncDir) {
			return vfs.Verdict{Err: syscall.EIO}
		}
		return vfs.Verdict{}
	})
	fs := vfs.NewFault(vfs.NewMem(), policy, func(time.Duration) {})
	l, err := Open(fs, "log", Options{
		Identity: Identity{Cluster: 1, Replica: 1}, SegmentBytes: 16 << 10,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Create(1, smr.Configuration{Members: []smr.Member{{ID: 1, Role: smr.Voter}}})
	if _, err := l.Sync(nil); err != nil {
		t.Fatal(err)
	}
	broken = true
	for i := uint64(1); i <= 1000; i++ {
		l.Append(1, i, nil, []smr.Entry{{Index: i, Term: 1, Data: fmt.Appendf(nil, "%0500d", i)}})
		acks, err := l.Sync(nil)
		if err != nil {
			t.Fatalf("batch %d: the failure came with a batch and not after one: %v", i, err)
		}
		if len(acks) != 1 || acks[0].Seq != i {
			t.Fatalf("batch %d: acknowledged %v", i, acks)
		}
		if l.Failed() == nil {
			continue
		}
		if !l.Pending() {
			t.Fatal("the log has failed, and Pending asks for no Sync that would say so")
		}
		if _, err := l.Sync(nil); !errors.Is(err, ErrFailed) {
			t.Fatalf("Sync of a failed log: %v", err)
		}
		return
	}
	t.Fatal("nothing failed")
}
