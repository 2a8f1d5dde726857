package kv

// latest is what the store knows of a key's newest version, so that a put
// needs no read: whether the key lives, and if so what the put builds on.
type latest struct {
	live                   bool
	at                     position
	create, version, lease int64
	// bytes is the size of key and value, leaf the version's digest.
	bytes int64
	leaf  leaf
}

// latestOverhead is what a cached key takes beside its bytes: the entry, the
// string and its share of the map.
const latestOverhead = 192

// latestCache holds latest by key, bounded in bytes, in two generations: what is
// used moves to the young one; when that is full, it becomes the old one and
// what was old and unused is forgotten. Everything is constant time, and the
// outcome is a function of the calls.
//
// Invariants: (1) a key that was changed since the last commit to pebble is in
// the cache; for this, turn is called only when nothing is pending.
// (2) a key is in one generation at most as far as get can see: young first.
// (3) if complete, every key that lives is in it.
type latestCache struct {
	young, old generation
	bytesMax   int64
	// complete says that nothing has been forgotten since the store was empty:
	// then a key that is not here does not live, and need not be looked for.
	complete     bool
	hits, misses uint64
}

type generation struct {
	index   map[string]int32
	entries []latest
	bytes   int64
}

// newLatestCache returns the cache of a store that has so many live keys.
func newLatestCache(bytesMax, keys int64) *latestCache {
	return &latestCache{
		young: generation{index: map[string]int32{}}, old: generation{index: map[string]int32{}},
		bytesMax: bytesMax, complete: keys == 0,
	}
}

// get returns the entry of key, a new one if it is known that the key does not
// live, or nil. It is valid until the next call.
func (c *latestCache) get(key []byte) *latest {
	if i, ok := c.young.index[string(key)]; ok {
		c.hits++
		return &c.young.entries[i]
	}
	if i, ok := c.old.index[string(key)]; ok {
		c.hits++
		return c.young.add(key, c.old.entries[i])
	}
	if c.complete {
		c.hits++
		return c.young.add(key, latest{})
	}
	c.misses++
	return nil
}

// set makes v the entry of key, and returns it, valid until the next call.
func (c *latestCache) set(key []byte, v latest) *latest {
	if i, ok := c.young.index[string(key)]; ok {
		c.young.entries[i] = v
		return &c.young.entries[i]
	}
	return c.young.add(key, v)
}

func (g *generation) add(key []byte, v latest) *latest {
	g.index[string(key)] = int32(len(g.entries))
	g.entries = append(g.entries, v)
	g.bytes += int64(len(key)) + latestOverhead
	return &g.entries[len(g.entries)-1]
}

// turn forgets the old generation if the young one is full. Only when nothing is
// pending.
func (c *latestCache) turn() {
	if c.young.bytes < c.bytesMax/2 {
		return
	}
	c.young, c.old = c.old, c.young
	c.complete = c.complete && len(c.young.entries) == 0
	clear(c.young.index)
	c.young.entries = c.young.entries[:0]
	if int64(cap(c.young.entries)) > c.bytesMax/(latestOverhead/2) {
		// A batch far above the bound must not leave its memory behind.
		c.young.index, c.young.entries = map[string]int32{}, nil
	}
	c.young.bytes = 0
}

// bytes is what the cache holds.
func (c *latestCache) bytes() int64 { return c.young.bytes + c.old.bytes }
