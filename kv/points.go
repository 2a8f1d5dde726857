package kv

import (
	"sync"
	"sync/atomic"
)

// pointCache holds the newest versions of keys that were read one at a time, so
// that reading a busy key is a look-up in a map, and not a search of pebble's
// memtables and files. It is beside the state: what is in it is what pebble has.
//
// The naive design, in which Apply replaces what it writes, shows a reader values
// of a batch whose revision is not published yet, and with it half a batch. So an
// entry that Apply replaces keeps the version before, and a reader says at which
// published revision it reads. Only readers make entries: what nobody reads costs
// a write nothing.
//
// Invariants: (1) newest of an entry is its key's newest version of all that
// Apply has written, or is writing: Apply replaces or removes it before it
// publishes the revision. (2) If newest is after the published revision, before
// is the newest version at that revision, or nil if that is not known. (3)
// Nothing is put in from the begin of a change to its end, nor what was read
// before one: a reader notes change before it reads, and puts in only if it is
// the same, and even, under the lock that write takes. (4) A KeyValue that is in
// the cache is never written to again.
//
// A reader that has loaded the published revision R, and asks afterwards, gets
// the newest version at R: all that R has was written before. By (1), newest is
// it if it is not after R. If it is, the published revision P ≥ R of (2) has
// before as the newest, and R too if before is not after R: there are none
// between.
//
// It is bounded in bytes, in two generations as latestCache is.
type pointCache struct {
	bytesMax int64 // of a shard's generation
	// change is odd while Apply is between begin and end, and published is then
	// the revision that readers see; only Apply uses it.
	change    atomic.Uint64
	published int64
	shards    [pointShards]pointShard
}

// point is an entry.
type point struct {
	newest, before *KeyValue
	// unread counts the writes since the last read.
	unread uint8
}

// pointUnreadMax is after how many writes without a read an entry is given up.
const pointUnreadMax = 4

// pointShards is the number of shards, a power of two.
const pointShards = 16

type pointShard struct {
	mu         sync.Mutex
	young, old map[string]*point
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

// get returns the newest version of key at revision, which is or was the
// published one, or nil if that is not known. It is not to be changed.
func (c *pointCache) get(key []byte, revision int64) *KeyValue {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.young[string(key)]
	if p == nil {
		if p = s.old[string(key)]; p == nil {
			return nil
		}
		delete(s.old, string(key))
		s.add(p, c.bytesMax)
	}
	p.unread = 0
	if p.newest.ModRevision <= revision {
		return p.newest
	}
	if p.before != nil && p.before.ModRevision <= revision {
		return p.before
	}
	return nil
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
		s.add(&point{newest: kv}, c.bytesMax)
	}
}

// add puts p, whose key is in neither generation, into the young one.
func (s *pointShard) add(p *point, bytesMax int64) {
	if s.young == nil {
		s.young = map[string]*point{}
	}
	size := p.bytes()
	if s.bytes+size > bytesMax {
		s.young, s.old = map[string]*point{}, s.young
		s.bytes = 0
	}
	s.young[string(p.newest.Key)] = p
	s.bytes += size
}

func pointBytes(kv *KeyValue) int64 {
	return int64(2*len(kv.Key)+len(kv.Value)) + pointOverhead
}

func (p *point) bytes() int64 {
	n := pointBytes(p.newest)
	if p.before != nil {
		n += pointBytes(p.before)
	}
	return n
}

// write replaces the entry of kv's key, if there is one that is read; else it
// removes it. kv is copied. Between begin and end.
func (c *pointCache) write(kv *KeyValue) {
	s := c.shard(kv.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.young[string(kv.Key)]
	if p == nil {
		delete(s.old, string(kv.Key))
		return
	}
	s.bytes -= p.bytes()
	if p.newest.ModRevision <= c.published {
		p.before = p.newest
	}
	p.newest = p.newest.replaced(kv)
	p.unread++
	size := p.bytes()
	if p.unread > pointUnreadMax || size > c.bytesMax/2 || s.bytes+size > c.bytesMax {
		delete(s.young, string(kv.Key))
		return
	}
	s.bytes += size
}

// replaced returns a copy of next, a later version of the same key, that shares
// the key's memory with kv.
func (kv *KeyValue) replaced(next *KeyValue) *KeyValue {
	out := *next
	out.Key, out.Value = kv.Key, nil
	if len(next.Value) > 0 {
		out.Value = append([]byte(nil), next.Value...)
	}
	return &out
}

// remove forgets key. Between begin and end.
func (c *pointCache) remove(key []byte) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.young[string(key)]; p != nil {
		delete(s.young, string(key))
		s.bytes -= p.bytes()
	}
	delete(s.old, string(key))
}

// begin is called before the first change of a batch, with the revision that
// readers see until its end, and end when the next one has been published. A
// batch that fails never ends: nothing is put in any more.
func (c *pointCache) begin(published int64) {
	c.published = published
	c.change.Add(1)
}

func (c *pointCache) end() { c.change.Add(1) }

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

// cachedPoint returns nil if the cache does not know.
func (s *Store) cachedPoint(key []byte) (*KeyValue, int64, error) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.engine == nil {
		return nil, 0, ErrClosed
	}
	revision := s.revision.Load()
	return s.points.get(key, revision), revision, nil
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
