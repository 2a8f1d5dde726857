package host

import (
	"errors"
	"fmt"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/snapshot"
	"github.com/quorate/quorate/wire"
)

// takeImage writes an image of a view.
type takeImage struct {
	g      *group
	head   *snapshot.Head
	id     uint64
	view   smr.View
	taking *snapshot.Taking // once begun
}

func (t *takeImage) begin() (err error) {
	t.taking, err = t.g.images.dir.Take(t.head, t.id, t.view)
	return err
}

func (t *takeImage) step(now smr.Instant) (smr.Instant, bool) {
	done, err := t.taking.Step()
	if err == nil && !done {
		return now, false
	}
	file, bytes := t.taking.File(), t.taking.Bytes()
	t.g.tell(func(now smr.Instant) { t.g.imageTaken(now, file, bytes, err) })
	return 0, true
}

func (t *takeImage) failed(err error) {
	t.g.tell(func(now smr.Instant) { t.g.imageTaken(now, snapshot.File{}, 0, err) })
}

func (t *takeImage) close() {
	if t.taking != nil {
		_ = t.taking.Close()
	}
	_ = t.view.Close()
}

// flushMachine finds out how far a state machine on disk is durable, and makes
// it so if that is not far enough.
type flushMachine struct {
	g      *group
	wanted uint64
}

func (f *flushMachine) step(smr.Instant) (smr.Instant, bool) {
	m := f.g.images.durable
	at, err := m.Durable()
	if f.g.shard.without.DurableImage {
		at = f.wanted
	}
	if err == nil && at < f.wanted {
		if err = m.Flush(); err == nil {
			at, err = m.Durable()
		}
	}
	f.g.tell(func(now smr.Instant) { f.g.flushed(now, at, err) })
	return 0, true
}

func (f *flushMachine) failed(err error) {
	f.g.tell(func(now smr.Instant) { f.g.flushed(now, 0, err) })
}

func (f *flushMachine) close() {}

// receiveImage writes what comes in of an image.
type receiveImage struct {
	g      *group
	r      *snapshot.Receiving
	blocks []wire.SnapshotBlock // that wait to be written
	begun  bool                 // the group was told what there was
}

// receiveImage begins to receive, after giving up everything else that was
// being received.
func (j *Job) receiveImage(g *group, file snapshot.File) {
	j.stopReceiving(g)
	dir := g.images.dir
	for _, f := range append(dir.Parts()[:0:0], dir.Parts()...) {
		if f != file {
			_ = dir.Remove(f)
		}
	}
	for _, f := range dir.Whole() {
		if f == file { // received by an earlier life, and not restored
			bytes, err := dir.Bytes(file)
			g.tell(func(now smr.Instant) { g.imageHas(now, file, 0, bytes, err) })
			return
		}
	}
	r, err := dir.Receive(file)
	if err != nil {
		g.tell(func(now smr.Instant) { g.imageHas(now, file, 0, 0, err) })
		return
	}
	j.add(&receiveImage{g: g, r: r})
}

func (j *Job) stopReceiving(g *group) {
	for i, t := range j.tasks {
		if r, ok := t.work.(*receiveImage); ok && r.g == g {
			j.end(r)
			j.tasks = append(j.tasks[:i], j.tasks[i+1:]...)
			return
		}
	}
}

// blockCame hands a block to whoever receives it.
func (j *Job) blockCame(g *group, b wire.SnapshotBlock) {
	for _, t := range j.tasks {
		if r, ok := t.work.(*receiveImage); ok && r.g == g && r.r.File() == (snapshot.File{Index: b.Index, ID: b.ID}) {
			r.blocks = append(r.blocks, b)
			t.at = 0
			return
		}
	}
}

func (r *receiveImage) step(now smr.Instant) (smr.Instant, bool) {
	g, file := r.g, r.r.File()
	if !r.begun {
		if !r.r.Scan() {
			return now, false
		}
		r.begun = true
		have := r.r.Have()
		g.shard.metrics.snapshotBlocksResumed.Add(uint64(have))
		g.tell(func(now smr.Instant) { g.imageHas(now, file, have, 0, nil) })
	}
	if len(r.blocks) == 0 {
		return smr.Never, false
	}
	b := r.blocks[0]
	r.blocks[0] = wire.SnapshotBlock{}
	r.blocks = r.blocks[1:]
	if len(r.blocks) == 0 {
		r.blocks = nil
	}
	whole, err := r.r.Take(uint32(b.Number), b.Data)
	have := r.r.Have()
	g.shard.metrics.snapshotBytesReceived.Add(uint64(len(b.Data)))
	var bytes int64
	if whole {
		bytes = r.r.Bytes()
	}
	g.tell(func(now smr.Instant) { g.imageHas(now, file, have, bytes, err) })
	return now, whole || err != nil && !errors.Is(err, snapshot.ErrBlock)
}

func (r *receiveImage) failed(err error) {
	file := r.r.File()
	r.g.tell(func(now smr.Instant) { r.g.imageHas(now, file, 0, 0, err) })
}

func (r *receiveImage) close() { _ = r.r.Close() }

// restoreImage brings an image into the state machine, beside its state.
type restoreImage struct {
	g           *group
	file        snapshot.File
	blocks      *snapshot.Blocks
	dec         snapshot.Decoder
	restoration smr.Restoration
	next        uint32
}

func (r *restoreImage) begin() (err error) {
	r.dec.ID = r.file.ID
	if r.blocks, err = r.g.images.dir.Open(r.file); err != nil {
		return err
	}
	r.restoration, err = r.g.images.machine.BeginRestore()
	return err
}

func (r *restoreImage) step(now smr.Instant) (smr.Instant, bool) {
	err := r.feed()
	if err == nil && !r.dec.Done() {
		return now, false
	}
	if err == nil {
		err = r.restoration.Finish()
	}
	if err != nil {
		r.failed(err)
		return 0, true
	}
	g, file, head, restoration := r.g, r.file, r.dec.Head(), r.restoration
	r.restoration = nil // it is the group's
	g.tell(func(now smr.Instant) { g.imageReady(now, file, head, restoration, nil) })
	return 0, true
}

// failed closes the restoration before the group hears of it, which may begin
// another one then.
func (r *restoreImage) failed(err error) {
	g, file, restoration := r.g, r.file, r.restoration
	r.restoration = nil
	if restoration != nil {
		if e := guarded(restoration.Close); e != nil {
			err = errors.Join(err, e)
		}
	}
	g.tell(func(now smr.Instant) { g.imageReady(now, file, nil, nil, err) })
}

// feed reads one block and writes what is in it.
func (r *restoreImage) feed() error {
	if r.next >= r.blocks.Count() {
		return fmt.Errorf("snapshot %v ends early: %w", r.file, smr.ErrCorrupt)
	}
	b, err := r.blocks.Block(r.next)
	if err != nil {
		return err
	}
	r.next++
	state, err := r.dec.Next(b)
	if err != nil {
		return fmt.Errorf("snapshot %v: %w", r.file, err)
	}
	for _, s := range state {
		if len(s) == 0 {
			continue
		}
		if _, err := r.restoration.Write(s); err != nil {
			return fmt.Errorf("restoring snapshot %v: %w", r.file, err)
		}
	}
	return nil
}

func (r *restoreImage) close() {
	if r.blocks != nil {
		_ = r.blocks.Close()
	}
	if r.restoration != nil {
		_ = r.restoration.Close()
	}
}
