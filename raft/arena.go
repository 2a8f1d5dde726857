package raft

import "bytes"

// Memory is what the cores that one goroutine runs share: memory of their tails
// that is to be used again, and a bound on what they hold together. Nothing of it
// is ever in use by two of them. The zero value is ready; it is not safe for
// concurrent use.
//
// Without it a core that takes half a million commands a second leaves a hundred
// megabytes a second to the garbage collector.
type Memory struct {
	// TailBytesMax bounds the tails of all cores together, as far as they are
	// persisted and applied: beyond it a core that is busy keeps no more than its
	// share. Zero: only Config.TailBytesMax bounds them.
	TailBytesMax int

	blocks []*block
	// chunks and largeChunks are of chunkBytes and largeChunkBytes.
	chunks, largeChunks [][]byte
	// held is the size of the tails of all cores, as they last reported it.
	held, cores int
}

// tailShareMin is what a core may keep however many there are, so that a follower
// which is a moment behind is served from memory.
const tailShareMin = 64 << 10

// report notes that a tail has gone from one size to another.
func (m *Memory) report(from, to int) { m.held += to - from }

// share returns what a tail of at most bytesMax may be.
func (m *Memory) share(bytesMax int) int {
	if m.TailBytesMax == 0 || m.held <= m.TailBytesMax {
		return bytesMax
	}
	return min(bytesMax, max(tailShareMin, m.TailBytesMax/m.cores))
}

const (
	// chunkBytes is the size of a chunk of Data that is used again; a core
	// begins with smaller ones, since most groups of a host hold little.
	chunkBytes    = 64 << 10
	chunkBytesMin = 512
	// chunkDataMax is the largest Data that is put into such a chunk with others.
	chunkDataMax = chunkBytes / 4
	// largeChunkBytes is the size of the chunks of a core whose Data is larger,
	// up to largeDataMax: so that it is used again, too.
	largeChunkBytes = 512 << 10
	largeDataMax    = largeChunkBytes / 4
	// blocksIdleMax, chunksIdleMax and largeChunksIdleMax bound what waits to be
	// used again: to about 2 MiB, and 8 MiB of either kind of chunk, as much as
	// the tail of one busy core.
	blocksIdleMax      = 96
	chunksIdleMax      = 128
	largeChunksIdleMax = 16
)

// getBlock returns an empty block, with all its memory if full.
func (m *Memory) getBlock(full bool) *block {
	if n := len(m.blocks); full && n > 0 {
		b := m.blocks[n-1]
		m.blocks[n-1] = nil
		m.blocks = m.blocks[:n-1]
		return b
	}
	b := new(block)
	if full {
		b.resize(blockEntries)
	}
	return b
}

// putBlock takes a block that is not in use any more.
func (m *Memory) putBlock(b *block) {
	if len(b.entries) == blockEntries && len(m.blocks) < blocksIdleMax {
		clear(b.entries)
		m.blocks = append(m.blocks, b)
	}
}

// arena holds the Data of a tail's entries, in chunks that are used again when
// all entries in them are gone. Data is written once and read by whoever was
// lent it: until the next Take by those who got an Output, until Applied by
// those who got Committed entries.
//
// Invariants:
//
//	(D1) the chunks' last indexes do not descend; last is at least the index of
//	     every entry of the tail whose Data is in the chunk
//	(D2) a chunk is used again only by release, which Take calls before it lends
//	     anything, when none of its entries is in the tail and all that were
//	     handed out as committed are applied
//	(D3) what lies before a chunk's length is not written to until then
type arena struct {
	memory *Memory
	chunks []chunk
	poison bool
}

type chunk struct {
	b    []byte
	last uint64
}

// keep returns a copy of the Data of the entry at index.
func (a *arena) keep(data []byte, index uint64) []byte {
	size := len(data)
	switch {
	case size == 0:
		return nil
	case size > largeDataMax:
		return bytes.Clone(data)
	}
	n := len(a.chunks)
	if n == 0 || cap(a.chunks[n-1].b)-len(a.chunks[n-1].b) < size {
		a.open(size)
		n = len(a.chunks)
	}
	c := &a.chunks[n-1]
	at := len(c.b)
	c.b = append(c.b, data...)
	c.last = index
	return c.b[at : at+size : at+size]
}

// open begins a chunk with room for size bytes: of twice the size of the one
// before, up to the largest that its Data asks for.
func (a *arena) open(size int) {
	want, most := chunkBytesMin, chunkBytes
	if size > chunkDataMax {
		most = largeChunkBytes
	}
	if n := len(a.chunks); n > 0 {
		want = min(2*cap(a.chunks[n-1].b), most)
	}
	for want < size {
		want *= 2
	}
	b := a.memory.getChunk(want)
	if b == nil {
		b = make([]byte, 0, want)
	}
	a.chunks = append(a.chunks, chunk{b: b})
}

// idleChunks are the chunks of that size that wait to be used again, and how many
// may; nil for a size of which none do.
func (m *Memory) idleChunks(size int) (idle *[][]byte, most int) {
	switch size {
	case chunkBytes:
		return &m.chunks, chunksIdleMax
	case largeChunkBytes:
		return &m.largeChunks, largeChunksIdleMax
	}
	return nil, 0
}

// getChunk returns a chunk that is to be used again, nil if there is none of that
// size.
func (m *Memory) getChunk(size int) []byte {
	idle, _ := m.idleChunks(size)
	if idle == nil || len(*idle) == 0 {
		return nil
	}
	n := len(*idle) - 1
	b := (*idle)[n]
	(*idle)[n] = nil
	*idle = (*idle)[:n]
	return b
}

// truncate notes that the entries after last are gone.
func (a *arena) truncate(last uint64) {
	for i := len(a.chunks) - 1; i >= 0 && a.chunks[i].last > last; i-- {
		a.chunks[i].last = last
	}
}

// release gives up the chunks whose entries are all before first. Those that
// nobody reads any more, up to the applied index, are used again; the others
// stay with whoever applies them, and the garbage collector.
func (a *arena) release(first, applied uint64) {
	n := 0
	for n+1 < len(a.chunks) && a.chunks[n].last < first { // the last one is being filled
		if c := &a.chunks[n]; c.last <= applied {
			a.recycle(c.b)
		}
		n++
	}
	if n > 0 {
		rest := append(a.chunks[:0], a.chunks[n:]...)
		clear(a.chunks[len(rest):])
		a.chunks = rest
	}
}

// recycle takes a chunk that nobody reads. With poison it is overwritten and
// never used again, so that whoever reads it nevertheless is found out.
func (a *arena) recycle(b []byte) {
	if a.poison {
		for i := range b {
			b[i] = poisonByte
		}
		return
	}
	if idle, most := a.memory.idleChunks(cap(b)); idle != nil && len(*idle) < most {
		*idle = append(*idle, b[:0])
	}
}

// forget leaves all chunks to whoever still reads them.
func (a *arena) forget() { a.chunks = nil }

const poisonByte = 0xDB
