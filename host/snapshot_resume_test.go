package host_test

import (
	"testing"

	"github.com/quorate/quorate/vfs"
)

// away is the disks of three hosts, the third of which has missed what the logs of
// the others no longer hold.
func away(t *testing.T) (disks [4]*vfs.Mem) {
	w := newWorkbench(t, disks, 1, 2, 3)
	w.write(3)
	w.nodes[3].stop()
	w.write(200)
	for i := 1; i <= 3; i++ {
		w.nodes[i].stop()
		disks[i] = w.nodes[i].mem
	}
	return disks
}

// docs/snapshots.md: "it restarts, and another host leads by then: it asks all
// members for the next block: who has the image goes on".
func TestReceiverRestartsUnderAnotherLeader(t *testing.T) {
	for _, back := range []bool{true, false} {
		w := newWorkbench(t, away(t), 1, 2)
		w.until("a leader", func() bool { return w.leader() != nil })
		old := w.leader()
		victim := w.nodes[3]
		victim.start()
		w.until("some blocks came", func() bool { return victim.rt.Stats().SnapshotBytesReceived >= 5*4096 })
		had := victim.rt.Stats().SnapshotBytesReceived / 4096
		old.stop()
		w.until("another leader", func() bool { return w.leader() != nil })
		victim.stop()
		victim.start()
		if back {
			old.start()
		}
		w.until("host 3 equals the leader", func() bool {
			l := w.leader()
			if l == nil {
				return false
			}
			a, digestA := l.book.Digest()
			b, digestB := victim.book.Digest()
			return a == b && digestA == digestB
		})
		st := victim.rt.Stats()
		if back && (st.SnapshotBlocksResumed < had || victim.book.restored != 1 || w.leader() != old && w.leader().rt.Stats().SnapshotBlocksSent > 0) {
			t.Errorf("%d blocks had come before the restart, %d were used; the new leader has sent %d", had, st.SnapshotBlocksResumed, w.leader().rt.Stats().SnapshotBlocksSent)
		}
		if !back && victim.book.restored != 1 {
			t.Errorf("host 3 was restored %d times", victim.book.restored)
		}
		for i := 1; i <= 3; i++ {
			w.nodes[i].stop()
		}
	}
}
