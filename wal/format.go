package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

const (
	sectorBytes = vfs.SectorBytes

	segmentMagic   = "QRTWAL01"
	segmentVersion = 1
	segmentHead    = 80 // bytes of the segment's header that mean something

	batchMagic = 0x4251
	batchHead  = 48

	// recordHead is kind and length, recordTail the CRC.
	recordHead = 5
	recordTail = 4

	// recordBytes is where a record of entries is closed and a new one begun.
	recordBytes = 4 << 10
	// batchBytesMax bounds a batch's body.
	batchBytesMax = 1 << 30
)

// recordKind says what a record holds. Zero is the padding after a batch.
type recordKind uint8

const (
	kindPadding   recordKind = 0
	kindEntries   recordKind = 1
	kindHardState recordKind = 2
	kindCreate    recordKind = 3
	kindSnapshot  recordKind = 4
	kindMoved     recordKind = 5
	kindRemove    recordKind = 6
	kindGroup     recordKind = 7
	kindBatch     recordKind = 0xB1
)

var kindNames = map[recordKind]string{
	kindEntries: "entries", kindHardState: "hard state", kindCreate: "create", kindSnapshot: "snapshot",
	kindMoved: "moved", kindRemove: "remove", kindGroup: "group", kindBatch: "batch",
}

const flagCheckpoint = 1 // the first batch of a segment

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segmentHeader is the first sector of a segment.
type segmentHeader struct {
	identity  Identity
	shard     uint32
	number    uint64
	capacity  int64
	formerEnd int64
	formerSum uint32
	sequence  uint64 // of the first batch
}

func (h *segmentHeader) encode() []byte {
	b := make([]byte, 0, sectorBytes)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, segmentVersion)
	b = binary.LittleEndian.AppendUint32(b, h.shard)
	b = binary.LittleEndian.AppendUint64(b, h.identity.Cluster)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.identity.Replica))
	b = binary.LittleEndian.AppendUint64(b, h.identity.Incarnation)
	b = binary.LittleEndian.AppendUint64(b, h.number)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.capacity))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.formerEnd))
	b = binary.LittleEndian.AppendUint64(b, h.sequence)
	b = binary.LittleEndian.AppendUint32(b, h.formerSum)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return b[:sectorBytes]
}

// decodeSegmentHeader returns false if b is no header.
func decodeSegmentHeader(b []byte) (h segmentHeader, ok bool) {
	if len(b) < segmentHead || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[8:]) != segmentVersion ||
		binary.LittleEndian.Uint32(b[segmentHead-4:]) != crc32.Checksum(b[:segmentHead-4], castagnoli) {
		return h, false
	}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	h = segmentHeader{
		identity:  Identity{Cluster: u64(16), Replica: smr.ReplicaID(u64(24)), Incarnation: u64(32)},
		shard:     binary.LittleEndian.Uint32(b[12:]),
		number:    u64(40),
		capacity:  int64(u64(48)),
		formerEnd: int64(u64(56)),
		sequence:  u64(64),
		formerSum: binary.LittleEndian.Uint32(b[72:]),
	}
	return h, true
}

// salt is what every checksum in a segment begins with.
func salt(id Identity, shard uint32, number uint64) uint32 {
	var b [36]byte
	binary.LittleEndian.PutUint64(b[0:], id.Cluster)
	binary.LittleEndian.PutUint64(b[8:], uint64(id.Replica))
	binary.LittleEndian.PutUint64(b[16:], id.Incarnation)
	binary.LittleEndian.PutUint32(b[24:], shard)
	binary.LittleEndian.PutUint64(b[28:], number)
	return crc32.Checksum(b[:], castagnoli)
}

// batchHeader is the head of a batch.
type batchHeader struct {
	flags     uint8
	sum       uint32
	former    uint32
	sequence  uint64
	offset    int64
	bodyBytes int
	records   int
	first     uint64
}

// size is what the batch takes in the segment, up to the next sector.
func (h *batchHeader) size() int64 { return batchSize(h.bodyBytes) }

func batchSize(bodyBytes int) int64 {
	return (batchHead + int64(bodyBytes) + sectorBytes - 1) &^ (sectorBytes - 1)
}

