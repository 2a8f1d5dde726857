package etcdapi

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/snapshot"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A backup is whole, of one state, and ends with the SHA-256 by which etcd's
// clients know it: "size mod 512 = 32".
func TestSnapshot(t *testing.T) {
	c, _ := single(t)
	for i := range 3000 {
		if _, err := pb.NewKVClient(c).Put(t.Context(), &pb.PutRequest{Key: fmt.Appendf(nil, "k%d", i%500), Value: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	in, err := pb.NewMaintenanceClient(c).Snapshot(t.Context(), &pb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	keys := kv.NewInspector()
	check := snapshot.Verifier{State: keys}
	var all []byte
	for {
		r, err := in.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Version == "" || r.Header.GetRevision() == 0 {
			t.Fatalf("without version or header: %v", r.Header)
		}
		all = append(all, r.Blob...)
		if _, err := check.Write(r.Blob); err != nil {
			t.Fatal(err)
		}
	}
	if err := check.Finish(); err != nil {
		t.Fatal(err)
	}
	sum, err := keys.Finish()
	if err != nil || sum.Keys != 500 || sum.Revision != 3001 || sum.Digest != check.Head().Digest {
		t.Fatalf("%+v, %v", sum, err)
	}
	n := len(all) - sha256.Size
	if len(all)%512 != sha256.Size || sha256.Sum256(all[:n]) != [32]byte(all[n:]) {
		t.Fatalf("%d bytes do not end with their SHA-256", len(all))
	}
}
