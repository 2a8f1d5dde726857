package wal

import (
	"fmt"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// RecordInfo is one record of a log, for people.
type RecordInfo struct {
	Segment uint64
	// Offset of the record in the segment's file.
	Offset int64
	// Batch is the sequence number of its batch.
	Batch uint64
	// Kind is "entries", "hard state", "create", "snapshot", "moved", "remove",
	// or "group": the state of a group at the beginning of a segment.
	Kind  string
	Group smr.GroupID
	// HardState of a hard state or group.
	HardState smr.HardState
	// Snapshot of a create, snapshot or group.
	Snapshot *smr.SnapshotMeta
	// Last index of a group's log at the beginning of a segment.
	Last uint64
	// Restart says that a snapshot dropped the entries after it.
	Restart bool
	// Entries of entries or moved. Their memory is reused after the visit.
	Entries []smr.Entry
}

// Summary is what a log holds.
type Summary struct {
	Identity Identity
	Shard    uint32
	// Segments from First to Last are in use; Unused are prepared or free.
	First, Last uint64
	Unused      int
	Bytes       int64
	Batches     uint64
	Records     uint64
	Entries     uint64
	// Torn says that a batch was being written at the end.
	Torn bool
	// End is the position in the last segment.
	End int64
}

// Inspect verifies the log in dir and calls visit, if not nil, for each record
// in order. It changes nothing and takes no lock: if the log is in use, its end
// may look torn. It returns a *CorruptionError if the log is damaged, after
// having visited what comes before the damage, or visit's error.
func Inspect(fs vfs.FS, dir string, visit func(RecordInfo) error) (Summary, error) {
	s, err := surveyDir(fs, dir, nil, 0, true)
	if err != nil {
		return Summary{}, fmt.Errorf("inspect log in %s: %w", dir, err)
	}
	defer s.close()
	sum := Summary{Identity: s.identity, Shard: s.shard, Torn: s.torn, End: s.end, Unused: len(s.files)}
	if s.last < 0 {
		return sum, s.corrupt
	}
	sum.First, sum.Last = s.files[s.first].number, s.files[s.last].number
	sum.Unused -= s.last - s.first + 1
	begin := func(f *logFile) error {
		sum.Bytes += f.size
		return nil
	}
	err = s.walk(begin, func(f *logFile, h *batchHeader, raw []byte) error {
		sum.Batches++
		return inspectBatch(&sum, f, h, raw, visit)
	})
	return sum, err
}

func inspectBatch(sum *Summary, f *logFile, h *batchHeader, raw []byte, visit func(RecordInfo) error) error {
	at := batchHead
	for rest := raw[batchHead:]; len(rest) > 0; {
		kind, payload, size, _ := splitRecord(rest)
		info := RecordInfo{Segment: f.number, Offset: h.offset + int64(at), Batch: h.sequence, Kind: kindNames[kind]}
		r, err := decodeRecord(kind, payload, func(e *smr.Entry) {
			sum.Entries++
			info.Entries = append(info.Entries, *e)
		})
		if err != nil {
			return &CorruptionError{File: f.name, Offset: info.Offset, Reason: err.Error()}
		}
		sum.Records++
		info.Group, info.HardState, info.Snapshot = r.group, r.hardState, r.snapshot
		info.Last, info.Restart = r.logLast, r.restart
		if visit != nil {
			if err := visit(info); err != nil {
				return err
			}
		}
		rest, at = rest[size:], at+size
	}
	return nil
}
