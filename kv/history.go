package kv

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/quorate/quorate/smr"
)

// HistoryRequest asks for the changes of the revisions From to To, inclusive; To
// zero or less: the latest. PrevKv asks for what each change superseded.
type HistoryRequest struct {
	From, To int64
	PrevKv   bool
}

// Event is one change in history: a put, or, with Deleted, a deletion, whose Kv
// has only the key and the revision.
type Event struct {
	Deleted bool
	Kv      KeyValue
	// PrevKv is what the change superseded, if asked for, if there was
	// something, and if it has not been compacted.
	PrevKv *KeyValue
}

// History calls fn with every change of req, in order, until fn returns false.
// The event is valid during the call alone, except for PrevKv. It returns the
// revision that it has walked through completely. Its error wraps ErrCompacted
// if history before From is gone, or ErrFutureRev if To does not exist yet.
func (s *Store) History(ctx context.Context, req HistoryRequest, fn func(*Event) bool) (through int64, err error) {
	v, err := s.acquire(versionsStart, versionsEnd)
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := v.close(); err == nil {
			err = e
		}
		err = asCorrupt(err)
	}()
	from, to := req.From, req.To
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
	index, err := v.engine.db.NewIter(&pebble.IterOptions{
		LowerBound: appendRevisionKey(nil, position{main: from}), UpperBound: appendRevisionKey(nil, position{main: to + 1}),
	})
	if err != nil {
		return 0, err
	}
	defer index.Close()
	if from < s.compact.Load() {
		return 0, ErrCompacted
	}
	req.To = to
	return v.history(ctx, index, req, fn)
}

func (v *view) history(ctx context.Context, index *pebble.Iterator, req HistoryRequest, fn func(*Event) bool) (int64, error) {
	through := req.From - 1
	n := 0
	for ok := index.First(); ok; ok = index.Next() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return through, ctx.Err()
		}
		value, err := index.ValueAndErr()
		if err != nil {
			return through, err
		}
		c, err := decodeChange(index.Key(), value)
		if err != nil {
			return through, err
		}
		through = max(through, c.at.main-1)
		event, found, err := v.event(&c, req.PrevKv)
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
	return req.To, nil
}

// event returns the change c as an event. A put at the compact revision itself
// that a later change of the same transaction superseded is not found.
func (v *view) event(c *change, prev bool) (e Event, found bool, err error) {
	if prev && c.before != (position{}) && c.at.main > v.compact {
		ver, found, err := v.exact(c.key, c.before)
		if err != nil {
			return e, false, err
		}
		if found {
			var mem arena
			kv := mem.copyKeyValue(ver.keyValue())
			e.PrevKv = &kv
		}
	}
	if c.kind == kindDelete {
		e.Deleted, e.Kv = true, KeyValue{Key: c.key, ModRevision: c.at.main}
		return e, true, nil
	}
	ver, found, err := v.exact(c.key, c.at)
	if err != nil || !found {
		return e, false, err
	}
	e.Kv = ver.keyValue()
	return e, true, nil
}

// exact returns the put of key at p, which may be missing only if it is not
// after the compact revision.
func (v *view) exact(key []byte, p position) (ver version, found bool, err error) {
	v.widen()
	v.seek = appendSuffix(appendPrefix(v.seek[:0], key), p, kindPut)
	if !v.it.SeekPrefixGE(v.seek) || string(v.it.Key()) != string(v.seek) {
		if err := v.it.Error(); err != nil || p.main <= v.compact {
			return ver, false, err
		}
		return ver, false, fmt.Errorf("revision %d is in the index and not in the store: %w", p.main, smr.ErrCorrupt)
	}
	ver, err = v.load()
	return ver, err == nil, err
}
