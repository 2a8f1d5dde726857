// Package etcdapi serves the etcd v3 API, its gRPC services and its HTTP
// endpoints, over a replicated kv.Store.
//
//	server, err := etcdapi.New(etcdapi.Config{Group: group, Store: store, Cluster: 7, Member: 1})
//	g := server.NewGRPCServer()
//	err = etcdapi.Serve(listener, nil, g, server.Handler())
//
// Requests, answers, error codes and error texts are etcd 3.7's, because
// programs written for etcd compare them. Any member serves any request in the
// same way: the group behind it forwards proposals to the leader.
//
// # A request's way
//
// A write is made a kv.Command (convert.go), checked in etcd's order by its Check,
// encoded once by kv.AppendCommand, and proposed; the state machine of this very member answers it,
// so a client that has written through a member reads its own write there. A
// read waits for Group.Barrier, unless it is serializable, and then reads the
// local store on its own goroutine.
//
// The whole path of a unary request is one interceptor and one handler. There
// is no other middleware: at etcd, what surrounds the consensus costs more than
// the consensus. The messages of single puts and ranges are read and written by
// hand (codec.go).
//
// # What an answer means
//
// A status tells three outcomes apart:
//
//	OK                                       done
//	Unavailable "etcdserver: no leader"
//	and "the disk … is full",
//	ResourceExhausted "too many requests",
//	and the codes of a bad request           not done, and certainly so
//	Unavailable "etcdserver: request timed
//	out" and the other time-outs,
//	Canceled, DeadlineExceeded               outcome unknown
//
// # Where this differs from etcd on purpose
//
//   - A learner serves requests like any other member.
//   - A transaction that has compares and no operation is linearizable; etcd
//     answers it from local, possibly stale, state.
//   - There is no quota: StatusResponse.dbSizeQuota is the largest number.
//   - Defragment returns at once: there is nothing to stop for.
package etcdapi
