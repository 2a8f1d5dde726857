package raft

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/smr"
)

func orDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// complete fills in the defaults and reports what cannot be.
func (c *Config) complete() error {
	orDefault(&c.ElectionTimeout, 150*time.Millisecond)
	orDefault(&c.HeartbeatInterval, c.ElectionTimeout/5)
	orDefault(&c.AppendBytesMax, 512<<10)
	orDefault(&c.AppendEntriesMax, 1<<16)
	orDefault(&c.InflightBytesMax, 8<<20)
	orDefault(&c.InflightMessagesMax, 256)
	orDefault(&c.UncommittedBytesMax, 64<<20)
	orDefault(&c.CommittedBytesMax, 4<<20)
	orDefault(&c.ApplyBacklogBytesMax, 16<<20)
	orDefault(&c.TailBytesMax, 4<<20)
	orDefault(&c.ReadTicketsMax, 4096)
	orDefault(&c.ClockDriftMax, clockDriftScale/10)
	orDefault(&c.RestRenewal, 1000*c.ElectionTimeout)
	if c.Memory == nil {
		c.Memory = new(Memory)
	}
	if c.ID == 0 || c.Group == 0 {
		return fmt.Errorf("%w: ID %d and Group %d must not be zero", ErrConfig, c.ID, c.Group)
	}
	if c.HeartbeatInterval <= 0 || c.ElectionTimeout < 2*c.HeartbeatInterval {
		return fmt.Errorf("%w: HeartbeatInterval of %v must be above zero and at most half the ElectionTimeout of %v", ErrConfig, c.HeartbeatInterval, c.ElectionTimeout)
	}
	if c.ClockDriftMax < 0 || c.ClockDriftMax > clockDriftScale/2 {
		return fmt.Errorf("%w: ClockDriftMax of %d parts per million is not within 0 and a half", ErrConfig, c.ClockDriftMax)
	}
	if c.RestRenewal < 2*c.ElectionTimeout {
		return fmt.Errorf("%w: RestRenewal of %v must be at least twice the ElectionTimeout of %v", ErrConfig, c.RestRenewal, c.ElectionTimeout)
	}
	for _, limit := range []struct {
		name  string
		value int
	}{
		{"AppendBytesMax", c.AppendBytesMax}, {"AppendEntriesMax", c.AppendEntriesMax},
		{"InflightBytesMax", c.InflightBytesMax}, {"InflightMessagesMax", c.InflightMessagesMax},
		{"UncommittedBytesMax", c.UncommittedBytesMax}, {"CommittedBytesMax", c.CommittedBytesMax},
		{"ApplyBacklogBytesMax", c.ApplyBacklogBytesMax}, {"TailBytesMax", c.TailBytesMax},
		{"ReadTicketsMax", c.ReadTicketsMax},
	} {
		if limit.value < 0 {
			return fmt.Errorf("%w: %s of %d is below zero", ErrConfig, limit.name, limit.value)
		}
	}
	return nil
}

// check reports what cannot have been on the disk of a replica, and returns the
// configurations that the log holds.
func (s *Start) check() ([]configurationAt, error) {
	lastTerm, err := s.checkTerms()
	switch {
	case err != nil:
		return nil, err
	case s.HardState.Term < lastTerm:
		return nil, fmt.Errorf("%w: term %d, but the last entry is of term %d", ErrStart, s.HardState.Term, lastTerm)
	case s.HardState.Commit > s.Last:
		return nil, fmt.Errorf("%w: commit index %d, but the log ends at %d: committed entries are missing", ErrStart, s.HardState.Commit, s.Last)
	case s.Applied < s.Snapshot.Index || s.Applied > s.Last:
		return nil, fmt.Errorf("%w: the state machine is at index %d, the log holds (%d, %d]", ErrStart, s.Applied, s.Snapshot.Index, s.Last)
	}
	if err := s.checkTail(); err != nil {
		return nil, err
	}
	return s.checkConfigurations()
}

func (s *Start) checkTerms() (lastTerm uint64, err error) {
	if s.Last < s.Snapshot.Index {
		return 0, fmt.Errorf("%w: the log begins after %d and ends at %d", ErrStart, s.Snapshot.Index, s.Last)
	}
	if empty := s.Last == s.Snapshot.Index; empty != (len(s.Terms) == 0) {
		return 0, fmt.Errorf("%w: %d runs of terms for the entries (%d, %d]", ErrStart, len(s.Terms), s.Snapshot.Index, s.Last)
	}
	lastTerm = s.Snapshot.Term
	first := s.Snapshot.Index + 1
	for i, t := range s.Terms {
		wrong := t.Term < lastTerm || t.First > s.Last
		if i == 0 {
			wrong = wrong || t.First != first
		} else {
			wrong = wrong || t.First <= s.Terms[i-1].First || t.Term == lastTerm
		}
		if wrong {
			return 0, fmt.Errorf("%w: run %d of terms is {%d, %d} after term %d", ErrStart, i, t.First, t.Term, lastTerm)
		}
		lastTerm = t.Term
	}
	return lastTerm, nil
}

func (s *Start) checkTail() error {
	if n := uint64(len(s.Tail)); n > s.Last-s.Snapshot.Index {
		return fmt.Errorf("%w: a tail of %d entries in a log of %d", ErrStart, n, s.Last-s.Snapshot.Index)
	}
	run := len(s.Terms) - 1
	for i := len(s.Tail) - 1; i >= 0; i-- {
		e, index := &s.Tail[i], s.Last-uint64(len(s.Tail)-1-i)
		for run > 0 && s.Terms[run].First > index {
			run--
		}
		if e.Index != index || e.Term != s.Terms[run].Term {
			return fmt.Errorf("%w: entry (%d, %d) of the tail stands where (%d, %d) belongs", ErrStart, e.Index, e.Term, index, s.Terms[run].Term)
		}
	}
	return nil
}

func (s *Start) checkConfigurations() ([]configurationAt, error) {
	if err := checkConfiguration(&s.Snapshot.Configuration); err != nil {
		return nil, fmt.Errorf("%w: where the log begins: %w", ErrStart, err)
	}
	history := []configurationAt{{s.Snapshot.Index, cloneConfiguration(s.Snapshot.Configuration)}}
	for i := range s.Configurations {
		e := &s.Configurations[i]
		if e.Kind != smr.KindConfiguration || e.Index <= history[len(history)-1].index || e.Index > s.Last {
			return nil, fmt.Errorf("%w: configuration entry %d of kind %d is out of order", ErrStart, e.Index, e.Kind)
		}
		c, err := decodeConfiguration(e.Data)
		if err != nil {
			return nil, fmt.Errorf("%w: configuration entry %d: %w", ErrStart, e.Index, err)
		}
		history = append(history, configurationAt{e.Index, c})
	}
	return history, nil
}
