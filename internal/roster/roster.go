// Package roster is a small replicated state machine: which URLs each member of
// the cluster serves clients at. Members find each other by their peer URLs,
// which are settings; where the others' clients go, each has to say itself.
//
// It lives in a group of its own, beside the group of the keys, and is kept in
// memory: its log holds an entry for each time that a member's URLs changed, and
// is replayed at the start from its last snapshot on.
//
// A command, all integers as unsigned varints:
//
//	1 (version byte) | member | number of URLs | { length | URL } ...
//
// A member that announces no URL is forgotten.
package roster

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/quorate/quorate/smr"
)

const (
	version = 1
	// CommandBytesMax bounds a command that is taken.
	CommandBytesMax = 16 << 10
)

// Roster is the state machine. ClientURLs may be called by any goroutine.
type Roster struct {
	// urls is replaced whole and never changed: readers hold what they loaded.
	urls    atomic.Pointer[map[smr.ReplicaID][]string]
	applied uint64
	digest  [16]byte
}

var _ smr.StateMachine = (*Roster)(nil)

// New returns an empty roster.
func New() *Roster {
	r := &Roster{}
	r.urls.Store(&map[smr.ReplicaID][]string{})
	r.digest = digestOf(nil)
	return r
}

// ClientURLs are those that the member has announced, as far as this replica has
// applied it. They must not be changed.
func (r *Roster) ClientURLs(member smr.ReplicaID) []string { return (*r.urls.Load())[member] }

// Announce returns the command that says where a member serves clients.
func Announce(member smr.ReplicaID, urls []string) []byte {
	b := binary.AppendUvarint([]byte{version}, uint64(member))
	b = binary.AppendUvarint(b, uint64(len(urls)))
	for _, u := range urls {
		b = binary.AppendUvarint(b, uint64(len(u)))
		b = append(b, u...)
	}
	return b
}

// Decode reads a command. The error wraps smr.ErrCorrupt.
func Decode(b []byte) (member smr.ReplicaID, urls []string, err error) {
	bad := fmt.Errorf("announcement of %d bytes: %w", len(b), smr.ErrCorrupt)
	if len(b) == 0 || len(b) > CommandBytesMax || b[0] != version {
		return 0, nil, bad
	}
	d := smr.Decoder{B: b[1:]}
	member = smr.ReplicaID(d.Uvarint())
	n := d.Uvarint()
	if d.Failed || member == 0 || n > uint64(len(d.B)) {
		return 0, nil, bad
	}
	for range n {
		urls = append(urls, string(d.Bytes()))
	}
	if d.Failed || len(d.B) > 0 {
		return 0, nil, bad
	}
	return member, urls, nil
}

// Open implements smr.StateMachine: nothing is kept but the log and snapshots.
func (r *Roster) Open() (uint64, error) { return 0, nil }

// Apply implements smr.StateMachine. A command that cannot be read changes
// nothing, on every replica alike.
func (r *Roster) Apply(batch []smr.Committed) error {
	for i := range batch {
		c := &batch[i]
		r.applied = c.Index
		if c.Kind != smr.KindCommand {
			continue
		}
		member, urls, err := Decode(c.Data)
		if err != nil {
			continue
		}
		next := maps.Clone(*r.urls.Load())
		if next[member] = urls; len(urls) == 0 {
			delete(next, member)
		}
		r.urls.Store(&next)
		r.digest = digestOf(next)
		c.Result.Value = 1
	}
	return nil
}

// Lookup implements smr.StateMachine; ClientURLs is what readers use.
func (r *Roster) Lookup([]byte) ([]byte, error) { return nil, nil }

// Digest implements smr.StateMachine.
func (r *Roster) Digest() (uint64, [16]byte) { return r.applied, r.digest }

// Close implements smr.StateMachine.
func (r *Roster) Close() error { return nil }

// digestOf is made anew at each change: there are few members and fewer changes.
func digestOf(urls map[smr.ReplicaID][]string) [16]byte {
	h := sha256.New()
	for _, id := range slices.SortedFunc(maps.Keys(urls), cmp.Compare[smr.ReplicaID]) {
		h.Write(Announce(id, urls[id]))
	}
	return [16]byte(h.Sum(nil)[:16])
}

// view is a roster at one index. The map is never changed.
type view struct {
	*bytes.Reader
	applied uint64
	digest  [16]byte
}

func (v view) Applied() uint64  { return v.applied }
func (v view) Digest() [16]byte { return v.digest }
func (v view) Close() error     { return nil }

var _ smr.Snapshotter = (*Roster)(nil)

// View implements smr.Snapshotter. The bytes are
//
//	applied u64 | { length uvarint | command, as Announce makes it } ...
//
// There are few members: to encode them here takes no time.
func (r *Roster) View() (smr.View, error) {
	urls := *r.urls.Load()
	b := binary.LittleEndian.AppendUint64(nil, r.applied)
	for _, id := range slices.SortedFunc(maps.Keys(urls), cmp.Compare[smr.ReplicaID]) {
		c := Announce(id, urls[id])
		b = append(binary.AppendUvarint(b, uint64(len(c))), c...)
	}
	return view{bytes.NewReader(b), r.applied, r.digest}, nil
}

// restoration is a roster that comes in.
type restoration struct {
	bytes.Buffer
	r       *Roster
	applied uint64
	urls    map[smr.ReplicaID][]string
}

// BeginRestore implements smr.Snapshotter.
func (r *Roster) BeginRestore() (smr.Restoration, error) { return &restoration{r: r}, nil }

// Finish implements smr.Restoration.
func (n *restoration) Finish() error {
	b := n.Bytes()
	if len(b) < 8 {
		return fmt.Errorf("roster of %d bytes: %w", len(b), smr.ErrCorrupt)
	}
	n.applied, n.urls = binary.LittleEndian.Uint64(b), map[smr.ReplicaID][]string{}
	d := smr.Decoder{B: b[8:]}
	for len(d.B) > 0 && !d.Failed {
		member, urls, err := Decode(d.Bytes())
		if err != nil {
			return err
		}
		n.urls[member] = urls
	}
	if d.Failed {
		return fmt.Errorf("roster of %d bytes: %w", len(b), smr.ErrCorrupt)
	}
	return nil
}

// Commit implements smr.Restoration.
func (n *restoration) Commit() error {
	n.r.urls.Store(&n.urls)
	n.r.applied, n.r.digest = n.applied, digestOf(n.urls)
	return nil
}

// Close implements smr.Restoration.
func (n *restoration) Close() error { return nil }
