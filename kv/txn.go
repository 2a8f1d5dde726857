package kv

import (
	"context"
	"fmt"
)

// A transaction runs in three passes, as in etcd: all compares are evaluated
// first, the nested ones too, on the state before the transaction; then what the
// chosen operations ask for is checked, so that nothing can fail any more; then
// they are executed in order, each seeing the effects of those before it.

// plan is what the passes hand on.
type plan struct {
	// path has the outcome of each transaction's compares, in the order in
	// which they are met: only those inside a chosen branch.
	path []bool
	// wrote and rereads are found by the check: an operation writes; an
	// operation reads data after one that writes.
	wrote, rereads bool
	// wanted says that the answer is wanted.
	wanted bool
}

// chosen returns the branch to run of t, whose outcome is the first of path.
func (t *TxnRequest) chosen(path []bool) []Op {
	if path[0] {
		return t.Success
	}
	return t.Failure
}

// choose evaluates the compares of t and of those inside the branch they choose.
func (t *TxnRequest) choose(path []bool, compare func(*Compare) (bool, error)) ([]bool, error) {
	i := len(path)
	path = append(path, true)
	for c := range t.Compare {
		holds, err := compare(&t.Compare[c])
		if err != nil {
			return path, err
		}
		if !holds {
			path[i] = false
			break
		}
	}
	ops := t.chosen(path[i:])
	for o := range ops {
		if ops[o].Txn == nil {
			continue
		}
		var err error
		if path, err = ops[o].Txn.choose(path, compare); err != nil {
			return path, err
		}
	}
	return path, nil
}

// txn executes t as one revision.
func (s *Store) txn(t *TxnRequest, wanted bool) (*TxnResponse, error) {
	if err := t.checkOps(txnDepthMax, 1<<30); err != nil {
		return nil, err
	}
	var err error
	p := plan{wanted: wanted}
	s.w.path, err = t.choose(s.w.path[:0], s.compare)
	p.path = s.w.path
	if err != nil {
		return nil, err
	}
	if _, err = s.checkTxn(t, &p, p.path); err != nil {
		return nil, err
	}
	if p.rereads {
		if err := s.useIndexed(); err != nil {
			return nil, err
		}
	}
	resp := new(TxnResponse)
	before := s.w.executed()
	if _, err := s.runTxn(t, &p, p.path, resp); err != nil {
		return nil, err
	}
	if s.w.executed()-before > 1 {
		s.w.txns++
	}
	resp.Revision = s.w.newest()
	return resp, nil
}

// checkTxn checks the chosen operations of t and returns what is left of path.
func (s *Store) checkTxn(t *TxnRequest, p *plan, path []bool) (rest []bool, err error) {
	ops := t.chosen(path)
	rest = path[1:]
	for i := range ops {
		reads, writes := false, false
		switch op := &ops[i]; {
		case op.Range != nil:
			reads = p.wanted
			err = s.checkRevision(op.Range.Revision)
		case op.Put != nil:
			reads = op.Put.PrevKv && p.wanted || op.Put.IgnoreValue
			writes = true
			err = s.checkPut(op.Put)
		case op.DeleteRange != nil:
			reads = op.DeleteRange.PrevKv && p.wanted || !isPoint(op.DeleteRange.RangeEnd)
			writes = true
		case op.Txn != nil:
			rest, err = s.checkTxn(op.Txn, p, rest)
		}
		if err != nil {
			return nil, err
		}
		p.rereads = p.rereads || reads && p.wrote
		p.wrote = p.wrote || writes
	}
	return rest, nil
}

// checkRevision checks the revision of a range inside a transaction against the
// state before it: the revision that it writes itself is still to come.
func (s *Store) checkRevision(revision int64) error { return s.w.st.checkRevision(revision) }

func (st *state) checkRevision(revision int64) error {
	switch {
	case revision == 0:
		return nil
	case revision > st.revision:
		return ErrFutureRev
	case revision < st.compact:
		return ErrCompacted
	}
	return nil
}

// checkPut checks what a put asks of the state.
func (s *Store) checkPut(p *PutRequest) error {
	if p.Lease != 0 && !s.leaseExists(p.Lease) {
		return ErrLeaseNotFound
	}
	if p.IgnoreValue || p.IgnoreLease {
		l, err := s.latest(p.Key)
		if err != nil {
			return err
		}
		if !l.live {
			return ErrKeyNotFound
		}
	}
	return nil
}

