package kv

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/cockroachdb/pebble/v2"
)

// HashKVResult is the hash of the versions up to a revision.
type HashKVResult struct {
	Hash uint32
	// Revision is the store's revision when it was taken, HashRevision the
	// revision that it goes up to, CompactRevision where it begins. Members are
	// equal if Hash is, where HashRevision and CompactRevision are.
	Revision, HashRevision, CompactRevision int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Hash returns a hash of the state and the revision that it is of. It is cheap;
// HashKV reads what is stored.
func (s *Store) Hash(context.Context) (hash uint32, revision int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return 0, 0, err
	}
	d := s.w.st.digest()
	return binary.BigEndian.Uint32(d[:]), s.w.st.revision, nil
}

// HashKV returns the hash of all versions that can be read up to revision rev,
// zero or less for the latest: those after the compact revision, and of those
// before it what a read at the compact revision shows. It is a CRC-32C over
// their stored bytes in the order of keys, newest first; etcd's differs. It
// reads the whole store. Its error wraps ErrCompacted or ErrFutureRev.
func (s *Store) HashKV(ctx context.Context, rev int64) (HashKVResult, error) {
	v, err := s.acquire(versionsStart, versionsEnd)
	if err != nil {
		return HashKVResult{}, err
	}
	res, err := v.hash(ctx, rev)
	if e := v.close(); err == nil {
		err = e
	}
	return res, asCorrupt(err)
}

func (v *view) hash(ctx context.Context, rev int64) (HashKVResult, error) {
	rev, err := v.resolve(rev)
	if err != nil {
		return HashKVResult{}, err
	}
	var sum uint32
	ok := v.it.First()
	for n := 1; ok; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return HashKVResult{}, ctx.Err()
		}
		k := v.it.Key()
		_, at, kind, err := splitVersion(k)
		if err != nil {
			return HashKVResult{}, err
		}
		shown := at.main <= rev && (at.main > v.compact || kind == kindPut)
		if shown {
			value, err := v.it.ValueAndErr()
			if err != nil {
				return HashKVResult{}, err
			}
			var size [8]byte
			binary.LittleEndian.PutUint64(size[:], uint64(len(value)))
			sum = crc32.Update(sum, castagnoli, k)
			sum = crc32.Update(sum, castagnoli, size[:])
			sum = crc32.Update(sum, castagnoli, value)
		}
		if at.main <= v.compact {
			ok = v.it.NextPrefix() // what is older cannot be read
		} else {
			ok = v.it.Next()
		}
	}
	if err := v.it.Error(); err != nil {
		return HashKVResult{}, err
	}
	return HashKVResult{Hash: sum, Revision: v.rev, HashRevision: rev, CompactRevision: v.compact}, nil
}

// Verify reads every live key and compares with the digest that was kept as they
// were written. ErrDigest says that disk or memory did not keep what was applied.
// It runs beside Apply.
func (s *Store) Verify(ctx context.Context) error {
	s.mu.Lock()
	if err := s.usable(); err != nil {
		s.mu.Unlock()
		return err
	}
	st := s.w.st
	e, err := s.hold()
	if err != nil {
		s.mu.Unlock()
		return err
	}
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: versionsStart, UpperBound: versionsEnd})
	s.mu.Unlock()
	if err != nil {
		e.release()
		return err
	}
	v := view{engine: e, it: it, rev: st.revision, compact: st.compact}
	err = v.verify(ctx, &st)
	if e := v.close(); err == nil {
		err = e
	}
	return asCorrupt(err)
}

func (v *view) verify(ctx context.Context, st *state) error {
	var set setHash
	var keys int64
	var rec []byte
	err := v.scan(ctx, nil, fromKey, math.MaxInt64, func() (bool, error) {
		value, err := v.it.ValueAndErr()
		if err != nil {
			return false, err
		}
		rec = append(append(rec[:0], v.it.Key()...), value...)
		l := leaf(sha256.Sum256(rec))
		set.add(&l)
		keys++
		return true, nil
	})
	if err != nil {
		return err
	}
	if keys != st.keys || set != st.set {
		return fmt.Errorf("%d keys stored, %d applied, at revision %d: %w", keys, st.keys, st.revision, ErrDigest)
	}
	return nil
}
