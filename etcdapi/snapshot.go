package etcdapi

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/snapshot"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// BackupGroup is the group that a backup says it is of: the one of the keys.
const BackupGroup smr.GroupID = 1

// backupBarrierMax bounds how long a backup waits to see what is committed. A
// member that has lost its quorum gives what it has.
const backupBarrierMax = 2 * time.Second

const (
	// backupsMax bounds how many backups are under way: each keeps a view of the
	// store open, and reads the whole of it.
	backupsMax = 4
	// backupStallMax bounds how long a client may take nothing. Its view is then
	// closed, so that a client that went to sleep keeps no old version on the disk.
	backupStallMax = time.Minute
	// backupPieceBytes is the size of a message: small enough for a slow link to
	// take several within backupStallMax.
	backupPieceBytes = 256 << 10
)

// backups are those under way at this member.
type backups struct {
	open  chan struct{} // holds one for each; its capacity is the bound
	stall time.Duration
}

func newBackups() backups {
	return backups{open: make(chan struct{}, backupsMax), stall: backupStallMax}
}

// Snapshot streams a backup: an image of this member's state (package snapshot),
// and the SHA-256 of it. Applying goes on meanwhile. As long as a quorum can be
// reached it has all that was acknowledged before the call.
func (m *maintenanceService) Snapshot(_ *pb.SnapshotRequest, out pb.Maintenance_SnapshotServer) error {
	select {
	case m.backups.open <- struct{}{}:
	default:
		return status.Errorf(codes.ResourceExhausted, "etcdserver: this member gives %d backups already; ask another one, or later", cap(m.backups.open))
	}
	ctx, cancel := context.WithTimeout(out.Context(), backupBarrierMax)
	err := m.group.Barrier(ctx)
	cancel()
	if err != nil && out.Context().Err() == nil {
		m.cfg.Logger.Warn("a backup is of what this member has applied; it may lack what others have", "err", err)
	}
	// A Send that the client does not take ends when this handler has returned,
	// and not before: so sending has a goroutine of its own, which owns the view.
	done, stalled := make(chan error, 1), make(chan struct{})
	watch := time.AfterFunc(m.backups.stall, func() { close(stalled) })
	watch.Stop()
	go func() {
		defer func() { <-m.backups.open }()
		done <- m.streamBackup(&watchedStream{out, watch, m.backups.stall})
	}()
	select {
	case err := <-done:
		return err
	case <-stalled:
		m.cfg.Logger.Warn("a backup was given up: its client has taken nothing", "for", m.backups.stall)
		return status.Errorf(codes.Aborted, "etcdserver: the backup was given up: the client has taken nothing for %v", m.backups.stall)
	}
}

// watchedStream runs a watch while it sends.
type watchedStream struct {
	pb.Maintenance_SnapshotServer
	watch *time.Timer
	stall time.Duration
}

func (s *watchedStream) Send(r *pb.SnapshotResponse) error {
	s.watch.Reset(s.stall)
	defer s.watch.Stop()
	return s.Maintenance_SnapshotServer.Send(r)
}

func (m *maintenanceService) streamBackup(out pb.Maintenance_SnapshotServer) error {
	if err := out.Context().Err(); err != nil {
		return err
	}
	view, err := m.store.View()
	if err != nil {
		return storeError(err)
	}
	defer view.Close()
	backup, err := snapshot.NewBackup(BackupGroup, view, 0)
	if err != nil {
		return status.Errorf(codes.Unavailable, "etcdserver: this member gives no backup: %v", err)
	}
	// How much there will be is not known before the end; this is for progress.
	size, _ := m.sizes(m.store.Stats())
	remaining := uint64(max(size, 1))
	revision := m.store.Revision()
	for !backup.Ended() {
		block, err := backup.Next()
		if err != nil {
			return storeError(err)
		}
		for piece := range slices.Chunk(block, backupPieceBytes) {
			remaining -= min(remaining-1, uint64(len(piece)))
			if backup.Ended() {
				remaining = 0
			}
			// A message is gRPC's once it is sent, and the block is the encoder's.
			if err := out.Send(m.backupPiece(revision, bytes.Clone(piece), remaining)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *maintenanceService) backupPiece(revision int64, blob []byte, remaining uint64) *pb.SnapshotResponse {
	return &pb.SnapshotResponse{Header: m.header(revision), Version: m.cfg.Version, Blob: blob, RemainingBytes: remaining}
}
