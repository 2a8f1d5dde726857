// Package wire encodes what hosts say to each other: the messages of the cores,
// proposals on their way to a leader, and the questions of linearizable reads.
//
// # The format, version 1
//
// A frame is what one turn of one shard has for one peer. Integers written as
// "varint" are unsigned LEB128 as in encoding/binary; others are little-endian.
//
//	frame
//	+---------+---------------+--------+--------+ . . .
//	| version | shard  varint | item   | item   |
//	+---------+---------------+--------+--------+ . . .
//	  1 byte
//
//	item
//	+------+-------------------+---------------+
//	| kind | length of body u32| body          |
//	+------+-------------------+---------------+
//	  1 byte  4 bytes
//
//	body of a message (kind 1)
//	+------+-----------+-------+------+----+------+- - - - - - - - - - - -+
//	| type | flags u16 | group | from | to | term | the fields that flags |
//	+------+-----------+-------+------+----+------+ names, ascending      |
//	  1 byte  2 bytes    all varints              +- - - - - - - - - - - -+
//
//	flag    field                  flag    field
//	0x001   index                  0x020   conflict index
//	0x002   log term               0x040   conflict term
//	0x004   commit                 0x080   force (no bytes)
//	0x008   round                  0x100   entries: number varint, then each
//	0x010   reject (no bytes)              as package smr encodes an entry
//	                               0x200   rest (no bytes)
//
//	body of a forward (kind 2):        group | term | number of entries | entries
//	body of a forward reject (kind 3): group | term | reason byte | origin |
//	                                   number of requests | requests
//	body of a read ask (kind 4):       group | term | ticket
//	body of a read reply (kind 5):     group | ticket | index | ok byte
//	body of a snapshot offer (kind 6): group | term | index | id | source
//	                                   | log start | blocks
//	body of a snapshot fetch (kind 7): group | index | id | first | count
//	body of a snapshot block (kind 8): group | index | id | number | data
//	body of a snapshot status (kind 9): group | term | state byte | index | have
//	body of a pulse (kind 10):         life
//	body of a spare message (kind 11): as that of a message; the type is one that
//	                                   hosts of before did not know
//
// # How it may change
//
// A kind that a reader does not know is skipped by its length, so a newer host
// may say new things to an older one that can do without them. A known kind is
// read strictly: unknown flags, values that no writer produces and bytes left
// over are errors. A change of a known body is therefore a new kind, and a
// change of the frame or the item head is a new version.
//
// # Rolling upgrades
//
// Hosts of two releases next to each other work together, host by host in any
// order, and back again. So a release writes what the one before cannot do without
// only in kinds and a version that the one before has learnt to read: first a
// release that reads both, then one that writes the new. What an older host can do
// without is written at once. Nobody has to know what the other side reads. That two
// hosts have a version in common is seen to by the handshake of package transport,
// whose highest version goes up with the one here.
package wire
