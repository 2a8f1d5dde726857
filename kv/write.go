package kv

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"
	"github.com/quorate/quorate/smr"
)

// writer is what Apply works with: the changes since the last commit to pebble.
// It belongs to the goroutine in Apply.
//
// Invariants: (1) a key that batch changes is in cache, and points knows of it. (2)
// committed, if not nil, shows all that is committed. (3) sub changes of the
// entry at hand are in batch, all at main revision st.revision+1. (4) index has
// the entry in the index by revision of every version in batch.
type writer struct {
	st      state
	cache   *latestCache
	points  *pointCache
	batch   *pebble.Batch
	indexed bool
	// index is kept apart until commit: its keys ascend, and pebble's memtable
	// takes ascending keys in a row far cheaper than between others.
	index     *pebble.Batch
	committed *pebble.Iterator
	sub       uint32
	// rec, seek and path are scratch.
	rec, seek []byte
	path      []bool
	cmd       Command
	// What was executed, for Stats.
	puts, deletes, ranges, txns uint64
}

// executed is the number of operations so far.
func (w *writer) executed() uint64 { return w.puts + w.deletes + w.ranges }

// newest is the main revision that the entry at hand reads at.
func (w *writer) newest() int64 {
	if w.sub > 0 {
		return w.st.revision + 1
	}
	return w.st.revision
}

// iterator returns the iterator over what is committed.
func (s *Store) iterator() (*pebble.Iterator, error) {
	if s.w.committed == nil {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: versionsStart, UpperBound: versionsEnd})
		if err != nil {
			return nil, err
		}
		s.w.committed = it
	}
	return s.w.committed, nil
}

// latest returns what is known of key's newest version, valid until the cache
// is used again.
func (s *Store) latest(key []byte) (*latest, error) {
	w := &s.w
	if l := w.cache.get(key); l != nil {
		return l, nil
	}
	it, err := s.iterator()
	if err != nil {
		return nil, err
	}
	w.seek = appendPrefix(w.seek[:0], key)
	var l latest
	if it.SeekPrefixGE(w.seek) {
		if l, err = w.describe(it, int64(len(key))); err != nil {
			return nil, err
		}
	}
	if err := it.Error(); err != nil {
		return nil, err
	}
	return w.cache.set(key, l), nil
}

// describe makes a latest of the version that it stands on.
func (w *writer) describe(it *pebble.Iterator, keyBytes int64) (l latest, err error) {
	k := it.Key()
	_, at, kind, err := splitVersion(k)
	if err != nil || kind != kindPut {
		return latest{}, err
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return l, err
	}
	r, err := decodeRecord(value)
	if err != nil {
		return l, err
	}
	w.rec = append(append(w.rec[:0], k...), value...)
	return latest{
		live: true, at: at, create: r.create, version: r.version, lease: r.lease,
		bytes: keyBytes + int64(len(r.value)), leaf: sha256.Sum256(w.rec),
	}, nil
}

// put writes a version of key. value and key are copied.
func (s *Store) put(key, value []byte, lease int64) error {
	w := &s.w
	l, err := s.latest(key)
	if err != nil {
		return err
	}
	at, err := w.nextPosition()
	if err != nil {
		return err
	}
	r := record{create: at.main, version: 1, lease: lease, value: value}
	if l.live {
		r.create, r.version = l.create, l.version+1
		w.st.set.remove(&l.leaf)
		w.st.bytes -= l.bytes
	} else {
		w.st.keys++
	}
	w.rec = appendSuffix(appendPrefix(w.rec[:0], key), at, kindPut)
	keyLen := len(w.rec)
	w.rec = appendRecord(w.rec, &r)
	before := l.at
	*l = latest{
		live: true, at: at, create: r.create, version: r.version, lease: lease,
		bytes: int64(len(key) + len(value)), leaf: sha256.Sum256(w.rec),
	}
	w.st.set.add(&l.leaf)
	w.st.link(&l.leaf)
	w.st.bytes += l.bytes
	w.points.write(&KeyValue{
		Key: key, Value: value, CreateRevision: r.create, ModRevision: at.main, Version: r.version, Lease: lease,
	})
	return w.write(key, change{at: at, kind: kindPut, before: before}, keyLen)
}

// remove writes a deletion of key, whose newest version is l and lives. l must
// be the cache's own entry.
func (s *Store) remove(key []byte, l *latest) error {
	w := &s.w
	at, err := w.nextPosition()
	if err != nil {
		return err
	}
	w.st.set.remove(&l.leaf)
	w.st.keys--
	w.st.bytes -= l.bytes
	w.rec = appendSuffix(appendPrefix(w.rec[:0], key), at, kindDelete)
	gone := leaf(sha256.Sum256(w.rec))
	w.st.link(&gone)
	before := l.at
	*l = latest{}
	w.points.remove(key)
	return w.write(key, change{at: at, kind: kindDelete, before: before}, len(w.rec))
}

// nextPosition is the place of the next change of the entry at hand.
func (w *writer) nextPosition() (position, error) {
	if w.sub == math.MaxUint32 || w.st.revision == math.MaxInt64 {
		return position{}, fmt.Errorf("revision %d: no room for change %d: %w", w.st.revision, w.sub, smr.ErrCorrupt)
	}
	return position{w.st.revision + 1, w.sub}, nil
}

