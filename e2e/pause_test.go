package e2e

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// runPausedLeader stops the leader's process without ending it, lets the
// others go on, and wakes it up: it still takes itself for the leader for a
// moment, and must not answer from before.
//
// "Linearizable reads must not return stale data ... the leader might have been
// superseded by a newer leader of which it is unaware." (Raft, section 8)
func runPausedLeader(t *testing.T, f flavour) {
	c := newCluster(t, f, 3)
	rounds := 4
	if short() {
		rounds = 1
	}
	for round := range rounds {
		old := c.leader(t)
		oldKV := pb.NewKVClient(dial(t, old.endpoint()))
		call := func(kv pb.KVClient, f func(ctx context.Context, kv pb.KVClient) error) error {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			return f(ctx, kv)
		}
		put := func(kv pb.KVClient, value string) error {
			return call(kv, func(ctx context.Context, kv pb.KVClient) error {
				_, err := kv.Put(ctx, &pb.PutRequest{Key: b("paused"), Value: b(value)})
				return err
			})
		}
		// Also warms the connection up, so that the read below goes out at once.
		eventually(t, 10*time.Second, "a write at the leader", func() error { return put(oldKV, "before") })

		pausedAt := time.Now()
		if err := old.proc.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		var other *member
		for _, m := range c.members {
			if m != old {
				other = m
			}
		}
		value := fmt.Sprint("after ", round)
		otherKV := pb.NewKVClient(dial(t, other.endpoint()))
		eventually(t, 20*time.Second, "a write without the paused leader", func() error { return put(otherKV, value) })
		replaced := time.Since(pausedAt)

		// Reads from before and after it wakes up: the earliest wait in its
		// socket and are the first that it does.
		answers := make(chan string, 16)
		for range cap(answers) {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				resp, err := oldKV.Range(ctx, &pb.RangeRequest{Key: b("paused")})
				if err != nil || len(resp.Kvs) != 1 {
					answers <- fmt.Sprint("no answer: ", err)
					return
				}
				answers <- string(resp.Kvs[0].Value)
			}()
		}
		if err := old.proc.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		answered := 0
		for range cap(answers) {
			switch got := <-answers; got {
			case value:
				answered++
			case "before":
				t.Errorf("%s: %s was the leader, was paused, and answers a linearizable read with what was there before", f.name, old.name)
			default:
				t.Logf("%s: %s", f.name, got) // an error is allowed
			}
		}
		t.Logf("%s: round %d: the others wrote %v after the pause began, %d of %d reads answered by the paused leader",
			f.name, round, replaced.Round(time.Millisecond), answered, cap(answers))
		c.awaitReady(t, old, 20*time.Second)
	}
}

func TestReferencePausedLeader(t *testing.T) { runPausedLeader(t, reference) }
func TestPausedLeader(t *testing.T)          { runPausedLeader(t, quorate) }
