package kv

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"
)

// Removing compacted versions costs one step for each version written since the
// last compaction, wherever its key is, and never a walk over all keys. The
// index by revision lists those versions. Let e be one of them, at a revision
// ≤ compact:
//
//   - the version of the same key just before e has e as its successor, so no
//     revision that can still be read shows it: it goes;
//   - e itself goes if it is a deletion before the compact revision; one at that
//     very revision stays for a watch that starts there, until the next time;
//   - e's entry in the index goes if it is before the compact revision.
//
// So everything superfluous goes exactly once: a version's successor is at a
// revision ≤ compact, and above the compact revision before, or the version
// would have gone already.

// sweep removes up to n versions and says whether more are left. It works for
// the published compact revision only; see acquire. Its changes are pending.
func (s *Store) sweep(n int) (more bool, err error) {
	st := &s.w.st
	target := s.compact.Load()
	if st.swept >= target {
		return false, nil
	}
	if st.sweeping != target {
		if st.cursor.main == st.sweeping {
			// What is at the compact revision before was spared: look again.
			st.cursor.sub = 0
		}
		st.sweeping = target
	}
	lower := appendRevisionKey(nil, st.cursor)
	upper := appendRevisionKey(nil, position{main: target + 1})
	index, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return false, err
	}
	defer index.Close()
	ok := index.First()
	for ; ok && n > 0; n-- {
		at, err := decodeRevisionKey(index.Key())
		if err != nil {
			return false, err
		}
		value, err := index.ValueAndErr()
		if err != nil {
			return false, err
		}
		if err := s.sweepBefore(value, at, target); err != nil {
			return false, err
		}
		ok = index.Next()
	}
	if err := index.Error(); err != nil {
		return false, err
	}
	next := position{main: target}
	if ok {
		if next, err = decodeRevisionKey(index.Key()); err != nil {
			return false, err
		}
	} else {
		st.swept = target
	}
	end := next
	if end.main >= target {
		end = position{main: target}
	}
	if st.cursor.before(end) {
		if err := s.w.batch.DeleteRange(lower, appendRevisionKey(nil, end), nil); err != nil {
			return false, err
		}
	}
	st.cursor = next
	return ok, nil
}

// sweepBefore removes the predecessor of the version that an entry of the index
// names, and the version itself if it is a deletion before target.
func (s *Store) sweepBefore(entry []byte, at position, target int64) error {
	if len(entry) == 0 {
		return nil
	}
	w := &s.w
	it, err := s.iterator()
	if err != nil {
		return err
	}
	kind := entry[0]
	w.seek = appendSuffix(appendPrefix(w.seek[:0], entry[1:]), at, kind)
	ok := it.SeekPrefixGE(w.seek)
	if ok && bytes.Equal(it.Key(), w.seek) {
		ok = it.Next()
	}
	if ok {
		if err := w.batch.Delete(it.Key(), nil); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	if kind == kindDelete && at.main < target {
		return w.batch.Delete(w.seek, nil)
	}
	return nil
}

// CompactStep removes up to entries versions that a compaction has made
// superfluous, and says whether more are left. Apply does it along the way;
// CompactStep is for a store to which nothing is applied. It may be called by
// any goroutine and shuts out Apply while it runs.
func (s *Store) CompactStep(entries int) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return false, err
	}
	if s.w.st.swept >= s.w.st.compact {
		return false, nil
	}
	if more, err = s.sweep(max(entries, 1)); err == nil {
		err = s.commit()
	}
	if err != nil {
		s.broken = err
		return false, err
	}
	s.publish()
	return more, nil
}
