// Package load loads a server of etcd's v3 API and measures what it answers.
//
// A number of clients share a number of connections. Each client has one request
// in flight and sends the next one when the answer is there: so the load is
// closed, and a server that stalls is offered less, which its latencies then do
// not show in full. The requests go through the raw stubs of etcd's protobuf
// definitions, without a client library in between, and each client reuses its
// request, since what the load costs must not be taken for what the server does.
//
// A run has up to three phases: reads first write the keys that they will read;
// then the load runs for a while unmeasured; then everything that ends within
// the window counts.
package load
