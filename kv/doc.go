// Package kv is a deterministic multi-version key-value state machine with the
// semantics of etcd's: revisions, transactions, history and its compaction.
//
// A Store keeps its versions in pebble, which runs without a log of its own: the
// log of the group is the only one. The applied index is in the same pebble
// batch as the effects of what was applied, and pebble flushes whole batches in
// order; so after a crash Open finds the state as of some entry, says which, and
// the entries after it are applied again.
//
// # Revisions
//
// The revision starts at 1. Every command that changes something raises it by
// one, and all its changes have that main revision; a sub-revision numbers them.
// Deleting nothing and reading do not raise it. Compacting to revision C makes
// all before C unreadable at once: of each key only the newest version ≤ C
// stays, unless it is a deletion. The versions themselves are removed
// afterwards, in small steps; see sweep.go.
//
// # In pebble
//
// Integers in keys are big-endian; ~ is the complement, so that the newest
// version of a key comes first:
//
//	'k' key 00 01 ~main(8) ~sub(4) 0    flags | create | version | [lease] | value
//	'k' key 00 01 ~main(8) ~sub(4) 1    (deletion: empty)
//	'r' main(8) sub(4)                  kind byte | before | key; see type change
//	'm' "format"                        "quorate-kv" | version byte | group(8)
//	'm' "state"                         see type state
//
// In a key, 00 is written as 00 FF. 'r' is the index by revision, for what walks
// history; it goes back to the compact revision.
//
// # Commands, results and queries
//
// Integers are unsigned varints (signed ones as their two's complement), bytes
// are preceded by their length. The first byte is the version, 1:
//
//	command:     1 | kind byte | body
//	  put:         flags | key | value | lease
//	  delete:      flags | key | range end
//	  txn:         n | n compares | n | n ops (success) | n | n ops (failure)
//	  compact:     revision
//	compare:     result byte | target byte | key | range end | value | number
//	op:          kind byte (1 range, 2 put, 3 delete, 4 txn) | body
//	  range:       flags | order byte | target byte | key | range end | limit
//	               | revision | [4 filters]
//	result:      1 | kind byte | error byte | body if the error is 0
//	  put:         revision | 0 or 1 | [key-value]
//	  delete:      revision | deleted | key-values
//	  txn:         succeeded byte | revision | n | n op responses
//	  compact:     revision
//	op response: kind byte | body; of a range: more byte | revision | count
//	             | key-values
//	key-value:   key | value | create | mod | version | lease
//	query:       1 | op, a range or a txn that only reads
//	answer:      1 | op response
//
// A decoder takes no more memory than a fixed multiple of its input, and refuses
// bytes that are left over.
package kv
