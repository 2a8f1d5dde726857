package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fakeServer answers at once, or as answer says.
type fakeServer struct {
	pb.UnimplementedKVServer
	answer func(n uint64) error // nil: without an error

	conns, puts, ranges, txnOps, inFlight, inFlightMax atomic.Int64

	mu   sync.Mutex
	keys map[string]int // by what was asked for
}

func (f *fakeServer) enter(key []byte) (leave func()) {
	n := f.inFlight.Add(1)
	for m := f.inFlightMax.Load(); n > m && !f.inFlightMax.CompareAndSwap(m, n); m = f.inFlightMax.Load() {
	}
	f.mu.Lock()
	f.keys[string(key)]++
	f.mu.Unlock()
	return func() { f.inFlight.Add(-1) }
}

func (f *fakeServer) err() error {
	if f.answer == nil {
		return nil
	}
	return f.answer(uint64(f.puts.Load() + f.ranges.Load()))
}

func (f *fakeServer) Put(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	defer f.enter(r.Key)()
	f.puts.Add(1)
	return &pb.PutResponse{}, f.err()
}

func (f *fakeServer) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	defer f.enter(r.Key)()
	f.ranges.Add(1)
	return &pb.RangeResponse{}, f.err()
}

func (f *fakeServer) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	for _, op := range r.Success {
		f.txnOps.Add(1)
		f.enter(op.GetRequestPut().Key)()
	}
	return &pb.TxnResponse{}, f.err()
}

// countedListener counts the connections.
type countedListener struct {
	net.Listener
	n *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

func serve(t *testing.T, f *fakeServer) (endpoint string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.keys = map[string]int{}
	s := grpc.NewServer()
	pb.RegisterKVServer(s, f)
	go s.Serve(countedListener{l, &f.conns})
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func options(work Work, endpoints ...string) Options {
	return Options{
		Work: work, Endpoints: endpoints, Clients: 8, Conns: 4,
		KeyBytes: 16, ValueBytes: 32, Keys: 250, Prefix: "bench/",
		Window: 200 * time.Millisecond,
	}
}

// Every operation that the report has was asked of the server, by as many
// clients over as many connections as were asked for, and about no other keys.
func TestRun(t *testing.T) {
	for _, work := range Works() {
		t.Run(string(work), func(t *testing.T) {
			f := &fakeServer{}
			o := options(work, "http://"+serve(t, f))
			var progress atomic.Int64
			var opened, closed uint64 // requests until then
			o.OnWindow = func(open bool) {
				n := uint64(f.puts.Load() + f.ranges.Load())
				if open {
					opened = n
				} else {
					closed = n
				}
			}
			o.Progress = func(p Progress) { progress.Store(int64(p.Ops)) }
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			puts, ranges := uint64(f.puts.Load()), uint64(f.ranges.Load())
			if r.Ops == 0 || r.Ops > puts+ranges || len(r.Errors) > 0 {
				t.Errorf("%d operations, errors %v; the server was asked %d times", r.Ops, r.Errors, puts+ranges)
			}
			if most := closed - opened + uint64(o.Clients); r.Ops > most {
				t.Errorf("%d operations, but within the window there were at most %d", r.Ops, most)
			}
			if (work == Put) != (ranges == 0) || (work == Range) != (puts == 0) {
				t.Errorf("%d puts and %d ranges", puts, ranges)
			}
			if filled := f.txnOps.Load(); (work == Put) != (filled == 0) || work != Put && filled != int64(o.Keys) {
				t.Errorf("%d keys were written first", filled)
			}
			if work == Mixed && (r.Put == nil || r.Put.Count+r.Range.Count != r.Ops || r.Range.Count < r.Put.Count) {
				t.Errorf("of %d operations puts %v, ranges %v", r.Ops, r.Put, r.Range)
			}
			if f.conns.Load() != int64(o.Conns) || f.inFlightMax.Load() > int64(o.Clients) {
				t.Errorf("%d connections, at most %d requests in flight", f.conns.Load(), f.inFlightMax.Load())
			}
			f.mu.Lock() // a request that was given up may still be served
			defer f.mu.Unlock()
			for key := range f.keys {
				if len(key) != o.KeyBytes || !strings.HasPrefix(key, "bench/0000000") || key > "bench/0000000249" {
					t.Fatalf("key %q", key)
				}
			}
			if progress.Load() == 0 {
				t.Error("no progress was told")
			}
		})
	}
}

// Connections are dealt out to the endpoints in turns.
func TestEndpointsTakeTurns(t *testing.T) {
	var f [3]fakeServer
	o := options(Put, serve(t, &f[0]), serve(t, &f[1]), serve(t, &f[2]))
	o.Conns = 6
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for i := range f {
		if f[i].conns.Load() != 2 || f[i].puts.Load() == 0 {
			t.Errorf("endpoint %d: %d connections, %d puts", i, f[i].conns.Load(), f[i].puts.Load())
		}
	}
}

// Errors are counted by their code, and not among the operations.
func TestErrorsAreCounted(t *testing.T) {
	f := &fakeServer{answer: func(n uint64) error {
		if n%2 == 0 {
			return status.Error(codes.ResourceExhausted, "too many requests")
		}
		return nil
	}}
	r, err := Run(t.Context(), options(Put, serve(t, f)))
	if err != nil {
		t.Fatal(err)
	}
	failed := r.Errors["ResourceExhausted"]
	if failed == 0 || len(r.Errors) != 1 || r.Ops == 0 || r.Ops+failed > uint64(f.puts.Load()) {
		t.Errorf("%d operations, errors %v, of %d requests", r.Ops, r.Errors, f.puts.Load())
	}
}

// A request that is not answered within the window is in no latency, but it is
// reported.
func TestStallIsReported(t *testing.T) {
	release := make(chan struct{})
	f := &fakeServer{answer: func(uint64) error { <-release; return nil }}
	endpoint := serve(t, f)
	t.Cleanup(func() { close(release) })
	r, err := Run(t.Context(), options(Put, endpoint))
	if err != nil {
		t.Fatal(err)
	}
	if r.Ops != 0 || r.UnansweredMs < 150 {
		t.Errorf("%d operations, unanswered for %v ms", r.Ops, r.UnansweredMs)
	}
	o := options(Put, endpoint)
	o.RequestTimeout = 20 * time.Millisecond
	if r, err = Run(t.Context(), o); err != nil || r.Errors["DeadlineExceeded"] == 0 {
		t.Errorf("with a timeout: %v, %v", r, err)
	}
}

// An endpoint at which nobody listens is named, with the reason, and one that is
// there is not.
func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	there := serve(t, &fakeServer{})
	r, err := Run(t.Context(), options(Put, gone, there))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Unreachable) != 1 || !strings.Contains(r.Unreachable[gone], "refused") {
		t.Errorf("%v", r.Unreachable)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "unreachable "+gone+": ") {
		t.Errorf("%v, it says:\n%s", err, &text)
	}
}

