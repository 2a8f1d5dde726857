package sim

import (
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
	"github.com/quorate/quorate/wal"
)

// ghostWorld is a world of three hosts that never ran.
func ghostWorld(t *testing.T) *fullWorld {
	t.Helper()
	for seed := uint64(1); ; seed++ {
		w, err := newFullWorld(seed, &Options{Mode: Full, Quiet: true, Only: []string{"none"}})
		if err != nil {
			t.Fatal(err)
		}
		if w.features.replicas == 3 {
			return w
		}
	}
}

// entriesOf makes entries from first on, of those terms.
func entriesOf(first uint64, terms ...uint64) []smr.Entry {
	var es []smr.Entry
	for i, term := range terms {
		index := first + uint64(i)
		es = append(es, smr.Entry{Index: index, Term: term, Kind: smr.KindCommand, Data: appendCommand(nil, index<<8|term, 1, 40)})
	}
	return es
}

// What the ghost reads off the file system is what the log says it holds, after
// every sync and every crash: a ghost that misread would see nothing or everything.
func TestGhostHoldsWhatTheLogHolds(t *testing.T) {
	w := ghostWorld(t)
	h := w.hosts[0]
	rng := rand.New(rand.NewPCG(1, 2))
	// frozen is what the disk holds when the power goes in the middle of a sync.
	cut, frozen := false, (*vfs.Mem)(nil)
	open := func() *wal.Log {
		fault := vfs.NewFault(h.mem, vfs.PolicyFunc(func(op vfs.Op) (v vfs.Verdict) {
			if cut && op.Kind == vfs.OpSync {
				frozen, v.Err = h.mem.Crash(rng, 80), errGone
			}
			return v
		}), nil)
		l, err := wal.Open(ghostFS{fault, h.ghost}, "wal/shard-000", wal.Options{
			Identity: wal.Identity{Cluster: 7, Replica: 1, Incarnation: 1}, SegmentBytes: 16 << 10, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open()
	l.Create(1, h.members)
	var st smr.LogState
	crashes, kept := 0, 0
	for range 3000 {
		g := &h.ghost.logs[0]
		switch n := rng.IntN(100); {
		case n < 70:
			first := st.Last + 1
			if rng.IntN(10) == 0 && st.Last > st.Snapshot.Index {
				first -= min(uint64(rng.IntN(4)), st.Last-st.Snapshot.Index)
				st.HardState.Term++
			}
			term := st.HardState.Term
			es := entriesOf(first, term, term, term)[:1+rng.IntN(3)]
			l.Append(1, 1, &st.HardState, es)
			st.Last = es[len(es)-1].Index
		case n < 75 && g.last() > g.start+5:
			index := g.last() - 3
			if index > st.Snapshot.Index && st.Last > g.last() {
				st.Snapshot = smr.SnapshotMeta{Index: index, Term: g.termOrZero(index), Configuration: h.members}
				l.SetSnapshot(1, st.Snapshot)
			}
		case n < 95:
			if _, err := l.Sync(nil); err != nil {
				t.Fatal(err)
			}
			continue
		default:
			crashes++
			last := g.last()
			cut = rng.IntN(2) == 0
			if cut {
				_, _ = l.Sync(nil)
			}
			if frozen == nil {
				frozen = h.mem.Crash(rng, 60)
			}
			h.mem, cut, frozen = frozen, false, nil
			l = open()
			st, _ = l.State(1)
			if g.last() > last {
				kept++
			}
			if st.Last != g.last() || st.HardState != g.hs || st.Snapshot.Index != g.start {
				t.Fatalf("the log holds %+v, the ghost %+v", st, *g)
			}
			for i := g.start + 1; i <= g.last(); i++ {
				es, err := l.Read(1, i, i, 1, nil)
				if err != nil || es[0].Term != g.termOrZero(i) {
					t.Fatalf("entry %d: %+v %v, the ghost has one of term %d", i, es, err, g.termOrZero(i))
				}
			}
		}
		if st.HardState.Term == 0 {
			st.HardState = smr.HardState{Term: 1, Vote: 1}
		}
		if w.found != nil {
			t.Fatal(w.found)
		}
	}
	if g := &h.ghost.logs[0]; crashes < 50 || kept == 0 || g.start == 0 || g.last() < 100 {
		t.Fatalf("%d crashes, %d of which kept a batch; the log ends with (%d, %d]", crashes, kept, g.start, g.last())
	}
}

// An unsynced write does not count, nor one whose sync has failed.
func TestGhostCountsOnlyWhatIsSynced(t *testing.T) {
	w := ghostWorld(t)
	h := w.hosts[0]
	failing := false
	fault := vfs.NewFault(h.mem, vfs.PolicyFunc(func(op vfs.Op) (v vfs.Verdict) {
		if failing && op.Kind == vfs.OpSync {
			v.Err = errGone
		}
		return v
	}), nil)
	l, err := wal.Open(ghostFS{fault, h.ghost}, "wal/shard-000", wal.Options{
		Identity: wal.Identity{Cluster: 7, Replica: 1, Incarnation: 1}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Create(1, h.members)
	l.Append(1, 1, nil, entriesOf(1, 1, 1))
	if g := h.ghost.logs[0]; g.exists || g.last() != 0 {
		t.Fatalf("nothing is synced, the ghost holds %+v", g)
	}
	if _, err := l.Sync(nil); err != nil {
		t.Fatal(err)
	}
	l.Append(1, 2, nil, entriesOf(3, 1))
	failing = true
	if _, err := l.Sync(nil); err == nil {
		t.Fatal("the sync has not failed")
	}
	if g := h.ghost.logs[0]; g.last() != 2 || w.found != nil {
		t.Fatalf("two entries are synced, the ghost holds %+v; %v", g, w.found)
	}
}

// Each check finds what it is there for.
func TestGhostChecks(t *testing.T) {
	persist := func(w *fullWorld, host int, hs smr.HardState, es ...smr.Entry) {
		g, l := w.hosts[host].ghost, &w.hosts[host].ghost.logs[0]
		if hs.Term > 0 {
			g.hardState(w.groups[0], l, hs)
		}
		var b []byte
		for i := range es {
			b = smr.AppendEntry(b, &es[i])
		}
		g.entries(w.groups[0], l, b)
	}
	says := func(w *fullWorld, m raft.Message) {
		m.Group = 1
		w.checkHostMessage(w.hosts[m.From-1], &m)
	}
	commit := func(w *fullWorld, terms ...uint64) { // without a look at the disks
		for _, e := range entriesOf(1, terms...) {
			w.groups[0].applied(1, &e, e.Index, e.Term)
		}
	}
	term := func(n uint64) smr.HardState { return smr.HardState{Term: n, Vote: 1} }
	for _, c := range []struct {
		name string
		want Class // empty: all is well
		do   func(w *fullWorld)
	}{
		// Raft, Figure 2: "Updated on stable storage before responding to RPCs."
		{"an acknowledgement of what is synced", "", func(w *fullWorld) {
			persist(w, 1, term(1), entriesOf(1, 1, 1)...)
			says(w, raft.Message{Type: raft.MsgAppendReply, From: 2, To: 1, Term: 1, Index: 2})
		}},
		{"an acknowledgement of more", Unpersisted, func(w *fullWorld) {
			persist(w, 1, term(1), entriesOf(1, 1, 1)...)
			says(w, raft.Message{Type: raft.MsgAppendReply, From: 2, To: 1, Term: 1, Index: 3})
		}},
		{"an acknowledgement of another entry", Unpersisted, func(w *fullWorld) {
			persist(w, 1, term(2), entriesOf(1, 1, 1)...)
			says(w, raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, Index: 1, LogTerm: 1, Entries: entriesOf(2, 2)})
			says(w, raft.Message{Type: raft.MsgHeartbeatReply, From: 2, To: 1, Term: 2, Index: 2})
		}},
		{"an acknowledgement in a term that is not on disk", Unpersisted, func(w *fullWorld) {
			persist(w, 1, term(1), entriesOf(1, 1)...)
			says(w, raft.Message{Type: raft.MsgAppendReply, From: 2, To: 1, Term: 2, Index: 1})
		}},
		{"a vote that is on disk", "", func(w *fullWorld) {
			persist(w, 1, term(3))
			says(w, raft.Message{Type: raft.MsgVoteReply, From: 2, To: 1, Term: 3})
		}},
		{"a vote that is not", Unpersisted, func(w *fullWorld) {
			says(w, raft.Message{Type: raft.MsgVoteReply, From: 2, To: 1, Term: 3})
		}},
		// Raft §5.2: "Each server will vote for at most one candidate in a given
		// term".
		{"two votes in a term", Monotonic, func(w *fullWorld) {
			w.groups[0].skipped = []Class{Unpersisted}
			persist(w, 1, term(3))
			says(w, raft.Message{Type: raft.MsgVoteReply, From: 2, To: 1, Term: 3})
			says(w, raft.Message{Type: raft.MsgVoteReply, From: 2, To: 3, Term: 3})
		}},
		{"a term that goes back on disk", Monotonic, func(w *fullWorld) {
			persist(w, 1, term(3))
			persist(w, 1, term(2))
		}},
		{"a vote that changes on disk", Monotonic, func(w *fullWorld) {
			persist(w, 1, term(3))
			persist(w, 1, smr.HardState{Term: 3, Vote: 2})
		}},
		// Raft, Figure 3: "at most one leader can be elected in a given term."
		{"two leaders", ElectionSafety, func(w *fullWorld) {
			w.groups[0].leads(2, 1)
			says(w, raft.Message{Type: raft.MsgAppend, From: 1, To: 3, Term: 1, Entries: entriesOf(1, 1)})
		}},
		// "a leader never overwrites or deletes entries in its log; it only appends
		// new entries."
		{"a leader that sends another entry", LeaderAppendOnly, func(w *fullWorld) {
			says(w, raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 3, Entries: entriesOf(1, 1)})
			says(w, raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 3, Entries: entriesOf(1, 3)})
		}},
		{"a leader that overwrites its disk", LeaderAppendOnly, func(w *fullWorld) {
			w.groups[0].leads(1, 3)
			persist(w, 0, term(3), entriesOf(1, 1, 3)...)
			persist(w, 0, smr.HardState{}, entriesOf(2, 3)...)
		}},
		{"a leader of old that overwrites its disk", "", func(w *fullWorld) {
			w.groups[0].leads(1, 3)
			persist(w, 0, term(3), entriesOf(1, 1, 3)...)
			persist(w, 0, term(4), entriesOf(2, 4)...)
		}},
		// "if two logs contain an entry with the same index and term, then the logs
		// are identical in all entries up through the given index."
		{"one entry after two", LogMatching, func(w *fullWorld) {
			persist(w, 0, term(3), entriesOf(1, 1, 3)...)
			persist(w, 1, term(3), entriesOf(1, 2, 3)...)
		}},
		{"one entry that holds two commands", LogMatching, func(w *fullWorld) {
			other := entriesOf(1, 1)
			other[0].Data = appendCommand(nil, 99, 1, 40)
			persist(w, 0, term(1), entriesOf(1, 1)...)
			says(w, raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 1, Entries: other})
		}},
		// "if a log entry is committed in a given term, then that entry will be
		// present in the logs of the leaders for all higher-numbered terms."
		{"a leader that sends over what is committed", LeaderCompleteness, func(w *fullWorld) {
			commit(w, 1, 1)
			says(w, raft.Message{Type: raft.MsgAppend, From: 2, To: 3, Term: 2, Index: 1, LogTerm: 1, Entries: entriesOf(2, 2)})
		}},
		{"a leader that lacks what is committed", LeaderCompleteness, func(w *fullWorld) {
			commit(w, 1, 1)
			w.groups[0].leads(2, 2)
			persist(w, 1, term(2), entriesOf(1, 1, 2)...)
		}},
		// "durability means synced on a quorum"
		{"a commit index that a quorum has on disk", "", func(w *fullWorld) {
			persist(w, 0, term(1), entriesOf(1, 1)...)
			persist(w, 2, term(1), entriesOf(1, 1)...)
			says(w, raft.Message{Type: raft.MsgHeartbeat, From: 1, To: 2, Term: 1, Commit: 1})
		}},
		{"a commit index that it has not", CommitQuorum, func(w *fullWorld) {
			persist(w, 0, term(1), entriesOf(1, 1)...)
			says(w, raft.Message{Type: raft.MsgHeartbeat, From: 1, To: 2, Term: 1, Commit: 1})
		}},
		{"a commit index that it has in another version", CommitQuorum, func(w *fullWorld) {
			persist(w, 0, term(2), entriesOf(1, 1)...)
			persist(w, 2, term(2), entriesOf(1, 1)...)
			says(w, raft.Message{Type: raft.MsgAppend, From: 1, To: 2, Term: 2, Commit: 1, Entries: entriesOf(1, 2)})
		}},
		{"an apply of what a quorum has not", CommitQuorum, func(w *fullWorld) {
			persist(w, 0, term(1), entriesOf(1, 1)...)
			w.checkApply(w.hosts[0], w.groups[0], &entriesOf(1, 1)[0])
		}},
		{"an apply of what the host has not", Unpersisted, func(w *fullWorld) {
			persist(w, 0, term(1), entriesOf(1, 1)...)
			persist(w, 2, term(1), entriesOf(1, 1)...)
			w.checkApply(w.hosts[1], w.groups[0], &entriesOf(1, 1)[0])
		}},
	} {
		w := ghostWorld(t)
		w.commandIDs = 1 << 40 // those of the entries below have been made
		c.do(w)
		switch v := w.found; {
		case v == nil && c.want != "":
			t.Errorf("%s: nothing is found", c.name)
		case v != nil && v.Class != c.want:
			t.Errorf("%s: %v", c.name, v)
		}
	}
}
