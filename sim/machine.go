package sim

import (
	"encoding/binary"

	"github.com/quorate/quorate/smr"
)

// watched is a state machine of a full seed.
type watched interface {
	smr.StateMachine
	// read returns the value of a register: the id of the command that wrote it.
	read(key byte) uint64
	// position returns the applied index and a digest of all that was applied.
	position() (applied, digest uint64)
	// summary is what position returns for a digest of the machine's own.
	summary(digest [16]byte) uint64
}

// registers is the state machine of most full seeds: the registers of machine,
// whose every apply the ledger watches. A durable one keeps an image on disk
// now and then and begins there.
type registers struct {
	machine
	watch func(e *smr.Entry, state uint64)
	// flushed is the durable image, nil for a machine in memory.
	flushed *machine
	rng     *source
	// padding is how much is added to an image; restored is told of one.
	padding  int
	restored func(applied, digest uint64)
	disk     *stateDisk
}

// stateDisk says whether the disk of a host's state machines has room.
//
// While it is full, a machine takes entries until its applied index is a multiple
// of three: as much as its memory holds.
type stateDisk struct {
	h *simHost
	// taking: a batch was taken, so that there is room for the rest of it.
	taking bool
}

// DiskFull implements smr.Roomed.
func (d *stateDisk) DiskFull() bool { return d.h.full && !d.taking }

// refuses says that there is no room for anything after applied.
func (d *stateDisk) refuses(applied uint64) error {
	if !d.DiskFull() || applied%3 != 0 {
		return nil
	}
	d.h.w.marks.hit(MarkStateFull)
	return smr.ErrNoSpace
}

// DiskFull implements smr.Roomed.
func (r *registers) DiskFull() bool { return r.disk.DiskFull() }

// Open implements smr.StateMachine.
func (r *registers) Open() (uint64, error) {
	r.machine = machine{}
	if r.flushed != nil {
		r.machine = *r.flushed
	}
	return r.applied, nil
}

// Apply implements smr.StateMachine.
func (r *registers) Apply(batch []smr.Committed) error {
	if err := r.disk.refuses(r.applied); err != nil {
		return err
	}
	for i := range batch {
		e := &batch[i].Entry
		r.apply(e)
		r.watch(e, r.digest)
		batch[i].Result = smr.Result{Value: e.Index}
	}
	if r.flushed != nil && r.rng.permille(100) && !r.DiskFull() {
		*r.flushed = r.machine
	}
	return nil
}

// Lookup implements smr.StateMachine: the query is a register's number.
func (r *registers) Lookup(query []byte) ([]byte, error) {
	return binary.LittleEndian.AppendUint64(nil, r.regs[query[0]]), nil
}

// registerValue is what a Lookup has answered.
func registerValue(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// Digest implements smr.StateMachine.
func (r *registers) Digest() (applied uint64, digest [16]byte) {
	binary.LittleEndian.PutUint64(digest[:], r.machine.digest)
	return r.applied, digest
}

// Close implements smr.StateMachine.
func (r *registers) Close() error { return nil }

// read returns the value of a register.
func (r *registers) read(key byte) uint64 { return r.regs[key] }

// position returns the applied index and the digest there.
func (r *registers) position() (uint64, uint64) { return r.applied, r.digest }

func (r *registers) summary(digest [16]byte) uint64 { return binary.LittleEndian.Uint64(digest[:]) }
