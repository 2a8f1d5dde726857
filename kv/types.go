package kv

import "bytes"

// KeyValue is one version of a key.
type KeyValue struct {
	Key, Value []byte
	// CreateRevision is the revision of the put that created the key, since it
	// was last deleted.
	CreateRevision int64
	// ModRevision is the revision of this version.
	ModRevision int64
	// Version counts the puts since the key was created, from 1. A deletion
	// sets it back.
	Version int64
	// Lease is the KV lease that the key is attached to, zero if none.
	Lease int64
}

// SortOrder is the direction in which a range is sorted. The numbers are etcd's.
type SortOrder uint8

// The directions. SortNone is ascending if the target is not the key.
const (
	SortNone SortOrder = iota
	SortAscend
	SortDescend
)

// SortTarget is the field by which a range is sorted. The numbers are etcd's.
type SortTarget uint8

// The fields to sort by.
const (
	SortByKey SortTarget = iota
	SortByVersion
	SortByCreate
	SortByMod
	SortByValue
)

// RangeRequest asks for keys. RangeEnd empty: the one Key; "\x00": all keys from
// Key on; else the keys in [Key, RangeEnd).
type RangeRequest struct {
	Key, RangeEnd []byte
	// Limit bounds the keys returned; zero or less: no bound.
	Limit int64
	// Revision to read at; zero or less: the latest.
	Revision   int64
	SortOrder  SortOrder
	SortTarget SortTarget
	// KeysOnly leaves the values out. As in etcd 3.7, it also leaves out the
	// lease, unless the range is sorted by value.
	KeysOnly bool
	// CountOnly returns the count and no key.
	CountOnly bool
	// NoCount spares the walk over the keys beyond Limit: Count is then the
	// number of keys seen. It has no counterpart in etcd's request.
	NoCount bool
	// The filters, inclusive; zero: none. They do not change Count.
	MinModRevision, MaxModRevision       int64
	MinCreateRevision, MaxCreateRevision int64
}

// RangeResponse answers a RangeRequest.
type RangeResponse struct {
	// Revision is the store's revision when it was read, whatever revision was
	// asked for.
	Revision int64
	Kvs      []KeyValue
	// More says that Limit cut off keys.
	More bool
	// Count is the number of keys in the range, before Limit and the filters.
	Count int64
}

// PutRequest writes a key.
type PutRequest struct {
	Key, Value []byte
	Lease      int64
	PrevKv     bool
	// IgnoreValue keeps the key's value, IgnoreLease its lease; both fail with
	// ErrKeyNotFound if the key is not there.
	IgnoreValue, IgnoreLease bool
}

// PutResponse answers a PutRequest.
type PutResponse struct {
	Revision int64
	// PrevKv is the version before, if asked for and if there was one.
	PrevKv *KeyValue
}

// DeleteRangeRequest deletes keys: RangeEnd as in RangeRequest.
type DeleteRangeRequest struct {
	Key, RangeEnd []byte
	PrevKv        bool
}

// DeleteRangeResponse answers a DeleteRangeRequest.
type DeleteRangeResponse struct {
	Revision int64
	Deleted  int64
	PrevKvs  []KeyValue
}

// CompareResult is the relation that a Compare demands. The numbers are etcd's.
type CompareResult uint8

// The relations.
const (
	CompareEqual CompareResult = iota
	CompareGreater
	CompareLess
	CompareNotEqual
)

// CompareTarget is the field that a Compare looks at. The numbers are etcd's.
type CompareTarget uint8

// The fields to compare.
const (
	CompareVersion CompareTarget = iota
	CompareCreate
	CompareMod
	CompareValue
	CompareLease
)

// Compare is a condition on a key, or on every key of a range. A key that does
// not exist has version, revisions and lease 0, and satisfies no condition on
// its value.
type Compare struct {
	Result        CompareResult
	Target        CompareTarget
	Key, RangeEnd []byte
	// Value is the operand of CompareValue, Number that of every other target.
	Value  []byte
	Number int64
}

// Op is one operation of a transaction: exactly one field is set.
type Op struct {
	Range       *RangeRequest
	Put         *PutRequest
	DeleteRange *DeleteRangeRequest
	Txn         *TxnRequest
}

