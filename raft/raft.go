package raft

import (
	"math/rand/v2"

	"github.com/quorate/quorate/smr"
)

// Raft is the protocol of one replica of one group. It is not safe for
// concurrent use. Its invariants are in invariants.go and beside the types of
// its parts.
type Raft struct {
	cfg Config
	off switches
	// now is the latest instant that was passed in. It never goes back.
	now smr.Instant
	rng rand.PCG

	role RoleState
	// leader of the current term, as far as it is known and heard; zero if not.
	leader smr.ReplicaID

	hard     hardState
	log      log
	members  membership
	election election
	lead     leading
	follow   following
	rest     rest
	catch    catchUp
	apply    applying
	reads    reads
	lease    lease
	out      outbox
	checked  checked
}

// hardState is what must be on disk before it is spoken of.
type hardState struct {
	smr.HardState
	// dirty: term or vote have changed and no write carries them yet. If not
	// dirty, write is the number of the write that carries them.
	dirty bool
	write uint64
	// commitWritten is the commit index that the newest write carries.
	commitWritten uint64
}

// New returns the core of a replica. The error wraps ErrConfig or ErrStart.
func New(cfg Config, start Start, now smr.Instant, opts ...Option) (*Raft, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	history, err := start.check()
	if err != nil {
		return nil, err
	}
	r := &Raft{cfg: cfg, now: now}
	for _, o := range opts {
		r.off |= o.off
		r.out.poison = r.out.poison || o.poison
		r.checked.paranoid = r.checked.paranoid || o.paranoid
	}
	if r.off.has(offBatching) {
		r.cfg.AppendEntriesMax = 1
	}
	if r.off.has(offPipelining) {
		r.cfg.InflightMessagesMax = 1
	}
	r.rng.Seed(cfg.Seed, uint64(cfg.ID)^uint64(cfg.Group)<<32)
	cfg.Memory.cores++
	r.log.arena.memory, r.log.arena.poison = cfg.Memory, r.out.poison
	r.log.open(&start.LogState)
	r.hard.HardState = start.HardState
	r.hard.Commit = max(start.HardState.Commit, start.Applied, start.Snapshot.Index)
	r.hard.commitWritten = start.HardState.Commit
	r.apply.handed, r.apply.applied = start.Applied, start.Applied
	r.apply.retryAt = smr.Never
	r.members.self, r.members.history = cfg.ID, history
	r.members.rebuild(0, now)
	r.follow.begin(r.hard.Term, r.hard.Commit)
	r.lease.promised = now.Add(r.cfg.ElectionTimeout)
	r.drawTimeout()
	if r.mayStand() && r.members.alone() {
		r.election.deadline = now // there is nobody to wait for
	} else if cfg.EagerStart && !r.off.has(offPreVote) {
		// Later than a heartbeat interval, so that a leader is heard first.
		r.election.lostUntil = now.Add(r.cfg.ElectionTimeout)
		r.standSoon(r.cfg.ElectionTimeout / 4)
	}
	r.out.reported = r.view()
	r.check()
	return r, nil
}

// at moves the clock on.
func (r *Raft) at(now smr.Instant) { r.now = max(r.now, now) }

// Step takes a message from a peer. A message that is not for this replica, or
// that no replica can have sent, is ignored. The core keeps nothing of m: it
// copies the Data of the entries that it takes.
func (r *Raft) Step(now smr.Instant, m *Message) {
	r.at(now)
	if m.To != r.cfg.ID || m.Group != r.cfg.Group || m.From == 0 || m.From == r.cfg.ID {
		return
	}
	r.disturbedBy(m)
	if m.Type == MsgSuffixAsk {
		r.stepSuffixAsk(m)
	} else if m.Type == MsgSuffix {
		r.stepSuffix(m)
	} else if m.Term < r.hard.Term {
		r.stepOld(m)
	} else if m.Term == r.hard.Term || r.adopt(m) {
		r.dispatch(m)
	}
	r.check()
}

// stepOld answers a message of an older term, so that its sender learns of the
// newer one (Raft §5.1: "If a server receives a request with a stale term
// number, it rejects the request").
func (r *Raft) stepOld(m *Message) {
	switch m.Type {
	case MsgPreVote:
		r.refusePreVote(m)
	case MsgPreVoteReply:
		r.stepOffer(m) // a voter whose term is older refuses for its log
	case MsgVote:
		r.reply(m, Message{Type: MsgVoteReply, Reject: true})
	case MsgAppend, MsgHeartbeat, MsgSnapshot:
		r.reply(m, Message{Type: MsgAppendReply, Reject: true, Index: m.Index})
	}
}

// adopt takes over the newer term of a message, if it is one to take over, and
// reports whether the message is to be handled.
func (r *Raft) adopt(m *Message) bool {
	switch m.Type {
	case MsgPreVote:
		return true // the term is not one that anybody has
	case MsgPreVoteReply:
		if !m.Reject {
			return true // the term is the one that was asked for
		}
	case MsgVote:
		// Thesis §4.2.3: "if a server receives a RequestVote request within the
		// minimum election timeout of hearing from a current leader, it does
		// not update its term or grant its vote."
		if !m.Force && (r.hearsLeader() && !r.off.has(offLeaderHeard) || r.bound(m.From)) {
			return false
		}
	case MsgAppend, MsgHeartbeat, MsgSnapshot, MsgTimeoutNow:
		r.becomeFollower(m.Term, m.From)
		return true
	}
	r.becomeFollower(m.Term, 0)
	return true
}

