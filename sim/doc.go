// Package sim is the simulated world that Quorate is tested in: replicas under
// a virtual clock, with a network, disks, clocks and clients that a seed
// decides all about, and checkers that watch every step.
//
// # Two worlds
//
// The core world drives raft.Raft alone: the network moves messages, the disk
// is a list of numbered writes. It is small and fast, and made for the
// protocol. The full world drives whole hosts by the Turns that production
// runs: inbox, log files on a crashable file system, codecs, apply workers,
// forwarding, state machines.
//
// # One seed
//
// A seed draws which faults take part (swarm testing: a feature that is left
// out is left out for the whole seed), how large the cluster is, and every
// delay and every choice after that. The same seed and binary give the same
// run; Result.Digest is a digest of its history and proves it. Nothing in a
// world reads a clock, iterates over a map where the order shows, or has a
// goroutine.
//
// # Two phases
//
// First chaos: faults of all drawn kinds, under the safety checks. Then a core,
// a majority of the replicas, is healed, and every fault outside of it stays
// for good: there the world demands a leader, progress and equal states within
// a bound of election timeouts. What heals everything finds no liveness bug.
// Some seeds heal the core as a star alone: its middle, whose log may be an old
// one, is then the only replica that can lead.
//
// # What is checked
//
// After every turn of every replica, against a ledger that the world keeps in
// true time (who persisted what): the five properties of Raft (Figure 3) and
// what stands beside them; see Class for the list. What a whole host has
// persisted the world reads off the writes and syncs of its log (ghost), what it
// says to others off its frames: durable is what is synced, and committed what is
// synced on a quorum, whatever the host believes. Over the history of the
// clients: linearizability, and that what was acknowledged is there at the end.
//
// A run that silently does nothing passes every check. So each run asserts
// progress, and a sweep of seeds reports coverage marks: the branches that the
// faults should reach.
//
// # Beside the seeds
//
// A Script is a world without chance, for directed scenarios and the lab.
// MeasureLiveness puts figures on partial partitions, with gates. Shrink leaves
// out of a failing seed what it does not need to fail.
package sim
