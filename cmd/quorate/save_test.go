package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/snapshot"
	"github.com/quorate/quorate/vfs"
)

// "FILE is there whole or not at all": what is no endpoint saves nothing, and a
// backup that was there stays.
func TestSaveWithoutEndpoints(t *testing.T) {
	file := filepath.Join(t.TempDir(), "backup.db")
	if err := os.WriteFile(file, []byte("a good backup"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, endpoints := range []string{"", ",", "127.0.0.1:1,", "unix:///socket", "http://", "127.0.0.1", "127.0.0.1:"} {
		if said := runs(t, exitUsage, "snapshot", "save", file, "--endpoints", endpoints); !strings.Contains(said, "--endpoints") {
			t.Errorf("--endpoints %q: it says %q", endpoints, said)
		}
	}
	runs(t, exitFailed, "snapshot", "save", file, "--endpoints", "127.0.0.1:1,http://127.0.0.1:1/", "--dial-timeout", "1s")
	if b, err := os.ReadFile(file); err != nil || string(b) != "a good backup" {
		t.Errorf("the backup that was there is %q, %v", b, err)
	}
	if left, _ := filepath.Glob(file + "?*"); len(left) > 0 {
		t.Errorf("it has left %v", left)
	}
}

// aBackup is a backup of n keys, each written twice.
func aBackup(t *testing.T, n int) []byte {
	t.Helper()
	store := kv.New(kv.Config{FS: vfs.NewMem(), Dir: "kv", Group: keysGroup, Logger: slog.New(slog.DiscardHandler)})
	if _, err := store.Open(); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var batch []smr.Committed
	for i := range 2 * n {
		c := kv.Command{Kind: kv.CommandPut, Put: kv.PutRequest{Key: fmt.Appendf(nil, "key %d", i%n), Value: fmt.Appendf(nil, "value %d", i)}}
		batch = append(batch, smr.Committed{Entry: smr.Entry{Index: uint64(i + 1), Kind: smr.KindCommand, Data: kv.AppendCommand(nil, &c)}})
	}
	if err := store.Apply(batch); err != nil {
		t.Fatal(err)
	}
	view, err := store.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	head := &snapshot.Head{Group: keysGroup, SnapshotMeta: smr.SnapshotMeta{Index: view.Applied()}, Digest: view.Digest()}
	enc := snapshot.NewEncoder(head, 7, view, snapshot.BlockBytesMin)
	var b []byte
	for {
		block, err := enc.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, block...)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// backupServer is a member that sends the first bytes of a backup, and then says
// nothing if that is not all of it.
type backupServer struct {
	pb.UnimplementedMaintenanceServer
	backup []byte
	sends  int
}

func (s *backupServer) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{}, nil
}

func (s *backupServer) Snapshot(_ *pb.SnapshotRequest, out pb.Maintenance_SnapshotServer) error {
	const piece = 1000
	for at := 0; at < s.sends; at += piece {
		if err := out.Send(&pb.SnapshotResponse{Blob: s.backup[at:min(at+piece, s.sends)]}); err != nil {
			return err
		}
	}
	if s.sends < len(s.backup) {
		<-out.Context().Done()
	}
	return nil
}

func (s *backupServer) serve(t *testing.T, options ...grpc.ServerOption) (endpoint string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(options...)
	pb.RegisterMaintenanceServer(g, s)
	go g.Serve(l)
	t.Cleanup(g.Stop)
	return l.Addr().String()
}

// "A member that falls silent on the way is given up, and the next one asked from
// the beginning."
func TestSaveFromASilentMember(t *testing.T) {
	backup := aBackup(t, 100)
	silent, good := &backupServer{backup: backup, sends: len(backup) / 2}, &backupServer{backup: backup, sends: len(backup)}
	file := filepath.Join(t.TempDir(), "backup.db")
	lone := silent.serve(t)
	if said := runs(t, exitFailed, "snapshot", "save", file, "--endpoints", lone, "--silence-timeout", "10ms"); !strings.Contains(said, "has sent nothing for 10ms") {
		t.Errorf("it says %q", said)
	}
	if left, _ := filepath.Glob(file + "*"); len(left) > 0 {
		t.Errorf("it has left %v", left)
	}
	saved := runs(t, 0, "snapshot", "save", file, "--endpoints", lone+","+good.serve(t), "--silence-timeout", "3s")
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, backup) || field(t, saved, "keys") != "100" {
		t.Errorf("%d bytes of %d, %v:\n%s", len(b), len(backup), err, saved)
	}
}

// As etcdctl takes them: https:// is TLS, host:port is if a flag of TLS is given,
// http:// is not.
func TestSaveOverTLS(t *testing.T) {
	dir := t.TempDir()
	other := httptest.NewTLSServer(nil) // for its certificate
	defer other.Close()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	backup := aBackup(t, 10)
	plain := (&backupServer{backup: backup, sends: len(backup)}).serve(t)
	secure := (&backupServer{backup: backup, sends: len(backup)}).serve(t, grpc.Creds(credentials.NewServerTLSFromCert(&other.TLS.Certificates[0])))
	for _, c := range []struct {
		code int
		args []string
	}{
		{0, []string{"https://" + secure, "--cacert", ca}},
		{0, []string{secure, "--cacert", ca}},
		{0, []string{"https://" + secure, "--insecure-skip-tls-verify"}},
		{0, []string{"http://" + plain, "--cacert", ca}},
		{exitFailed, []string{"https://" + secure}},
		{exitFailed, []string{secure}},
		{exitUsage, []string{secure, "--cacert", filepath.Join(dir, "missing")}},
		{exitUsage, []string{secure, "--cert", ca}},
	} {
		runs(t, c.code, append([]string{"snapshot", "save", filepath.Join(dir, "b.db"), "--endpoints"}, c.args...)...)
	}
}
