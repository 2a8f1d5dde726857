package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// Script is a world that a script drives instead of a seed's nemesis and
// clients: the same replicas, network, disks and checkers, and nothing happens
// to them but what the script does. Delays are fixed, so that a script says
// exactly what happens; the seed draws election timeouts alone.
//
// A script acts, and lets the world happen with Step for as long as it likes.
// Once a checker has found a violation, nothing happens any more.
type Script struct {
	options ScriptOptions
	common  *common
	driver  driver

	rules   []Rule
	held    []heldLetter
	stashed []stashedOccurrence
	paused  map[pauseKey]bool
	cuts    map[[2]smr.ReplicaID]int32 // number of the link's cut
	calls   []*Call
	syncs   uint64
}

// ScriptTimeout is the election timeout of a script that names none.
const ScriptTimeout = 100 * time.Millisecond

// ScriptOptions says what world a script is for. The zero value of a duration
// means its default.
type ScriptOptions struct {
	// Mode is Core or Full.
	Mode Mode
	// Replicas is how many voters there are, 1 to 8.
	Replicas int
	Seed     uint64
	// ElectionTimeout, default ScriptTimeout. The heartbeat is a fifth of it.
	ElectionTimeout time.Duration
	// Delay of a message, default 5 ms, and Sync of a disk, default 2 ms.
	Delay, Sync time.Duration
	// Patience is how long a host looks after a client's request. Default 20
	// election timeouts.
	Patience time.Duration
	// OneEntry lets a message carry one entry at most.
	OneEntry bool
	// Lease lets leaders answer reads by a lease. All clocks are right.
	Lease bool
	// Rest lets the group rest when nothing happens.
	Rest bool
	// ManualTimers lets no replica stand but by Stand; Core alone.
	ManualTimers bool
	// Logs are the terms of the entries that a replica has on disk when it
	// starts, and Terms its term; Core alone. Missing: empty.
	Logs  map[smr.ReplicaID][]uint64
	Terms map[smr.ReplicaID]uint64
	// Snapshots and the state machine of whole hosts.
	Snapshots ScriptSnapshots
	// KeepPercent of what is not synced survives a loss of power, drawn by the
	// seed sector by sector. Zero: nothing does. Full alone.
	KeepPercent int
	// Without switches protections off.
	Without []string
	// Skip leaves classes of violations unreported.
	Skip []Class
	// Tracer is told everything that happens.
	Tracer Tracer
}

// View is what a replica is at the moment.
type View struct {
	ID                               smr.ReplicaID
	Up                               bool
	Paused, ApplyPaused, DiskPaused  bool
	Role                             raft.RoleState
	Term                             uint64
	Leader                           smr.ReplicaID
	Commit, Applied, Persisted, Last uint64
	// First index that the log still holds; 1 if it was never compacted.
	First uint64
	// Snapshots is what a host that is up knows of its snapshots. Taken,
	// Installed and Resumed count since its start: snapshots, snapshots from
	// others, and blocks that were there when receiving went on.
	Snapshots                 host.SnapshotStatus
	Taken, Installed, Resumed uint64
	// Resting says that it rests.
	Resting bool
	// Digest of the state that it has applied.
	Digest uint64
	// Log from index 1 on, with the entries before First that were compacted.
	Log []LogEntry
}

// LogEntry is an entry of a View's log. Command is the id of the command in it,
// zero for none.
type LogEntry struct{ Term, Command uint64 }

// CallState is what a client knows of its call.
type CallState uint8

const (
	// CallWaiting: there is no answer yet.
	CallWaiting CallState = iota
	// CallDone: it took effect.
	CallDone
	// CallRefused: it did not, and never will.
	CallRefused
	// CallUnknown: the client does not know.
	CallUnknown
)

func (s CallState) String() string {
	return [...]string{"waiting", "done", "refused", "unknown"}[s]
}

// Call is a client's request.
type Call struct {
	Client  string
	Replica smr.ReplicaID
	Write   bool
	// Local: the replica answers from its own state and asks nobody.
	Local bool
	Key   byte
	// ID of the (first) command of a write, Count how many it has.
	ID    uint64
	Count int
	// Bytes of each command; zero: as few as there can be.
	Bytes int
	State CallState
	// Value is what a read returned: the id of the command that wrote it.
	Value        uint64
	Err          error
	Began, Ended smr.Instant

	slot int
	life uint32
}

// ErrScript is wrapped by what a script cannot do.
var ErrScript = errors.New("the script cannot go on")

