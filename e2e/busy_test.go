package e2e

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// busyPuts of busyBytes each are far more than the 64 MiB of commands that a member
// lets wait, and of the size that a client may send by default.
const (
	busyPuts  = 160
	busyBytes = 1_500_000
)

// TestBusy lets more come in than the queues hold: nothing commits, because the
// other members are paused, until the member has refused something.
//
// "etcdserver: too many requests: a queue is full; nothing was done, try again after
// a pause." Whoever is not told that is served.
func TestBusy(t *testing.T) {
	c := prepareCluster(t, quorate, 3)
	for _, m := range c.members {
		// The leader must not step down while the others are paused.
		m.args = append(m.args, "--heartbeat-interval", "500", "--election-timeout", "5000")
		m.start(t)
	}
	for _, m := range c.members {
		c.awaitReady(t, m, 30*time.Second)
	}
	lead := c.leader(t)
	c.signalOthers(t, lead, syscall.SIGSTOP)
	resumed := false
	resume := func() {
		if !resumed {
			c.signalOthers(t, lead, syscall.SIGCONT)
		}
		resumed = true
	}
	defer resume()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	type answer struct {
		key string
		err error
	}
	answers := make(chan answer, busyPuts)
	for i := range 8 {
		kv := pb.NewKVClient(dial(t, lead.endpoint()))
		for j := range busyPuts / 8 {
			go func() {
				key := fmt.Sprintf("busy/%d/%02d", i, j)
				_, err := kv.Put(ctx, &pb.PutRequest{Key: b(key), Value: make([]byte, busyBytes)})
				answers <- answer{key, err}
			}()
		}
	}
	var done, refusals []string
	for range busyPuts {
		a := <-answers
		resume() // nothing can be done before, so this is a refusal
		switch st := status.Convert(a.err); {
		case a.err == nil:
			done = append(done, a.key)
		case st.Code() == codes.ResourceExhausted && st.Message() == "etcdserver: too many requests":
			refusals = append(refusals, a.key)
		default:
			t.Errorf("%s: %v", a.key, a.err)
		}
	}
	t.Logf("%d puts of %d bytes at once: %d done, %d refused", busyPuts, busyBytes, len(done), len(refusals))
	if len(refusals) == 0 || len(done) == 0 {
		t.Errorf("%d done and %d refused; want some of both", len(done), len(refusals))
	}
	for _, m := range c.members {
		if err := checkKeys(ctx, pb.NewKVClient(dial(t, m.endpoint())), done); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

// signalOthers sends sig to all members but m.
func (c *cluster) signalOthers(t testing.TB, m *member, sig syscall.Signal) {
	t.Helper()
	for _, other := range c.members {
		if other == m {
			continue
		}
		if err := other.proc.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
}

// checkKeys reports whether the keys of the test are those of want: what was refused
// was not done.
func checkKeys(ctx context.Context, kv pb.KVClient, want []string) error {
	resp, err := kv.Range(ctx, &pb.RangeRequest{Key: b("busy/"), RangeEnd: b("busy0"), KeysOnly: true})
	if err != nil {
		return err
	}
	var got []string
	for _, kv := range resp.Kvs {
		got = append(got, string(kv.Key))
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("it has %d keys and %d puts were done: %q, %q", len(got), len(want), got, want)
	}
	return nil
}
