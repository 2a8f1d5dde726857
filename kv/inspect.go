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

// Inspector takes the bytes of a View and verifies what they say. Every live key is
// read and compared with the digest that was kept as it was written. Every other
// version that can still be read must be in the index by revision, and what is in
// that must be there; the value of one that is superseded is in no digest.
type Inspector struct {
	// Live, if set, is given each key and its newest value, unless it is deleted.
	// Both are valid during the call.
	Live   func(key, value []byte)
	stream StreamDecoder
	st     state
	found  bool
	last   []byte // the version before, whole
	set    setHash
	keys   int64
	bytes  int64
	rec    []byte
	// history has every version and what it superseded added, and every entry of
	// the index taken out.
	history buckets
}

// buckets are digests of sets by revision. The compact revision, up to which
// versions and index need not agree, comes after all versions: so they are kept
// apart until then, each revision for itself while there are few.
//
// Invariant: sums[n] is of the revisions [n*width, (n+1)*width).
type buckets struct {
	width int64
	sums  map[int64]*setHash
}

const bucketsMax = 1 << 16

func (b *buckets) at(main int64) *setHash {
	if b.sums == nil {
		b.width, b.sums = 1, map[int64]*setHash{}
	}
	for len(b.sums) >= bucketsMax {
		wider := map[int64]*setHash{}
		for n, sum := range b.sums {
			w := wider[n/2]
			if w == nil {
				w = &setHash{}
				wider[n/2] = w
			}
			for i := range w {
				w[i] += sum[i]
			}
		}
		b.width, b.sums = 2*b.width, wider
	}
	sum := b.sums[main/b.width]
	if sum == nil {
		sum = &setHash{}
		b.sums[main/b.width] = sum
	}
	return sum
}

// differs returns a revision after compact where something is left over.
func (b *buckets) differs(compact int64) (first int64, found bool) {
	for n, sum := range b.sums {
		if n*b.width > compact && *sum != (setHash{}) && (!found || n*b.width < first) {
			first, found = n*b.width, true
		}
	}
	return first, found
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
	switch {
	case len(key) == 0:
		return nil
	case key[0] == tagVersion:
		return in.version(key, value)
	case key[0] == tagRevision:
		return in.change(key, value)
	}
	return nil
}

// version takes a version; those of a key come newest first.
func (in *Inspector) version(key, value []byte) error {
	prefix, at, kind, err := splitVersion(key)
	if err != nil {
		return err
	}
	l := leaf(sha256.Sum256(key))
	in.history.at(at.main).add(&l)
	older := len(in.last) == len(key) && string(in.last[:len(prefix)]) == string(prefix)
	if older && kind == kindPut {
		l = in.link(in.last, at)
		in.history.at(at.main).add(&l)
	}
	in.last = append(in.last[:0], key...)
	if older || kind != kindPut {
		return nil
	}
	r, err := decodeRecord(value)
	if err != nil {
		return err
	}
	in.rec = append(append(in.rec[:0], key...), value...)
	l = sha256.Sum256(in.rec)
	in.set.add(&l)
	in.keys++
	user := appendUserKey(in.rec[:0], prefix)
	in.bytes += int64(len(user) + len(r.value))
	if in.Live != nil {
		in.Live(user, r.value)
	}
	return nil
}

// link says that a version superseded the put of the same key at before.
func (in *Inspector) link(version []byte, before position) leaf {
	in.rec = appendSuffix(append(in.rec[:0], version...), before, kindPut)
	return sha256.Sum256(in.rec)
}

// change takes an entry of the index by revision.
func (in *Inspector) change(key, value []byte) error {
	c, err := decodeChange(key, value)
	if err != nil {
		return err
	}
	version := appendSuffix(appendPrefix(in.last[:0], c.key), c.at, c.kind)
	in.last = version[:0] // all versions have come
	l := leaf(sha256.Sum256(version))
	in.history.at(c.at.main).remove(&l)
	if c.before != (position{}) {
		l = in.link(version, c.before)
		in.history.at(c.before.main).remove(&l)
	}
	return nil
}

// Finish returns what the state holds. ErrDigest says that it is not what was
// applied; other errors wrap smr.ErrCorrupt.
func (in *Inspector) Finish() (Summary, error) {
	if err := in.stream.Finish(); err != nil {
		return Summary{}, err
	}
	return in.summary()
}

// summary is Finish when all pairs have come.
func (in *Inspector) summary() (Summary, error) {
	if !in.found {
		return Summary{}, fmt.Errorf("no state record: %w", smr.ErrCorrupt)
	}
	st := &in.st
	if in.keys != st.keys || in.set != st.set || in.bytes != st.bytes {
		return Summary{}, fmt.Errorf("%d keys stored, %d applied, at revision %d: %w", in.keys, st.keys, st.revision, ErrDigest)
	}
	if at, found := in.history.differs(st.compact); found {
		return Summary{}, fmt.Errorf("the history at or after revision %d, of %d to %d, is not what its index says: %w", at, st.compact, st.revision, ErrDigest)
	}
	return Summary{Applied: st.applied, Revision: st.revision, CompactRevision: st.compact, Keys: st.keys, Bytes: st.bytes, Digest: st.digest()}, nil
}
