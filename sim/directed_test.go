package sim

import (
	"errors"
	"testing"
	"time"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// Directed scenarios: what is too rare for chance, each with the sentence that it
// asserts. All of them are scripts, without any chance but the election timeouts.

type directed struct {
	*Script
	t *testing.T
}

func direct(t *testing.T, o ScriptOptions) *directed {
	t.Helper()
	if o.Replicas == 0 {
		o.Replicas = 3
	}
	s, err := NewScript(o)
	if err != nil {
		t.Fatal(err)
	}
	d := &directed{s, t}
	d.to("start", func() bool { return d.view(smr.ReplicaID(o.Replicas)).Up })
	return d
}

func (d *directed) view(id smr.ReplicaID) View { return viewOf(d.Script, id) }

func (d *directed) to(what string, cond func() bool) {
	d.t.Helper()
	scriptTo(d.t, d.Script, what, cond)
}

// pass lets time go by, in election timeouts.
func (d *directed) pass(timeouts float64) { d.passing(timeouts, func() {}) }

// passing does so and looks after each step.
func (d *directed) passing(timeouts float64, look func()) {
	d.t.Helper()
	end := d.Now().Add(time.Duration(timeouts * float64(d.ElectionTimeout())))
	for d.Next() <= end && d.Step() {
		look()
	}
	d.Wait(end)
	if v := d.Violation(); v != nil {
		d.t.Fatal(v)
	}
}

// lead makes a replica the leader, with its empty entry committed everywhere.
func (d *directed) lead(id smr.ReplicaID) {
	d.t.Helper()
	if err := d.Stand(id); err != nil {
		d.t.Fatal(err)
	}
	d.to("a leader", func() bool {
		v := d.view(id)
		return v.Role == raft.Leader && v.Commit == v.Last
	})
	d.pass(0.5)
}

// leader waits for one that is not but, and has committed an entry of its term.
func (d *directed) leader(but smr.ReplicaID) (id smr.ReplicaID) {
	d.t.Helper()
	d.to("another leader", func() bool {
		for i := range d.Replicas() {
			v := d.view(smr.ReplicaID(i + 1))
			if v.ID != but && v.Up && v.Role == raft.Leader && v.Commit == v.Last {
				id = v.ID
				return true
			}
		}
		return false
	})
	return id
}

func (d *directed) done(what string, c *Call) *Call {
	d.t.Helper()
	d.to(what, func() bool { return c.State != CallWaiting })
	if c.State != CallDone {
		d.t.Fatalf("%s: %v, %v", what, c.State, c.Err)
	}
	return c
}

// isolate cuts a replica off from all others, or heals that.
func (d *directed) isolate(id smr.ReplicaID, off bool) {
	for i := range d.Replicas() {
		if other := smr.ReplicaID(i + 1); other != id && off {
			d.Cut(id, other)
			d.Cut(other, id)
		} else if other != id {
			d.Heal(id, other)
			d.Heal(other, id)
		}
	}
}

func (d *directed) finish() {
	d.t.Helper()
	if v := d.Finish(); v != nil {
		d.t.Error(v)
	}
}

func (d *directed) host(id smr.ReplicaID) *simHost { return d.driver.(*scriptHosts).hosts[id-1] }

// A read index with a re-used request id across a pause: an answer to a question
// of before a restart never answers one of after it (thesis §6.4: the read index
// is one of a time after the read began).
func TestReadIndexOfAnEarlierLife(t *testing.T) {
	d := direct(t, ScriptOptions{Mode: Full})
	d.lead(1)
	d.done("old value", d.Write("ann", 1, 0, 1))
	d.Withhold(Rule{Kind: "read-reply", From: 1, To: 3})
	d.Read("bob", 3, 0)
	d.to("the answer is under way", func() bool { return d.Held(Rule{Kind: "read-reply"}) == 1 })
	d.Crash(3, false)
	w := d.done("new value", d.Write("ann", 1, 0, 1))
	d.Restart(3)
	d.pass(2)
	d.Withhold(Rule{Kind: "read-ask", From: 3})
	r := d.Read("carl", 3, 0)
	d.to("the question is under way", func() bool { return d.Held(Rule{Kind: "read-ask"}) == 1 })
	d.Release(Rule{Kind: "read-reply", From: 1, To: 3}) // the old answer
	d.pass(0.5)
	if r.State == CallDone {
		t.Error("the answer to another question was taken")
	}
	d.Release(Rule{Kind: "read-ask", From: 3})
	if d.done("read", r); r.Value != w.ID {
		t.Errorf("reads %d, written was %d", r.Value, w.ID)
	}
	d.finish()
}

// A leader change during a read index: the old leader, which cannot confirm that
// it still leads, never answers; the read is asked of the new one (thesis §6.4:
// "the leader needs to make sure it hasn't been superseded by a newer leader").
func TestLeaderChangeDuringAReadIndex(t *testing.T) {
	for _, mode := range []Mode{Core, Full} {
		d := direct(t, ScriptOptions{Mode: mode})
		d.lead(1)
		d.Withhold(Rule{Kind: "heartbeat-reply", To: 1})
		at := smr.ReplicaID(1)
		if mode == Full {
			at = 3 // which asks the leader
		}
		r := d.Read("ann", at, 0)
		d.to("the round is under way", func() bool { return d.Held(Rule{Kind: "heartbeat-reply"}) > 0 })
		d.isolate(1, true)
		if r.State != CallWaiting {
			t.Errorf("%v: answered without a quorum's word: %v", mode, r.State)
		}
		leader := d.leader(1)
		w := d.done("write", d.Write("bob", leader, 0, 1))
		d.Release(Rule{})
		d.isolate(1, false)
		d.to("an answer", func() bool { return r.State != CallWaiting })
		if mode == Core && (r.State != CallRefused || errors.Is(r.Err, raft.ErrBusy)) {
			t.Errorf("the old leader says %v, %v", r.State, r.Err)
		}
		if mode == Full && (r.State != CallDone || r.Value != 0 && r.Value != w.ID) {
			t.Errorf("%v, reads %d, written was %d", r.State, r.Value, w.ID)
		}
		if r := d.done("a read after it", d.Read("ann", leader, 0)); r.Value != w.ID {
			t.Errorf("%v: reads %d, written was %d", mode, r.Value, w.ID)
		}
		d.finish()
	}
}

// A majority that loses only unsynced data loses nothing that was acknowledged
// (Raft §5.1: a replica answers "only after updating stable storage").
func TestMajorityLosesOnlyUnsyncedData(t *testing.T) {
	for _, mode := range []Mode{Core, Full} {
		d := direct(t, ScriptOptions{Mode: mode})
		d.lead(1)
		kept := d.done("synced", d.Write("ann", 1, 0, 1))
		d.pass(0.5)
		d.Pause(2, false, true)
		d.Pause(3, false, true)
		lost := d.Write("bob", 1, 1, 1)
		d.pass(0.8)
		if lost.State != CallWaiting {
			t.Errorf("%v: a write that one disk has: %v", mode, lost.State)
		}
		for id := smr.ReplicaID(1); id <= 3; id++ {
			d.Crash(id, true)
		}
		d.Restart(2)
		d.Restart(3)
		leader := d.leader(1)
		if r := d.done("read", d.Read("carl", leader, 0)); r.Value != kept.ID {
			t.Errorf("%v: reads %d, acknowledged was %d", mode, r.Value, kept.ID)
		}
		d.Restart(1)
		d.pass(3)
		d.finish()
	}
}

// A longer conflicting follower log, messages of one entry, and the leader's
// commit beyond the match: the follower never commits an entry that is not the
// leader's (Raft Figure 2: "set commitIndex = min(leaderCommit, index of last new
// entry)").
func TestLongerConflictingLog(t *testing.T) {
	d := direct(t, ScriptOptions{Mode: Core, OneEntry: true, Logs: map[smr.ReplicaID][]uint64{
		1: {1, 1, 3}, 2: {1, 1, 2, 2, 2, 2, 2}, 3: {1, 1, 3},
	}})
	d.Withhold(Rule{Kind: "append", To: 2})
	d.lead(1)
	for range 4 {
		d.done("write", d.Write("ann", 1, 0, 1))
	}
	d.Release(Rule{})
	watched := 0
	d.passing(3, func() {
		v, l := d.view(2), d.view(1)
		for i := range v.Commit {
			if v.Log[i] != l.Log[i] {
				t.Fatalf("committed at %d: %+v, the leader has %+v", i+1, v.Log[i], l.Log[i])
			}
		}
		if v.Commit > 2 && v.Commit < l.Commit {
			watched++
		}
	})
	if v := d.view(2); v.Commit != 8 || v.Last != 8 || watched == 0 {
		t.Errorf("commit %d of %d; %d steps between", v.Commit, v.Last, watched)
	}
	d.finish()
}

// told is a Tracer that keeps the highest commit index of a heartbeat to 2.
type told struct{ commit uint64 }

// Trace implements Tracer.
func (c *told) Trace(e *Event) {
	if m := e.Message; e.Kind == EventSend && m != nil && m.Type == raft.MsgHeartbeat && m.To == 2 {
		c.commit = max(c.commit, m.Commit)
	}
}

// A heartbeat's commit index to a follower that does not match yet commits
// nothing there, where its entries at those indexes are others: the leader tells
// it of none beyond its match, and it takes none over beyond what it knows to
// agree.
func TestHeartbeatToAFollowerThatDoesNotMatch(t *testing.T) {
	heard := &told{}
	d := direct(t, ScriptOptions{Mode: Core, Tracer: heard, Logs: map[smr.ReplicaID][]uint64{
		1: {1, 3}, 2: {1, 2, 2, 2, 2}, 3: {1, 3},
	}})
	d.Withhold(Rule{Kind: "append", To: 2, Drop: true})
	d.lead(1)
	d.done("write", d.Write("ann", 1, 0, 1))
	d.passing(10, func() {
		if v := d.view(2); v.Commit > 1 {
			t.Fatalf("commit index %d with the log %v", v.Commit, v.Log)
		}
	})
	if v := d.view(2); v.Leader != 1 || v.Last != 5 || heard.commit != 0 {
		t.Errorf("%+v: it is to hear heartbeats alone, and of commit index %d", v, heard.commit)
	}
	d.Release(Rule{})
	d.to("repair", func() bool { return d.view(2).Commit == 4 })
	d.finish()
}

// A sync that fails once and would then succeed: what it was to make durable is
// never counted. The host stops, and starts from what is on its disk.
func TestSyncFailsOnce(t *testing.T) {
	d := direct(t, ScriptOptions{Mode: Full})
	d.lead(1)
	kept := d.done("synced", d.Write("ann", 1, 0, 1))
	d.pass(0.5)
	w := d.driver.(*scriptHosts).fullWorld
	d.Withhold(Rule{Kind: "append", From: 1})
	c := d.Write("bob", 1, 1, 1)
	w.full.syncFailPermille = 1000
	d.to("the leader's sync fails", func() bool { return w.marks[MarkSyncFailed] > 0 })
	w.full.syncFailPermille = 0
	if v := d.view(1); c.State == CallDone || v.Up && v.Persisted > kept.ID+1 {
		t.Errorf("%v, persisted up to %d", c.State, v.Persisted)
	}
	d.to("it stops", func() bool { return !d.view(1).Up })
	d.Release(Rule{})
	leader := d.leader(0)
	if r := d.done("read", d.Read("carl", leader, 0)); r.Value != kept.ID {
		t.Errorf("reads %d, acknowledged was %d", r.Value, kept.ID)
	}
	d.to("it is back", func() bool { return d.view(1).Up && d.view(1).Commit == d.view(leader).Commit })
	d.finish()
}

// A full disk on the leader, on a follower, on a quorum: who has room goes on; no
// majority with room, no acknowledgement; with room again everything goes on.
func TestFullDisks(t *testing.T) {
	for name, full := range map[string][]smr.ReplicaID{"leader": {1}, "follower": {2}, "quorum": {1, 2}} {
		t.Run(name, func(t *testing.T) {
			d := direct(t, ScriptOptions{Mode: Full})
			d.lead(1)
			kept := d.done("before", d.Write("ann", 1, 0, 1))
			for _, id := range full {
				d.host(id).full = true
			}
			c := d.Write("bob", 3, 1, 1)
			if len(full) == 1 {
				// It may be refused once, by the leader that gives its office up.
				d.to("an answer", func() bool { return c.State != CallWaiting })
				if c.State != CallDone {
					d.leader(full[0])
					d.done("the others go on", d.Write("bob", 3, 1, 1))
				}
			} else if d.pass(10); c.State == CallDone {
				t.Error("a quorum has no room, and a write is acknowledged")
			}
			for _, id := range full {
				d.host(id).full = false
			}
			d.pass(10)
			leader := d.leader(0)
			if r := d.done("read", d.Read("carl", leader, 0)); r.Value != kept.ID {
				t.Errorf("reads %d, acknowledged was %d", r.Value, kept.ID)
			}
			d.done("after", d.Write("dora", leader, 0, 1))
			d.to("everybody catches up", func() bool {
				return d.view(1).Commit == d.view(2).Commit && d.view(2).Commit == d.view(3).Commit
			})
			d.finish()
		})
	}
}

// A ten-second stall of the leader's disk: what a quorum of other disks has is
// committed and answered where it is applied; nothing is lost.
func TestTenSecondStallAtTheLeader(t *testing.T) {
	for _, mode := range []Mode{Core, Full} {
		d := direct(t, ScriptOptions{Mode: mode})
		d.lead(1)
		d.done("before", d.Write("ann", 1, 0, 1))
		d.Pause(1, false, true)
		w := d.Write("bob", map[Mode]smr.ReplicaID{Core: 1, Full: 2}[mode], 0, 1)
		d.pass(1)
		if mode == Full && w.State != CallDone {
			t.Errorf("two disks have it: %v", w.State)
		}
		if v := d.view(1); v.Commit != 3 || v.Applied > v.Persisted {
			t.Errorf("%v: %+v", mode, v)
		}
		d.pass(99) // of 100 ms
		d.Resume(1, false, true)
		d.pass(1)
		leader := d.leader(0)
		if r := d.done("read", d.Read("carl", leader, 0)); r.Value != w.ID {
			t.Errorf("%v: reads %d, written was %d", mode, r.Value, w.ID)
		}
		d.finish()
	}
}

// A single replica commits only after its sync (etcd once did not, #14370).
func TestSingleReplicaCommitsAfterItsSync(t *testing.T) {
	for _, mode := range []Mode{Core, Full} {
		d := direct(t, ScriptOptions{Mode: mode, Replicas: 1})
		d.leader(0)
		kept := d.done("synced", d.Write("ann", 1, 0, 1))
		commit := d.view(1).Commit
		d.Pause(1, false, true)
		w := d.Write("bob", 1, 0, 1)
		d.passing(5, func() {
			if v := d.view(1); v.Commit != commit || w.State != CallWaiting {
				t.Fatalf("%v: commit index %d, %v", mode, v.Commit, w.State)
			}
		})
		d.Crash(1, true)
		d.Restart(1)
		d.leader(0)
		if r := d.done("read", d.Read("carl", 1, 0)); r.Value != kept.ID {
			t.Errorf("%v: reads %d, acknowledged was %d", mode, r.Value, kept.ID)
		}
		d.finish()
	}
}

// A transfer to a replica that is cut off is given up within one election timeout
// (thesis §3.10: "If leadership transfer does not complete after about an election
// timeout, the prior leader aborts the transfer and resumes accepting client
// requests").
//
// A host does not refuse its clients meanwhile: a request waits, and is done.
func TestTransferToAReplicaThatIsCutOff(t *testing.T) {
	t.Run("core", coreTransferCutOff)
	t.Run("full", func(t *testing.T) {
		d := direct(t, ScriptOptions{Mode: Full})
		d.lead(1)
		d.done("before", d.Write("ann", 1, 0, 1))
		term := d.view(1).Term
		d.isolate(2, true)
		behind := d.Write("ann", 1, 0, 1) // so that the target is behind
		d.Transfer(1, 2)
		d.pass(0.1)
		c, far := d.Write("bob", 1, 0, 1), d.Write("carl", 3, 1, 1)
		d.passing(0.8, func() {
			if c.State != CallWaiting || far.State != CallWaiting {
				t.Fatalf("during the transfer: %v, %v", c.State, far.State)
			}
		})
		d.pass(0.6)
		for _, c := range []*Call{behind, c, far} {
			if c.State != CallDone {
				t.Errorf("half an election timeout after the transfer is given up: %v, %v", c.State, c.Err)
			}
		}
		d.isolate(2, false)
		d.pass(5)
		if v := d.view(1); v.Role != raft.Leader || v.Term != term {
			t.Errorf("%+v: the leader was to stay", v)
		}
		d.finish()
	})
}

func coreTransferCutOff(t *testing.T) {
	d := direct(t, ScriptOptions{Mode: Core})
	d.lead(1)
	d.done("before", d.Write("ann", 1, 0, 1))
	term := d.view(1).Term
	d.isolate(2, true)
	d.Write("ann", 1, 0, 1) // so that the target is behind
	d.Transfer(1, 2)
	if c := d.Write("bob", 1, 0, 1); !errors.Is(c.Err, raft.ErrTransferring) {
		t.Errorf("during the transfer: %v, %v", c.State, c.Err)
	}
	d.pass(0.9)
	if c := d.Write("bob", 1, 0, 1); !errors.Is(c.Err, raft.ErrTransferring) {
		t.Errorf("shortly before: %v, %v", c.State, c.Err)
	}
	d.pass(0.11)
	d.done("after one election timeout", d.Write("bob", 1, 0, 1))
	d.isolate(2, false)
	d.pass(5)
	if v := d.view(1); v.Role != raft.Leader || v.Term != term {
		t.Errorf("%+v: the leader was to stay", v)
	}
	d.finish()
}

// Clocks jump an hour. A follower whose clock does so stands, by a pre-vote that
// the others refuse: nobody is deposed. A leader whose clock does so has not heard
// a quorum for an hour, and steps down; there is another soon. Nothing is served
// or lost by it.
func TestClocksJumpAnHour(t *testing.T) {
	for jumper, stays := range map[smr.ReplicaID]bool{1: false, 2: true} {
		d := direct(t, ScriptOptions{Mode: Full})
		d.lead(1)
		w := d.done("before", d.Write("ann", 1, 0, 1))
		d.pass(1)
		term := d.view(1).Term
		d.host(jumper).clock.offset += smr.Instant(time.Hour)
		began := d.Now()
		d.host(jumper).schedule(0, began)
		d.pass(0.5)
		leader := d.leader(0)
		if r := d.done("read", d.Read("bob", leader, 0)); r.Value != w.ID {
			t.Errorf("reads %d, written was %d", r.Value, w.ID)
		}
		d.done("write", d.Write("carl", 3, 0, 1))
		if took := d.Now().Sub(began); took > 5*d.ElectionTimeout() {
			t.Errorf("service is back after %v", took)
		}
		if v := d.view(leader); stays && (leader != 1 || v.Term != term) {
			t.Errorf("a follower's clock has deposed the leader: %+v", v)
		}
		d.finish()
	}
}
