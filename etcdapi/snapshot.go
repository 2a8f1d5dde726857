package etcdapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"time"

	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/snapshot"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// BackupGroup is the group that a backup says it is of: the one of the keys.
const BackupGroup smr.GroupID = 1

// backupBarrierMax bounds how long a backup waits to see what is committed. A
// member that has lost its quorum gives what it has.
const backupBarrierMax = 2 * time.Second

// Snapshot streams a backup: an image of this member's state (package snapshot),
// and the SHA-256 of it. Applying goes on meanwhile. As long as a quorum can be
// reached it has all that was acknowledged before the call.
func (m *maintenanceService) Snapshot(_ *pb.SnapshotRequest, out pb.Maintenance_SnapshotServer) error {
	ctx, cancel := context.WithTimeout(out.Context(), backupBarrierMax)
	err := m.group.Barrier(ctx)
	cancel()
	if out.Context().Err() != nil {
		return out.Context().Err()
	}
	if err != nil {
		m.cfg.Logger.Warn("a backup is of what this member has applied; it may lack what others have", "err", err)
	}
	view, err := m.store.View()
	if err != nil {
		return storeError(err)
	}
	defer view.Close()
	return m.streamBackup(view, out)
}

func (m *maintenanceService) streamBackup(view smr.View, out pb.Maintenance_SnapshotServer) error {
	head := &snapshot.Head{Group: BackupGroup, SnapshotMeta: smr.SnapshotMeta{Index: view.Applied()}, Digest: view.Digest()}
	sum := sha256.New()
	enc := snapshot.NewEncoder(head, view.Applied()|1<<63, view, 0)
	// How much there will be is not known before the end; this is for progress.
	size, _ := m.sizes(m.store.Stats())
	remaining := uint64(max(size, 1))
	resp := &pb.SnapshotResponse{Header: m.header(m.store.Revision()), Version: m.cfg.Version}
	for {
		b, err := enc.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, kv.ErrClosed) {
			return storeError(kv.ErrClosed)
		}
		if err != nil {
			return storeError(err)
		}
		sum.Write(b)
		remaining -= min(remaining-1, uint64(len(b)))
		resp.Blob, resp.RemainingBytes = b, remaining
		if err := out.Send(resp); err != nil {
			return err
		}
	}
	resp.Blob, resp.RemainingBytes = sum.Sum(nil), 0
	return out.Send(resp)
}
