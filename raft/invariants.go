package raft

import "fmt"

// InvariantError is what a core panics with when it finds that something is not
// as it must be: its own state, an impossible message from a leader, or a wrong
// acknowledgement by the host. The host stops this replica of the group, and no
// other: a replica that stops is better than one that diverges.
type InvariantError struct {
	// Number of the invariant: see Raft.check; from 20 on, of the host's calls.
	Number int
	Text   string
	State  State
}

func (e *InvariantError) Error() string {
	return fmt.Sprintf("invariant %d of the raft core is broken: %s (%+v); this replica must stop", e.Number, e.Text, e.State)
}

func (r *Raft) fail(number int, format string, args ...any) {
	panic(&InvariantError{Number: number, Text: fmt.Sprintf(format, args...), State: r.State()})
}

// checked is what the last check saw, to see that nothing goes back.
type checked struct {
	paranoid bool
	term     uint64
	vote     uint64
	commit   uint64
	handed   uint64
}

// check verifies the invariants of the whole, after each call:
//
//	(1) at most one leader in a term (election safety, Raft Figure 3)
//	(2) an entry that is committed, or that the leader of the term has, is
//	    never replaced (leader completeness, leader append-only)
//	(3) a leader is its own leader, and nobody else is
//	(4) a candidate and a leader have voted for themselves
//	(5) the term is at least that of the last entry
//	(6) term, commit and handed never go back; a vote is not changed in a term
//	(7) snapshot <= applied <= handed <= commit <= last
//	(8) persisted <= written <= last; what is not in the tail is on disk
//	(9) handed <= persisted, beyond a snapshot
//	(10) a follower's acknowledged <= matched, and commit <= matched
//	(11) a leader's followers: match < next <= last+1
//	(12) nothing waits at the gate that speaks of another term
//	(13) what rests has nothing left to do (Z1 to Z4, beside rest)
//
// Those beside the types are checked by checkAll, in tests.
func (r *Raft) check() {
	l, a, c := &r.log, &r.apply, &r.checked
	if (r.role == Leader) != (r.leader == r.cfg.ID) {
		r.fail(3, "a %v takes replica %d for the leader", r.role, r.leader)
	}
	if r.role >= Candidate && r.hard.Vote != r.cfg.ID {
		r.fail(4, "a %v has voted for %d", r.role, r.hard.Vote)
	}
	if r.hard.Term < l.lastTerm() {
		r.fail(5, "the last entry is of term %d", l.lastTerm())
	}
	if r.hard.Term < c.term || r.hard.Commit < c.commit || a.handed < c.handed ||
		r.hard.Term == c.term && c.vote != 0 && uint64(r.hard.Vote) != c.vote {
		r.fail(6, "before: term %d, vote %d, commit %d, handed out %d; vote now %d", c.term, c.vote, c.commit, c.handed, r.hard.Vote)
	}
	c.term, c.vote, c.commit, c.handed = r.hard.Term, uint64(r.hard.Vote), r.hard.Commit, a.handed
	if l.snapshot.Index > a.applied || a.applied > a.handed || a.handed > r.hard.Commit || r.hard.Commit > l.last {
		r.fail(7, "the log begins after %d, handed out %d", l.snapshot.Index, a.handed)
	}
	if l.persisted > l.written || l.written > l.last || l.first > max(l.persisted, l.snapshot.Index)+1 || l.next != l.last+1 {
		r.fail(8, "written %d, in memory [%d, %d)", l.written, l.first, l.next)
	}
	if a.handed > max(r.durable(), l.snapshot.Index) {
		r.fail(9, "handed out %d", a.handed)
	}
	if r.role != Leader && (r.follow.acked > r.follow.matched || r.hard.Commit > r.follow.matched || r.follow.matched > l.last || r.follow.term != r.hard.Term) {
		r.fail(10, "matched %d, acknowledged %d, of term %d", r.follow.matched, r.follow.acked, r.follow.term)
	}
	if r.role == Leader {
		for i := range r.members.peers {
			if p := &r.members.peers[i]; p.match >= p.next || p.next > l.last+1 || p.mark >= p.next {
				r.fail(11, "replica %d: match %d, next %d, mark %d", p.id, p.match, p.next, p.mark)
			}
		}
	}
	if r.rest.on {
		r.checkRest()
	}
	if c.paranoid {
		r.checkAll()
	}
}

// checkAll verifies the invariants beside the types, whose cost grows with the
// log. The numbers are theirs, from 101 on in the order of the file.
func (r *Raft) checkAll() {
	r.checkTail()
	r.checkRuns()
	for i := range r.out.pending {
		m := &r.out.pending[i]
		preVote := m.Type == MsgPreVote || m.Type == MsgPreVoteReply && !m.Reject
		if m.Term != r.hard.Term && !preVote {
			r.fail(12, "a message of type %d and term %d waits", m.Type, m.Term)
		}
	}
	h := r.members.history
	for i := range h {
		if i > 0 && (h[i].index <= h[i-1].index || h[i].index > r.log.last) {
			r.fail(103, "configuration %d is of index %d", i, h[i].index)
		}
	}
	if h[0].index != r.log.snapshot.Index {
		r.fail(103, "the first configuration is of index %d, the log begins after %d", h[0].index, r.log.snapshot.Index)
	}
	sum := 0
	for _, b := range r.apply.batches {
		sum += b.bytes
	}
	if sum != r.apply.bytes {
		r.fail(104, "batches of %d bytes are counted as %d", sum, r.apply.bytes)
	}
	for i := range r.members.peers {
		r.checkWindow(&r.members.peers[i])
	}
}

func (r *Raft) checkTail() {
	l := &r.log
	sum := 0
	for i := l.first; i < l.next; i++ {
		e := l.at(i)
		t, ok := l.term(i)
		if e.Index != i || !ok || e.Term != t {
			r.fail(101, "entry (%d, %d) stands where (%d, %d) belongs", e.Index, e.Term, i, t)
		}
		sum += e.Size()
	}
	if sum != l.bytes() {
		r.fail(101, "a tail of %d bytes is counted as %d", sum, l.bytes())
	}
}

func (r *Raft) checkRuns() {
	l := &r.log
	if (len(l.runs) == 0) != (l.last == l.snapshot.Index) {
		r.fail(102, "%d runs in (%d, %d]", len(l.runs), l.snapshot.Index, l.last)
	}
	for i, run := range l.runs {
		if i == 0 && run.First != l.snapshot.Index+1 || i > 0 && (run.First <= l.runs[i-1].First || run.Term <= l.runs[i-1].Term) || run.First > l.last {
			r.fail(102, "run %d is %+v", i, run)
		}
	}
	for _, w := range l.writes {
		if w.last > l.written {
			r.fail(102, "write %d goes to %d, beyond %d", w.seq, w.last, l.written)
		}
	}
}

func (r *Raft) checkWindow(p *progress) {
	sum, last := 0, p.match
	for i := range p.window.n {
		f := p.window.ring[(p.window.head+i)%len(p.window.ring)]
		if r.role == Leader && (f.last <= last || f.last >= p.next) {
			r.fail(105, "replica %d: an append up to %d is in flight, match %d, next %d", p.id, f.last, p.match, p.next)
		}
		last = f.last
		sum += f.bytes
	}
	if sum != p.window.bytes {
		r.fail(105, "replica %d: %d bytes in flight are counted as %d", p.id, sum, p.window.bytes)
	}
}
