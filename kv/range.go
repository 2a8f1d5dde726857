package kv

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// acquire returns a view of the last applied state, which the caller closes. It
// runs beside Apply, and what reads from the view beside an exchange of states.
//
// Why it is consistent: every version carries its revision, so that what is
// committed later is told apart and ignored. Only the removal of compacted
// versions could harm; Apply publishes a compact revision before it removes
// anything for it, and we read the compact revision after the iterator is
// pinned: whatever is missing from it was superfluous at this compact revision.
// Engine and revisions are of one state, for an exchange changes them under life.
func (s *Store) acquire(lower, upper []byte) (view, error) {
	s.life.RLock()
	defer s.life.RUnlock()
	e := s.engine
	if e == nil {
		return view{}, ErrClosed
	}
	for {
		rev := s.revision.Load()
		it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return view{}, err
		}
		// A compaction may have overtaken the revision; then a newer revision
		// has been published too, before it.
		if compact := s.compact.Load(); compact <= rev {
			e.refs.Add(1)
			return view{engine: e, pages: &s.pages, it: it, rev: rev, compact: compact}, nil
		}
		it.Close()
	}
}

// read calls fn with a view of the keys that [key, rangeEnd) can need.
func (s *Store) read(key, rangeEnd []byte, fn func(v *view) error) (err error) {
	var stack [64]byte
	lower := appendPrefix(stack[:0], key)
	upper := versionsEnd
	if isPoint(rangeEnd) {
		upper = comparer.ImmediateSuccessor(nil, lower)
	} else if !isUnbounded(rangeEnd) {
		upper = appendPrefix(nil, rangeEnd)
	}
	if bytes.Compare(lower, upper) > 0 {
		upper = lower
	}
	v, err := s.acquire(lower, upper)
	if err != nil {
		return err
	}
	defer func() {
		if e := v.close(); err == nil {
			err = e
		}
		err = asCorrupt(err)
	}()
	return fn(&v)
}

// Range reads from the last applied state, beside Apply. The keys and values of
// the answer must not be changed. Its error wraps
// ErrEmptyKey, ErrInvalidSort, ErrCompacted or ErrFutureRev, or is ctx's, or
// says that the store is broken.
func (s *Store) Range(ctx context.Context, req *RangeRequest) (resp *RangeResponse, err error) {
	if err := req.Check(); err != nil {
		return nil, err
	}
	if req.IsNewestPoint() {
		return s.rangePoint(req)
	}
	err = s.read(req.Key, req.RangeEnd, func(v *view) error {
		resp, err = v.rangeKeys(ctx, req)
		return err
	})
	return resp, err
}

// RangeFunc is Range with one key in memory at a time: it calls fn with each
// until fn returns false. Kvs of the answer is empty; More and Count are right
// unless fn stopped it. The KeyValue is valid during the call alone. Only the order of keys is possible, else
// ErrInvalidSort. Its memory does not grow with the range; but as long as it
// runs, pebble keeps the files of this state.
func (s *Store) RangeFunc(ctx context.Context, req *RangeRequest, fn func(*KeyValue) bool) (resp *RangeResponse, err error) {
	if err := req.Check(); err != nil {
		return nil, err
	}
	if !req.isDefaultOrder() {
		return nil, ErrInvalidSort
	}
	err = s.read(req.Key, req.RangeEnd, func(v *view) error {
		resp, err = v.stream(ctx, req, fn)
		return err
	})
	return resp, err
}

// stream calls fn for the keys of req in order, and counts.
func (v *view) stream(ctx context.Context, req *RangeRequest, fn func(*KeyValue) bool) (*RangeResponse, error) {
	rev, err := v.resolve(req.Revision)
	if err != nil {
		return nil, err
	}
	resp := &RangeResponse{Revision: v.rev}
	known, last, stopped := v.page(req, rev), []byte(nil), false
	var taken int64
	var kv KeyValue // out here, so that it is allocated once
	full := req.CountOnly
	err = v.each(ctx, req.Key, req.RangeEnd, rev, func() (bool, error) {
		resp.Count++
		if full {
			return true, nil
		}
		atLimit := req.Limit > 0 && taken == req.Limit
		if atLimit && !req.hasFilters() {
			resp.More, full = true, true
			return !req.NoCount && known < 0, nil
		}
		ver, err := v.load()
		if err != nil {
			return false, err
		}
		kv = ver.keyValue()
		if !req.admits(&kv) {
			return true, nil
		}
		if atLimit {
			resp.More, full = true, true
			return !req.NoCount, nil
		}
		if taken++; taken == req.Limit {
			last = append(last, kv.Key...)
		}
		if req.KeysOnly {
			kv.Value = nil
			if req.SortTarget != SortByValue {
				kv.Lease = 0
			}
		}
		stopped = !fn(&kv)
		return !stopped, nil
	})
	if err != nil {
		return nil, err
	}
	if known >= 0 && resp.More {
		resp.Count = known
	}
	if resp.More && !stopped && v.pages != nil && req.isPaged() {
		v.pages.left(last, req.RangeEnd, rev, resp.Count-taken)
	}
	return resp, nil
}

// page returns how many keys the range has, if that was found when the page before
// it was read, else a negative number.
func (v *view) page(req *RangeRequest, rev int64) int64 {
	if v.pages != nil && req.isPaged() {
		if n, ok := v.pages.get(req.Key, req.RangeEnd, rev); ok {
			return n
		}
	}
	return -1
}

// rangeKeys executes req.
func (v *view) rangeKeys(ctx context.Context, req *RangeRequest) (*RangeResponse, error) {
	var mem arena
	var kvs []KeyValue
	collect := *req
	if sorted := !req.isDefaultOrder(); sorted {
		collect.Limit, collect.NoCount = 0, false
		if req.SortOrder == SortNone && !req.hasFilters() && req.Limit > 0 {
			// etcd sorts here what it read first: the keys up to the limit, and
			// one more to know whether there are more.
			collect.Limit = req.Limit + 1
		}
		// The value is needed to sort by it, and dropped afterwards.
		collect.KeysOnly = req.KeysOnly && req.SortTarget != SortByValue
	}
	resp, err := v.stream(ctx, &collect, func(kv *KeyValue) bool {
		kvs = append(kvs, mem.copyKeyValue(*kv))
		return true
	})
	if err != nil {
		return nil, err
	}
	if !req.isDefaultOrder() {
		sortKeyValues(kvs, req)
		if req.Limit > 0 && int64(len(kvs)) > req.Limit {
			kvs, resp.More = kvs[:req.Limit], true
		}
		if req.KeysOnly {
			for i := range kvs {
				kvs[i].Value = nil
			}
		}
	}
	resp.Kvs = kvs
	return resp, nil
}

// sortKeyValues sorts by the target of req; equals stay in the order of keys.
func sortKeyValues(kvs []KeyValue, req *RangeRequest) {
	var compare func(a, b *KeyValue) int
	switch req.SortTarget {
	case SortByKey:
		compare = func(a, b *KeyValue) int { return bytes.Compare(a.Key, b.Key) }
	case SortByVersion:
		compare = func(a, b *KeyValue) int { return cmp.Compare(a.Version, b.Version) }
	case SortByCreate:
		compare = func(a, b *KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) }
	case SortByMod:
		compare = func(a, b *KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) }
	case SortByValue:
		compare = func(a, b *KeyValue) int { return bytes.Compare(a.Value, b.Value) }
	}
	sign := 1
	if req.SortOrder == SortDescend {
		sign = -1
	}
	slices.SortStableFunc(kvs, func(a, b KeyValue) int { return sign * compare(&a, &b) })
}
