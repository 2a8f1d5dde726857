package kv

import "github.com/cockroachdb/pebble/v2"

// Removing compacted versions costs one step for each version written since the
// last compaction, and never a walk over all keys or a search. The index by
// revision lists those versions, and what each superseded. Let e be one of them,
// at a revision ≤ compact:
//
//   - the put that e superseded is shown at no revision that can still be read:
//     it goes;
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
		value, err := index.ValueAndErr()
		if err != nil {
			return false, err
		}
		c, err := decodeChange(index.Key(), value)
		if err != nil {
			return false, err
		}
		if err := s.w.sweepChange(&c, target); err != nil {
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

// sweepChange removes what c superseded, and c's own version if it is a deletion
// before target.
func (w *writer) sweepChange(c *change, target int64) error {
	w.rec = appendPrefix(w.rec[:0], c.key)
	prefix := len(w.rec)
	if c.before != (position{}) {
		w.rec = appendSuffix(w.rec, c.before, kindPut)
		if err := w.batch.Delete(w.rec, nil); err != nil {
			return err
		}
	}
	if c.kind != kindDelete || c.at.main >= target {
		return nil
	}
	w.rec = appendSuffix(w.rec[:prefix], c.at, kindDelete)
	return w.batch.Delete(w.rec, nil)
}

// idleEntries is how many versions Idle removes at once.
const idleEntries = 128

// Idle implements smr.Idler: a compaction is finished though nothing more is applied.
// At its end what was removed is flushed, so that pebble can give the space back.
func (s *Store) Idle() (more bool, err error) {
	if s.swept.Load() >= s.compact.Load() {
		return false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return false, err
	}
	if s.admit(nil) != nil {
		return false, nil // the disk is full
	}
	if more, err = s.compactStep(idleEntries); err != nil || more || s.cfg.Deterministic {
		return more, err
	}
	_, err = s.db.AsyncFlush()
	return false, err
}

// CompactStep removes up to entries versions that a compaction has made
// superfluous, and says whether more are left. Apply does it along the way;
// CompactStep is for a store to which nothing is applied, and for who waits for the
// end. It may be called by any goroutine and shuts out Apply while it runs.
func (s *Store) CompactStep(entries int) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return false, err
	}
	return s.compactStep(entries)
}

// compactStep is CompactStep, under mu.
func (s *Store) compactStep(entries int) (more bool, err error) {
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
