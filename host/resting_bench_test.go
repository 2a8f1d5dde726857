package host_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

var flagHeap = flag.String("resting-heap", "", "BenchmarkResting writes a heap profile of groups at rest there")

// manyGroups is three hosts of this process with many groups on each.
type manyGroups struct {
	b     *testing.B
	hosts map[smr.ReplicaID]*host.Host
	on    map[smr.ReplicaID][]*host.Group
}

func startMany(b *testing.B, groups int, noRest bool) *manyGroups {
	m := &manyGroups{b: b, hosts: map[smr.ReplicaID]*host.Host{}, on: map[smr.ReplicaID][]*host.Group{}}
	dir := b.TempDir()
	listeners, peers := map[smr.ReplicaID]net.Listener{}, map[smr.ReplicaID]string{}
	for id := smr.ReplicaID(1); id <= 3; id++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		listeners[id], peers[id] = l, l.Addr().String()
	}
	var wg sync.WaitGroup
	for id := smr.ReplicaID(1); id <= 3; id++ {
		h, err := host.Open(host.Config{ID: id, Cluster: 7, Dir: fmt.Sprintf("%s/%d", dir, id), Listener: listeners[id], Peers: peers, Logger: quiet, NoRest: noRest})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { h.Close() })
		m.hosts[id] = h
		m.on[id] = make([]*host.Group, groups)
	}
	for id, h := range m.hosts {
		on := m.on[id]
		wg.Go(func() {
			for i := range on {
				g, err := h.StartGroup(host.GroupConfig{ID: smr.GroupID(i + 1), Members: host.Voters(1, 2, 3), Machine: &counter{}})
				if err != nil {
					b.Error(err)
					return
				}
				on[i] = g
			}
		})
	}
	wg.Wait()
	return m
}

// until waits for a state that must come within a minute and a half.
func (m *manyGroups) until(what string, ok func() bool) {
	m.b.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			for id, h := range m.hosts {
				m.b.Logf("host %d: %+v", id, h.Stats())
			}
			m.b.Fatalf("not reached: %s", what)
		}
	}
}

func (m *manyGroups) allRest() bool {
	for id, h := range m.hosts {
		if h.Stats().GroupsResting < uint64(len(m.on[id])) {
			return false
		}
	}
	return true
}

func (m *manyGroups) led() int {
	n := 0
	for i := range m.on[1] {
		for id := range m.hosts {
			if m.on[id][i].Status().Role == raft.Leader {
				n++
				break
			}
		}
	}
	return n
}

func heapInUse() uint64 {
	var s runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&s)
	return s.HeapAlloc + s.StackInuse
}

// BenchmarkResting measures what groups cost in which nothing happens: how long
// they take to start and to rest, memory for each replica, CPU for each host, and
// how long all of them take to have leaders again after a host has died.
//
//	go test ./host -run '^$' -bench Resting -benchtime 1x
func BenchmarkResting(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("groups=%d", n), func(b *testing.B) {
			for range b.N {
				measureResting(b, n)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func measureResting(b *testing.B, n int) {
	before, began := heapInUse(), time.Now()
	m := startMany(b, n, false)
	b.ReportMetric(time.Since(began).Seconds(), "start-s")
	m.until("all groups rest", m.allRest)
	b.ReportMetric(time.Since(began).Seconds(), "rest-s")
	b.ReportMetric(float64(heapInUse()-before)/float64(3*n), "B/replica")
	if *flagHeap != "" {
		f, err := os.Create(*flagHeap)
		if err != nil {
			b.Fatal(err)
		}
		_ = pprof.Lookup("heap").WriteTo(f, 0)
		_ = f.Close()
	}
	const span = 5 * time.Second
	cpu, at := cpuSeconds(b), time.Now()
	time.Sleep(span)
	b.ReportMetric(100*(cpuSeconds(b)-cpu)/time.Since(at).Seconds()/3, "%core/host")
	dies := smr.ReplicaID(1)
	h := m.hosts[dies]
	delete(m.hosts, dies)
	at = time.Now()
	_ = h.Close()
	m.until("all groups have leaders", func() bool { return m.led() == n })
	b.ReportMetric(time.Since(at).Seconds(), "failover-s")
	for i := range m.on[2] {
		if i%1000 == 0 {
			if _, err := m.on[2][i].Propose(context.Background(), []byte("after")); err != nil {
				b.Fatal(err)
			}
		}
	}
}
