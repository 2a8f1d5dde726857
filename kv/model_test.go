package kv

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// model is etcd's key-value semantics in the plainest form: the whole map of
// keys, once for every revision.
type model struct {
	states  []map[string]KeyValue // by revision
	compact int64
}

func newModel() *model {
	return &model{states: []map[string]KeyValue{{}, {}}, compact: -1}
}

func (m *model) rev() int64 { return int64(len(m.states) - 1) }

// work is a transaction in the making.
type work struct {
	m       *model
	st      map[string]KeyValue
	changed bool
}

func (w *work) rev() int64 {
	if w.changed {
		return w.m.rev() + 1
	}
	return w.m.rev()
}

func (m *model) begin() *work { return &work{m: m, st: maps.Clone(m.states[m.rev()])} }

func (w *work) end() {
	if w.changed {
		w.m.states = append(w.m.states, w.st)
	}
}

func inRange(k string, key, end []byte) bool {
	switch {
	case len(end) == 0:
		return k == string(key)
	case string(end) == "\x00":
		return k >= string(key)
	}
	return k >= string(key) && k < string(end)
}

func (w *work) keys(key, end []byte) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(w.st)) {
		if inRange(k, key, end) {
			out = append(out, k)
		}
	}
	return out
}

func (w *work) put(p *PutRequest) PutResponse {
	var resp PutResponse
	old, had := w.st[string(p.Key)]
	if p.PrevKv && had {
		resp.PrevKv = &old
	}
	kv := KeyValue{Key: p.Key, Value: p.Value, Lease: p.Lease}
	if p.IgnoreValue {
		kv.Value = old.Value
	}
	if p.IgnoreLease {
		kv.Lease = old.Lease
	}
	w.changed = true
	kv.ModRevision, kv.CreateRevision, kv.Version = w.rev(), w.rev(), 1
	if had {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
	}
	w.st[string(p.Key)] = kv
	resp.Revision = w.rev()
	return resp
}

func (w *work) deleteRange(d *DeleteRangeRequest) DeleteRangeResponse {
	var resp DeleteRangeResponse
	for _, k := range w.keys(d.Key, d.RangeEnd) {
		if d.PrevKv {
			resp.PrevKvs = append(resp.PrevKvs, w.st[k])
		}
		delete(w.st, k)
		resp.Deleted++
		w.changed = true
	}
	resp.Revision = w.rev()
	return resp
}

func (w *work) rangeKeys(r *RangeRequest) (*RangeResponse, error) {
	if r.Revision > w.rev() {
		return nil, ErrFutureRev
	}
	if r.Revision > 0 && r.Revision < w.m.compact {
		return nil, ErrCompacted
	}
	at := w
	if r.Revision > 0 && r.Revision <= w.m.rev() {
		at = &work{m: w.m, st: w.m.states[r.Revision]}
	}
	resp := &RangeResponse{Revision: w.rev()}
	var kvs []KeyValue
	for _, k := range at.keys(r.Key, r.RangeEnd) {
		resp.Count++
		kv := at.st[k]
		drop := r.MaxModRevision != 0 && kv.ModRevision > r.MaxModRevision ||
			r.MinModRevision != 0 && kv.ModRevision < r.MinModRevision ||
			r.MaxCreateRevision != 0 && kv.CreateRevision > r.MaxCreateRevision ||
			r.MinCreateRevision != 0 && kv.CreateRevision < r.MinCreateRevision
		if !drop && !r.CountOnly {
			kvs = append(kvs, kv)
		}
	}
	// Without an order, etcd reads the keys up to the limit and one more, and
	// sorts those; with an order or a filter it reads all of them first.
	filters := r.MaxModRevision|r.MinModRevision|r.MaxCreateRevision|r.MinCreateRevision != 0
	if r.SortOrder == SortNone && !filters && r.Limit > 0 && int64(len(kvs)) > r.Limit+1 {
		kvs = kvs[:r.Limit+1]
	}
	slices.SortStableFunc(kvs, func(a, b KeyValue) int {
		var c int64
		switch r.SortTarget {
		case SortByKey:
			c = int64(strings.Compare(string(a.Key), string(b.Key)))
		case SortByVersion:
			c = a.Version - b.Version
		case SortByCreate:
			c = a.CreateRevision - b.CreateRevision
		case SortByMod:
			c = a.ModRevision - b.ModRevision
		case SortByValue:
			c = int64(bytes.Compare(a.Value, b.Value))
		}
		if r.SortOrder == SortDescend {
			c = -c
		}
		return int(c)
	})
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs, resp.More = kvs[:r.Limit], true
	}
	if r.KeysOnly {
		for i := range kvs {
			kvs[i].Value = nil
			if r.SortTarget != SortByValue {
				kvs[i].Lease = 0
			}
		}
	}
	resp.Kvs = kvs
	return resp, nil
}

