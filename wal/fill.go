package wal

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/smr"
)

// buffer is one half of the double buffer: the records of a batch, encoded, with
// room for its head in front.
type buffer struct {
	bytes   []byte
	records []record
	acks    []Ack
	number  uint64
	// small is how many batches in a row were of less than a quarter of the
	// buffer.
	small int
}

// A buffer of more than bufferKeep is given up after bufferSmallMax batches that
// have no use for it, and one of more than bufferBytesMax after one batch.
const (
	bufferKeep     = 8 << 20
	bufferBytesMax = 64 << 20
	bufferSmallMax = 64
	bufferBytesMin = 64 << 10
)

func (b *buffer) reset(number uint64) {
	if b.small++; len(b.bytes) > cap(b.bytes)/4 {
		b.small = 0
	}
	if cap(b.bytes) < batchHead || cap(b.bytes) > bufferBytesMax || cap(b.bytes) > bufferKeep && b.small > bufferSmallMax {
		b.bytes = make([]byte, batchHead, bufferBytesMin)
	}
	b.bytes = b.bytes[:batchHead]
	clear(b.records)
	b.records, b.acks, b.number = b.records[:0], b.acks[:0], number
}

func (b *buffer) empty() bool { return len(b.records) == 0 && len(b.acks) == 0 }

// begin starts a record and returns where.
func (b *buffer) begin(k recordKind, g smr.GroupID) int {
	start := len(b.bytes)
	b.bytes = beginRecord(b.bytes, k, g)
	return start
}

// end closes the record that began at start; r says what is in it.
func (b *buffer) end(start int, r record) {
	r.kind = recordKind(b.bytes[start])
	b.bytes = endRecord(b.bytes, start)
	r.at, r.size = start, len(b.bytes)-start
	b.records = append(b.records, r)
}

// entries appends records of the given kind that hold es.
func (b *buffer) entries(k recordKind, g smr.GroupID, es []smr.Entry) {
	b.room(es)
	for len(es) > 0 {
		start, n := b.begin(k, g), 0
		for n < len(es) && (n == 0 || len(b.bytes)-start < recordBytes) {
			b.bytes = smr.AppendEntry(b.bytes, &es[n])
			n++
		}
		b.end(start, record{group: g, first: es[0].Index, last: es[n-1].Index})
		es = es[n:]
	}
}

// room makes room for the records of es at once, and doubles the buffer if it has
// to grow: appended to piece by piece, a large one would be copied many times.
func (b *buffer) room(es []smr.Entry) {
	size := batchHead
	for i := range es {
		size += len(es[i].Data) + entryRoom
	}
	if size > cap(b.bytes)-len(b.bytes) {
		b.bytes = slices.Grow(b.bytes, max(size, cap(b.bytes)))
	}
}

// entryRoom is about what an entry takes beside its Data, its share of a record's
// head included.
const entryRoom = 40

// misuse makes the log fail because its caller broke the contract: writing on
// would make a log that says something else than the caller believes.
func (l *Log) misuse(g smr.GroupID, format string, args ...any) {
	l.fail(fmt.Errorf("%w: group %d: %s", ErrMisuse, g, fmt.Sprintf(format, args...)))
}

// begun returns the group if it was created and the log still takes records.
func (l *Log) begun(id smr.GroupID) *group {
	if l.Failed() != nil {
		return nil
	}
	g := l.groups[id] // only the shard's goroutine, which this is, writes the map
	if g == nil || !g.filled.exists {
		l.misuse(id, "it was never created")
		return nil
	}
	return g
}

// Create records that the group begins at snapshot index 0 with configuration c.
// It is buffered like Append. A group that exists is misuse.
func (l *Log) Create(id smr.GroupID, c smr.Configuration) {
	if l.Failed() != nil {
		return
	}
	g := l.groups[id]
	if id == 0 || g != nil && g.filled.exists {
		l.misuse(id, "it exists already, or its id is zero")
		return
	}
	if g == nil {
		g = &group{id: id}
		l.mu.Lock()
		l.groups[id] = g
		l.mu.Unlock()
	}
	g.filled.exists = true
	m := &smr.SnapshotMeta{Configuration: cloneConfiguration(c)}
	l.fillMu.Lock()
	defer l.fillMu.Unlock()
	b := l.fill
	start := b.begin(kindCreate, id)
	b.bytes = smr.AppendConfiguration(b.bytes, &m.Configuration)
	b.end(start, record{group: id, snapshot: m})
}

