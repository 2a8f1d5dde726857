package vfs

import "math/rand/v2"

// Crash returns what the disk may hold after a power cut at this moment: all
// that was synced, and of what was not each sector and each change of a name
// with the given probability in percent. 0 keeps exactly what was synced; 100
// keeps all, as when only the process dies. rng may be nil at 0 and 100. m is
// left as it is and can be used on; the same state and the same rng give the
// same crash.
func (m *Mem) Crash(rng *rand.Rand, keepPercent int) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	keep := func() bool {
		if keepPercent <= 0 || keepPercent >= 100 {
			return keepPercent > 0
		}
		return rng.IntN(100) < keepPercent
	}
	// Names first: the durable ones, and those changes that happened to reach
	// the disk. A change of a name in a directory that is itself lost goes with
	// it.
	names := map[*memNode]map[string]*memNode{}
	children := func(n *memNode) map[string]*memNode {
		c := names[n]
		if c == nil {
			c = make(map[string]*memNode, len(n.synced))
			for name, child := range n.synced {
				c[name] = child
			}
			names[n] = c
		}
		return c
	}
	for i := range m.journal {
		if keep() {
			m.journal[i].apply(children)
		}
	}
	copies := map[*memNode]*memNode{} // a file with two names stays one file
	var clone func(n *memNode) *memNode
	clone = func(n *memNode) *memNode {
		if c := copies[n]; c != nil {
			return c
		}
		if n.children == nil {
			copies[n] = n.crash(keep)
			return copies[n]
		}
		d := newMemDir()
		copies[n] = d
		from := children(n)
		for _, name := range sortedNames(from) {
			c := clone(from[name])
			d.children[name], d.synced[name] = c, c
		}
		return d
	}
	return &Mem{root: clone(m.root), locked: map[string]bool{}, free: m.free}
}

// crash returns a copy of a file in which each unsynced sector is kept or lost.
func (n *memNode) crash(keep func() bool) *memNode {
	c := &memNode{pages: make([]memPage, len(n.pages)), size: n.syncedSize}
	for i := range n.pages {
		pg := &n.pages[i]
		c.pages[i] = memPage{cur: pg.cur, reserved: pg.reserved}
		if pg.dirty == 0 {
			continue
		}
		mixed := new([pageBytes]byte)
		if pg.old != nil {
			*mixed = *pg.old
		}
		for s := range pageBytes / SectorBytes {
			if pg.dirty&(1<<s) == 0 || !keep() {
				continue
			}
			copy(mixed[s*SectorBytes:(s+1)*SectorBytes], pg.cur[s*SectorBytes:])
			end := int64(i)*pageBytes + int64(s+1)*SectorBytes
			c.size = max(c.size, min(n.size, end))
		}
		c.pages[i].cur = mixed
	}
	c.syncedSize = c.size
	return c
}
