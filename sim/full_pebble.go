package sim

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// pebbleMachine is the key-value store on pebble, on the host's own disk, with
// its applies watched: registers are keys, and a value is the id of the command
// that put it.
type pebbleMachine struct {
	*kv.Store
	seat     *seat
	rng      *source
	watch    func(e *smr.Entry, state uint64)
	restored func(applied, digest uint64)
	applied  uint64
	digest   uint64
	disk     *stateDisk
}

// roomFS is a file system that says that it has no room while the disk is full.
// The store asks before it writes, for pebble's writes must not wait in a simulation.
type roomFS struct {
	vfs.FS
	disk *stateDisk
}

// GetDiskUsage implements vfs.FS.
func (f roomFS) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	if f.disk.DiskFull() {
		return vfs.DiskUsage{}, nil
	}
	return f.FS.GetDiskUsage(path)
}

func newPebbleMachine(h *simHost, st *seat, watch func(*smr.Entry, uint64)) watched {
	disk := &stateDisk{h: h}
	return &pebbleMachine{
		Store: kv.New(kv.Config{
			FS: roomFS{h.storeFS(), disk}, Dir: fmt.Sprintf("store-%d", st.group.id), Group: st.group.id, Deterministic: true,
			CacheBytes: 1 << 20, BlockCacheBytes: 1 << 20, MemTableBytes: 1 << 20, ViewBytes: 32, Logger: h.config().Logger,
		}),
		seat: st, rng: &h.w.turnR, watch: watch, restored: h.restored(st, h.life), disk: disk,
	}
}

// Open implements smr.StateMachine.
func (p *pebbleMachine) Open() (uint64, error) {
	if _, err := p.Store.Open(); err != nil {
		return 0, err
	}
	p.look()
	g := p.seat.group
	if p.applied > uint64(len(g.states)) {
		return 0, fmt.Errorf("the store is at index %d, nobody has applied more than %d", p.applied, len(g.states))
	}
	if p.applied > 0 {
		if at := g.states[p.applied-1]; at != 0 && at != p.digest {
			g.fail(StateMachineSafety, nil, "a store comes back with state %x at %d, it was %x", p.digest, p.applied, at)
		}
	}
	return p.applied, nil
}

// look reads the store's position. Zero stands for an unknown digest, so that
// none is zero.
func (p *pebbleMachine) look() {
	applied, d := p.Store.Digest()
	p.applied, p.digest = applied, p.summary(d)
}

func (p *pebbleMachine) summary(digest [16]byte) uint64 {
	return binary.LittleEndian.Uint64(digest[:]) | 1
}

// Apply implements smr.StateMachine. It mostly applies one entry at a time, so
// that there is a digest for each.
func (p *pebbleMachine) Apply(batch []smr.Committed) error {
	if err := p.disk.refuses(p.applied); err != nil {
		return err
	}
	p.disk.taking = true
	defer func() { p.disk.taking = false }()
	for len(batch) > 0 {
		n := 1
		if p.rng.permille(300) {
			n = len(batch)
		}
		if err := p.Store.Apply(batch[:n]); err != nil {
			return err
		}
		p.look()
		for i := range n {
			state := uint64(0)
			if i == n-1 {
				state = p.digest
			}
			p.watch(&batch[i].Entry, state)
		}
		batch = batch[n:]
	}
	if p.rng.permille(30) {
		return p.Store.Flush()
	}
	return nil
}

func (p *pebbleMachine) read(key byte) uint64 {
	r, err := p.Store.Range(context.Background(), &kv.RangeRequest{Key: registerKey(key)})
	if err != nil {
		p.seat.group.fail(Contract, nil, "a store does not answer a range: %v", err)
		return 0
	}
	if len(r.Kvs) == 0 {
		return 0
	}
	return binary.LittleEndian.Uint64(r.Kvs[0].Value)
}

func (p *pebbleMachine) position() (uint64, uint64) { return p.applied, p.digest }

func registerKey(key byte) []byte { return []byte{'r', '0' + key} }

// putCommand makes the command that writes its id to a register.
func putCommand(id uint64, key byte) []byte {
	value := binary.LittleEndian.AppendUint64(nil, id)
	return kv.AppendCommand(nil, &kv.Command{Kind: kv.CommandPut, Put: kv.PutRequest{Key: registerKey(key), Value: value}})
}

func identifyPut(data []byte) (uint64, bool) {
	var c kv.Command
	if kv.DecodeCommand(data, &c) != nil || c.Kind != kv.CommandPut || len(c.Put.Value) != 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(c.Put.Value), true
}
