package raft

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
)

const timeout = 100 * time.Millisecond // the ElectionTimeout of the tests

// at returns an instant in milliseconds.
func at(millis int) smr.Instant { return smr.Instant(millis) * ms }

// single is one core whose every output is looked at.
type single struct {
	*Raft
	t   *testing.T
	out Output
}

// newSingle returns replica 1 of n voters with a log of entries of the given
// terms, at term.
func newSingle(t *testing.T, n int, term uint64, terms []uint64, change func(*Config, *Start), opts ...Option) *single {
	t.Helper()
	var ids []smr.ReplicaID
	for i := range n {
		ids = append(ids, smr.ReplicaID(i+1))
	}
	cfg := Config{Group: test, ID: 1, Seed: 1, ElectionTimeout: timeout}
	var start Start
	start.LogState = stateOf(term, terms)
	start.Snapshot.Configuration = voters(ids...)
	if change != nil {
		change(&cfg, &start)
	}
	r, err := New(cfg, start, 0, append(opts, Poison(), Paranoid())...)
	if err != nil {
		t.Fatal(err)
	}
	return &single{Raft: r, t: t}
}

// stateOf returns a log whose entries have the given terms.
func stateOf(term uint64, terms []uint64) smr.LogState {
	d := disk{hard: smr.HardState{Term: term}}
	for i, x := range terms {
		d.entries = append(d.entries, entry(uint64(i+1), x))
	}
	return d.state(len(terms))
}

// entry returns a command that can be told from all others by its bytes.
func entry(index, term uint64) smr.Entry {
	return smr.Entry{Index: index, Term: term, Kind: smr.KindCommand, Data: fmt.Appendf(nil, "%d.%d", index, term)}
}

func entriesOf(first uint64, terms ...uint64) []smr.Entry {
	var e []smr.Entry
	for i, t := range terms {
		e = append(e, entry(first+uint64(i), t))
	}
	return e
}

func (s *single) step(now smr.Instant, m Message) {
	m.Group, m.To = test, 1
	s.Step(now, &m)
}

// take returns the next output, in a form that can be compared.
func (s *single) take() Output {
	s.Take(&s.out)
	o := s.out
	o.Messages = append([]Message(nil), o.Messages...)
	for i := range o.Messages {
		m := &o.Messages[i]
		if m.Group != test || m.From != 1 {
			s.t.Errorf("message %+v is not from replica 1", *m)
		}
		m.Group, m.From = 0, 0
		m.Entries = append([]smr.Entry(nil), m.Entries...)
	}
	o.Append.Entries = append([]smr.Entry(nil), o.Append.Entries...)
	o.Committed = append([]smr.Entry(nil), o.Committed...)
	o.Reads = append([]ReadReady(nil), o.Reads...)
	o.ReadsFailed = append([]uint64(nil), o.ReadsFailed...)
	o.Fetches = append([]Fetch(nil), o.Fetches...)
	o.Snapshots = append([]smr.ReplicaID(nil), o.Snapshots...)
	return o
}

// want takes the next output, compares all of it, and returns the number of its
// write. Seq is filled in, and so is MustSync, which every write of this core
// has.
func (s *single) want(what string, want Output) uint64 {
	s.t.Helper()
	got := s.take()
	if want.Append.HardStateSet || len(want.Append.Entries) > 0 {
		want.Append.MustSync, want.Append.Seq = true, s.log.seq
	}
	if !reflect.DeepEqual(got, want) {
		s.t.Fatalf("%s:\n got %s\nwant %s", what, show(got), show(want))
	}
	return got.Append.Seq
}

func show(o Output) string { return strings.ReplaceAll(fmt.Sprintf("%+v", o), "} {", "}\n     {") }

func hard(term uint64, vote smr.ReplicaID, commit uint64) Append {
	return Append{HardStateSet: true, HardState: smr.HardState{Term: term, Vote: vote, Commit: commit}}
}

// lead makes the core the leader of the next term, by the votes of the others,
// and acknowledges its empty entry to itself. It returns what follows.
func (s *single) elect(now smr.Instant) {
	s.t.Helper()
	s.Campaign(now)
	s.settle(now)
	for s.role == PreCandidate || s.role == Candidate {
		typ, term := MsgPreVoteReply, s.hard.Term+1
		if s.role == Candidate {
			typ, term = MsgVoteReply, s.hard.Term
		}
		for _, p := range s.members.peers {
			if p.id != 1 {
				s.step(now, Message{Type: typ, From: p.id, Term: term})
			}
		}
		s.settle(now)
	}
	if s.role != Leader {
		s.t.Fatalf("not elected: %+v", s.State())
	}
}

// settle takes until nothing is written, and acknowledges all writes.
func (s *single) settle(smr.Instant) {
	for {
		if o := s.take(); o.Append.Seq == 0 {
			return
		}
		s.Persisted(s.log.seq)
	}
}

func ofType(o Output, t MessageType) (ms []Message) {
	for _, m := range o.Messages {
		if m.Type == t {
			ms = append(ms, m)
		}
	}
	return ms
}
