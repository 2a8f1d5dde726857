package raft

import "github.com/quorate/quorate/smr"

// Transfer hands leadership to a voter (thesis §3.10): the leader takes no more
// proposals, brings the target's log up to its own, and tells it to stand at
// once. It is given up after one ElectionTimeout. It returns ErrNotLeader,
// ErrTransferring while another transfer is under way, or ErrUnknownReplica.
func (r *Raft) Transfer(now smr.Instant, to smr.ReplicaID) error {
	r.at(now)
	p := r.members.peer(to)
	switch {
	case r.role != Leader:
		return ErrNotLeader
	case r.lead.transferee != 0 && r.lead.transferee != to:
		return ErrTransferring
	case p == nil || p.role != smr.Voter || to == r.cfg.ID:
		return ErrUnknownReplica
	}
	r.wake()
	if r.lead.transferee == 0 {
		r.lead.transferee, r.lead.toldToLead = to, false
		r.lead.transferAt = r.now.Add(r.cfg.ElectionTimeout)
	}
	r.check()
	return nil
}

// takeTransfer tells the target to stand once its log is as long as this one.
func (r *Raft) takeTransfer(out *Output) {
	l := &r.lead
	if l.transferee == 0 || l.toldToLead {
		return
	}
	p := r.members.peer(l.transferee)
	if p == nil {
		l.transferee = 0
		return
	}
	if p.match == r.log.last {
		l.toldToLead, r.lease.over = true, true
		r.emit(out, Message{Type: MsgTimeoutNow, To: p.id})
	}
}
