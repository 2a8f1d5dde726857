package sim

import (
	"encoding/binary"
	"fmt"
	"strings"

	cockroach "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// ghost is what one host has on its disk, synced, in true time. The world reads
// it off the writes and syncs of the log's files as they pass, in the format that
// package wal documents and with a decoder of its own. It outlives the host's
// lives: a host that comes back must hold what its ghost holds, unless its disk has
// lied about what it did (damage).
//
// Invariants: (1) a batch enters when the sync after its write has succeeded, in
// the order of the sequence numbers without a gap. (2) What has entered only
// batches, compactions and restored snapshots change.
type ghost struct {
	h      *simHost
	shards []ghostShard
	logs   []ghostLog // by group
}

// ghostShard is the newest batch that is synced.
type ghostShard struct {
	sequence uint64
	sum      uint32
}

// ghostLog is a group's part: entries (start, last()] by their terms alone. What
// they hold is the ledger's business.
type ghostLog struct {
	exists           bool
	hs               smr.HardState
	start, startTerm uint64
	terms            []uint64
	votes            []vote // that the replica has spoken of, in all lives
}

func newGhost(h *simHost) *ghost {
	return &ghost{h: h, shards: make([]ghostShard, h.w.full.shards), logs: make([]ghostLog, len(h.w.groups))}
}

func (l *ghostLog) base() uint64 { return l.start }
func (l *ghostLog) last() uint64 { return l.start + uint64(len(l.terms)) }

func (l *ghostLog) termOrZero(index uint64) uint64 {
	switch {
	case index == l.start:
		return l.startTerm
	case index < l.start || index > l.last():
		return 0
	}
	return l.terms[index-l.start-1]
}

// compact drops the entries up to index, or all if the log has another one there.
func (l *ghostLog) compact(index, term uint64) {
	if index <= l.start {
		return
	}
	if l.termOrZero(index) == term {
		l.terms = l.terms[index-l.start:]
	} else {
		l.terms = nil
	}
	l.start, l.startTerm = index, term
}

// ghostFS is a host's file system, whose log files are watched.
type ghostFS struct {
	vfs.FS
	g *ghost
}

// Create implements vfs.FS.
func (f ghostFS) Create(name string, c cockroach.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return f.watch(name, file, err)
}

// OpenReadWrite implements vfs.FS.
func (f ghostFS) OpenReadWrite(name string, c cockroach.DiskWriteCategory, opts ...cockroach.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	return f.watch(name, file, err)
}

func (f ghostFS) watch(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil || !strings.HasSuffix(name, ".wal") {
		return file, err
	}
	w := &ghostFile{File: file, g: f.g, shard: -1}
	for _, part := range strings.Split(name, "/") {
		_, _ = fmt.Sscanf(part, "shard-%d", &w.shard)
	}
	if w.shard < 0 || w.shard >= len(f.g.shards) {
		f.g.fail("a segment of the log is named %s", name)
	}
	return w, nil
}

// ghostFile is a segment of a log.
type ghostFile struct {
	vfs.File
	g       *ghost
	shard   int
	written []byte // batches that are not synced yet, one after the other
}

// The format, as package wal documents it.
const (
	ghostMagic      = "QRTWAL01"
	ghostBatch      = 0xB1
	ghostBatchHead  = 48
	ghostRecordHead = 5
	ghostRecordTail = 4
)

// WriteAt implements vfs.File.
func (f *ghostFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(b, off)
	if err != nil {
		return n, err
	}
	if off == 0 && len(b) > vfs.SectorBytes && string(b[:len(ghostMagic)]) == ghostMagic {
		b = b[vfs.SectorBytes:]
	}
	if len(b) < ghostBatchHead || b[0] != ghostBatch {
		return n, nil // zeros ahead of the log
	}
	size := ghostBatchHead + int(binary.LittleEndian.Uint32(b[32:]))
	if size > len(b) {
		f.g.fail("a batch of %d bytes is written in %d", size, len(b))
		return n, nil
	}
	f.written = append(f.written, b[:size]...)
	return n, nil
}

// SyncData implements vfs.File.
func (f *ghostFile) SyncData() error { return f.synced(f.File.SyncData()) }

// Sync implements vfs.File.
func (f *ghostFile) Sync() error { return f.synced(f.File.Sync()) }

// synced lets in what was written, or forgets it: after a sync that failed it is
// gone, whatever a later one says.
func (f *ghostFile) synced(err error) error {
	for b := f.written; err == nil && len(b) > 0; {
		size := ghostBatchHead + int(binary.LittleEndian.Uint32(b[32:]))
		f.g.batch(&f.g.shards[f.shard], b[:size])
		b = b[size:]
	}
	f.written = f.written[:0]
	return err
}

func (g *ghost) fail(format string, args ...any) {
	g.h.w.fail(Contract, ids(g.h.id), "its disk: "+format, args...)
}

// batch enters a batch. A host that begins writes its newest one again.
func (g *ghost) batch(s *ghostShard, b []byte) {
	sum, sequence := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[16:])
	switch {
	case sequence == s.sequence && sum == s.sum:
		return
	case sequence != s.sequence+1 && !g.h.afflicted():
		g.fail("batch %d is written after %d was synced", sequence, s.sequence)
		return
	}
	s.sequence, s.sum = sequence, sum
	for b = b[ghostBatchHead:]; len(b) > 0; {
		n := ghostRecordHead + ghostRecordTail
		if len(b) >= n {
			n += int(binary.LittleEndian.Uint32(b[1:]))
		}
		if n > len(b) {
			g.fail("batch %d ends within a record", sequence)
			return
		}
		g.record(b[0], b[ghostRecordHead:n-ghostRecordTail])
		b = b[n:]
	}
}

