// Package raft is the Raft protocol of one replica of one group, as a pure
// state machine: it starts no goroutine, reads no clock, does no input or
// output and never blocks. Time is an argument; randomness comes from
// Config.Seed. The same calls give the same outputs.
//
// References are to Ongaro and Ousterhout, "In Search of an Understandable
// Consensus Algorithm" (2014), cited as Raft §, and to Ongaro's dissertation
// (2014), cited as thesis §.
//
// # One turn of a host
//
//	for each message, proposal, acknowledgement that has come in:
//	        r.Step(now, &m)  r.Propose(now, entries)  r.Persisted(seq)  r.Applied(index) ...
//	if now >= r.Deadline() { r.Tick(now) }
//	r.Take(&out)
//	send out.Messages, write out.Append, apply out.Committed, answer out.Reads ...
//
// Everything that a turn caused leaves in one Take: sixty-four proposals of a
// turn are one write and one message to each follower. After Take, the core
// needs no further call until something comes in, its Deadline is reached, or
// Output.More was set.
//
// # What rests on the disk
//
// Output.Messages may be sent at once, before Output.Append is written, so that
// the leader's disk and the network work in parallel (thesis §10.2.1). The core
// itself holds back what must wait. The rules:
//
//   - No message leaves before the term and the vote that it speaks for are on
//     disk. One gate does it for all messages (output.go), and a candidate's
//     own vote counts when it has passed the same gate.
//   - A follower acknowledges min(matched, persisted).
//   - A leader counts itself in a commit at its persisted index.
//   - Committed entries are handed out up to min(commit, persisted).
//
// Writes are numbered, and acknowledged by number alone. An acknowledgement by
// (index, term) has an A-B-A race: an entry that was written, truncated and
// written again would be acknowledged by its first write. Here each write in
// flight remembers the last index that it covers, and truncating the log clamps
// that index, in those writes too.
//
// # What is where
//
// The tail of the log is in memory, bounded in bytes. The term of every entry
// of the whole log is known from its runs of equal terms, so that matching,
// voting and repair never read the disk; entries before the tail are asked for
// by Output.Fetches, for a slow follower and for this replica's own state
// machine alike.
package raft
