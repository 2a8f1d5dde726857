package sim

import (
	"bytes"
	"fmt"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/wal"
)

// Damage flips a bit of a command in a host's log, on its disk. A host that runs may
// not notice before it is restarted. Damage to what no later batch proves to have
// been synced is refused: it cannot be told from a batch that was being written, and
// so is beyond the promises.
func (s *Script) Damage(id smr.ReplicaID, index uint64) (err error) {
	s.act(func() { err = s.driver.damage(id, index) })
	return err
}

func (d *scriptHosts) damage(id smr.ReplicaID, index uint64) error {
	h := d.hosts[id-1]
	dir, segment, record := h.mem.PathJoin(logDir, "shard-000"), "", int64(0)
	var data []byte
	var batch, newest uint64
	// If the log is damaged already, what comes before that is visited all the same.
	_, err := wal.Inspect(h.mem, dir, func(r wal.RecordInfo) error {
		newest = r.Batch
		for i := range r.Entries {
			if e := &r.Entries[i]; e.Index == index { // the newest one counts
				segment, record, batch = fmt.Sprintf("%016x%s", r.Segment, segmentSuffix), r.Offset, r.Batch
				data = append(data[:0], e.Data...)
			}
		}
		return nil
	})
	if len(data) == 0 {
		return fmt.Errorf("%w: the log on the disk of host %d holds no command at %d (%v)", ErrScript, id, index, err)
	}
	proof := batch + 1
	if h.rt != nil {
		proof++ // the newest batch may not be synced yet, the one before it is
	}
	if newest < proof {
		return fmt.Errorf("%w: nothing on the disk of host %d proves that entry %d was synced; let it write more first", ErrScript, id, index)
	}
	path := h.mem.PathJoin(dir, segment)
	at := record + int64(bytes.Index(h.content(path)[record:], data))
	h.done++
	h.hurt = true
	return h.mem.FlipBit(path, at*8)
}

// Fill leaves no room on a host's disk, or gives it back.
func (s *Script) Fill(id smr.ReplicaID, full bool) error { return s.driver.fill(id, full) }

func (d *scriptHosts) fill(id smr.ReplicaID, full bool) error {
	d.hosts[id-1].full = full
	return nil
}

func (d *scriptCore) damage(smr.ReplicaID, uint64) error { return errNoHosts }
func (d *scriptCore) fill(smr.ReplicaID, bool) error     { return errNoHosts }
