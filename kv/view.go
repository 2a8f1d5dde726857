package kv

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/quorate/quorate/smr"
)

// view is one consistent state to read from: the versions up to main revision
// rev, history from compact on. It is used by one goroutine and must be closed.
type view struct {
	engine       *engine // held, if not nil
	pages        *pages  // nil: nothing is remembered
	it           *pebble.Iterator
	rev, compact int64
	// narrowed says that scan has set bounds on it.
	narrowed bool
	// seek and bound are scratch, key the user's key of the current version.
	seek, bound, key []byte
}

// version is what a view stands on. Its slices are valid until the view moves.
type version struct {
	key    []byte
	at     position
	record record
}

// keyValue is v as a request's answer, sharing its memory.
func (v *version) keyValue() KeyValue {
	return KeyValue{
		Key: v.key, Value: v.record.value, CreateRevision: v.record.create, ModRevision: v.at.main,
		Version: v.record.version, Lease: v.record.lease,
	}
}

func (v *view) close() error {
	err := v.it.Close()
	if v.engine != nil {
		v.engine.release()
	}
	return err
}

// widen takes back the bounds that scan has set.
func (v *view) widen() {
	if v.narrowed {
		v.it.SetBounds(versionsStart, versionsEnd)
		v.narrowed = false
	}
}

// resolve returns the revision to read at when revision is asked for.
func (v *view) resolve(revision int64) (int64, error) {
	switch {
	case revision > v.rev:
		return 0, ErrFutureRev
	case revision <= 0:
		return v.rev, nil
	case revision < v.compact:
		return 0, ErrCompacted
	}
	return revision, nil
}

// point moves to the newest version of key at revision rev and says whether it
// is there and lives.
func (v *view) point(key []byte, rev int64) (bool, error) {
	v.widen()
	v.seek = appendSeek(appendPrefix(v.seek[:0], key), rev)
	if !v.it.SeekPrefixGE(v.seek) {
		return false, v.it.Error()
	}
	_, _, kind, err := splitVersion(v.it.Key())
	if err != nil {
		return false, err
	}
	return kind == kindPut, nil
}

// load reads the version that the view stands on.
func (v *view) load() (out version, err error) {
	prefix, at, kind, err := splitVersion(v.it.Key())
	if err != nil {
		return out, err
	}
	value, err := v.it.ValueAndErr()
	if err != nil {
		return out, err
	}
	if out.record, err = decodeRecord(value); err != nil {
		return out, err
	}
	if kind != kindPut {
		return out, fmt.Errorf("read of a deletion at revision %d: %w", at.main, smr.ErrCorrupt)
	}
	v.key = appendUserKey(v.key[:0], prefix)
	out.key, out.at = v.key, at
	return out, nil
}

// scan walks over the keys of [key, rangeEnd) that live at revision rev, in
// order, and calls fn with the view standing on each key's version, until fn
// returns false.
func (v *view) scan(ctx context.Context, key, rangeEnd []byte, rev int64, fn func() (bool, error)) error {
	v.seek = appendPrefix(v.seek[:0], key)
	v.bound = appendUpper(v.bound[:0], rangeEnd)
	if string(v.seek) >= string(v.bound) {
		return nil
	}
	v.it.SetBounds(v.seek, v.bound)
	v.narrowed = true
	ok := v.it.First()
	for n := 1; ok; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		prefix, at, kind, err := splitVersion(v.it.Key())
		if err != nil {
			return err
		}
		if at.main > rev {
			// Later than asked for: to the first version of this key that is
			// not, or to the next key if there is none.
			v.seek = appendSeek(append(v.seek[:0], prefix...), rev)
			ok = v.it.SeekGE(v.seek)
			continue
		}
		if kind == kindPut {
			if more, err := fn(); err != nil || !more {
				return err
			}
		}
		ok = v.it.NextPrefix()
	}
	return v.it.Error()
}

// each is scan for a range or, with rangeEnd empty, for a single key.
func (v *view) each(ctx context.Context, key, rangeEnd []byte, rev int64, fn func() (bool, error)) error {
	if !isPoint(rangeEnd) {
		return v.scan(ctx, key, rangeEnd, rev, fn)
	}
	found, err := v.point(key, rev)
	if err != nil || !found {
		return err
	}
	_, err = fn()
	return err
}

// get returns a copy of the newest version of key, or nil.
func (v *view) get(key []byte) (*KeyValue, error) {
	found, err := v.point(key, v.rev)
	if err != nil || !found {
		return nil, err
	}
	ver, err := v.load()
	if err != nil {
		return nil, err
	}
	var mem arena
	kv := mem.copyKeyValue(ver.keyValue())
	return &kv, nil
}

// arena hands out memory for the keys and values of one answer, in few pieces.
type arena struct {
	free []byte
	next int
}

// arenaPieceMax bounds a piece, unless a single value is larger.
const arenaPieceMax = 64 << 10

func (a *arena) copy(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if len(b) > len(a.free) {
		size := max(len(b), min(a.next, arenaPieceMax))
		a.free = make([]byte, size)
		a.next = 2 * size
	}
	out := a.free[:len(b):len(b)]
	a.free = a.free[len(b):]
	copy(out, b)
	return out
}

// copyKeyValue returns kv with memory of its own.
func (a *arena) copyKeyValue(kv KeyValue) KeyValue {
	if n := len(kv.Key) + len(kv.Value); n > len(a.free) {
		size := max(n, min(a.next, arenaPieceMax))
		a.free = make([]byte, size)
		a.next = 2 * size
	}
	kv.Key, kv.Value = a.copy(kv.Key), a.copy(kv.Value)
	return kv
}
