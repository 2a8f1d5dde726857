package host_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// "No leader acknowledges what it cannot keep; it hands over, stays readable,
// recovers by itself when there is room" (the disk is full).
func TestDiskFull(t *testing.T) {
	disks := map[smr.ReplicaID]*vfs.Mem{}
	c := newCluster(t, 3, func(cfg *host.Config) {
		if disks[cfg.ID] == nil {
			disks[cfg.ID] = vfs.NewMem()
		}
		cfg.FS, cfg.SegmentBytes = disks[cfg.ID], 64<<10
	})
	full := c.leader()
	c.propose(full, "first")
	disks[full].SetFree(0)
	// What is prepared of the log takes some more; then it is full.
	sent := 0
	eventually(t, "the full host refuses", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := c.groups[full].Propose(ctx, fmt.Appendf(nil, "%01000d", sent))
		sent++
		return errors.Is(err, host.ErrDiskFull) && host.Retryable(err)
	})
	eventually(t, "another host leads", func() bool {
		st := c.groups[full].Status()
		return st.Leader != 0 && st.Leader != full
	})
	if !c.groups[full].Status().DiskFull {
		t.Error("the status does not say so")
	}
	other := full%3 + 1
	c.propose(other, "the others go on")
	if b, err := c.groups[full].ReadLocal([]byte("first")); err != nil || b[7] != 1 {
		t.Errorf("the full host's local read: %x %v", b, err)
	}
	disks[full].SetFree(-1)
	eventually(t, "the host takes commands again", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := c.groups[full].Propose(ctx, []byte("there is room"))
		return err == nil
	})
	if c.groups[full].Status().DiskFull {
		t.Error("the status says that the disk is full still")
	}
	if b, err := c.groups[full].Read(context.Background(), []byte("the others go on")); err != nil || b[7] != 1 {
		t.Errorf("what it missed: %x %v", b, err)
	}
}

// "A watchdog on the sync's latency … makes a leader hand over; a follower stays but
// is not waited for" (the disk stalls).
func TestDiskStall(t *testing.T) {
	gates := map[smr.ReplicaID]*gate{}
	c := newCluster(t, 3, func(cfg *host.Config) {
		if gates[cfg.ID] == nil {
			gates[cfg.ID] = &gate{open: make(chan struct{})}
		}
		g := gates[cfg.ID]
		cfg.FS = vfs.NewFault(vfs.NewMem(), vfs.PolicyFunc(g.before), func(time.Duration) { <-g.open })
	})
	stuck := c.leader()
	c.propose(stuck, "first")
	gates[stuck].shut.Store(true)
	released := sync.OnceFunc(func() { gates[stuck].shut.Store(false); close(gates[stuck].open) })
	defer released() // or the host cannot close
	// Nothing that is proposed at this host can be applied there.
	eventually(t, "the stalled host refuses", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		_, err := c.groups[stuck].Propose(ctx, []byte("second"))
		return errors.Is(err, host.ErrDiskStalled) && host.Retryable(err)
	})
	eventually(t, "another host leads", func() bool {
		st := c.groups[stuck].Status()
		return st.Leader != 0 && st.Leader != stuck
	})
	if n := c.hosts[stuck].Stats().DiskStalls; n != 1 {
		t.Errorf("%d stalls were counted", n)
	}
	c.propose(stuck%3+1, "the others go on")
	if b, err := c.groups[stuck].ReadLocal([]byte("first")); err != nil || b[7] != 1 {
		t.Errorf("the stalled host's local read: %x %v", b, err)
	}
	released()
	eventually(t, "its log is whole again", func() bool {
		st := c.groups[stuck].Status()
		return st.Persisted == st.Last && st.Persisted >= c.groups[stuck%3+1].Status().Commit
	})
	eventually(t, "the host takes commands again", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := c.groups[stuck].Propose(ctx, []byte("third"))
		return err == nil
	})
	if b, err := c.groups[stuck].Read(context.Background(), []byte("the others go on")); err != nil || b[7] != 1 {
		t.Errorf("what it missed: %x %v", b, err)
	}
}

// gate has syncs stand still while it is shut.
type gate struct {
	shut atomic.Bool
	open chan struct{}
}

func (g *gate) before(op vfs.Op) vfs.Verdict {
	if op.Kind == vfs.OpSync && g.shut.Load() {
		return vfs.Verdict{Delay: 1}
	}
	return vfs.Verdict{}
}

// The same of the disk of a state machine: as long as it still takes what comes,
// reads are linearizable; when it takes nothing more, what was committed waits, is
// applied once when there is room, and Close waits for none.
func TestStateDiskFull(t *testing.T) {
	c := newCluster(t, 3, nil)
	full := c.leader()
	c.propose(full, "first")
	c.machines[full].setRoom(true, false)
	c.propose(full, "the last, which tells that it is full")
	eventually(t, "another host leads", func() bool {
		st := c.groups[full].Status()
		return st.Leader != 0 && st.Leader != full
	})
	if _, err := c.groups[full].Propose(context.Background(), []byte("refused")); !errors.Is(err, host.ErrDiskFull) || !host.Retryable(err) {
		t.Fatalf("the full host says %v", err)
	}
	other := full%3 + 1
	c.propose(other, "the others go on")
	if b, err := c.groups[full].Read(context.Background(), []byte("the others go on")); err != nil || b[7] != 1 {
		t.Errorf("what the full host reads: %x %v", b, err)
	}
	c.machines[full].setRoom(true, true)
	for i := range 20 {
		c.propose(other, fmt.Sprint("it waits for ", i))
	}
	if b, err := c.groups[full].ReadLocal([]byte("first")); err != nil || b[7] != 1 {
		t.Errorf("the full host's local read: %x %v", b, err)
	}
	c.machines[full].setRoom(false, false)
	eventually(t, "the host takes commands again", func() bool {
		_, err := c.groups[full].Propose(context.Background(), []byte("there is room"))
		return err == nil
	})
	if b, err := c.groups[full].Read(context.Background(), []byte("it waits for 19")); err != nil || b[7] != 1 {
		t.Errorf("what it missed: %x %v", b, err)
	}
	c.machines[full].setRoom(true, true)
	c.propose(other, "never applied by who is closed")
	c.stop(full)
}

// Who waits for a command that is committed and finds no room is told at once that
// the outcome is not known; it is applied when there is room.
func TestStateDiskFullAlone(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.propose(1, "first")
	c.machines[1].setRoom(true, true)
	if _, err := c.groups[1].Propose(context.Background(), []byte("second")); !errors.Is(err, host.ErrOutcomeUnknown) || !errors.Is(err, smr.ErrNoSpace) {
		t.Fatalf("a command without room for its effect: %v", err)
	}
	eventually(t, "the host refuses", func() bool {
		_, err := c.groups[1].Propose(context.Background(), []byte("third"))
		return errors.Is(err, host.ErrDiskFull)
	})
	c.machines[1].setRoom(false, false)
	eventually(t, "the second is applied", func() bool {
		b, err := c.groups[1].Read(context.Background(), []byte("second"))
		return err == nil && b[7] == 1
	})
}