// Remove records that the group is gone from this log, which keeps nothing of
// it. It is buffered like Append. The group may be created again.
func (l *Log) Remove(id smr.GroupID) {
	g := l.begun(id)
	if g == nil {
		return
	}
	buffer, ack := g.filled.buffer, g.filled.ack
	g.filled = group{}.filled
	g.filled.buffer, g.filled.ack = buffer, ack
	l.fillMu.Lock()
	defer l.fillMu.Unlock()
	l.fill.end(l.fill.begin(kindRemove, id), record{group: id})
}

// Append encodes the group's write numbered seq into the buffer that the next
// Sync takes: its hard state, if hs is not nil, and entries, which overwrite
// whatever the log holds from the first one's index on. Nothing of the arguments
// is kept. Entries that leave a gap, begin at or before the snapshot, or whose
// term goes back, and a hard state whose term goes back or whose vote changes
// within a term, are misuse: the log fails.
func (l *Log) Append(id smr.GroupID, seq uint64, hs *smr.HardState, entries []smr.Entry) {
	g := l.begun(id)
	if g == nil {
		return
	}
	g.filled.configurations = nil
	if was := g.filled.hardState; hs != nil && (hs.Term < was.Term || hs.Term == was.Term && was.Vote != 0 && hs.Vote != was.Vote) {
		l.misuse(id, "hard state %+v after %+v: neither term nor vote may go back", *hs, was)
		return
	}
	if len(entries) > 0 && !l.follow(g, entries) {
		return
	}
	l.fillMu.Lock()
	defer l.fillMu.Unlock()
	b := l.fill
	if hs != nil {
		g.filled.hardState = *hs
		start := b.begin(kindHardState, id)
		b.bytes = appendHardState(b.bytes, hs)
		b.end(start, record{group: id, hardState: *hs})
	}
	b.entries(kindEntries, id, entries)
	if len(b.bytes) > batchBytesMax {
		l.misuse(id, "%d bytes are waiting for the disk, which no batch can hold; append no more when Buffered says that much waits", len(b.bytes))
	}
	if g.filled.buffer == b.number {
		b.acks[g.filled.ack].Seq = seq
		return
	}
	g.filled.buffer, g.filled.ack = b.number, len(b.acks)
	b.acks = append(b.acks, Ack{Group: id, Seq: seq})
}

// follow checks that entries may follow what the log holds, and notes them.
func (l *Log) follow(g *group, entries []smr.Entry) bool {
	first := entries[0].Index
	if first <= g.filled.snapIndex || first > g.filled.last+1 {
		l.misuse(g.id, "entry %d appended to a log of entries after %d up to %d", first, g.filled.snapIndex, g.filled.last)
		return false
	}
	term := g.termAt(first - 1)
	if first <= g.filled.last {
		g.fillTruncate(first)
	}
	for i := range entries {
		e := &entries[i]
		if e.Index != first+uint64(i) || e.Term < term {
			l.misuse(g.id, "entry %d of term %d appended after entry %d of term %d", e.Index, e.Term, first+uint64(i)-1, term)
			return false
		}
		if e.Term != term || len(g.filled.terms) == 0 {
			g.fillEntry(e.Index, e.Term)
		}
		term = e.Term
	}
	g.filled.last = entries[len(entries)-1].Index
	return true
}

// SetSnapshot records that the group's log is compacted up to m.Index: entries
// up to it are gone. If the log does not reach m.Index, or holds an entry of
// another term there, it restarts at m.Index and holds no entry (Raft §7). A
// snapshot older than the present one changes nothing.
func (l *Log) SetSnapshot(id smr.GroupID, m smr.SnapshotMeta) {
	g := l.begun(id)
	if g == nil || m.Index < g.filled.snapIndex {
		return
	}
	m.Configuration = cloneConfiguration(m.Configuration)
	restart := m.Index > g.filled.last || g.termAt(m.Index) != m.Term
	g.fillSnapshot(&m, restart)
	l.fillMu.Lock()
	defer l.fillMu.Unlock()
	b := l.fill
	start := b.begin(kindSnapshot, id)
	flag := byte(0)
	if restart {
		flag = 1
	}
	b.bytes = append(b.bytes, flag)
	b.bytes = appendSnapshot(b.bytes, &m)
	b.end(start, record{group: id, snapshot: &m, restart: restart})
}

func cloneConfiguration(c smr.Configuration) smr.Configuration {
	c.Members = append([]smr.Member(nil), c.Members...)
	return c
}

// Buffered returns how many bytes are filled and not yet taken by Sync.
func (l *Log) Buffered() int {
	l.fillMu.Lock()
	defer l.fillMu.Unlock()
	return len(l.fill.bytes) - batchHead
}

// Pending reports whether Sync has something to do.
func (l *Log) Pending() bool {
	l.fillMu.Lock()
	defer l.fillMu.Unlock()
	return !l.fill.empty() || l.stuck || l.failed.Load() != nil
}