// seal writes the head into b[:batchHead] and returns the batch's checksum. sums
// are the CRCs of the records, one after the other.
func (h *batchHeader) seal(b []byte, salt uint32, sums []byte) uint32 {
	b[0], b[1] = byte(kindBatch), h.flags
	binary.LittleEndian.PutUint16(b[2:], batchMagic)
	binary.LittleEndian.PutUint32(b[12:], h.former)
	binary.LittleEndian.PutUint64(b[16:], h.sequence)
	binary.LittleEndian.PutUint64(b[24:], uint64(h.offset))
	binary.LittleEndian.PutUint32(b[32:], uint32(h.bodyBytes))
	binary.LittleEndian.PutUint32(b[36:], uint32(h.records))
	binary.LittleEndian.PutUint64(b[40:], h.first)
	h.sum = crc32.Update(crc32.Update(salt, castagnoli, b[12:batchHead]), castagnoli, sums)
	binary.LittleEndian.PutUint32(b[4:], h.sum)
	binary.LittleEndian.PutUint32(b[8:], headSum(b, salt))
	return h.sum
}

func headSum(b []byte, salt uint32) uint32 {
	return crc32.Update(crc32.Update(salt, castagnoli, b[:8]), castagnoli, b[12:batchHead])
}

// decodeBatchHeader returns false if there is no head of a batch that belongs at
// this offset of this segment.
func decodeBatchHeader(b []byte, salt uint32, offset int64) (h batchHeader, ok bool) {
	if len(b) < batchHead || recordKind(b[0]) != kindBatch || binary.LittleEndian.Uint16(b[2:]) != batchMagic ||
		binary.LittleEndian.Uint32(b[8:]) != headSum(b, salt) {
		return h, false
	}
	h = batchHeader{
		flags:     b[1],
		sum:       binary.LittleEndian.Uint32(b[4:]),
		former:    binary.LittleEndian.Uint32(b[12:]),
		sequence:  binary.LittleEndian.Uint64(b[16:]),
		offset:    int64(binary.LittleEndian.Uint64(b[24:])),
		bodyBytes: int(binary.LittleEndian.Uint32(b[32:])),
		records:   int(binary.LittleEndian.Uint32(b[36:])),
		first:     binary.LittleEndian.Uint64(b[40:]),
	}
	return h, h.offset == offset && h.bodyBytes <= batchBytesMax
}

// verifyBody checks the records of a batch whose head is h in b, and calls bad,
// if not nil, for every record that is damaged and can still be delimited.
func verifyBody(b []byte, h *batchHeader, salt uint32, bad func(at int, kind recordKind, payload []byte)) bool {
	sum := crc32.Update(salt, castagnoli, b[12:batchHead])
	rest, at, n, good := b[batchHead:batchHead+h.bodyBytes], batchHead, 0, true
	for len(rest) > 0 {
		kind, payload, size, ok := splitRecord(rest)
		if !ok {
			return false
		}
		if !checkRecord(rest[:size], salt) {
			good = false
			if bad == nil {
				return false
			}
			bad(at, kind, payload)
		}
		sum = crc32.Update(sum, castagnoli, rest[size-recordTail:size])
		rest, at, n = rest[size:], at+size, n+1
	}
	return good && n == h.records && sum == h.sum
}

// splitRecord delimits the record at the front of b without checking its CRC.
func splitRecord(b []byte) (kind recordKind, payload []byte, size int, ok bool) {
	if len(b) < recordHead+recordTail {
		return 0, nil, 0, false
	}
	n := binary.LittleEndian.Uint32(b[1:])
	if uint64(n) > uint64(len(b)-recordHead-recordTail) {
		return 0, nil, 0, false
	}
	size = recordHead + int(n) + recordTail
	return recordKind(b[0]), b[recordHead : size-recordTail], size, true
}

// checkRecord verifies the CRC of a whole record.
func checkRecord(b []byte, salt uint32) bool {
	at := len(b) - recordTail
	return binary.LittleEndian.Uint32(b[at:]) == crc32.Update(salt, castagnoli, b[:at])
}

// sealRecord writes the CRC at the end of a whole record.
func sealRecord(b []byte, salt uint32) {
	at := len(b) - recordTail
	binary.LittleEndian.PutUint32(b[at:], crc32.Update(salt, castagnoli, b[:at]))
}

// beginRecord appends the head of a record, whose length endRecord fills in.
func beginRecord(b []byte, k recordKind, g smr.GroupID) []byte {
	b = append(b, byte(k), 0, 0, 0, 0)
	return binary.AppendUvarint(b, uint64(g))
}

