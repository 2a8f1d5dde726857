package host_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
)

// counter is a state machine: it counts the bytes of all commands.
type counter struct{ applied, total atomic.Uint64 }

func (c *counter) Open() (uint64, error) { return 0, nil }
func (c *counter) Close() error          { return nil }
func (c *counter) Apply(batch []smr.Committed) error {
	for i := range batch {
		batch[i].Result.Value = c.total.Add(uint64(len(batch[i].Data)))
		c.applied.Store(batch[i].Index)
	}
	return nil
}
func (c *counter) Lookup([]byte) ([]byte, error) { return fmt.Append(nil, c.total.Load()), nil }
func (c *counter) Digest() (uint64, [16]byte) {
	return c.applied.Load(), [16]byte{byte(c.total.Load())}
}

// Three hosts replicate a state machine. In production each runs in a process of
// its own, on its own machine.
func Example() {
	dir, _ := os.MkdirTemp("", "quorate-example")
	defer os.RemoveAll(dir)

	listeners := map[smr.ReplicaID]net.Listener{}
	peers := map[smr.ReplicaID]string{}
	for id := smr.ReplicaID(1); id <= 3; id++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			fmt.Println(err)
			return
		}
		listeners[id], peers[id] = l, l.Addr().String()
	}

	var groups []*host.Group
	for id := smr.ReplicaID(1); id <= 3; id++ {
		h, err := host.Open(host.Config{
			ID: id, Cluster: 7, Dir: fmt.Sprintf("%s/%d", dir, id), Listener: listeners[id], Peers: peers, Logger: quiet,
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer h.Close()
		g, err := h.StartGroup(host.GroupConfig{ID: 1, Members: host.Voters(1, 2, 3), Machine: &counter{}})
		if err != nil {
			fmt.Println(err)
			return
		}
		groups = append(groups, g)
	}

	// Any replica takes commands and answers linearizable reads.
	result, err := groups[0].Propose(context.Background(), []byte("hello"))
	fmt.Println(result.Value, err)
	answer, err := groups[1].Read(context.Background(), nil)
	fmt.Println(string(answer), err)
	// Output:
	// 5 <nil>
	// 5 <nil>
}