// What ends the caller's context ends the run, and the report covers the time
// until then.
func TestContextEndsRun(t *testing.T) {
	f := &fakeServer{}
	o := options(Put, serve(t, f))
	o.Window = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(p Progress) {
		if p.Ops > 0 {
			cancel()
		}
	}
	if r, err := Run(ctx, o); err != nil || r.Ops == 0 || r.Seconds > 60 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("ended before: %v", err)
	}
}

func TestFillFails(t *testing.T) {
	f := &fakeServer{answer: func(uint64) error { return status.Error(codes.Unavailable, "no leader") }}
	if _, err := Run(t.Context(), options(Range, serve(t, f))); err == nil || !strings.Contains(err.Error(), "no leader") {
		t.Errorf("%v", err)
	}
}

func TestBadOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"work":      func(o *Options) { o.Work = "watch" },
		"endpoints": func(o *Options) { o.Endpoints = nil },
		"clients":   func(o *Options) { o.Clients = 0 },
		"key":       func(o *Options) { o.KeyBytes = 8 },
		"window":    func(o *Options) { o.Window = 0 },
		"TLS":       func(o *Options) { o.Endpoints = []string{"https://127.0.0.1:1"} },
	} {
		o := options(Put, "127.0.0.1:1")
		change(&o)
		if _, err := Run(t.Context(), o); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A quantile is right to 1/16, whatever the size of the durations.
func TestHistogram(t *testing.T) {
	for _, unit := range []time.Duration{1, time.Microsecond, time.Millisecond, time.Second} {
		var h histogram
		for i := range 1000 {
			h.add(time.Duration(i+1) * unit)
		}
		for _, q := range []float64{0.01, 0.5, 0.99, 1} {
			want := float64(1000*unit) * q
			if got := float64(h.quantile(q)); got < want*15/16-1 || got > want*17/16+1 {
				t.Errorf("unit %v: quantile %v is %v, want about %v", unit, q, time.Duration(got), time.Duration(want))
			}
		}
		if h.count() != 1000 || h.max.Load() != int64(1000*unit) {
			t.Errorf("unit %v: %d durations, the longest %v", unit, h.count(), h.max.Load())
		}
	}
	for ns := uint64(1); ns < 1<<62; ns += ns/3 + 1 {
		b := bucket(ns)
		if lo, hi := lowest(b), lowest(b+1); time.Duration(ns) < lo || time.Duration(ns) >= hi {
			t.Fatalf("%d ns is in bucket %d of [%d, %d)", ns, b, lo, hi)
		}
	}
}

// The bars have every request, in order, and the text and JSON are whole.
func TestReport(t *testing.T) {
	o := options(Mixed, "a", "b")
	var w tally
	for i := range 1000 {
		w.stripes[i%16].record(i%10 == 0, time.Duration(i+1)*time.Microsecond, nil)
	}
	w.stripes[3].record(true, time.Second, status.Error(codes.Unavailable, ""))
	r := report(&o, &w, 2*time.Second, time.Second)
	if r.Ops != 1000 || r.OpsPerSecond != 500 || r.ClientCPUSecondsPer100k != 100 || r.Put.Count != 100 || r.Range.Count != 900 {
		t.Errorf("%+v", r)
	}
	if l := r.Latency; l.MaxMs != 1 || l.P50Ms < 0.46 || l.P50Ms > 0.54 || l.MeanMs < 0.5 || l.MeanMs > 0.51 {
		t.Errorf("%+v", r.Latency)
	}
	var n uint64
	last := 0.0
	for _, bar := range r.Latency.Histogram {
		if bar.Ms <= last {
			t.Errorf("bars out of order: %+v", r.Latency.Histogram)
		}
		n, last = n+bar.Count, bar.Ms
	}
	if n != r.Ops {
		t.Errorf("%d requests in the bars", n)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"500/s (1000)", "1 Unavailable", "p99.9", "100.00 s per 100,000", "≤     0.512 ms"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in:\n%s", want, &text)
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"ops_per_second":500`, `"errors":{"Unavailable":1}`, `"p999_ms"`, `"le_ms"`, `"put":{"count":100`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
}
