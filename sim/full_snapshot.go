package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/transport"
)

// snapshotFeatures are what a seed draws about compaction and snapshots.
type snapshotFeatures struct {
	on                       bool
	everyBytes, tailBytes    int64
	everyEntries             uint64
	tailEntries              uint64 // zero: the host's default
	hardFactor               int64
	blockBytes, windowBlocks int
	bandwidth                int64
	keepTimeouts             int
	// cutPermille of the steps that send or receive a block end with a crash of
	// one of the hosts.
	cutPermille int
	// opCrashPermille of the lives of a host end at one of the operations on the
	// disk that write, receive, name or follow an image, drawn below opCrashMax.
	opCrashPermille, opCrashMax int
	// awayTimeouts is for how many election timeouts a host may be down, so that
	// the logs of the others no longer reach back to it.
	awayTimeouts int
	// applyStallTimeouts is how long a state machine stands still now and then.
	applyStallTimeouts int
	// shardFactor is what a shard's whole log may have, in everyBytes; zero: the
	// host's default.
	shardFactor int64
	// padding makes images of registers as large as this.
	padding int
}

func drawSnapshots(seed uint64) snapshotFeatures {
	rng := fork(seed, 8)
	s := &rng
	f := snapshotFeatures{
		on:           s.permille(600),
		everyBytes:   int64(pick(s, 500, 2000, 8000, 30000)),
		everyEntries: uint64(pick(s, 20, 60, 1000)),
		hardFactor:   int64(pick(s, 1, 2, 8, 1000)),
		blockBytes:   512 * pick(s, 1, 1, 2, 8),
		windowBlocks: pick(s, 1, 2, 8),
		bandwidth:    int64(pick(s, -1, -1, 20_000, 200_000)),
		keepTimeouts: pick(s, 1, 20, 200),
		cutPermille:  pick(s, 0, 0, 30, 150),
		padding:      pick(s, 0, 3000, 20000),
	}
	f.opCrashPermille, f.opCrashMax = pick(s, 0, 0, 400, 900), pick(s, 3, 12, 60)
	f.awayTimeouts = pick(s, 0, 10, 25)
	f.applyStallTimeouts = pick(s, 0, 0, 0, 3, 6)
	f.tailBytes = f.everyBytes / int64(pick(s, 2, 4, 100))
	f.shardFactor = int64(pick(s, 0, 0, 0, 0, 0, 1))
	return f
}

// outage is the longest time that a host is down: n election timeouts, or as many
// as the seed has drawn for its snapshots.
func (w *fullWorld) outage(n int) time.Duration {
	if f := &w.full.snapshots; f.on {
		n = max(n, f.awayTimeouts)
	}
	return w.timeouts(n)
}

// quieten leaves the faults out.
func (f *snapshotFeatures) quieten() {
	f.cutPermille, f.opCrashPermille, f.applyStallTimeouts, f.awayTimeouts = 0, 0, 0, 0
}

// applyStall draws whether a state machine stands still for a while, and how long.
func (w *fullWorld) applyStall() time.Duration {
	f := &w.full.snapshots
	if !f.on || f.applyStallTimeouts == 0 || w.phase != phaseChaos || !w.turnR.permille(10) {
		return 0
	}
	w.marks.hit(MarkApplyStall)
	return w.turnR.between(w.features.electionTimeout, w.timeouts(f.applyStallTimeouts))
}

// config is the host's for these features.
func (h *simHost) snapshots() host.SnapshotConfig {
	f := &h.w.full.snapshots
	if !f.on {
		return host.SnapshotConfig{}
	}
	return host.SnapshotConfig{
		EveryBytes: f.everyBytes, TailBytes: f.tailBytes, EveryEntries: f.everyEntries, TailEntries: f.tailEntries, HardBytes: f.everyBytes * f.hardFactor,
		ShardBytes: f.everyBytes * f.shardFactor,
		BlockBytes: f.blockBytes, WindowBytes: int64(f.blockBytes * f.windowBlocks), BandwidthBytes: f.bandwidth,
		KeepFor: h.w.timeouts(f.keepTimeouts),
	}
}

// SendBulk implements host.BulkSender: another connection, whose frames do not
// wait for those of the first, nor they for its.
func (s sender) SendBulk(to uint64, b *transport.Buffer) error {
	s.bulk = true
	return s.Send(to, b)
}

// Applied, digest and registers of a machine, and padding that says where it is.
const machineBytes = 8 * (2 + keysMax)

// machineView is a view of registers.
type machineView struct {
	*bytes.Reader
	m machine
}

func (v *machineView) Applied() uint64 { return v.m.applied }
func (v *machineView) Digest() (d [16]byte) {
	binary.LittleEndian.PutUint64(d[:], v.m.digest)
	return d
}
func (v *machineView) Close() error { return nil }