// write adds the version in w.rec, whose key is the first keyLen bytes, and its
// entry in the index by revision.
func (w *writer) write(key []byte, c change, keyLen int) error {
	if err := w.batch.Set(w.rec[:keyLen], w.rec[keyLen:], nil); err != nil {
		return err
	}
	w.rec = appendRevisionKey(w.rec[:0], c.at)
	n := len(w.rec)
	w.rec = append(c.append(w.rec), key...)
	w.sub++
	return w.index.Set(w.rec[:n], w.rec[n:], nil)
}

// commit writes what is pending to pebble, with the state as of the last whole
// entry. It must not be called in the middle of an entry's changes.
func (s *Store) commit() error {
	w := &s.w
	if w.sub != 0 {
		return fmt.Errorf("commit amid the changes of revision %d: %w", w.st.revision+1, smr.ErrCorrupt)
	}
	if err := w.st.check(); err != nil {
		return err
	}
	if !w.index.Empty() {
		if err := w.batch.Apply(w.index, nil); err != nil {
			return err
		}
		w.index.Reset()
	}
	w.rec = w.st.append(w.rec[:0])
	if err := w.batch.Set(keyState, w.rec, nil); err != nil {
		return err
	}
	oversized, err := s.makeRoom(w.batch)
	if err != nil {
		return err
	}
	s.engine.disk.written += int64(w.batch.Len())
	if err := w.batch.Commit(pebble.NoSync); err != nil {
		return err
	}
	if err := w.batch.Close(); err != nil {
		return err
	}
	w.batch, w.indexed = s.db.NewBatch(), false
	w.cache.turn()
	if err := w.closeIterator(); err != nil {
		return err
	}
	if oversized {
		return s.db.Flush()
	}
	return nil
}

func (w *writer) closeIterator() error {
	if w.committed == nil {
		return nil
	}
	it := w.committed
	w.committed = nil
	return it.Close()
}

// makeRoom flushes a deterministic store before pebble would by itself: its
// goroutine must not touch a file while the caller's does, nor may it depend on
// the scheduler what goes into one flush. A batch that is oversized, half a
// memtable or more, sets off a flush on its own, which the caller must wait for;
// how pebble divides that one is the scheduler's choice.
func (s *Store) makeRoom(b *pebble.Batch) (oversized bool, err error) {
	if !s.cfg.Deterministic {
		return false, nil
	}
	const entryBytesMax = 200 // what a memtable reserves for an entry
	size := int64(b.Len()) + int64(b.Count())*entryBytesMax
	oversized = size >= s.cfg.MemTableBytes/2-memTableBytesFirst/4
	if s.unflushed += size; s.unflushed < s.cfg.MemTableBytes/2 {
		return oversized, nil
	}
	s.unflushed = size
	return oversized, s.db.Flush()
}

// memTableBytesFirst is the size of pebble's first memtable; each is twice the
// size of the one before, up to what was configured.
const memTableBytesFirst = 256 << 10

// growMemTable brings the memtable of a deterministic store to its full size.
func growMemTable(db *pebble.DB, size int64) error {
	for n := int64(memTableBytesFirst); n < size; n *= 2 {
		if err := db.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// settle makes everything before the entry at hand readable in pebble. It must
// be called before the entry's first change.
func (s *Store) settle() error {
	if s.w.batch.Empty() {
		return nil
	}
	return s.commit()
}

// useIndexed makes the changes of the entry at hand readable by itself.
func (s *Store) useIndexed() error {
	if err := s.settle(); err != nil {
		return err
	}
	if err := s.w.batch.Close(); err != nil {
		return err
	}
	s.w.batch, s.w.indexed = s.db.NewIndexedBatch(), true
	return nil
}

// withView calls fn with a view of the state that the entry at hand reads:
// everything before it, and its own changes so far.
func (s *Store) withView(fn func(v *view) error) (err error) {
	w := &s.w
	v := view{rev: w.newest(), compact: w.st.compact}
	if !w.indexed {
		if w.sub != 0 {
			return fmt.Errorf("read after a write in revision %d without an index: %w", v.rev, smr.ErrCorrupt)
		}
		if err := s.settle(); err != nil {
			return err
		}
		if v.it, err = s.iterator(); err != nil {
			return err
		}
		err = fn(&v)
		// The iterator is shared with latest, which wants it unbounded.
		v.widen()
		return err
	}
	v.it, err = w.batch.NewIter(&pebble.IterOptions{LowerBound: versionsStart, UpperBound: versionsEnd})
	if err != nil {
		return err
	}
	err = fn(&v)
	if e := v.close(); err == nil {
		err = e
	}
	return err
}

// deleteRange deletes the keys of req and returns what they were, if prev is
// set and asked for.
func (s *Store) deleteRange(req *DeleteRangeRequest, prev bool) (deleted int64, kvs []KeyValue, err error) {
	prev = prev && req.PrevKv
	if isPoint(req.RangeEnd) && !prev {
		l, err := s.latest(req.Key)
		if err != nil || !l.live {
			return 0, nil, err
		}
		return 1, nil, s.remove(req.Key, l)
	}
	var mem arena
	err = s.withView(func(v *view) error {
		return v.each(context.Background(), req.Key, req.RangeEnd, v.rev, func() (bool, error) {
			ver, err := v.load()
			if err != nil {
				return false, err
			}
			if prev {
				kvs = append(kvs, mem.copyKeyValue(ver.keyValue()))
			}
			l, err := s.w.describe(v.it, int64(len(ver.key)))
			if err != nil {
				return false, err
			}
			deleted++
			return true, s.remove(ver.key, s.w.cache.set(ver.key, l))
		})
	})
	return deleted, kvs, err
}
