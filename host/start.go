package host

import (
	"errors"
	"fmt"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// starting is a group on its way to run. Its state machine is opened, and restored
// from an image if the log begins after its state, which may take long: so this is
// done beside the turns of the shard, whose other groups go on.
//
//	reserve (a turn) ──► prepare (anywhere) ──► begin (a turn)
//	        └────────────────► giveUp (a turn), after an error
//
// Invariants:
//
//	(1) From reserve to begin or giveUp the id stands in Shard.starting, and in no
//	    turn does anything happen to this group's log.
//	(2) The machine is closed by prepare and begin if they fail, and by nobody else
//	    before the group runs.
type starting struct {
	shard *Shard
	cfg   GroupConfig
	// known: the log holds the group, and state is what it holds.
	known   bool
	state   smr.LogState
	images  images
	applied uint64
}

// StartGroup starts a replica of a group. It must not run together with a turn
// of the group's shard.
func (rt *Runtime) StartGroup(cfg GroupConfig, now smr.Instant) (*Group, error) {
	st, err := rt.reserve(cfg)
	if err != nil {
		return nil, err
	}
	if err := st.prepare(nil); err != nil {
		st.giveUp()
		return nil, err
	}
	return rt.begin(st, now)
}

// reserve takes the group's id, so that nobody else starts it.
func (rt *Runtime) reserve(cfg GroupConfig) (*starting, error) {
	if err := cfg.check(rt.cfg.ID); err != nil {
		return nil, err
	}
	s := rt.shardOf(cfg.ID)
	if s.failed != nil {
		return nil, s.failed
	}
	if s.groups[cfg.ID] != nil || s.starting[cfg.ID] {
		return nil, fmt.Errorf("%w: %d", ErrGroupExists, cfg.ID)
	}
	s.starting[cfg.ID] = true
	st := &starting{shard: s, cfg: cfg}
	if st.state, st.known = s.log.State(cfg.ID); !st.known {
		st.state = smr.LogState{Snapshot: smr.SnapshotMeta{Configuration: cfg.Members}}
	}
	return st, nil
}

// giveUp gives the id back.
func (st *starting) giveUp() { delete(st.shard.starting, st.cfg.ID) }

// prepare opens the machine and makes its state one that the log follows. stop,
// if not nil, ends it early.
func (st *starting) prepare(stop <-chan struct{}) error {
	id, machine := st.cfg.ID, st.cfg.Machine
	applied, err := machine.Open()
	if err != nil {
		return fmt.Errorf("opening the state machine of group %d: %w", id, err)
	}
	if !st.known && applied != 0 {
		err = fmt.Errorf("%w: the state machine of group %d has applied %d entries, but the log knows no such group: the log was lost, or is not of this state machine", ErrDamaged, id, applied)
	}
	if err == nil {
		err = st.images.open(st.shard, &st.cfg)
	}
	if err == nil {
		applied, err = st.images.atStart(st.shard, id, &st.state, applied, stop)
	}
	if err == nil && applied > st.state.Last {
		err = fmt.Errorf("%w: the state machine of group %d has applied %d entries, but its log ends at %d: the log was cut, or is not of this state machine", ErrDamaged, id, applied, st.state.Last)
	}
	if err != nil {
		return errors.Join(err, machine.Close())
	}
	st.applied = applied
	return nil
}

// begin makes the group one of the shard's.
func (rt *Runtime) begin(st *starting, now smr.Instant) (*Group, error) {
	s, id := st.shard, st.cfg.ID
	st.giveUp()
	g, err := st.newGroup(now)
	if err != nil {
		return nil, errors.Join(err, st.cfg.Machine.Close())
	}
	g.worker = rt.workers[uint64(id)%uint64(len(rt.workers))]
	s.groups[id] = g
	s.all = append(s.all, g)
	s.metrics.groups.Add(1)
	g.imagesStarted(now)
	s.follow(now, g)
	s.deadlines.push(g, g.deadline())
	s.activate(g)
	g.publish()
	return &Group{rt: rt, g: g}, nil
}

func (st *starting) newGroup(now smr.Instant) (*group, error) {
	s, id := st.shard, st.cfg.ID
	if s.failed != nil {
		return nil, s.failed
	}
	rc := s.cfg.Raft
	rc.Group, rc.ID = id, s.id
	rc.ElectionTimeout, rc.HeartbeatInterval = s.cfg.ElectionTimeout, s.cfg.HeartbeatInterval
	rc.Seed, rc.Memory = mix(s.origin, uint64(id)), &s.memory
	rc.Rest = !s.cfg.NoRest
	core, err := raft.New(rc, raft.Start{LogState: st.state, Applied: st.applied}, now, s.without.Core...)
	if err != nil {
		return nil, fmt.Errorf("group %d: %w", id, err)
	}
	if !st.known {
		s.log.Create(id, st.cfg.Members)
	}
	g := &group{id: id, shard: s, machine: st.cfg.Machine, images: st.images, core: core, out: &s.output, applied: st.applied}
	g.reads.lastTicket = mix(s.origin, ^uint64(id)) >> 1
	g.view.applied.Store(st.applied)
	return g, nil
}
