package raft

import "github.com/quorate/quorate/smr"

// outbox is what waits for the next Take, and what the last one lent out.
type outbox struct {
	// pending are messages without entries that wait for the gate. All speak of
	// the current term; at most one of each type to each replica.
	pending []Message
	restore *smr.SnapshotMeta
	slab    slab
	// reported is what the last Output with Changed set has shown.
	reported seen

	poison bool
	lent   []Message
}

// seen is what Output.Changed is about.
type seen struct {
	role          RoleState
	term          uint64
	leader        smr.ReplicaID
	configuration uint64
	members       int
}

func (r *Raft) view() seen {
	return seen{r.role, r.hard.Term, r.leader, r.members.active().index, len(r.members.peers)}
}

// send queues a message of this replica for the gate. One of the same type to
// the same replica, if it still waits there, is replaced.
func (r *Raft) send(m Message) {
	m.Group, m.From = r.cfg.Group, r.cfg.ID
	if m.Term == 0 {
		m.Term = r.hard.Term
	}
	for i := range r.out.pending {
		if p := &r.out.pending[i]; p.Type == m.Type && p.To == m.To && p.Reject == m.Reject {
			*p = m
			return
		}
	}
	r.out.pending = append(r.out.pending, m)
}

func (r *Raft) sendTo(to smr.ReplicaID, m Message) {
	m.To = to
	r.send(m)
}

// reply answers m.
func (r *Raft) reply(m *Message, answer Message) { r.sendTo(m.From, answer) }

// emit puts a leader's message into out. A leader's gate is open: it leads
// because its vote in this term is on disk.
func (r *Raft) emit(out *Output, m Message) {
	m.Group, m.From, m.Term = r.cfg.Group, r.cfg.ID, r.hard.Term
	out.Messages = append(out.Messages, m)
}

// Take hands out everything that the core wants done. What was in out before is
// overwritten, and what an earlier Take handed out is no longer valid.
func (r *Raft) Take(out *Output) {
	r.recycle(out)
	if r.role == Leader {
		r.advanceCommit() // before the write, so that the write carries it
	}
	r.takeWrite(out)
	if r.role == Leader && !r.rest.on {
		if r.off.has(offSync) {
			r.advanceCommit()
		}
		round := r.startReads()
		if r.lead.beatDue && !round && r.lease.real != 0 {
			r.beginRound() // whose answers renew the lease
		}
		r.takeHeartbeats(out, round)
		r.takeAppends(out)
		r.takeReads(out)
		r.renewLease()
		r.takeTransfer(out)
		r.takeRest()
	}
	r.takeAnswers()
	if r.gateOpen() {
		out.Messages = append(out.Messages, r.out.pending...)
		r.out.pending = r.out.pending[:0]
		r.takeSuffix(out)
	}
	r.takeCommitted(out)
	out.Reads = append(out.Reads, r.reads.ready...)
	r.reads.ready = r.reads.ready[:0]
	out.ReadsFailed = append(out.ReadsFailed, r.reads.failed...)
	r.reads.failed = r.reads.failed[:0]
	if v := r.view(); v != r.out.reported {
		r.out.reported, out.Changed = v, true
	}
	r.out.slab.release()
	if r.out.poison {
		r.out.lent = out.Messages
	}
	r.check()
}

// recycle empties out and takes back what the last Take lent.
func (r *Raft) recycle(out *Output) {
	if r.out.poison {
		for i := range r.out.lent {
			r.out.lent[i] = Message{Type: 255, Index: poisonIndex}
		}
		r.out.lent = nil
		r.out.slab.poison()
	}
	r.log.arena.release(r.log.first, r.apply.applied)
	r.out.slab.begin()
	*out = Output{
		Messages: out.Messages[:0], Reads: out.Reads[:0], ReadsFailed: out.ReadsFailed[:0],
		Fetches: out.Fetches[:0], Snapshots: out.Snapshots[:0],
	}
}

// takeWrite numbers a write, if there is anything that must be on disk. A new
// commit index goes with it, but is no reason for one: after a restart it is
// found again (Raft Figure 2 calls it volatile). What is written of it is
// covered by what has been persisted before, so that a torn write can never
// leave a commit index without its entries.
func (r *Raft) takeWrite(out *Output) {
	h := &r.hard
	entries := r.log.last > r.log.written
	if !entries && !h.dirty && r.out.restore == nil {
		return
	}
	commit := max(h.commitWritten, min(h.Commit, max(r.log.persisted, r.log.snapshot.Index)))
	a := Append{MustSync: true}
	if entries {
		a.Entries = r.out.slab.take(&r.log.tail, r.log.written+1, r.log.last)
	}
	if h.dirty || commit > h.commitWritten || r.out.restore != nil {
		a.HardState = smr.HardState{Term: h.Term, Vote: h.Vote, Commit: commit}
		a.HardStateSet = true
		h.commitWritten = commit
	}
	out.Restore, r.out.restore = r.out.restore, nil
	a.Seq = r.log.beginWrite()
	if h.dirty {
		h.dirty, h.write = false, a.Seq
	}
	out.Append = a
}

// slab holds copies of the entries that an Output lends out. The tail itself
// cannot be lent, because its ring wraps and moves on. The copy of a range
// serves everybody who wants a part of it: mostly the disk and all followers
// want the same entries.
type slab struct {
	entries     []smr.Entry
	first, last uint64 // what the copy that begins at start holds
	start       int
	used        int // high water of the Take before
	idle        int
}

// slabIdleMax is how many Takes in a row a slab may be used to less than a
// quarter before it is given back.
const (
	slabIdleMax    = 256
	slabEntriesMin = 8
)

func (s *slab) begin() {
	s.used = len(s.entries)
	s.entries = s.entries[:0]
	s.first, s.last = 1, 0
}

// take returns a copy of the entries [first, last] of t.
func (s *slab) take(t *tail, first, last uint64) []smr.Entry {
	if first >= s.first && last <= s.last {
		at := s.start + int(first-s.first)
		n := int(last - first + 1)
		return s.entries[at : at+n : at+n]
	}
	n := int(last - first + 1)
	if len(s.entries)+n > cap(s.entries) {
		// What has been lent keeps the old memory.
		s.entries = make([]smr.Entry, 0, max(slabEntriesMin, 2*(len(s.entries)+n)))
		s.used = 0
	}
	s.start = len(s.entries)
	s.entries = t.copyTo(s.entries, first, last)
	s.first, s.last = first, last
	return s.entries[s.start : s.start+n : s.start+n]
}

// release forgets the Data that the Take before has left behind, and gives the
// memory back when it is not needed for long.
func (s *slab) release() {
	if n := len(s.entries); s.used > n {
		clear(s.entries[n:s.used])
	}
	if cap(s.entries) <= slabEntriesMin || len(s.entries) > cap(s.entries)/4 {
		s.idle = 0
		return
	}
	s.idle++
	if s.idle > slabIdleMax && len(s.entries) == 0 {
		s.entries, s.used, s.idle = nil, 0, 0
	}
}

const poisonIndex = 0xDEADDEADDEADDEAD

// poison overwrites what has been lent and gives the memory up, so that it
// stays overwritten.
func (s *slab) poison() {
	for i := range s.entries {
		s.entries[i] = smr.Entry{Index: poisonIndex, Term: poisonIndex, Kind: 255}
	}
	s.entries, s.used = nil, 0
}