// record enters a record.
func (g *ghost) record(kind byte, payload []byte) {
	d := smr.Decoder{B: payload}
	id := d.Uvarint()
	if id == 0 || id > uint64(len(g.logs)) {
		g.fail("a record of group %d", id)
		return
	}
	group, l := g.h.w.groups[id-1], &g.logs[id-1]
	switch kind {
	case 1: // entries
		g.entries(group, l, d.B)
	case 2: // hard state
		g.hardState(group, l, smr.HardState{Term: d.Uvarint(), Vote: smr.ReplicaID(d.Uvarint()), Commit: d.Uvarint()})
	case 3: // create
		*l = ghostLog{exists: true, votes: l.votes}
	case 4: // snapshot
		d.Byte()
		l.compact(d.Uvarint(), d.Uvarint())
	case 5: // moved
		g.moved(group, l, d.B)
	case 6: // remove
		*l = ghostLog{votes: l.votes}
	case 7: // group
		hs, last := smr.HardState{Term: d.Uvarint(), Vote: smr.ReplicaID(d.Uvarint()), Commit: d.Uvarint()}, d.Uvarint()
		if hs != l.hs || last != l.last() || d.Uvarint() != l.start {
			g.fail("a segment begins with %+v and entries up to %d of group %d; synced are %+v and entries from %d to %d", hs, last, id, l.hs, l.start+1, l.last())
		}
	default:
		g.fail("a record of kind %d", kind)
	}
	if d.Failed {
		g.fail("a record of kind %d is cut short", kind)
	}
}

// hardState: term, vote and commit index on a disk never go back.
func (g *ghost) hardState(group *simGroup, l *ghostLog, hs smr.HardState) {
	was := l.hs
	if hs.Term < was.Term || hs.Term == was.Term && was.Vote != 0 && hs.Vote != was.Vote || hs.Commit < was.Commit {
		group.fail(Monotonic, ids(g.h.id), "hard state goes from %+v back to %+v", was, hs)
	}
	l.hs = hs
}

// entries overwrite what the log holds from the first one's index on.
func (g *ghost) entries(group *simGroup, l *ghostLog, b []byte) {
	var e smr.Entry
	for first := true; len(b) > 0; first = false {
		rest, err := smr.DecodeEntry(b, &e)
		if err != nil || e.Index <= l.start || e.Index > l.last()+1 || !first && e.Index != l.last()+1 {
			g.fail("entry %d in a log from %d to %d of group %d: %v", e.Index, l.start+1, l.last(), group.id, err)
			return
		}
		b = rest
		if e.Index <= l.last() {
			g.truncated(group, l, e.Index)
			l.terms = l.terms[:e.Index-l.start-1]
		}
		prev := l.termOrZero(l.last())
		group.appended(g.h.id, &e, prev)
		if prev != e.Term && group.leader(e.Term) == g.h.id {
			group.complete(g.h.id, e.Term, l) // its first entry: up to here goes the log that it was elected with
		}
		l.terms = append(l.terms, e.Term)
	}
}

// truncated: a leader only appends. Once its log ends with an entry of its own
// term, and until it has written a later term, it writes nothing but what follows.
func (g *ghost) truncated(group *simGroup, l *ghostLog, index uint64) {
	g.h.w.marks.hit(MarkTruncation)
	term := l.hs.Term
	if group.leader(term) == g.h.id && l.termOrZero(l.last()) == term {
		group.fail(LeaderAppendOnly, ids(g.h.id), "the leader of term %d writes at %d, its log ends at %d", term, index, l.last())
	}
}

// moved are copies of entries that the log holds.
func (g *ghost) moved(group *simGroup, l *ghostLog, b []byte) {
	var e smr.Entry
	for len(b) > 0 {
		rest, err := smr.DecodeEntry(b, &e)
		if err != nil || e.Index <= l.start || l.termOrZero(e.Index) != e.Term {
			g.fail("a copy of entry %d of term %d of group %d, synced is one of term %d: %v", e.Index, e.Term, group.id, l.termOrZero(e.Index), err)
			return
		}
		if b = rest; e.Index > l.start+1 {
			group.appended(g.h.id, &e, l.termOrZero(e.Index-1))
		}
	}
}
