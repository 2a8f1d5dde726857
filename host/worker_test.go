package host_test

import (
	"testing"
)

// "It is called after an Apply, by its goroutine, when nothing else waits", as long
// as there is more to do; what is applied meanwhile does not wait for its end.
func TestIdle(t *testing.T) {
	c := newCluster(t, 1, nil)
	const steps = 1000
	idle := make(chan struct{}, steps)
	for range steps {
		idle <- struct{}{}
	}
	m := c.machines[1]
	m.mu.Lock()
	m.idle = idle
	m.mu.Unlock()
	for range 10 {
		c.propose(1, "a command")
	}
	eventually(t, "all idle work is done", func() bool { return len(idle) == 0 })
}
