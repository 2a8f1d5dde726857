package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/snapshot"
)

// Backups, as a server's Maintenance.Snapshot gives them: a host asks what is
// committed, takes a view of its state, and streams it to a client that may be slow
// or go away, while the host goes on, compacts, takes another state in, or crashes.

// backupFeatures are what a seed draws about them.
type backupFeatures struct {
	on bool
	// everyTimeouts is after how many election timeouts another one is asked for,
	// at most.
	everyTimeouts int
	// blockPercent of an election timeout is how long a client takes for a block, at
	// most; cutPermille of the blocks are its last.
	blockPercent, cutPermille int
	blockBytes                int
}

func drawBackups(seed uint64) backupFeatures {
	s := fork(seed, 33)
	return backupFeatures{
		on:            s.permille(250),
		everyTimeouts: pick(&s, 2, 5, 15),
		blockPercent:  pick(&s, 0, 5, 100, 400),
		cutPermille:   pick(&s, 0, 50),
		blockBytes:    512 * pick(&s, 1, 1, 2, 8),
	}
}

// backups are those of a world.
type backups struct {
	rng  source
	all  []*backup
	torn bool // views show a state as it is when they are read
}

// backup is one that a client takes of a group at a host, in one life of that.
type backup struct {
	h    *simHost
	st   *seat
	life uint32
	// floor is what clients knew when it was asked for; zero if the host could not
	// find out what is committed, and gives what it has.
	floor uint64
	over  bool
	// Once there is a view: of index, and how often the host had taken another state
	// in by then.
	view     smr.View
	index    uint64
	restores int
	stream   *snapshot.Backup
	came     []byte
}

// nextBackup lets a client ask for a backup after a while.
func (w *fullWorld) nextBackup() {
	if f := &w.full.backups; f.on {
		d := w.backups.rng.between(0, w.timeouts(f.everyTimeouts))
		w.queue.push(occurrence{at: w.now.Add(d), what: whatBackup, ref: -1})
	}
}

// backupActs goes on with a backup, or begins the next one.
func (w *fullWorld) backupActs(o *occurrence) {
	if o.ref < 0 {
		if w.phase < phaseQuiet {
			w.askBackup()
			w.nextBackup()
		}
		return
	}
	b := w.backups.all[o.ref]
	switch {
	case b.over:
	case b.life != b.h.life:
		w.marks.hit(MarkBackupCrash)
		b.end()
	case w.now < b.h.pausedUntil:
		o.at = b.h.pausedUntil
		w.queue.push(*o)
	case b.view == nil:
		w.beginBackup(b)
		w.goOn(o)
	default:
		w.takeBlock(b)
		w.goOn(o)
	}
}

// goOn lets the client come back for the next block.
func (w *fullWorld) goOn(o *occurrence) {
	if !w.backups.all[o.ref].over {
		o.at = w.now.Add(w.backups.rng.between(time.Microsecond, w.timeouts(w.full.backups.blockPercent)/100))
		w.queue.push(*o)
	}
}

// askBackup asks a host for a backup. It begins with what is committed, if the host
// can find that out.
func (w *fullWorld) askBackup() {
	s := &w.backups.rng
	h, group := w.hosts[s.n(len(w.hosts))], s.n(len(w.groups))
	if h.rt == nil || w.now < h.pausedUntil {
		return
	}
	st := h.at[group]
	b := &backup{h: h, st: st, life: h.life, floor: st.group.floor}
	o := occurrence{what: whatBackup, ref: int32(len(w.backups.all))}
	w.backups.all = append(w.backups.all, b)
	begin := func(_ smr.Result, err error) {
		if err != nil {
			b.floor = 0
		}
		o.at = w.now.Add(w.backups.rng.between(0, w.features.turnDelayMax))
		w.queue.push(o)
	}
	if err := st.handle.SubmitBarrier(h.local().Add(w.timeouts(4)), begin); err != nil {
		begin(smr.Result{}, err)
	}
}

// beginBackup takes the view.
func (w *fullWorld) beginBackup(b *backup) {
	m, st := b.st.machine.(smr.Snapshotter), b.st.handle.Status()
	view, err := m.View()
	if err != nil {
		w.fail(Contract, ids(b.h.id), "gives no backup: %v", err)
		return
	}
	if w.backups.torn {
		view = &tornView{View: view, m: m}
	}
	b.view, b.index, b.restores = view, view.Applied(), b.st.restores
	if b.stream, err = snapshot.NewBackup(b.st.group.id, view, w.full.backups.blockBytes); err != nil {
		w.marks.hit(MarkBackupRefused)
		b.end()
	}
	if b.index < b.floor {
		w.fail(Linearizability, ids(b.h.id), "gives a backup of index %d; when it was asked for a client knew of %d", b.index, b.floor)
	}
	if b.over {
		return
	}
	if st.Role != raft.Leader {
		w.marks.hit(MarkBackupFollower)
	}
	w.trace(Event{Kind: EventBackup, Replica: b.h.id, Index: b.index, Text: "begins"})
}

