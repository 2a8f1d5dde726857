package kv

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/quorate/quorate/smr"
)

// The first byte of every key in pebble. 'l' is for KV leases, and 'u' for
// users and roles.
const (
	tagVersion  = 'k'
	tagMeta     = 'm'
	tagRevision = 'r'
)

var (
	keyFormat = []byte{tagMeta, 'f', 'o', 'r', 'm', 'a', 't'}
	keyState  = []byte{tagMeta, 's', 't', 'a', 't', 'e'}
	// The keys of all versions are in [versionsStart, versionsEnd).
	versionsStart = []byte{tagVersion}
	versionsEnd   = []byte{tagVersion + 1}
)

// In the key of a version, 0x00 of the user's key is written as 00 FF, and 00 01
// ends it: so keys sort as the user's do, and none is a prefix of another.
const (
	escape     = 0x00
	escapedNul = 0xff
	terminator = 0x01
)

// suffixBytes is what follows the terminator: the revision, descending, and the
// kind.
const suffixBytes = 8 + 4 + 1

// The kinds of versions.
const (
	kindPut    = 0
	kindDelete = 1
)

// position is where a version stands in history: the main revision, and its
// number within that revision's transaction.
type position struct {
	main int64
	sub  uint32
}

// before says whether p is earlier than q.
func (p position) before(q position) bool {
	return p.main < q.main || p.main == q.main && p.sub < q.sub
}

// appendPrefix appends what all versions of a user's key begin with.
func appendPrefix(dst, key []byte) []byte {
	dst = append(dst, tagVersion)
	for {
		i := bytes.IndexByte(key, escape)
		if i < 0 {
			break
		}
		dst = append(dst, key[:i]...)
		dst = append(dst, escape, escapedNul)
		key = key[i+1:]
	}
	dst = append(dst, key...)
	return append(dst, escape, terminator)
}

// appendSuffix appends the rest of a version's key.
func appendSuffix(dst []byte, p position, kind byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, ^uint64(p.main))
	dst = binary.BigEndian.AppendUint32(dst, ^p.sub)
	return append(dst, kind)
}

// appendSeek appends the shortest suffix that no version later than main has
// before it: sought after a prefix, it finds the newest version at main.
func appendSeek(dst []byte, main int64) []byte {
	return binary.BigEndian.AppendUint64(dst, ^uint64(main))
}

// appendUpper appends the bound in pebble of a range that ends before rangeEnd.
func appendUpper(dst, rangeEnd []byte) []byte {
	if isUnbounded(rangeEnd) {
		return append(dst, versionsEnd...)
	}
	return appendPrefix(dst, rangeEnd)
}

// splitVersion cuts the key of a version into its parts. prefix shares k's
// memory.
func splitVersion(k []byte) (prefix []byte, p position, kind byte, err error) {
	n := len(k) - suffixBytes
	if n < 3 || k[0] != tagVersion || k[n-2] != escape || k[n-1] != terminator {
		return nil, p, 0, fmt.Errorf("key of a version %x: %w", k, smr.ErrCorrupt)
	}
	s := k[n:]
	p.main, p.sub = int64(^binary.BigEndian.Uint64(s)), ^binary.BigEndian.Uint32(s[8:])
	return k[:n], p, s[12], nil
}

// appendUserKey appends the user's key that prefix was made from.
func appendUserKey(dst, prefix []byte) []byte {
	b := prefix[1 : len(prefix)-2]
	for {
		i := bytes.IndexByte(b, escape)
		if i < 0 || i+1 >= len(b) {
			return append(dst, b...)
		}
		dst = append(dst, b[:i+1]...)
		b = b[i+2:]
	}
}

// appendRevisionKey appends the key of the index by revision.
func appendRevisionKey(dst []byte, p position) []byte {
	dst = append(dst, tagRevision)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.main))
	return binary.BigEndian.AppendUint32(dst, p.sub)
}

// decodeRevisionKey is the inverse of appendRevisionKey.
func decodeRevisionKey(k []byte) (p position, err error) {
	if len(k) != 13 || k[0] != tagRevision {
		return p, fmt.Errorf("key of a revision %x: %w", k, smr.ErrCorrupt)
	}
	return position{int64(binary.BigEndian.Uint64(k[1:])), binary.BigEndian.Uint32(k[9:])}, nil
}

// split is pebble's Split: the versions of one user's key share a prefix, which
// the bloom filters hold and NextPrefix steps over.
func split(k []byte) int {
	if len(k) == 0 || k[0] != tagVersion {
		return len(k)
	}
	for i := 1; ; {
		n := bytes.IndexByte(k[i:], escape)
		if n < 0 || i+n+1 >= len(k) {
			return len(k)
		}
		i += n + 2
		if k[i-1] == terminator {
			return i
		}
	}
}

// comparer orders keys by their bytes. Its name is part of the format on disk.
var comparer = func() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "quorate.kv.v1"
	c.Split = split
	c.ImmediateSuccessor = func(dst, a []byte) []byte {
		if n := len(a); n > 2 && a[0] == tagVersion && split(a) == n && a[n-2] == escape && a[n-1] == terminator {
			// No prefix lies between this one and its successor.
			return append(append(dst, a[:n-1]...), terminator+1)
		}
		return append(append(dst, a...), 0)
	}
	return &c
}()
