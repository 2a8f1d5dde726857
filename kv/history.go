package kv

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/quorate/quorate/smr"
)

// Event is one change in history: a put, or, with Deleted, a deletion, whose Kv
// has only the key and the revision.
type Event struct {
	Deleted bool
	Kv      KeyValue
}

// History calls fn with every change from revision from on, up to revision to
// (zero or less: the latest), in order, until fn returns false. The event is
// valid during the call alone. It returns the revision that it has walked
// through completely. Its error wraps ErrCompacted if history before from is
// gone, or ErrFutureRev if to does not exist yet.
func (s *Store) History(ctx context.Context, from, to int64, fn func(*Event) bool) (through int64, err error) {
	v, err := s.acquire(versionsStart, versionsEnd)
	if err != nil {
		return 0, err
	}
	defer s.release()
	defer func() {
		if e := v.close(); err == nil {
			err = e
		}
	}()
	if to <= 0 {
		to = v.rev
	}
	switch {
	case to > v.rev:
		return 0, ErrFutureRev
	case from < v.compact || from < 1:
		return 0, ErrCompacted
	}
	// The index iterator is younger than v. If a compaction has come in between
	// it may lack entries that v has.
	index, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: appendRevisionKey(nil, position{main: from}), UpperBound: appendRevisionKey(nil, position{main: to + 1}),
	})
	if err != nil {
		return 0, err
	}
	defer index.Close()
	if from < s.compact.Load() {
		return 0, ErrCompacted
	}
	return v.history(ctx, index, from, to, fn)
}

func (v *view) history(ctx context.Context, index *pebble.Iterator, from, to int64, fn func(*Event) bool) (int64, error) {
	through := from - 1
	n := 0
	for ok := index.First(); ok; ok = index.Next() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return through, ctx.Err()
		}
		at, err := decodeRevisionKey(index.Key())
		if err != nil {
			return through, err
		}
		through = max(through, at.main-1)
		entry, err := index.ValueAndErr()
		if err != nil {
			return through, err
		}
		event, found, err := v.event(at, entry)
		if err != nil {
			return through, err
		}
		if found && !fn(&event) {
			return through, nil
		}
	}
	if err := index.Error(); err != nil {
		return through, err
	}
	return to, nil
}

// event returns the change that an entry of the index names. A change at the
// compact revision itself that a later one of the same transaction overwrote is
// not found.
func (v *view) event(at position, entry []byte) (e Event, found bool, err error) {
	if len(entry) == 0 {
		return e, false, fmt.Errorf("index entry of revision %d: %w", at.main, smr.ErrCorrupt)
	}
	if entry[0] == kindDelete {
		return Event{Deleted: true, Kv: KeyValue{Key: entry[1:], ModRevision: at.main}}, true, nil
	}
	v.seek = appendSuffix(appendPrefix(v.seek[:0], entry[1:]), at, entry[0])
	if !v.it.SeekPrefixGE(v.seek) || string(v.it.Key()) != string(v.seek) {
		if err := v.it.Error(); err != nil || at.main <= v.compact {
			return e, false, err
		}
		return e, false, fmt.Errorf("revision %d is in the index and not in the store: %w", at.main, smr.ErrCorrupt)
	}
	ver, err := v.load()
	if err != nil {
		return e, false, err
	}
	return Event{Kv: ver.keyValue()}, true, nil
}
