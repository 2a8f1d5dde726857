// Package host is the runtime of a replica and the public way into Quorate: it
// opens a host, starts groups on it, and replicates their state machines.
//
//	h, err := host.Open(host.Config{ID: 1, Cluster: 7, Dir: "data", Listen: "127.0.0.1:2380", Peers: peers})
//	g, err := h.StartGroup(host.GroupConfig{ID: 1, Members: members, Machine: machine})
//	result, err := g.Propose(ctx, command)
//	answer, err := g.Read(ctx, query)
//
// # One turn
//
// A host runs its groups on shards. Shard.Turn is the whole runtime: it drains
// the shard's inbox into the cores of the groups, gathers what they want done,
// and hands one batch to the log, one frame to each peer, and the committed
// entries to the apply workers. The log is written by a Syncer, entries are
// applied by Workers, old entries are read back by a Fetcher; each of them has a
// Turn as well, and what it found comes back through the shard's inbox. Runtime
// is all of this without a goroutine and without a clock: Host gives each Turn a
// goroutine, the simulator calls the same Turns in an order of its own.
//
// # Groups at rest
//
// A group in which nothing happens takes no turns and sends nothing; the hosts
// vouch for one another by pulses (pulse.go, docs/resting-groups.md). So a host can
// run ten thousand groups, most of which have nothing to do.
//
// # A proposal's way, and the term fence
//
// Whoever proposes on any replica is answered when that replica applies the
// entry: an entry carries the name of its waiter (Origin, Request). A replica
// that does not lead forwards the proposal to the leader of its term, and that
// leader takes it only while it leads that very term.
//
// The terms of the log never go back (Raft §5.3, log matching). So once a
// replica sees a committed entry of a term above t, no entry of term t can
// commit any more that it has not seen yet: a proposal that went into term t and
// has not come out is certainly not done, and is proposed again under the new
// term. That is why a change of leader fails no request, doubles none, and needs
// no acknowledgement from the old leader.
//
// What cannot be decided before the caller's deadline is ErrOutcomeUnknown.
package host
