package kv

import (
	"fmt"

	"github.com/quorate/quorate/smr"
)

// resultBytes is what most results fit into.
const resultBytes = 16

// Apply applies a batch of entries as one pebble batch, or a few: a command that
// must read data is preceded by a commit of what is pending. What it commits
// becomes visible to readers at the end, as a whole.
//
// An error that wraps smr.ErrNoSpace says that nothing of the batch was applied:
// as much waits in memory for room on the disk as there may. Any other says that
// the store is broken, and every later call returns it: close the store and open it
// again, or rebuild the replica.
func (s *Store) Apply(batch []smr.Committed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.admit(batch); err != nil {
		return err
	}
	if err := s.applyBatch(batch); err != nil {
		s.broken = fmt.Errorf("key-value store in %s, after entry %d: %w", s.cfg.Dir, s.w.st.applied, asCorrupt(err))
		return s.broken
	}
	return nil
}

// usable returns why the store cannot be used, or nil. Under mu.
func (s *Store) usable() error {
	if s.db == nil {
		return ErrClosed
	}
	if s.broken == nil {
		s.broken = s.engine.disk.failure()
	}
	return s.broken
}

// admit waits until there is room in memory for a batch, or returns smr.ErrNoSpace.
func (s *Store) admit(batch []smr.Committed) error {
	if !s.cfg.Deterministic {
		return s.engine.disk.admit(s.db)
	}
	const entryBytes = 200
	size := int64(0)
	for i := range batch {
		size += int64(len(batch[i].Data)) + entryBytes
	}
	if s.unflushed+2*size >= s.cfg.MemTableBytes/4 && !s.hasRoom() {
		return fmt.Errorf("key-value store in %s: %w", s.cfg.Dir, smr.ErrNoSpace)
	}
	return nil
}

func (s *Store) applyBatch(batch []smr.Committed) error {
	if len(batch) == 0 {
		return nil
	}
	w := &s.w
	wanted := 0
	for i := range batch {
		if batch[i].Wanted || batch[i].Session != 0 {
			wanted++
		}
	}
	results := make([]byte, 0, wanted*resultBytes)
	s.points.begin(w.st.revision)
	for i := range batch {
		e := &batch[i]
		if e.Index != w.st.applied+1 {
			return fmt.Errorf("entry %d: %w", e.Index, ErrGap)
		}
		if e.Kind == smr.KindCommand {
			wanted := e.Wanted || e.Session != 0
			n := len(results)
			var err error
			if results, err = s.applyCommand(e.Data, wanted, results); err != nil {
				return fmt.Errorf("entry %d: %w", e.Index, err)
			}
			if wanted {
				e.Result.Data = results[n:len(results):len(results)]
			}
		}
		w.st.applied = e.Index
		if w.indexed {
			if err := s.commit(); err != nil {
				return err
			}
		}
	}
	// Work in proportion to what was applied, so that removal keeps up.
	if _, err := s.sweep(s.cfg.SweepEntries + 2*len(batch)); err != nil {
		return err
	}
	if err := s.commit(); err != nil {
		return err
	}
	s.publish()
	s.points.end()
	return nil
}

// publish makes the committed state visible to readers. The order matters to
// acquire: the revision first.
func (s *Store) publish() {
	st := &s.w.st
	s.revision.Store(st.revision)
	s.compact.Store(st.compact)
	s.applied.Store(st.applied)
	s.keys.Store(st.keys)
	s.liveBytes.Store(st.bytes)
	s.swept.Store(st.swept)
}

// applyCommand applies one command and appends its result to dst if wanted. The
// result's error is the same on every replica; the error returned is not a
// result but a fault of this store.
func (s *Store) applyCommand(data []byte, wanted bool, dst []byte) ([]byte, error) {
	c := &s.w.cmd
	r := Result{}
	r.Err = DecodeCommand(data, c)
	if r.Err == nil {
		r.Kind = c.Kind
		r.Err = s.execute(c, wanted, &r)
		if r.Err != nil && !isResult(r.Err) {
			return dst, r.Err
		}
	}
	if s.w.sub > 0 {
		if r.Err != nil {
			return dst, fmt.Errorf("command with an error left %d changes: %w", s.w.sub, smr.ErrCorrupt)
		}
		s.w.st.revision++
		s.w.sub = 0
	}
	if wanted {
		dst = AppendResult(dst, &r)
	}
	return dst, nil
}

// execute runs a decoded command. When it returns an error that is a result, it
// has changed nothing.
func (s *Store) execute(c *Command, wanted bool, r *Result) error {
	switch c.Kind {
	case CommandPut:
		if err := c.Put.Check(); err != nil {
			return err
		}
		if err := s.checkPut(&c.Put); err != nil {
			return err
		}
		return s.runPut(&c.Put, wanted, &r.Put)
	case CommandDeleteRange:
		if err := c.DeleteRange.Check(); err != nil {
			return err
		}
		return s.runDeleteRange(&c.DeleteRange, wanted, &r.DeleteRange)
	case CommandTxn:
		resp, err := s.txn(&c.Txn, wanted)
		if err != nil {
			return err
		}
		r.Txn = *resp
		return nil
	case CommandCompact:
		r.Compact.Revision = s.w.st.revision
		return s.w.st.compactTo(c.Compact.Revision)
	}
	return ErrBadCommand
}

// compactTo discards the history before revision: it cannot be read from now on.
// The versions go later, in sweep.
func (st *state) compactTo(revision int64) error {
	switch {
	case revision <= st.compact:
		return ErrCompacted
	case revision > st.revision:
		return ErrFutureRev
	}
	st.compact = revision
	return nil
}
