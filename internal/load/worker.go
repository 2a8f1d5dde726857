package load

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errorPause is what a client waits after an error: one that is refused at once
// would else do nothing but ask.
const errorPause = 10 * time.Millisecond

// tally is what is counted within the window. It is striped, since every client
// writes to it.
type tally struct {
	stripes [16]stripe
}

type stripe struct {
	put, ranged histogram
	ops         atomic.Uint64
	failed      atomic.Uint64
	errors      [17]atomic.Uint64 // by gRPC's code
	_           [64]byte
}

// client is one client. It belongs to the goroutine in run.
type client struct {
	o      *Options
	number int
	kv     pb.KVClient
	random *rand.Rand
	put    pb.PutRequest
	ranged pb.RangeRequest
	// window, when not nil, is what to count in.
	window *atomic.Pointer[tally]
	// since is when the request in flight was sent, in nanoseconds of the
	// epoch; zero: none is. It is read by others.
	since atomic.Int64
}

func newClient(o *Options, number int, kv pb.KVClient, window *atomic.Pointer[tally]) *client {
	c := &client{
		o: o, number: number, kv: kv, window: window,
		random: rand.New(rand.NewPCG(o.Seed, uint64(number))),
	}
	key := make([]byte, o.KeyBytes)
	c.put.Key, c.ranged.Key = key, key
	c.put.Value = value(o, c.random)
	c.ranged.Serializable = o.Serializable
	return c
}

// value is something that does not compress.
func value(o *Options, r *rand.Rand) []byte {
	b := make([]byte, o.ValueBytes)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// run sends requests until ctx ends.
func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		puts := c.o.Work == Put || c.o.Work == Mixed && c.random.IntN(mixedRanges+1) == 0
		c.o.key(c.put.Key, c.random.IntN(c.o.Keys))
		begun := time.Now()
		c.since.Store(begun.UnixNano())
		err := c.once(ctx, puts)
		took := time.Since(begun)
		c.since.Store(0)
		if err != nil && ctx.Err() != nil {
			return
		}
		if w := c.window.Load(); w != nil {
			w.stripes[c.number%len(w.stripes)].record(puts, took, err)
		}
		if err != nil {
			pause(ctx, errorPause)
		}
	}
}

func (c *client) once(ctx context.Context, puts bool) (err error) {
	if c.o.RequestTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.o.RequestTimeout)
		defer cancel()
	}
	if puts {
		_, err = c.kv.Put(ctx, &c.put)
	} else {
		_, err = c.kv.Range(ctx, &c.ranged)
	}
	return err
}

func (s *stripe) record(put bool, took time.Duration, err error) {
	switch {
	case err != nil:
		code := status.Code(err)
		if int(code) >= len(s.errors) {
			code = codes.Unknown
		}
		s.errors[code].Add(1)
		s.failed.Add(1)
		return
	case put:
		s.put.add(took)
	default:
		s.ranged.add(took)
	}
	s.ops.Add(1)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// totals are the operations and the errors so far.
func (t *tally) totals() (ops, failed uint64) {
	for i := range t.stripes {
		ops += t.stripes[i].ops.Load()
		failed += t.stripes[i].failed.Load()
	}
	return ops, failed
}
