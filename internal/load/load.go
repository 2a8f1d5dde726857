package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Run loads the endpoints and returns what it measured. A server's errors are
// counted and do not end it. If ctx ends within the window, the report covers
// what was measured until then; if it ends before, or if the keys cannot be
// written first, Run fails. Errors about o wrap ErrOptions.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	conns, err := connect(&o)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	if o.Work != Put {
		if err := fill(ctx, &o, conns); err != nil {
			return nil, fmt.Errorf("writing the %d keys that are then read: %w", o.Keys, err)
		}
	}
	var window atomic.Pointer[tally]
	running, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	clients := make([]*client, o.Clients)
	for i := range clients {
		c := newClient(&o, i, pb.NewKVClient(conns[i%len(conns)]), &window)
		clients[i] = c
		wait.Go(func() { c.run(running) })
	}
	defer wait.Wait()
	defer stop()
	if pause(ctx, o.Warm); ctx.Err() != nil {
		return nil, fmt.Errorf("ended before the window: %w", ctx.Err())
	}
	counted := new(tally)
	if o.OnWindow != nil {
		o.OnWindow(true)
	}
	cpu, begun := processorTime(), time.Now()
	window.Store(counted)
	watch(ctx, &o, counted, begun)
	window.Store(nil)
	elapsed, cpu := time.Since(begun), processorTime()-cpu
	if o.OnWindow != nil {
		o.OnWindow(false)
	}
	r := report(&o, counted, elapsed, cpu)
	r.UnansweredMs = ms(oldest(clients, time.Now()))
	r.Unreachable = unreachable(ctx, &o, conns)
	return r, nil
}

// oldest is how long the oldest request in flight has waited.
func oldest(clients []*client, now time.Time) (age time.Duration) {
	for _, c := range clients {
		if at := c.since.Load(); at > 0 {
			age = max(age, now.Sub(time.Unix(0, at)))
		}
	}
	return age
}

// connect opens the connections. Those that it returns with an error must be
// closed too.
func connect(o *Options) (conns []*grpc.ClientConn, err error) {
	for i := range min(o.Conns, o.Clients) {
		addr, secure := address(o.Endpoints[i%len(o.Endpoints)])
		creds := insecure.NewCredentials()
		if secure {
			creds = credentials.NewTLS(o.TLS)
		}
		// Each connection is a channel of its own: one channel would share one
		// connection among all.
		conn, err := grpc.NewClient("passthrough:///"+addr,
			grpc.WithTransportCredentials(creds),
			grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
		if err != nil {
			return conns, fmt.Errorf("%w: endpoint %s: %w", ErrOptions, addr, err)
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

// probeTimeout bounds how long a connection that is not there is asked why.
const probeTimeout = time.Second

// unreachable says of each endpoint with a connection that is not there why that is
// so. Requests wait for their connection, so that they do not say.
func unreachable(ctx context.Context, o *Options, conns []*grpc.ClientConn) map[string]string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	why := map[string]string{}
	for i, c := range conns {
		endpoint := o.Endpoints[i%len(o.Endpoints)]
		if _, known := why[endpoint]; known || c.GetState() == connectivity.Ready {
			continue
		}
		_, err := pb.NewKVClient(c).Range(ctx, &pb.RangeRequest{Key: []byte(o.Prefix + "0"), Serializable: true}, grpc.WaitForReady(false))
		if err != nil && c.GetState() != connectivity.Ready {
			why[endpoint] = status.Convert(err).Message()
		}
	}
	return why
}

// progressInterval is how often Options.Progress is called.
const progressInterval = 100 * time.Millisecond

// watch returns at the end of the window, or of ctx, and tells how it goes.
func watch(ctx context.Context, o *Options, t *tally, begun time.Time) {
	if o.Progress == nil {
		pause(ctx, o.Window)
		return
	}
	tell := func() {
		p := Progress{Elapsed: time.Since(begun), Window: o.Window}
		p.Ops, p.Errors = t.totals()
		o.Progress(p)
	}
	defer tell()
	end := time.NewTimer(o.Window)
	defer end.Stop()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		select {
		case <-end.C:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
			tell()
		}
	}
}

const (
	// fillOps is how many keys are written by one transaction; servers allow
	// 128 operations.
	fillOps = 100
	// fillBytesMax bounds a transaction below the 1.5 MiB that servers allow.
	fillBytesMax = 1 << 20
	// fillers is how many transactions are in flight, fillTimeout bounds each.
	fillers     = 16
	fillTimeout = 10 * time.Second
)

// fill writes all keys.
func fill(ctx context.Context, o *Options, conns []*grpc.ClientConn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	step := max(1, min(fillOps, fillBytesMax/(o.KeyBytes+o.ValueBytes+32)))
	var next atomic.Int64
	var wait sync.WaitGroup
	for i := range fillers {
		c := newClient(o, -1-i, pb.NewKVClient(conns[i%len(conns)]), nil)
		wait.Go(func() {
			for ctx.Err() == nil {
				first := int(next.Add(int64(step))) - step
				if first >= o.Keys {
					return
				}
				if err := c.fill(ctx, first, min(first+step, o.Keys)); err != nil {
					cancel(err)
				}
			}
		})
	}
	wait.Wait()
	return context.Cause(ctx)
}

// fill writes the keys of [first, end) as one transaction.
func (c *client) fill(ctx context.Context, first, end int) error {
	t := &pb.TxnRequest{}
	for i := first; i < end; i++ {
		key := make([]byte, c.o.KeyBytes)
		c.o.key(key, i)
		t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: key, Value: c.put.Value}}})
	}
	var errs []error
	for range 3 { // a new cluster may be without a leader yet
		bounded, cancel := context.WithTimeout(ctx, fillTimeout)
		_, err := c.kv.Txn(bounded, t)
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		pause(ctx, errorPause)
	}
	return errors.Join(errs...)
}
