package kv

import (
	"errors"
	"fmt"
)

// Errors that a request can meet. They are results: the same on every replica,
// and without effect on the state. Callers compare with errors.Is.
var (
	// ErrEmptyKey: a request without a key. Give one.
	ErrEmptyKey = errors.New("key is not provided")
	// ErrKeyNotFound: IgnoreValue or IgnoreLease on a key that is not there, or
	// an operation of a transaction that is empty. Put the key first.
	ErrKeyNotFound = errors.New("key not found")
	// ErrValueProvided: IgnoreValue together with a value.
	ErrValueProvided = errors.New("value is provided")
	// ErrLeaseProvided: IgnoreLease together with a lease.
	ErrLeaseProvided = errors.New("lease is provided")
	// ErrTooManyOps: more operations in a transaction than the limit. Split it.
	ErrTooManyOps = errors.New("too many operations in txn request")
	// ErrDuplicateKey: a transaction would change one key twice.
	ErrDuplicateKey = errors.New("duplicate key given in txn request")
	// ErrInvalidSort: a sort order or target that does not exist.
	ErrInvalidSort = errors.New("invalid sort option")
	// ErrCompacted: the revision has been compacted. Read at a later one.
	ErrCompacted = errors.New("required revision has been compacted")
	// ErrFutureRev: the revision does not exist yet.
	ErrFutureRev = errors.New("required revision is a future revision")
	// ErrLeaseNotFound: the KV lease does not exist or has expired.
	ErrLeaseNotFound = errors.New("requested lease not found")
	// ErrBadCommand: the command's bytes cannot be decoded. The proposer is of
	// another version, or broken.
	ErrBadCommand = errors.New("malformed command")
)

// Errors of the store itself.
var (
	// ErrForeignStore: the directory holds something else than a store of this
	// group. Check the directory; nothing was changed in it.
	ErrForeignStore = errors.New("not a key-value store of this group")
	// ErrFormatVersion: the store was written by a newer version. Upgrade.
	ErrFormatVersion = errors.New("store has a newer format")
	// ErrClosed: the store is closed or not open yet.
	ErrClosed = errors.New("key-value store is not open")
	// ErrGap: Apply was given an entry that does not follow the last applied.
	ErrGap = errors.New("entry does not follow the last applied one")
	// ErrDigest: the stored data does not have the digest that was kept while
	// it was written: the replica has diverged or its disk has. Rebuild it.
	ErrDigest = errors.New("stored data does not match the state digest")
)

// codes are the errors' numbers in an encoded Result. Append only.
var codes = [...]error{
	1: ErrBadCommand, 2: ErrEmptyKey, 3: ErrKeyNotFound, 4: ErrValueProvided,
	5: ErrLeaseProvided, 6: ErrTooManyOps, 7: ErrDuplicateKey, 8: ErrInvalidSort,
	9: ErrCompacted, 10: ErrFutureRev, 11: ErrLeaseNotFound,
}

// codeOf returns the number of err, and zero for nil. An error that is not a
// result is a fault of this package.
func codeOf(err error) byte {
	if err == nil {
		return 0
	}
	for c := 1; c < len(codes); c++ {
		if errors.Is(err, codes[c]) {
			return byte(c)
		}
	}
	panic(fmt.Sprintf("kv: error without a code: %v", err))
}

// isResult says whether err is the outcome of a request, and not a fault of the
// store.
func isResult(err error) bool {
	for c := 1; c < len(codes); c++ {
		if errors.Is(err, codes[c]) {
			return true
		}
	}
	return false
}