// leaseExists says whether a KV lease has been granted and not revoked. No
// command grants one yet.
func (s *Store) leaseExists(int64) bool { return false }

// runTxn executes the chosen operations of t and returns what is left of path.
func (s *Store) runTxn(t *TxnRequest, p *plan, path []bool, resp *TxnResponse) (rest []bool, err error) {
	ops := t.chosen(path)
	resp.Succeeded = path[0]
	rest = path[1:]
	resp.Responses = make([]OpResponse, len(ops))
	for i := range ops {
		out := &resp.Responses[i]
		switch op := &ops[i]; {
		case op.Range != nil:
			out.Range, err = s.runRange(op.Range, p.wanted)
		case op.Put != nil:
			out.Put = new(PutResponse)
			err = s.runPut(op.Put, p.wanted, out.Put)
		case op.DeleteRange != nil:
			out.DeleteRange = new(DeleteRangeResponse)
			err = s.runDeleteRange(op.DeleteRange, p.wanted, out.DeleteRange)
		case op.Txn != nil:
			out.Txn = new(TxnResponse)
			rest, err = s.runTxn(op.Txn, p, rest, out.Txn)
		}
		if err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// runRange executes a range inside a transaction, if its answer is wanted: it
// has no effect.
func (s *Store) runRange(req *RangeRequest, wanted bool) (resp *RangeResponse, err error) {
	s.w.ranges++
	if !wanted {
		return &RangeResponse{Revision: s.w.newest()}, nil
	}
	err = s.withView(func(v *view) error {
		resp, err = v.rangeKeys(context.Background(), req)
		return err
	})
	return resp, err
}

// runPut executes a put that has been checked.
//
// A key that IgnoreValue or IgnoreLease needs is there, unless an operation
// before it in a transaction deleted it; Check refuses that, and a proposer that
// did not check gets an empty value and no lease.
func (s *Store) runPut(p *PutRequest, wanted bool, resp *PutResponse) error {
	s.w.puts++
	value, lease := p.Value, p.Lease
	if p.IgnoreLease {
		l, err := s.latest(p.Key)
		if err != nil {
			return err
		}
		lease = l.lease
	}
	if p.IgnoreValue || p.PrevKv && wanted {
		var prev *KeyValue
		err := s.withView(func(v *view) (err error) {
			prev, err = v.get(p.Key)
			return err
		})
		if err != nil {
			return err
		}
		if p.IgnoreValue && prev != nil {
			value = prev.Value
		}
		if p.PrevKv {
			resp.PrevKv = prev
		}
	}
	if err := s.put(p.Key, value, lease); err != nil {
		return err
	}
	resp.Revision = s.w.newest()
	return nil
}

// runDeleteRange executes a deletion.
func (s *Store) runDeleteRange(req *DeleteRangeRequest, wanted bool, resp *DeleteRangeResponse) (err error) {
	s.w.deletes++
	resp.Deleted, resp.PrevKvs, err = s.deleteRange(req, wanted)
	resp.Revision = s.w.newest()
	return err
}

// ReadTxn executes a transaction that only reads, from the last applied state
// and beside Apply. A transaction that is not ReadOnly wraps ErrBadCommand: it
// must be proposed. Other errors are as for Range.
func (s *Store) ReadTxn(ctx context.Context, t *TxnRequest) (*TxnResponse, error) {
	if !t.ReadOnly() {
		return nil, fmt.Errorf("transaction with writes as a read: %w", ErrBadCommand)
	}
	if err := t.checkOps(txnDepthMax, 1<<30); err != nil {
		return nil, err
	}
	v, err := s.acquire(versionsStart, versionsEnd)
	if err != nil {
		return nil, err
	}
	resp, err := v.readTxn(ctx, t)
	if e := v.close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func (v *view) readTxn(ctx context.Context, t *TxnRequest) (*TxnResponse, error) {
	path, err := t.choose(nil, func(c *Compare) (bool, error) { return v.compare(ctx, c) })
	if err != nil {
		return nil, err
	}
	ops := t.chosen(path)
	st := state{revision: v.rev, compact: v.compact}
	for i := range ops {
		if err := st.checkRevision(ops[i].Range.Revision); err != nil {
			return nil, err
		}
	}
	resp := &TxnResponse{Revision: v.rev, Succeeded: path[0], Responses: make([]OpResponse, len(ops))}
	for i := range ops {
		if resp.Responses[i].Range, err = v.rangeKeys(ctx, ops[i].Range); err != nil {
			return nil, err
		}
	}
	return resp, nil
}
