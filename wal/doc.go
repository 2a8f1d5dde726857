// Package wal is the write-ahead log of a shard, shared by all its groups: what
// a replica must not forget is written here, and synced, before it speaks of it
// (Raft §5, "persistent state on all servers").
//
// # Segments
//
// The log is a sequence of segments, files of a fixed size named after their
// number (16 hexadecimal digits and ".wal"). They are written in order, and only
// where space is already allocated and holds zeros or the remains of an earlier
// life, so that syncing a batch writes no metadata. A segment that is no longer
// needed is recycled: renamed to the next number and written over. All integers
// are little endian; sectors are of 512 bytes.
//
//	segment = header (one sector) | batch | batch | ... | remains
//
//	header  = magic "QRTWAL01" | version u32 | shard u32
//	        | cluster u64 | replica u64 | incarnation u64
//	        | segment number u64 | capacity u64
//	        | former end u64 | sequence of the first batch u64
//	        | former checksum u32 | CRC-32C u32
//
// Former end and checksum are the position and the checksum at which the segment
// before ended; they tie the segments into one chain.
//
// # Batches
//
// What is written in one turn is one batch: one write and one sync, for all
// groups together. A batch begins at a sector, so that writing it never touches
// a sector that was acknowledged.
//
//	batch   = kind u8 (0xB1) | flags u8 | magic u16
//	        | checksum u32 | head checksum u32 | former checksum u32
//	        | sequence u64 | offset u64 | body bytes u32 | records u32
//	        | first segment still needed u64
//	        | record | record | ... | zeros up to the next sector
//
//	record  = kind u8 | length u32 | group uvarint | payload | CRC-32C u32
//
// Length is that of group and payload. A record's CRC covers everything before
// it; a batch's checksum covers its head from "former checksum" on and the CRCs
// of its records; the head checksum covers the rest of the head. Each of them
// begins with the CRC of cluster, replica, incarnation, shard and segment
// number, and each batch holds the checksum of the batch before and its own
// offset: so neither the remains in a recycled segment, nor a block that strayed
// here from elsewhere, can be taken for valid.
//
//	entries    = entry ...                      smr.AppendEntry, indexes ascending by one
//	hard state = term | vote | commit           uvarints
//	create     = configuration                  the group begins at index 0
//	snapshot   = restart u8 | index | term | configuration
//	moved      = entry ...                      a copy of entries in an older segment
//	remove     =                                the group is gone
//	group      = term | vote | commit | last | snapshot index | term | configuration
//
// The first batch of each segment holds a "group" record for every group. So
// only entries can pin an old segment; when few are left in the oldest one, they
// are copied forward as "moved" records and the segment is freed.
//
// # Past the page cache
//
// Where the system can do it, batches are written straight from memory to the disk:
// whole sectors, from memory that is aligned to them, into blocks that the file has
// already. They are read again by followers that lag alone, and that reading may go
// through the page cache, since the kernel keeps the two alike. A sync then has
// nothing to write, only the disk's own cache to see to. Nothing in the format or in
// the recovery depends on it.
//
// # In memory
//
// For each group the log keeps marks: from which index on entries are found from
// which position on. A mark spans 4 KiB of the group's records at first, and more as
// the log gets longer, so that there are some thousands at most; a read scans from
// the mark before the entry that it wants.
//
// # Recovery
//
// Batch n+1 is written only after batch n was synced. Hence the rule that tells
// a torn tail from corruption: where the chain breaks, a valid batch with a
// higher sequence number, anywhere later, proves that the broken one had been
// synced, and so perhaps acknowledged. Then Open returns a CorruptionError and
// changes nothing. Without such a proof the broken batch is the one that was
// being written: it was not acknowledged, and the log ends before it. What this
// rule cannot see is damage to the very last batch; Close therefore ends the log
// with an empty batch, which protects the one before.
//
// The last valid batch may be in the page cache and not on disk, if the process
// died between write and sync or the sync failed. Open writes it again, and
// syncs, before it reports what it holds.
//
// # Who may call what
//
// Create, Append, SetSnapshot, Remove, State, Groups, Buffered and Pending belong
// to the shard's goroutine; Sync belongs to the syncer's; Read, Stats, Failed and
// Close may be called from any. The package starts no goroutine.
package wal