// driver is one of the two worlds under a Script.
type driver interface {
	links() *links
	dispatch(o *occurrence)
	view(id smr.ReplicaID, v *View)
	letters(o *occurrence) []Letter
	// strip takes the entries from an index on off the append that is the n-th of
	// o's letters.
	strip(o *occurrence, n int, index uint64)
	// drop loses the message of o. split returns the occurrence of a message
	// with those of its letters that keep says; free ends one that was split.
	drop(o *occurrence)
	split(o *occurrence, keep func(int) bool) occurrence
	free(o *occurrence)
	// renew lets a message arrive although its connection broke since.
	renew(o *occurrence)
	stand(id smr.ReplicaID)
	transfer(from, to smr.ReplicaID)
	// holdsTimer says that o is an election timer that stands still.
	holdsTimer(o *occurrence) bool
	notice(id, peer smr.ReplicaID)
	crash(id smr.ReplicaID, power bool)
	restart(id smr.ReplicaID)
	// light, upgrade, compactLog, readLog, damage and fill are of whole hosts: see
	// Script.CrashAt, Upgrade, Compact, ReadLog, Damage and Fill.
	light(id smr.ReplicaID, f Fuse) error
	upgrade(id smr.ReplicaID, newer bool) error
	compactLog(id smr.ReplicaID) error
	readLog(id smr.ReplicaID, index uint64) error
	damage(id smr.ReplicaID, index uint64) error
	fill(id smr.ReplicaID, full bool) error
	// reason says under which pause o falls.
	reason(o *occurrence) pauseReason
	begin(c *Call) error
	// readLocal reads a register of a replica's own state.
	readLocal(id smr.ReplicaID, key byte) (uint64, error)
	poll(c *Call)
	giveUp(c *Call)
	stepped()
	finish()
	close()
}

