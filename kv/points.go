package kv

import (
	"sync"
	"sync/atomic"
)

// pointCache holds the newest versions of keys that were read one at a time, so
// that reading a busy key is a look-up in a map, and not a search of pebble's
// memtables and files. It is beside the state: what is in it is what pebble has.
//
// The naive design, in which Apply puts what it writes into the cache, shows a
// reader values of a batch whose revision is not published yet, and with it half
// a batch. So Apply only takes out, and only readers put in:
//
// Invariants: (1) what is in the cache is its key's newest version at the
// published revision: Apply removes a key before it publishes the revision that
// changes it. (2) Nothing is put in from the begin of a change to its end, nor
// what was read before one: a reader notes change before it reads, and puts in
// only if it is the same, and even, under the lock that remove takes. (3) A
// KeyValue that is in the cache is never written to again.
//
// A hit between two equal readings of the published revision is thus the newest
// version at that revision.
//
// It is bounded in bytes, in two generations as latestCache is.
type pointCache struct {
	bytesMax int64 // of a shard's generation
	// change is odd while Apply is between begin and end.
	change atomic.Uint64
	shards [pointShards]pointShard
}

// pointShards is the number of shards, a power of two.
const pointShards = 16

type pointShard struct {
	mu         sync.Mutex
	young, old map[string]*KeyValue
	bytes      int64 // of young
	_          [64]byte
}

// pointOverhead is what a cached key takes beside twice its own bytes and those
// of its value: the KeyValue and its share of the map.
const pointOverhead = 160

func newPointCache(bytesMax int64) *pointCache {
	return &pointCache{bytesMax: bytesMax / (2 * pointShards)}
}

// shard is the one of key: FNV-1a, so that what is forgotten when is a function
// of the calls.
func (c *pointCache) shard(key []byte) *pointShard {
	h := uint32(2166136261)
	for _, b := range key {
		h = (h ^ uint32(b)) * 16777619
	}
	return &c.shards[(h^h>>16)%pointShards]
}

// get returns the entry of key, or nil. It is not to be changed.
func (c *pointCache) get(key []byte) *KeyValue {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if kv := s.young[string(key)]; kv != nil {
		return kv
	}
	kv := s.old[string(key)]
	if kv != nil {
		delete(s.old, string(key))
		s.add(kv, c.bytesMax)
	}
	return kv
}

// put takes in what a reader has found, unless something has changed since
// change was noted, or is changing. kv belongs to the cache from then on.
func (c *pointCache) put(kv *KeyValue, change uint64) {
	if change%2 != 0 || pointBytes(kv) > c.bytesMax/4 {
		return
	}
	s := c.shard(kv.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.change.Load() == change && s.young[string(kv.Key)] == nil {
		delete(s.old, string(kv.Key))
		s.add(kv, c.bytesMax)
	}
}

// add puts kv, which is in neither generation, into the young one.
func (s *pointShard) add(kv *KeyValue, bytesMax int64) {
	if s.young == nil {
		s.young = map[string]*KeyValue{}
	}
	size := pointBytes(kv)
	if s.bytes+size > bytesMax {
		s.young, s.old = map[string]*KeyValue{}, s.young
		s.bytes = 0
	}
	s.young[string(kv.Key)] = kv
	s.bytes += size
}

func pointBytes(kv *KeyValue) int64 {
	return int64(2*len(kv.Key)+len(kv.Value)) + pointOverhead
}

// remove forgets key. Between begin and end.
func (c *pointCache) remove(key []byte) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if kv := s.young[string(key)]; kv != nil {
		delete(s.young, string(key))
		s.bytes -= pointBytes(kv)
	}
	delete(s.old, string(key))
}

// begin is called before the first change of a batch, and end when its revision
// has been published. A batch that fails never ends: nothing is put in any more.
func (c *pointCache) begin() { c.change.Add(1) }
func (c *pointCache) end()   { c.change.Add(1) }

// reset forgets everything: the store is opened, or takes another state. What
// readers of the old one have found is not put in any more.
func (c *pointCache) reset() {
	c.change.Add(2 - c.change.Load()%2) // what a reader noted before is void
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.young, s.old, s.bytes = nil, nil, 0
		s.mu.Unlock()
	}
}

// IsNewestPoint says whether r asks for the newest version of a single key, and
// for nothing else.
func (r *RangeRequest) IsNewestPoint() bool {
	return isPoint(r.RangeEnd) && r.Revision <= 0 && !r.CountOnly && !r.KeysOnly && !r.hasFilters()
}

// Point returns the newest version of key, or nil if there is none, and the
// store's revision at which that is so: what a Range of this key alone answers.
// The KeyValue must not be changed. Errors are ErrEmptyKey, ErrClosed, or say
// that the store is broken.
func (s *Store) Point(key []byte) (kv *KeyValue, revision int64, err error) {
	if len(key) == 0 {
		return nil, 0, ErrEmptyKey
	}
	if kv, revision, err = s.cachedPoint(key); kv != nil || err != nil {
		return kv, revision, err
	}
	change := s.points.change.Load()
	err = s.read(key, nil, func(v *view) (err error) {
		revision = v.rev
		kv, err = v.get(key)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	if kv != nil {
		s.points.put(kv, change)
	}
	return kv, revision, nil
}

// cachedPoint returns nil if key is not in the cache, or if a new revision was
// published meanwhile.
func (s *Store) cachedPoint(key []byte) (*KeyValue, int64, error) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.engine == nil {
		return nil, 0, ErrClosed
	}
	revision := s.revision.Load()
	kv := s.points.get(key)
	if kv == nil || s.revision.Load() != revision {
		return nil, 0, nil
	}
	return kv, revision, nil
}

// rangePoint is Range for what IsNewestPoint.
func (s *Store) rangePoint(req *RangeRequest) (*RangeResponse, error) {
	kv, revision, err := s.Point(req.Key)
	if err != nil {
		return nil, err
	}
	resp := &RangeResponse{Revision: revision}
	if kv != nil {
		resp.Kvs, resp.Count = []KeyValue{*kv}, 1
	}
	return resp, nil
}
