package kv

import (
	"bytes"
	"slices"
)

// The checks of this file need no state: a server makes them before it proposes
// a request, and answers with the error at once. The rules are etcd's.

// MaxTxnOpsDefault is etcd's limit of operations in a transaction.
const MaxTxnOpsDefault = 128

// txnDepthMax bounds the nesting of transactions in a command. The limit of
// operations is spent by every level, so that no checked request comes near.
const txnDepthMax = 1024

// Limits bounds what a request may ask for.
type Limits struct {
	// MaxTxnOps bounds each of a transaction's lists; zero: MaxTxnOpsDefault.
	// A nested transaction has what the one around it left over.
	MaxTxnOps int
}

// Check returns ErrEmptyKey, ErrInvalidSort or nil.
func (r *RangeRequest) Check() error {
	if len(r.Key) == 0 {
		return ErrEmptyKey
	}
	if r.SortOrder > SortDescend || r.SortTarget > SortByValue {
		return ErrInvalidSort
	}
	return nil
}

// Check returns ErrEmptyKey, ErrValueProvided, ErrLeaseProvided or nil.
func (p *PutRequest) Check() error {
	switch {
	case len(p.Key) == 0:
		return ErrEmptyKey
	case p.IgnoreValue && len(p.Value) != 0:
		return ErrValueProvided
	case p.IgnoreLease && p.Lease != 0:
		return ErrLeaseProvided
	}
	return nil
}

// Check returns ErrEmptyKey or nil.
func (d *DeleteRangeRequest) Check() error {
	if len(d.Key) == 0 {
		return ErrEmptyKey
	}
	return nil
}

// Check returns the first error of the transaction: ErrTooManyOps, ErrEmptyKey,
// ErrDuplicateKey, or one of its operations' own.
func (t *TxnRequest) Check(limits Limits) error {
	ops := limits.MaxTxnOps
	if ops <= 0 {
		ops = MaxTxnOpsDefault
	}
	if err := t.checkOps(min(ops, txnDepthMax-1), ops); err != nil {
		return err
	}
	if _, _, err := changes(t.Success); err != nil {
		return err
	}
	_, _, err := changes(t.Failure)
	return err
}

// checkOps checks each operation for itself. Of depth, every level takes one; of
// allowance, as much as its longest list.
func (t *TxnRequest) checkOps(depth, allowance int) error {
	longest := max(len(t.Compare), len(t.Success), len(t.Failure))
	if depth < 0 || longest > allowance {
		return ErrTooManyOps
	}
	for i := range t.Compare {
		if len(t.Compare[i].Key) == 0 {
			return ErrEmptyKey
		}
	}
	for _, ops := range [2][]Op{t.Success, t.Failure} {
		for i := range ops {
			if err := ops[i].check(depth-1, allowance-longest); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *Op) check(depth, allowance int) error {
	switch {
	case o.Range != nil:
		return o.Range.Check()
	case o.Put != nil:
		return o.Put.Check()
	case o.DeleteRange != nil:
		return o.DeleteRange.Check()
	case o.Txn != nil:
		return o.Txn.checkOps(depth, allowance)
	}
	return ErrKeyNotFound
}

// interval is a range of keys that a transaction deletes: [begin, end).
type interval struct{ begin, end []byte }

// intervals are sorted by begin, and (1) no two of them overlap.
type intervals []interval

// add puts more into s and restores (1).
func (s intervals) add(more intervals) intervals {
	if len(more) == 0 {
		return s
	}
	s = append(s, more...)
	slices.SortFunc(s, func(a, b interval) int { return bytes.Compare(a.begin, b.begin) })
	out := s[:1]
	for _, v := range s[1:] {
		last := &out[len(out)-1]
		if bytes.Compare(v.begin, last.end) >= 0 {
			out = append(out, v)
		} else if bytes.Compare(v.end, last.end) > 0 {
			last.end = v.end
		}
	}
	return out
}

// contains says whether key is in one of the intervals.
func (s intervals) contains(key []byte) bool {
	i, found := slices.BinarySearchFunc(s, key, func(v interval, k []byte) int { return bytes.Compare(v.begin, k) })
	return found || i > 0 && bytes.Compare(key, s[i-1].end) < 0
}

// deleted returns the interval of a deletion. Two shapes conflict with nothing,
// as in etcd: an empty range, and one without an end, whose "\x00" etcd's check
// takes for an end before its start.
func deleted(d *DeleteRangeRequest) (v interval, ok bool) {
	if isPoint(d.RangeEnd) {
		return interval{d.Key, append(bytes.Clone(d.Key), 0)}, true
	}
	return interval{d.Key, d.RangeEnd}, bytes.Compare(d.Key, d.RangeEnd) < 0
}

// changes returns the keys that ops put and the ranges that they delete, or
// ErrDuplicateKey if a put meets another put or a deletion. The two branches of
// a nested transaction exclude each other, so that they may put the same key.
//
// The order of the looks is etcd's: a nested put is held against the deletions
// of its own level and of the nested transactions before it, not after it.
func changes(ops []Op) (puts map[string]struct{}, dels intervals, err error) {
	puts = map[string]struct{}{}
	for i := range ops {
		if d := ops[i].DeleteRange; d != nil {
			if v, ok := deleted(d); ok {
				dels = append(dels, v)
			}
		}
	}
	dels = intervals(nil).add(dels)
	for i := range ops {
		if ops[i].Txn == nil {
			continue
		}
		if dels, err = nestedChanges(ops[i].Txn, puts, dels); err != nil {
			return nil, nil, err
		}
	}
	for i := range ops {
		p := ops[i].Put
		if p == nil {
			continue
		}
		if _, twice := puts[string(p.Key)]; twice || dels.contains(p.Key) {
			return nil, nil, ErrDuplicateKey
		}
		puts[string(p.Key)] = struct{}{}
	}
	return puts, dels, nil
}

// nestedChanges adds the changes of a nested transaction to puts and dels.
func nestedChanges(t *TxnRequest, puts map[string]struct{}, dels intervals) (intervals, error) {
	putsThen, delsThen, err := changes(t.Success)
	if err != nil {
		return nil, err
	}
	putsElse, delsElse, err := changes(t.Failure)
	if err != nil {
		return nil, err
	}
	for k := range putsThen {
		if _, twice := puts[k]; twice || dels.contains([]byte(k)) {
			return nil, ErrDuplicateKey
		}
	}
	for k := range putsElse {
		if _, twice := puts[k]; twice || dels.contains([]byte(k)) {
			return nil, ErrDuplicateKey
		}
	}
	for k := range putsThen {
		puts[k] = struct{}{}
	}
	for k := range putsElse {
		puts[k] = struct{}{}
	}
	return dels.add(delsThen).add(delsElse), nil
}
