package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/quorate/quorate/smr"
)

// quorateMachine counts commands.
type quorateMachine struct {
	applied atomic.Uint64
	index   uint64
}

// newQuorateMachine returns one that takes snapshots, or one that keeps its log
// for ever.
func newQuorateMachine(snapshots bool) smr.StateMachine {
	if snapshots {
		return &keptMachine{}
	}
	return &quorateMachine{}
}

func (m *quorateMachine) Open() (uint64, error) { return 0, nil }

func (m *quorateMachine) Apply(batch []smr.Committed) error {
	n := m.applied.Load()
	for i := range batch {
		if batch[i].Kind == smr.KindCommand {
			n++
			batch[i].Result.Value = n
		}
		m.index = batch[i].Index
	}
	m.applied.Store(n)
	return nil
}

func (m *quorateMachine) Lookup([]byte) ([]byte, error) { return nil, nil }

func (m *quorateMachine) Digest() (applied uint64, digest [16]byte) {
	binary.LittleEndian.PutUint64(digest[:], m.applied.Load())
	return m.index, digest
}

func (m *quorateMachine) Close() error { return nil }

// keptMachine is a quorateMachine with snapshots: of 16 bytes, the index and the
// count.
type keptMachine struct{ quorateMachine }

// countView is a state of keptMachine.
type countView struct {
	applied uint64
	digest  [16]byte
	*bytes.Reader
}

func (v *countView) Applied() uint64  { return v.applied }
func (v *countView) Digest() [16]byte { return v.digest }
func (v *countView) Close() error     { return nil }

// View is the state of now.
func (m *keptMachine) View() (smr.View, error) {
	applied, digest := m.Digest()
	b := binary.LittleEndian.AppendUint64(nil, applied)
	b = binary.LittleEndian.AppendUint64(b, m.applied.Load())
	return &countView{applied, digest, bytes.NewReader(b)}, nil
}

// countRestoration is a state that comes in.
type countRestoration struct {
	m *keptMachine
	bytes.Buffer
}

// BeginRestore takes a state in.
func (m *keptMachine) BeginRestore() (smr.Restoration, error) { return &countRestoration{m: m}, nil }

// Finish reports whether it has come in whole.
func (r *countRestoration) Finish() error {
	if r.Len() != 16 {
		return fmt.Errorf("%w: a state of %d bytes, want 16", smr.ErrCorrupt, r.Len())
	}
	return nil
}

// Commit makes it the machine's state.
func (r *countRestoration) Commit() error {
	b := r.Bytes()
	r.m.index = binary.LittleEndian.Uint64(b)
	r.m.applied.Store(binary.LittleEndian.Uint64(b[8:]))
	return nil
}

func (r *countRestoration) Close() error { return nil }