// NewScript builds a script's world. Its replicas are running at time zero
// after the first Step. The error wraps ErrOptions.
func NewScript(o ScriptOptions) (*Script, error) {
	orDuration(&o.ElectionTimeout, ScriptTimeout)
	orDuration(&o.Delay, 5*time.Millisecond)
	orDuration(&o.Sync, 2*time.Millisecond)
	orDuration(&o.Patience, 20*o.ElectionTimeout)
	if o.Replicas < 1 || o.Replicas > replicasMax {
		return nil, fmt.Errorf("%w: a group of %d replicas; 1 to %d can be simulated", ErrOptions, o.Replicas, replicasMax)
	}
	s := &Script{options: o, paused: map[pauseKey]bool{}, cuts: map[[2]smr.ReplicaID]int32{}}
	var err error
	switch o.Mode {
	case Core:
		err = s.buildCore()
	case Full:
		err = s.buildHosts()
	default:
		err = fmt.Errorf("%w: mode %d", ErrOptions, o.Mode)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func orDuration(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}

// scriptFeatures are those of a world without chance.
func scriptFeatures(o *ScriptOptions) features {
	f := features{
		replicas: o.Replicas, electionTimeout: o.ElectionTimeout, heartbeats: 5, chaos: 1 << 20,
		delayMin: o.Delay, delayMax: o.Delay, syncMin: o.Sync, syncMax: o.Sync, stallMax: o.Sync,
		keys: keysMax, batchMax: 1, valueBytes: commandBytesMin, tailOnRestart: 1 << 30,
	}
	if o.OneEntry {
		f.appendEntriesMax = 1
	}
	f.lease = o.Lease
	if o.Rest {
		f.rest, f.restRenewal = true, 400*o.ElectionTimeout
	}
	return f
}

// Now is the world's time.
func (s *Script) Now() smr.Instant { return s.common.now }

// Next is when the next thing happens; Never if nothing does.
func (s *Script) Next() smr.Instant {
	if s.common.found != nil || len(s.common.queue.heap) == 0 {
		return smr.Never
	}
	return s.common.queue.heap[0].at
}

// Wait lets the time pass up to t, if nothing happens before.
func (s *Script) Wait(t smr.Instant) {
	if t > s.common.now && t < s.Next() {
		s.common.now = t
	}
}

// Violation is what the checkers have found.
func (s *Script) Violation() *Violation { return s.common.found }

// Replicas are the ids of the group, from 1.
func (s *Script) Replicas() int { return s.options.Replicas }

// ElectionTimeout of the replicas.
func (s *Script) ElectionTimeout() time.Duration { return s.options.ElectionTimeout }

// Syncs is how many syncs of disks have ended.
func (s *Script) Syncs() uint64 { return s.syncs }

// View fills in what the replica is now. It reuses v.Log.
func (s *Script) View(id smr.ReplicaID, v *View) {
	*v = View{ID: id, Log: v.Log[:0]}
	s.driver.view(id, v)
	v.First = max(v.First, 1)
	v.Paused = s.paused[pauseKey{id, pauseAll}]
	v.ApplyPaused = s.paused[pauseKey{id, pauseApply}]
	v.DiskPaused = s.paused[pauseKey{id, pauseDisk}]
}

// Step lets the next thing happen and reports whether there was one.
func (s *Script) Step() bool {
	w := s.common
	if w.found != nil {
		return false
	}
	o, ok := w.queue.pop()
	if !ok {
		return false
	}
	w.now = o.at
	if w.steps++; w.steps > occurrencesMax {
		w.fail(NoProgress, nil, "still not over after %d occurrences", w.steps)
		return false
	}
	if o.what == whatClient || o.what == whatDeadline || s.stash(&o) || s.options.ManualTimers && s.driver.holdsTimer(&o) || o.what == whatDeliver && s.intercepted(&o) {
		return true
	}
	s.act(func() { s.driver.dispatch(&o) })
	return true
}

// act does something in the world, and looks at what came of it.
func (s *Script) act(f func()) {
	s.common.guarded(func() {
		f()
		s.driver.stepped()
	})
	for _, c := range s.calls {
		if c.State == CallWaiting {
			s.driver.poll(c)
		}
	}
}

// Finish ends the run: calls without an answer are given up, and the history is
// checked. It returns the violation, if there is one.
func (s *Script) Finish() *Violation {
	for _, c := range s.calls {
		s.abandon(c)
	}
	if s.common.found == nil {
		s.common.guarded(s.driver.finish)
	}
	s.driver.close()
	return s.common.found
}

// Close ends a run that is not of interest any more, without the last checks. It
// is in the place of Finish.
func (s *Script) Close() { s.driver.close() }

func (s *Script) abandon(c *Call) {
	if c.State != CallWaiting {
		return
	}
	s.driver.giveUp(c)
	c.State, c.Ended = CallUnknown, s.common.now
}

// Write lets a client write to a register at a replica: count commands at once.
// The id of the first is the call's.
func (s *Script) Write(client string, at smr.ReplicaID, key byte, count int) *Call {
	return s.WriteBytes(client, at, key, count, 0)
}

// WriteBytes is Write with commands of that size; of whole hosts alone.
func (s *Script) WriteBytes(client string, at smr.ReplicaID, key byte, count, bytes int) *Call {
	c := &Call{Client: client, Replica: at, Write: true, Key: key, Count: count, Bytes: bytes, ID: s.common.commandIDs + 1}
	s.common.commandIDs += uint64(count)
	return s.begin(c)
}

// Read lets a client read a register, linearizably, at a replica.
func (s *Script) Read(client string, at smr.ReplicaID, key byte) *Call {
	return s.begin(&Call{Client: client, Replica: at, Key: key, Count: 1})
}

// ReadLocal lets a client read a register from the own state of a replica, which
// may be old. It is answered, or refused, at once.
func (s *Script) ReadLocal(client string, at smr.ReplicaID, key byte) *Call {
	c := &Call{Client: client, Replica: at, Local: true, Key: key, Count: 1, State: CallRefused, Began: s.common.now, Ended: s.common.now}
	if s.paused[pauseKey{at, pauseAll}] {
		c.Err = fmt.Errorf("%w: replica %d is paused and answers nothing", ErrScript, at)
		return c
	}
	s.act(func() {
		if c.Value, c.Err = s.driver.readLocal(at, key); c.Err == nil {
			c.State = CallDone
		}
	})
	return c
}

func (s *Script) begin(c *Call) *Call {
	c.Began = s.common.now
	s.calls = append(s.calls, c)
	s.act(func() {
		if err := s.driver.begin(c); err != nil {
			c.State, c.Err, c.Ended = CallRefused, err, s.common.now
		}
	})
	return c
}

// Stand lets a replica's election timer run out now.
func (s *Script) Stand(id smr.ReplicaID) error {
	var v View
	s.View(id, &v)
	switch {
	case !v.Up:
		return fmt.Errorf("%w: replica %d is down and cannot stand", ErrScript, id)
	case v.Role == raft.Leader:
		return fmt.Errorf("%w: replica %d leads already", ErrScript, id)
	}
	s.act(func() { s.driver.stand(id) })
	return nil
}

// Transfer lets a leader hand its office over (thesis §3.10).
func (s *Script) Transfer(from, to smr.ReplicaID) {
	s.act(func() { s.driver.transfer(from, to) })
}

// Notice tells a replica that its connection to a peer broke.
func (s *Script) Notice(id, peer smr.ReplicaID) { s.act(func() { s.driver.notice(id, peer) }) }

// Crash ends a replica. With power, what its disk has not synced is lost.
func (s *Script) Crash(id smr.ReplicaID, power bool) {
	for _, r := range []pauseReason{pauseAll, pauseApply, pauseDisk} {
		s.Resume(id, r == pauseApply, r == pauseDisk)
	}
	s.act(func() { s.driver.crash(id, power) })
	for _, c := range s.calls {
		if c.Replica == id {
			s.abandon(c)
		}
	}
}

// Restart starts a replica on what its disk holds.
func (s *Script) Restart(id smr.ReplicaID) { s.act(func() { s.driver.restart(id) }) }

// Cut cuts the link from one replica to another.
func (s *Script) Cut(from, to smr.ReplicaID) {
	l, key := s.driver.links(), [2]smr.ReplicaID{from, to}
	if i, ok := s.cuts[key]; ok {
		l.set(i, true)
		return
	}
	s.cuts[key] = l.add([][2]uint8{{uint8(from - 1), uint8(to - 1)}}, 0)
}

// Heal makes a link whole again.
func (s *Script) Heal(from, to smr.ReplicaID) {
	if i, ok := s.cuts[[2]smr.ReplicaID{from, to}]; ok {
		s.driver.links().set(i, false)
	}
}

// Open reports whether a link is whole.
func (s *Script) Open(from, to smr.ReplicaID) bool {
	return s.driver.links().open(int(from)-1, int(to)-1)
}
