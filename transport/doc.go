// Package transport moves opaque frames between hosts over TCP, with mutual TLS
// if wanted.
//
// # Connections
//
// A host dials each of its peers, sends on the connection that it dialled, and
// receives on the one that it accepted: two connections for a pair of hosts,
// each used in one direction. There are two more once SendBulk is used, for what
// is large and may wait. So a host owns the fate of what it sends, and
// there is no race over which of two crossing connections survives.
//
//	host 1                                   host 2
//	Send -> queue -> sender ---- dialled ---> reader -> Handler.Frame
//	Handler.Frame <- reader <--- accepted --- sender <- queue <- Send
//
// A frame is lost if its peer is not connected, if its queue is full, or if the
// connection breaks; it is never delivered in part, changed, or twice, and the
// frames of one connection arrive in their order. Consensus sends again what it
// misses; the transport never does.
//
// # The handshake
//
// Whoever dials sends a hello, whoever accepts answers with one. Both sides
// check the other's, so both can say what is wrong. Integers are little-endian.
//
//	offset  0  magic "QUORATE\n"
//	        8  lowest and highest version spoken, u16 each
//	       12  cluster u64
//	       20  id of the host that speaks, u64
//	       28  id of the host that it means to speak to, u64
//	       36  nonce u64: chosen by who dials, returned in the answer
//	       44  verdict byte: zero in a hello, in an answer zero for yes
//	       45  what the connection carries: 0 frames, 1 frames that are large
//	           and may wait; the answer repeats it
//	       46  zero, two bytes
//	       48  CRC-32C of the 48 bytes before, u32
//
// From then on the ids belong to the connection: what it carries is from that
// host. Without TLS the id is only a claim, and the network must be trusted.
//
// # A frame
//
//	+------------+----------------+- - - - - -+
//	| length u32 | CRC-32C u32    | payload   |
//	+------------+----------------+- - - - - -+
//
// The checksum is of the payload, which has at least one byte: that of none is zero,
// so a stretch of zeros would be good frames. TCP's own checksum is too weak for data
// that a quorum will believe. Under TLS, whose records are authenticated, it is written as
// zero and not checked.
package transport