// endRecord closes the record that began at start, leaving room for its CRC.
func endRecord(b []byte, start int) []byte {
	binary.LittleEndian.PutUint32(b[start+1:], uint32(len(b)-start-recordHead))
	return append(b, 0, 0, 0, 0)
}

func appendHardState(b []byte, hs *smr.HardState) []byte {
	b = binary.AppendUvarint(b, hs.Term)
	b = binary.AppendUvarint(b, uint64(hs.Vote))
	return binary.AppendUvarint(b, hs.Commit)
}

func appendSnapshot(b []byte, m *smr.SnapshotMeta) []byte {
	b = binary.AppendUvarint(b, m.Index)
	b = binary.AppendUvarint(b, m.Term)
	return smr.AppendConfiguration(b, &m.Configuration)
}

// record is a decoded record, and also what the syncer needs to know about an
// encoded one. Which fields are used depends on the kind.
type record struct {
	kind  recordKind
	group smr.GroupID
	// at and size delimit the record in its batch, the head included.
	at, size int
	// first and last index: kindEntries, kindMoved.
	first, last uint64
	hardState   smr.HardState     // kindHardState, kindGroup
	snapshot    *smr.SnapshotMeta // kindCreate, kindSnapshot, kindGroup
	restart     bool              // kindSnapshot: entries after it are dropped too
	logLast     uint64            // kindGroup
	entries     []byte            // kindEntries, kindMoved, as decoded
}

// decodeRecord decodes a payload whose CRC was verified. For entries it calls
// visit with each of them, until it returns; an entry's Data shares the payload's
// memory.
func decodeRecord(kind recordKind, payload []byte, visit func(*smr.Entry)) (r record, err error) {
	d := smr.Decoder{B: payload}
	r.kind, r.group = kind, smr.GroupID(d.Uvarint())
	bad := func(what string) (record, error) {
		return r, fmt.Errorf("%s record of group %d: %s: %w", kindNames[kind], r.group, what, smr.ErrCorrupt)
	}
	hardState := func() {
		r.hardState = smr.HardState{Term: d.Uvarint(), Vote: smr.ReplicaID(d.Uvarint()), Commit: d.Uvarint()}
	}
	snapshot := func(withIndex bool) {
		m := new(smr.SnapshotMeta)
		if withIndex {
			m.Index, m.Term = d.Uvarint(), d.Uvarint()
		}
		if !d.Failed {
			m.Configuration, d.B, err = smr.DecodeConfiguration(d.B)
		}
		r.snapshot = m
	}
	if d.Failed || r.group == 0 {
		return bad("no group")
	}
	switch kind {
	case kindEntries, kindMoved:
		return r, decodeEntries(&r, d.B, visit)
	case kindHardState:
		hardState()
	case kindCreate:
		snapshot(false)
	case kindSnapshot:
		r.restart = d.Byte() != 0
		snapshot(true)
	case kindRemove:
	case kindGroup:
		hardState()
		r.logLast = d.Uvarint()
		snapshot(true)
	default:
		return r, fmt.Errorf("record of unknown kind %d: %w", kind, smr.ErrCorrupt)
	}
	if err != nil {
		return r, err
	}
	if d.Failed || len(d.B) != 0 {
		return bad("malformed")
	}
	return r, nil
}

func decodeEntries(r *record, b []byte, visit func(*smr.Entry)) error {
	r.entries = b
	var e smr.Entry // visit may keep its Data, not the entry
	for len(b) > 0 {
		rest, err := smr.DecodeEntry(b, &e)
		if err == nil {
			err = r.follow(e.Index)
		}
		if err != nil {
			return err
		}
		b = rest
		if visit != nil {
			visit(&e)
		}
	}
	return r.whole()
}

// follow notes the index of the next entry of a record, and refuses a gap.
func (r *record) follow(index uint64) error {
	if r.first == 0 && index != 0 {
		r.first = index
	} else if r.first == 0 || index != r.last+1 {
		return fmt.Errorf("entry %d of group %d follows %d: %w", index, r.group, r.last, smr.ErrCorrupt)
	}
	r.last = index
	return nil
}

// whole refuses a record of entries that holds none.
func (r *record) whole() error {
	if r.first == 0 {
		return fmt.Errorf("entries record of group %d without entries: %w", r.group, smr.ErrCorrupt)
	}
	return nil
}
