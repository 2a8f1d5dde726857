package host_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// benchCluster is three hosts of this process with a counter on each, and the
// group of the one that leads.
func benchCluster(b *testing.B) *host.Group {
	dir := b.TempDir()
	listeners, peers := map[smr.ReplicaID]net.Listener{}, map[smr.ReplicaID]string{}
	for id := smr.ReplicaID(1); id <= 3; id++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		listeners[id], peers[id] = l, l.Addr().String()
	}
	var groups []*host.Group
	for id := smr.ReplicaID(1); id <= 3; id++ {
		h, err := host.Open(host.Config{ID: id, Cluster: 7, Dir: fmt.Sprintf("%s/%d", dir, id), Listener: listeners[id], Peers: peers, Logger: quiet})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { h.Close() })
		g, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1, 2, 3), Machine: &counter{}})
		if err != nil {
			b.Fatal(err)
		}
		groups = append(groups, g)
	}
	if _, err := groups[0].Propose(context.Background(), []byte("first")); err != nil {
		b.Fatal(err)
	}
	for {
		for _, g := range groups {
			if g.Status().Role == raft.Leader {
				return g
			}
		}
	}
}

func inFlight(b *testing.B, n int, do func() error) {
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuSeconds(b)
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric((cpuSeconds(b)-cpu)/float64(b.N)*1e5, "cpu-s/100k")
}

// cpuSeconds is what the process has used so far: it moves far less than the rate
// when a neighbour is busy.
func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func BenchmarkPropose(b *testing.B) {
	for _, n := range []int{1, 256, 4096} {
		b.Run(fmt.Sprintf("inflight=%d", n), func(b *testing.B) {
			g := benchCluster(b)
			command := make([]byte, 128)
			inFlight(b, n, func() error {
				_, err := g.Propose(context.Background(), command)
				return err
			})
		})
	}
}

func BenchmarkBarrier(b *testing.B) {
	for _, n := range []int{1, 256} {
		b.Run(fmt.Sprintf("inflight=%d", n), func(b *testing.B) {
			g := benchCluster(b)
			inFlight(b, n, func() error { return g.Barrier(context.Background()) })
		})
	}
}
