package etcdapi

import (
	"context"
	"errors"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/kv"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// groupError returns the status of an error of the group. The order matters: an
// outcome that is unknown must never be reported as a failure, whatever else
// the error says.
func groupError(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return rpctypes.ErrGRPCCanceled
	case errors.Is(err, host.ErrOutcomeUnknown):
		return rpctypes.ErrGRPCTimeout
	case errors.Is(err, host.ErrBusy):
		return rpctypes.ErrGRPCRequestTooManyRequests
	case errors.Is(err, host.ErrNoLeader):
		return rpctypes.ErrGRPCNoLeader
	case errors.Is(err, host.ErrApplyLag):
		return rpctypes.ErrGRPCTimeoutWaitAppliedIndex
	case errors.Is(err, host.ErrTooLarge):
		return rpctypes.ErrGRPCRequestTooLarge
	case errors.Is(err, host.ErrNotLeader):
		return rpctypes.ErrGRPCNotLeader
	case errors.Is(err, host.ErrStopped):
		return rpctypes.ErrGRPCStopped
	case errors.Is(err, context.DeadlineExceeded):
		return rpctypes.ErrGRPCTimeout
	case errors.Is(err, ErrNotMoved):
		return errTransferTimeout
	case errors.Is(err, host.ErrTransferring):
		return status.Error(codes.Unavailable, "etcdserver: "+host.ErrTransferring.Error())
	case errors.Is(err, host.ErrGroupFailed), errors.Is(err, host.ErrLogFailed), errors.Is(err, host.ErrDiskFull), errors.Is(err, host.ErrDiskStalled):
		// Another member may well serve this request: Unavailable makes clients
		// go there. etcd's "database space exceeded" would not: it is an alarm of
		// the whole cluster, which stays until somebody disarms it.
		return status.Error(codes.Unavailable, "etcdserver: "+err.Error())
	}
	return status.Error(codes.Unknown, err.Error())
}

// errTransferTimeout is etcd's text, for which it has no exported error. The member
// that was asked to stand may still do so.
var errTransferTimeout = status.Error(codes.Unavailable, "etcdserver: request timed out, "+ErrNotMoved.Error())

// storeError returns the status of an error of the store: of a check, of a
// command's result, or of a read.
func storeError(err error) error {
	for _, e := range storeErrors {
		if errors.Is(err, e.is) {
			return e.status
		}
	}
	return status.Error(codes.Unknown, err.Error())
}

// storeErrors is in the order of how often they are met.
var storeErrors = [...]struct{ is, status error }{
	{kv.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{kv.ErrFutureRev, rpctypes.ErrGRPCFutureRev},
	{kv.ErrKeyNotFound, rpctypes.ErrGRPCKeyNotFound},
	{kv.ErrLeaseNotFound, rpctypes.ErrGRPCLeaseNotFound},
	{kv.ErrEmptyKey, rpctypes.ErrGRPCEmptyKey},
	{kv.ErrValueProvided, rpctypes.ErrGRPCValueProvided},
	{kv.ErrLeaseProvided, rpctypes.ErrGRPCLeaseProvided},
	{kv.ErrTooManyOps, rpctypes.ErrGRPCTooManyOps},
	{kv.ErrDuplicateKey, rpctypes.ErrGRPCDuplicateKey},
	{kv.ErrInvalidSort, rpctypes.ErrGRPCInvalidSortOption},
	{kv.ErrClosed, rpctypes.ErrGRPCStopped},
	{context.Canceled, rpctypes.ErrGRPCCanceled},
	{context.DeadlineExceeded, rpctypes.ErrGRPCDeadlineExceeded},
}