// TxnRequest executes Success if all of Compare hold, else Failure, as one
// revision.
type TxnRequest struct {
	Compare          []Compare
	Success, Failure []Op
}

// OpResponse answers an Op: the field of the same name is set.
type OpResponse struct {
	Range       *RangeResponse
	Put         *PutResponse
	DeleteRange *DeleteRangeResponse
	Txn         *TxnResponse
}

// TxnResponse answers a TxnRequest. Revision of a nested transaction is zero, as
// in etcd.
type TxnResponse struct {
	Revision  int64
	Succeeded bool
	Responses []OpResponse
}

// CompactRequest discards the history before Revision.
type CompactRequest struct{ Revision int64 }

// CompactResponse answers a CompactRequest.
type CompactResponse struct{ Revision int64 }

// CommandKind says what a Command does. The numbers are part of the format; 16
// and up are for KV leases, users and roles.
type CommandKind uint8

// The kinds of commands.
const (
	CommandPut         CommandKind = 1
	CommandDeleteRange CommandKind = 2
	CommandTxn         CommandKind = 3
	CommandCompact     CommandKind = 4
)

// Command is what a log entry carries: the field that Kind names.
type Command struct {
	Kind        CommandKind
	Put         PutRequest
	DeleteRange DeleteRangeRequest
	Txn         TxnRequest
	Compact     CompactRequest
}

// Result is what applying a Command returns: Err, or the field that Kind names.
type Result struct {
	// Kind is zero if the command could not be decoded.
	Kind CommandKind
	// Err is nil or one of the package's sentinel errors.
	Err         error
	Put         PutResponse
	DeleteRange DeleteRangeResponse
	Txn         TxnResponse
	Compact     CompactResponse
}

// Revision is the store's revision after the command; zero if it failed.
func (r *Result) Revision() int64 {
	switch {
	case r.Err != nil:
		return 0
	case r.Kind == CommandPut:
		return r.Put.Revision
	case r.Kind == CommandDeleteRange:
		return r.DeleteRange.Revision
	case r.Kind == CommandTxn:
		return r.Txn.Revision
	case r.Kind == CommandCompact:
		return r.Compact.Revision
	}
	return 0
}

// fromKey is the range end that means: no end.
var fromKey = []byte{0}

// isPoint says whether rangeEnd makes a range the single key.
func isPoint(rangeEnd []byte) bool { return len(rangeEnd) == 0 }

// isUnbounded says whether rangeEnd means all keys from the start on.
func isUnbounded(rangeEnd []byte) bool { return bytes.Equal(rangeEnd, fromKey) }

// isDefaultOrder says whether the request wants the order in which keys are
// stored.
func (r *RangeRequest) isDefaultOrder() bool {
	return r.SortTarget == SortByKey && r.SortOrder != SortDescend
}

// isPaged says whether the request may be one page of several: its count is then
// what the page before had left.
func (r *RangeRequest) isPaged() bool {
	return r.Limit > 0 && !r.NoCount && !r.CountOnly && !isPoint(r.RangeEnd) && r.isDefaultOrder() && !r.hasFilters()
}

// hasFilters says whether a revision filter is set.
func (r *RangeRequest) hasFilters() bool {
	return r.MinModRevision|r.MaxModRevision|r.MinCreateRevision|r.MaxCreateRevision != 0
}

// admits says whether kv passes the revision filters.
func (r *RangeRequest) admits(kv *KeyValue) bool {
	return (r.MaxModRevision == 0 || kv.ModRevision <= r.MaxModRevision) &&
		(r.MinModRevision == 0 || kv.ModRevision >= r.MinModRevision) &&
		(r.MaxCreateRevision == 0 || kv.CreateRevision <= r.MaxCreateRevision) &&
		(r.MinCreateRevision == 0 || kv.CreateRevision >= r.MinCreateRevision)
}

// ReadOnly says whether no operation of the transaction can write: all are
// ranges, on both branches. A nested transaction counts as a write, as in etcd.
func (t *TxnRequest) ReadOnly() bool {
	for _, ops := range [2][]Op{t.Success, t.Failure} {
		for i := range ops {
			if ops[i].Range == nil {
				return false
			}
		}
	}
	return true
}
