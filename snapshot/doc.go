// Package snapshot keeps images of states in files: written aside, verified
// block by block, whole or not there. It knows neither clocks nor goroutines, and
// does bounded work in each call, so that whoever drives it never waits long.
//
// # A file
//
// A file is a sequence of blocks of one size, mostly BlockBytes, the last one
// shorter. Block n is at n times that size: so blocks can be sent, received and
// verified one by one.
// Integers are little endian. The size of a file is a multiple of 512.
//
//	block   = CRC-32C u32 (of all that follows) | payload bytes u32
//	        | number u32 | flags u32 (1: the last block) | id u64
//	        | payload | zeros up to a multiple of 512 (in the last block)
//
// The payloads of all blocks together are
//
//	image   = magic "QRTSNAP1" | version u32 | head bytes u32
//	        | group u64 | index u64 | term u64 | state digest [16]
//	        | configuration (smr.AppendConfiguration) | CRC-32C u32 of the head
//	        | state bytes ...
//	        | state bytes u64 | SHA-256 of head and state [32]
//
// The id is drawn anew for each file that is written: blocks of two images of
// the same index are never mixed.
//
// # Names
//
//	IIIIIIIIIIIIIIII-DDDDDDDDDDDDDDDD.snap    whole, synced, verified
//	IIIIIIIIIIIIIIII-DDDDDDDDDDDDDDDD.part    being received: a prefix of blocks
//	IIIIIIIIIIIIIIII-DDDDDDDDDDDDDDDD.new     being written; removed by Open
//
// with index and id in hexadecimal. A file becomes whole by a rename, after its
// content was synced and before its directory is: after a power cut the name
// .snap stands for a whole file or is not there. What is received is synced now and
// then, so that the last sync is short, and nothing relies on it before it is whole:
// after a crash, the valid blocks at the front of the .part are what there is, and
// receiving goes on behind them.
package snapshot
