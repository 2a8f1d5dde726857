package kv

import (
	"crypto/sha256"
	"fmt"

	"github.com/quorate/quorate/smr"
)

// Summary is what a state holds.
type Summary struct {
	Applied                   uint64
	Revision, CompactRevision int64
	// Keys counts the live keys, Bytes the bytes of them and their values.
	Keys, Bytes int64
	// Digest of the state, as Store.Digest returns it.
	Digest [16]byte
}

// Inspector takes the bytes of a View and verifies what they say: every live key
// is read and compared with the digest that was kept as it was written.
type Inspector struct {
	stream StreamDecoder
	st     state
	found  bool
	last   []byte // prefix of the version before
	set    setHash
	keys   int64
	rec    []byte
}

// NewInspector returns an inspector of one state.
func NewInspector() *Inspector {
	in := &Inspector{}
	in.stream.Pair = in.pair
	return in
}

// Write implements io.Writer.
func (in *Inspector) Write(p []byte) (int, error) { return in.stream.Write(p) }

func (in *Inspector) pair(key, value []byte) (err error) {
	if string(key) == string(keyState) {
		in.found = true
		in.st, err = decodeState(value)
		return err
	}
	if len(key) == 0 || key[0] != tagVersion {
		return nil
	}
	prefix, _, kind, err := splitVersion(key)
	if err != nil {
		return err
	}
	if string(prefix) == string(in.last) {
		return nil // an older version of the same key
	}
	in.last = append(in.last[:0], prefix...)
	if kind != kindPut {
		return nil
	}
	in.rec = append(append(in.rec[:0], key...), value...)
	l := leaf(sha256.Sum256(in.rec))
	in.set.add(&l)
	in.keys++
	return nil
}

// Finish returns what the state holds. ErrDigest says that it is not what was
// applied; other errors wrap smr.ErrCorrupt.
func (in *Inspector) Finish() (Summary, error) {
	if err := in.stream.Finish(); err != nil {
		return Summary{}, err
	}
	if !in.found {
		return Summary{}, fmt.Errorf("no state record: %w", smr.ErrCorrupt)
	}
	st := &in.st
	if in.keys != st.keys || in.set != st.set {
		return Summary{}, fmt.Errorf("%d keys stored, %d applied, at revision %d: %w", in.keys, st.keys, st.revision, ErrDigest)
	}
	return Summary{Applied: st.applied, Revision: st.revision, CompactRevision: st.compact, Keys: st.keys, Bytes: st.bytes, Digest: st.digest()}, nil
}