// View implements smr.Snapshotter.
func (r *registers) View() (smr.View, error) {
	b := make([]byte, 0, machineBytes+r.padding)
	b = binary.LittleEndian.AppendUint64(b, r.applied)
	b = binary.LittleEndian.AppendUint64(b, r.machine.digest)
	for _, v := range r.regs {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	for i := range r.padding {
		b = append(b, byte(uint64(i)+r.applied))
	}
	return &machineView{bytes.NewReader(b), r.machine}, nil
}

// machineRestoration is a machine that comes in.
type machineRestoration struct {
	bytes.Buffer
	r    *registers
	next machine
}

// BeginRestore implements smr.Snapshotter.
func (r *registers) BeginRestore() (smr.Restoration, error) { return &machineRestoration{r: r}, nil }

func (n *machineRestoration) Finish() error {
	b := n.Bytes()
	if len(b) != machineBytes+n.r.padding {
		return fmt.Errorf("machine of %d bytes: %w", len(b), smr.ErrCorrupt)
	}
	n.next.applied, n.next.digest = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	for i := range n.next.regs {
		n.next.regs[i] = binary.LittleEndian.Uint64(b[16+8*i:])
	}
	for i, c := range b[machineBytes:] {
		if c != byte(uint64(i)+n.next.applied) {
			return fmt.Errorf("byte %d of a machine: %w", i, smr.ErrCorrupt)
		}
	}
	return nil
}

func (n *machineRestoration) Commit() error {
	n.r.machine = n.next
	if n.r.flushed != nil {
		*n.r.flushed = n.next
	}
	n.r.restored(n.next.applied, n.next.digest)
	return nil
}

func (n *machineRestoration) Close() error { return nil }

// durableRegisters are registers that keep an image on disk by themselves.
type durableRegisters struct{ *registers }

var _ smr.Durable = durableRegisters{}

// Durable implements smr.Durable.
func (r durableRegisters) Durable() (uint64, error) { return r.flushed.applied, nil }

// Flush implements smr.Durable.
func (r durableRegisters) Flush() error {
	if r.DiskFull() {
		return smr.ErrNoSpace
	}
	*r.flushed = r.machine
	return nil
}

// pebbleRestoration watches what is restored.
type pebbleRestoration struct {
	smr.Restoration
	p *pebbleMachine
}

// BeginRestore implements smr.Snapshotter.
func (p *pebbleMachine) BeginRestore() (smr.Restoration, error) {
	r, err := p.Store.BeginRestore()
	return pebbleRestoration{r, p}, err
}

func (r pebbleRestoration) Commit() error {
	if err := r.Restoration.Commit(); err != nil {
		return err
	}
	r.p.look()
	if err := r.p.Store.Verify(context.Background()); err != nil {
		r.p.seat.group.fail(StateMachineSafety, nil, "a restored store: %v", err)
	}
	r.p.restored(r.p.applied, r.p.digest)
	return nil
}

// restored checks a state that came from a snapshot: digest(snapshot at i) =
// digest(replay to i).
func (h *simHost) restored(st *seat, life uint32) func(applied, digest uint64) {
	return func(applied, digest uint64) {
		if h.life != life {
			return
		}
		h.w.marks.hit(MarkRestored)
		h.w.note(0xe1, uint64(h.id), applied, digest)
		h.w.trace(Event{Kind: EventRestore, Replica: h.id, Index: applied, Count: uint64(st.group.id)})
		st.restores++
		st.group.held("restores a snapshot", h.id, applied, digest)
	}
}

// held notes that a snapshot with the state at index was in who's hands, and what it
// did with it.
func (l *ledger) held(does string, who smr.ReplicaID, index, state uint64) {
	if index == 0 || index > uint64(len(l.states)) {
		l.fail(StateMachineSafety, ids(who), "%s of index %d, nobody has applied more than %d", does, index, len(l.states))
		return
	}
	if at := l.states[index-1]; at == 0 {
		l.states[index-1] = state // it was applied within a batch
	} else if at != state {
		l.fail(StateMachineSafety, ids(who), "%s of index %d with state %x, applied was %x", does, index, state, at)
	}
}

// snapshotMarks notes what a host has done about snapshots in its life.
func (w *fullWorld) snapshotMarks(st *host.Stats) {
	w.marks[MarkCompacted] += st.Compactions
	w.marks[MarkShardCompacted] += st.CompactionsForShard
	w.marks[MarkSnapshotTaken] += st.SnapshotsTaken
	w.marks[MarkSnapshotNeeded] += st.SnapshotBlocksSent
	w.marks[MarkSnapshotResumed] += st.SnapshotBlocksResumed
	w.marks[MarkSnapshotInstalled] += st.SnapshotsInstalled
}

// jobDone looks at what a job's turn has moved, and may cut it there: at the
// host that sends, or at the one that receives.
func (w *fullWorld) jobDone(h *simHost) {
	f := &w.full.snapshots
	if !f.on || f.cutPermille == 0 || w.phase != phaseChaos || h.dead {
		return
	}
	st := h.rt.Stats()
	moved := st.SnapshotBlocksSent + st.SnapshotBytesReceived
	if moved == h.moved {
		return
	}
	mark := MarkCrashReceived
	if st.SnapshotBlocksSent > h.sent {
		mark = MarkCrashSending
	}
	h.moved, h.sent = moved, st.SnapshotBlocksSent
	if w.nemesis.permille(f.cutPermille) {
		w.marks.hit(mark)
		w.crashFor(h, w.nemesis.between(w.features.electionTimeout/10, w.timeouts(2)))
	}
}