// dispatch handles a message of the current term (and pre-votes of any).
func (r *Raft) dispatch(m *Message) {
	switch m.Type {
	case MsgPreVote:
		r.stepPreVote(m)
	case MsgVote:
		r.stepVote(m)
	case MsgPreVoteReply:
		r.stepBallot(m)
		r.stepOffer(m)
	case MsgVoteReply:
		r.stepBallot(m)
	case MsgAppend, MsgHeartbeat, MsgSnapshot, MsgTimeoutNow:
		r.stepFromLeader(m)
	case MsgAppendReply, MsgHeartbeatReply:
		r.stepFromFollower(m)
	case MsgPromise:
		r.stepPromise(m)
	}
}

// becomeFollower takes over a term, which is not below the current one, and its
// leader if that is known.
func (r *Raft) becomeFollower(term uint64, leader smr.ReplicaID) {
	// Raft Figure 2: a follower stands "if election timeout elapses without
	// receiving AppendEntries RPC from current leader or granting vote to
	// candidate". A newer term alone does not give anybody more time.
	if r.role == Leader || leader != 0 {
		r.drawTimeout()
	}
	if r.role == Leader {
		r.stopLeading()
	}
	r.role = Follower
	r.rest.since, r.rest.round = r.now, 0
	if term > r.hard.Term {
		r.setTerm(term, 0)
	}
	r.leader = leader
	if leader != 0 {
		r.election.heard = r.now
	}
}

// setTerm moves to a newer term with a vote in it, or none.
func (r *Raft) setTerm(term uint64, vote smr.ReplicaID) {
	r.hard.Term, r.hard.Vote, r.hard.dirty = term, vote, true
	r.out.pending = r.out.pending[:0] // they speak of an older term
	r.follow.begin(term, r.hard.Commit)
	r.endCatchUp()
}

// Tick does what is due at now. Before Deadline it does nothing.
func (r *Raft) Tick(now smr.Instant) {
	r.at(now)
	if r.now < r.Deadline() {
		return
	}
	if r.now >= r.apply.retryAt {
		r.apply.retryAt = smr.Never
	}
	r.tickRest()
	if r.rest.on {
		return // it was something else
	}
	if r.role == Leader {
		r.tickLeader()
	} else if r.now >= r.election.deadline && r.mayStand() {
		r.campaign()
	}
	r.check()
}

// Deadline returns when the core next wants Tick; Never if nothing is due.
func (r *Raft) Deadline() smr.Instant {
	d := r.apply.retryAt
	switch {
	case r.rest.on:
		d = min(d, r.rest.until)
	case r.role == Leader:
		d = min(d, r.lead.deadline(r))
	case r.mayStand():
		d = min(d, r.election.deadline)
	}
	return d
}

// Persisted notes that the writes numbered up to seq are on disk.
func (r *Raft) Persisted(seq uint64) {
	if seq > r.log.seq {
		r.fail(20, "write %d acknowledged, the newest is %d", seq, r.log.seq)
	}
	if seq <= r.log.seqPersisted {
		return
	}
	r.log.endWrites(seq)
	r.countOwnVote()
	r.trimTail()
	r.check()
}

// gateOpen reports whether the term and the vote are on disk, so that messages
// which speak for them may leave.
func (r *Raft) gateOpen() bool {
	if r.off.has(offVotePersistence) {
		return true
	}
	return !r.hard.dirty && r.hard.write <= r.log.seqPersisted
}

// State is what changes often, by value.
type State struct {
	Role   RoleState
	Term   uint64
	Leader smr.ReplicaID // zero: unknown
	// First and Last are the indexes that the log holds; Last < First: none.
	First, Last                uint64
	Persisted, Commit, Applied uint64
}

// State returns what changes often, without allocating.
func (r *Raft) State() State {
	return State{
		Role: r.role, Term: r.hard.Term, Leader: r.leader,
		First: r.log.snapshot.Index + 1, Last: r.log.last,
		Persisted: r.log.persisted, Commit: r.hard.Commit, Applied: r.apply.applied,
	}
}

// Configuration returns the configuration in force. It shares the core's memory:
// it is valid until the next call, and is not to be changed.
func (r *Raft) Configuration() smr.Configuration { return r.members.active().Configuration }

// Status returns everything that people and tests want to see. It allocates.
func (r *Raft) Status() Status {
	s := Status{
		Group: r.cfg.Group, ID: r.cfg.ID, Role: r.role, Leader: r.leader,
		HardState: r.hard.HardState,
		First:     r.log.snapshot.Index + 1, Last: r.log.last, LastTerm: r.log.lastTerm(),
		Persisted: r.log.persisted, Applied: r.apply.applied,
		Configuration: cloneConfiguration(r.members.active().Configuration), Resting: r.rest.on,
	}
	if r.role != Leader {
		return s
	}
	s.Transferee = r.lead.transferee
	if !r.lease.over {
		s.LeaseUntil = r.lease.until
	}
	for i := range r.members.peers {
		p := &r.members.peers[i]
		s.Progress = append(s.Progress, ProgressStatus{
			ID: p.id, Match: p.match, Next: p.next, State: p.stateName(), Inflight: p.window.bytes,
			Active: p.id == r.cfg.ID || r.hears(r.now, p),
		})
	}
	return s
}

func (p *progress) stateName() string {
	switch {
	case p.state == snapshotting:
		return "snapshot"
	case p.state == probing:
		return "probe"
	case p.fetching || len(p.fetched) > 0:
		return "fetch"
	}
	return "replicate"
}
