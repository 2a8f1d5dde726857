package kv

import (
	"errors"
	"fmt"
	"math"
)

// ErrBump: a revision cannot be raised by so much. Ask for less.
var ErrBump = errors.New("revision cannot be raised")

// Bump raises the revision by as much as by, without a change, and discards the
// history before it, as compacting to it would. It is for a store that was restored
// from a backup and was used by nobody since: clients that had seen later revisions
// of the lost state must not meet them again with another meaning. Each replica must
// be raised alike. The error wraps ErrBump, or says that the store is broken.
func (s *Store) Bump(by int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	st := &s.w.st
	if by < 1 || by > math.MaxInt64/2-st.revision {
		return fmt.Errorf("%w: by %d from %d", ErrBump, by, st.revision)
	}
	s.points.begin(st.revision)
	st.revision += by
	st.compact = st.revision
	if err := s.commit(); err != nil {
		s.broken = fmt.Errorf("key-value store in %s, raising its revision: %w", s.cfg.Dir, err)
		return s.broken
	}
	s.publish()
	s.points.end()
	return nil
}
