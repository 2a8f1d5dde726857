package datadir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strconv"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

const (
	fileName         = "identity"
	header           = "quorate data directory, format 1\n"
	trailer          = "crc32c "
	identityBytesMax = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hex is an id as etcd prints it.
type hex uint64

func (h hex) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(h), 16), nil }

func (h *hex) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 16, 64)
	*h = hex(v)
	return err
}

// fileIdentity and fileMember are the file's form of Identity and Member.
type fileIdentity struct {
	Cluster     hex          `json:"cluster"`
	Member      hex          `json:"member"`
	Incarnation hex          `json:"incarnation"`
	HasLog      bool         `json:"log,omitempty"`
	Seed        hex          `json:"seed,omitempty"`
	Name        string       `json:"name"`
	Members     []fileMember `json:"members"`
}

type fileMember struct {
	ID      hex    `json:"id"`
	Name    string `json:"name"`
	PeerURL string `json:"peerURL"`
}

func encode(id *Identity) ([]byte, error) {
	f := fileIdentity{Cluster: hex(id.Cluster), Member: hex(id.Member), Incarnation: hex(id.Incarnation), HasLog: id.HasLog, Seed: hex(id.Seed), Name: id.Name}
	for _, m := range id.Members {
		f.Members = append(f.Members, fileMember{hex(m.ID), m.Name, m.PeerURL})
	}
	line, err := json.Marshal(&f)
	if err != nil {
		return nil, err
	}
	b := append([]byte(header), line...)
	b = append(b, '\n')
	return fmt.Appendf(b, "%s%08x\n", trailer, crc32.Checksum(b, castagnoli)), nil
}

// decode reads what encode wrote, and nothing else.
func decode(b []byte) (*Identity, error) {
	const sumBytes = len(trailer) + 8 + 1
	if len(b) > identityBytesMax {
		return nil, fmt.Errorf("more than %d bytes: %w", identityBytesMax, smr.ErrCorrupt)
	}
	if !bytes.HasPrefix(b, []byte(header)) {
		return nil, fmt.Errorf("first line is not %q; a newer version may have written it: %w", header[:len(header)-1], smr.ErrCorrupt)
	}
	if len(b) < len(header)+sumBytes {
		return nil, fmt.Errorf("cut short: %w", smr.ErrCorrupt)
	}
	body, sum := b[:len(b)-sumBytes], b[len(b)-sumBytes:]
	if want := fmt.Sprintf("%s%08x\n", trailer, crc32.Checksum(body, castagnoli)); string(sum) != want {
		return nil, fmt.Errorf("checksum does not match: %w", smr.ErrCorrupt)
	}
	var f fileIdentity
	if err := json.Unmarshal(body[len(header):], &f); err != nil {
		return nil, fmt.Errorf("%w: %w", smr.ErrCorrupt, err)
	}
	if f.Cluster == 0 || f.Member == 0 || f.Incarnation == 0 {
		return nil, fmt.Errorf("an id is zero: %w", smr.ErrCorrupt)
	}
	id := &Identity{Cluster: uint64(f.Cluster), Member: smr.ReplicaID(f.Member), Incarnation: uint64(f.Incarnation), HasLog: f.HasLog, Seed: uint64(f.Seed), Name: f.Name}
	for _, m := range f.Members {
		id.Members = append(id.Members, Member{smr.ReplicaID(m.ID), m.Name, m.PeerURL})
	}
	return id, nil
}

// write replaces the identity file atomically: after a power cut the old one is
// there or the new one, whole.
func write(fsys vfs.FS, path string, id *Identity) error {
	b, err := encode(id)
	if err != nil {
		return err
	}
	name := fsys.PathJoin(path, fileName)
	if err := writeSynced(fsys, name+".new", b); err != nil {
		return fmt.Errorf("identity of %s: %w", path, err)
	}
	if err := fsys.Rename(name+".new", name); err != nil {
		return fmt.Errorf("identity of %s: %w", path, err)
	}
	if err := vfs.SyncDir(fsys, path); err != nil {
		return fmt.Errorf("identity of %s: %w", path, err)
	}
	return nil
}

// makeDir makes the directory at path with its parents, and syncs the entries
// of all that it made: a log in a directory that a power cut forgets is lost.
func makeDir(fsys vfs.FS, path string) error {
	_, err := fsys.Stat(path)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := fsys.PathDir(path)
	if parent != path {
		if err := makeDir(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return vfs.SyncDir(fsys, parent)
}

func writeSynced(fsys vfs.FS, name string, b []byte) error {
	f, err := fsys.Create(name, vfs.CategoryLog)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