func (m *model) compare(c *Compare) bool {
	w := m.begin()
	keys := w.keys(c.Key, c.RangeEnd)
	if len(keys) == 0 {
		return c.Target != CompareValue && modelHolds(c, KeyValue{})
	}
	for _, k := range keys {
		if !modelHolds(c, w.st[k]) {
			return false
		}
	}
	return true
}

func modelHolds(c *Compare, kv KeyValue) bool {
	field := map[CompareTarget]int64{
		CompareVersion: kv.Version, CompareCreate: kv.CreateRevision, CompareMod: kv.ModRevision, CompareLease: kv.Lease,
	}[c.Target]
	sign := 0
	switch {
	case c.Target == CompareValue:
		sign = bytes.Compare(kv.Value, c.Value)
	case field < c.Number:
		sign = -1
	case field > c.Number:
		sign = 1
	}
	return map[CompareResult]bool{
		CompareEqual: sign == 0, CompareNotEqual: sign != 0, CompareGreater: sign > 0, CompareLess: sign < 0,
	}[c.Result]
}

// branches evaluates all compares of t before anything is done, in the order in
// which the chosen transactions come.
func (m *model) branches(t *TxnRequest) []bool {
	ok := true
	for i := range t.Compare {
		ok = ok && m.compare(&t.Compare[i])
	}
	out := []bool{ok}
	ops := t.Failure
	if ok {
		ops = t.Success
	}
	for _, op := range ops {
		if op.Txn != nil {
			out = append(out, m.branches(op.Txn)...)
		}
	}
	return out
}

// walk calls f for every operation of t that is executed.
func walk(t *TxnRequest, branches *[]bool, f func(*Op)) {
	ops := t.Failure
	if (*branches)[0] {
		ops = t.Success
	}
	*branches = (*branches)[1:]
	for i := range ops {
		if ops[i].Txn != nil {
			walk(ops[i].Txn, branches, f)
			continue
		}
		f(&ops[i])
	}
}

func (m *model) checkTxn(t *TxnRequest, branches []bool) (err error) {
	fail := func(e error) {
		if err == nil {
			err = e
		}
	}
	walk(t, &branches, func(op *Op) {
		switch {
		case op.Range != nil && op.Range.Revision != 0 && op.Range.Revision > m.rev():
			fail(ErrFutureRev)
		case op.Range != nil && op.Range.Revision != 0 && op.Range.Revision < m.compact:
			fail(ErrCompacted)
		case op.Put != nil:
			fail(m.checkPut(op.Put))
		}
	})
	return err
}

func (m *model) checkPut(p *PutRequest) error {
	if p.Lease != 0 {
		return ErrLeaseNotFound
	}
	if _, had := m.states[m.rev()][string(p.Key)]; !had && (p.IgnoreValue || p.IgnoreLease) {
		return ErrKeyNotFound
	}
	return nil
}

func (w *work) txn(t *TxnRequest, branches *[]bool) *TxnResponse {
	resp := &TxnResponse{Succeeded: (*branches)[0]}
	ops := t.Failure
	if (*branches)[0] {
		ops = t.Success
	}
	*branches = (*branches)[1:]
	for _, op := range ops {
		var out OpResponse
		switch {
		case op.Range != nil:
			out.Range, _ = w.rangeKeys(op.Range)
		case op.Put != nil:
			r := w.put(op.Put)
			out.Put = &r
		case op.DeleteRange != nil:
			r := w.deleteRange(op.DeleteRange)
			out.DeleteRange = &r
		case op.Txn != nil:
			out.Txn = w.txn(op.Txn, branches)
		}
		resp.Responses = append(resp.Responses, out)
	}
	return resp
}

func (m *model) apply(c *Command) Result {
	r := Result{Kind: c.Kind}
	w := m.begin()
	switch c.Kind {
	case CommandPut:
		if r.Err = m.checkPut(&c.Put); r.Err == nil {
			r.Put = w.put(&c.Put)
		}
	case CommandDeleteRange:
		r.DeleteRange = w.deleteRange(&c.DeleteRange)
	case CommandTxn:
		branches := m.branches(&c.Txn)
		if r.Err = m.checkTxn(&c.Txn, branches); r.Err == nil {
			r.Txn = *w.txn(&c.Txn, &branches)
			r.Txn.Revision = w.rev()
		}
	case CommandCompact:
		switch rev := c.Compact.Revision; {
		case rev <= m.compact:
			r.Err = ErrCompacted
		case rev > m.rev():
			r.Err = ErrFutureRev
		default:
			m.compact = rev
			r.Compact.Revision = m.rev()
		}
	}
	w.end()
	return r
}