// takeBlock takes the next bytes of a backup, which may be the last ones.
func (w *fullWorld) takeBlock(b *backup) {
	block, err := b.stream.Next()
	switch {
	case err != nil && b.st.restores != b.restores:
		w.marks.hit(MarkBackupOvertaken)
		b.end() // its state is gone
	case err != nil:
		w.fail(Contract, ids(b.h.id), "gives a backup of index %d that ends with %v", b.index, err)
	case w.backups.rng.permille(w.full.backups.cutPermille):
		w.marks.hit(MarkBackupCut)
		b.end()
	default:
		b.came = append(b.came, block...)
		if b.stream.Ended() {
			w.backupDone(b)
			b.end()
		}
	}
}

// end closes the view.
func (b *backup) end() {
	b.over, b.came = true, nil
	if b.view != nil {
		_ = b.view.Close()
	}
}

// backupDone notes a backup that is whole, and what has happened meanwhile.
func (w *fullWorld) backupDone(b *backup) {
	w.marks.hit(MarkBackup)
	applied, _ := b.st.machine.position()
	if applied > b.index {
		w.marks.hit(MarkBackupBesideApply)
	}
	if b.st.restores != b.restores {
		w.marks.hit(MarkBackupOvertaken)
	}
	if b.st.handle.Status().First > b.index+1 {
		w.marks.hit(MarkBackupCompacted)
	}
	w.note(0xe2, uint64(b.h.id), b.index, uint64(len(b.came)))
	w.trace(Event{Kind: EventBackup, Replica: b.h.id, Index: b.index, Text: "is whole"})
	if err := w.checkBackup(b); err != nil {
		b.st.group.fail(StateMachineSafety, ids(b.h.id), "gives a backup of index %d: %v", b.index, err)
	}
}

// checkBackup verifies a backup as who receives it does, and then against the
// ledger: it is the state that replay has at its index, by its digest, and in every
// register.
func (w *fullWorld) checkBackup(b *backup) error {
	state, read := w.backupReader(b)
	v := snapshot.Verifier{State: state}
	if _, err := v.Write(b.came); err != nil {
		return err
	}
	if err := v.Finish(); err != nil {
		return err
	}
	head, g := v.Head(), b.st.group
	index, digest, regs, err := read()
	switch {
	case err != nil:
		return err
	case head.Index != b.index || index != b.index || head.Group != g.id:
		return fmt.Errorf("it says that it is of group %d at index %d, and holds the state at %d", head.Group, head.Index, index)
	case digest != head.Digest:
		return fmt.Errorf("it holds a state of digest %x, and says %x", digest, head.Digest)
	}
	g.held("gives a backup", b.h.id, index, b.st.machine.summary(digest))
	for key := range w.features.keys {
		if want := w.local.newest(g, byte(key), index); regs[key] != want {
			return fmt.Errorf("register %d holds command %d, the newest there is %d", key, regs[key], want)
		}
	}
	return nil
}

// contents are what a state holds, once it has been read to its end.
type contents func() (index uint64, digest [16]byte, regs [keysMax]uint64, err error)

// backupReader reads the state in a backup.
func (w *fullWorld) backupReader(b *backup) (io.Writer, contents) {
	if !w.full.pebble {
		r := &machineRestoration{r: &registers{padding: w.full.snapshots.padding}}
		return r, func() (uint64, [16]byte, [keysMax]uint64, error) {
			err := r.Finish()
			return r.next.applied, (&machineView{m: r.next}).Digest(), r.next.regs, err
		}
	}
	in := kv.NewInspector()
	var regs [keysMax]uint64
	in.Live = func(key, value []byte) {
		if len(key) == 2 && key[0] == 'r' && len(value) == 8 {
			regs[key[1]-'0'] = binary.LittleEndian.Uint64(value)
		}
	}
	return in, func() (uint64, [16]byte, [keysMax]uint64, error) {
		sum, err := in.Finish()
		return sum.Applied, sum.Digest, regs, err
	}
}

// tornView is the view of a machine that has none: it shows the state as it is when
// it is read, as a copy does that is made while the state changes. For a test.
type tornView struct {
	smr.View
	m     smr.Snapshotter
	block int
}

// Read implements io.Reader.
func (v *tornView) Read(p []byte) (int, error) {
	now, err := v.m.View()
	if err != nil {
		return 0, err
	}
	defer now.Close()
	if _, err := io.CopyN(io.Discard, now, int64(v.block)); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	n, err := now.Read(p)
	v.block += n
	return n, err
}
