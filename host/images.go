package host

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/snapshot"
	"github.com/quorate/quorate/wire"
)

// images is what a group knows of its snapshots. It belongs to the shard, as the
// group does; what takes time is done by the shard's Job, which answers through
// the inbox.
//
// Invariants:
//
//  1. whole is ascending by index; each is whole on disk and is not removed
//     before it is taken out here.
//  2. The log is compacted only up to what an image in whole contains, or the
//     state machine has durable.
//  3. in and restoring are of one image at a time: first it comes in, then it is
//     brought into the state machine beside its state (in.whole), then the core
//     accepts it (restoring), then the log's marker is on disk, then the worker
//     exchanges the states.
type images struct {
	machine smr.Snapshotter // nil: the state cannot be moved, the log stays whole
	durable smr.Durable     // nil: the state is in memory
	dir     *snapshot.Dir   // the job's, once the group runs

	whole []image
	// taking: the machine was asked for a view, or an image of one is being
	// written. flushing: the machine is asked how far it is durable.
	taking, flushing bool
	// grown and seen are the bytes and the index since the size of the log was
	// looked at.
	grown int
	seen  uint64

	sends []sending
	in    *incoming
	// left is an image that an earlier life has received, whole or in part, and
	// nobody knows from whom; zero: none.
	left      snapshot.File
	restoring *restoring
	// at is when tick is wanted.
	at smr.Instant
}

// image is a whole image on disk.
type image struct {
	snapshot.File
	bytes int64
	// used is when it was fetched from last.
	used smr.Instant
}

// sending is a follower that needs an image, while this replica leads.
type sending struct {
	to smr.ReplicaID
	// file is what it was offered; zero: nothing yet.
	file snapshot.File
	// receiving is the index of the image that it says it receives, which may be
	// another host's; zero: not known.
	receiving uint64
	// offered and heard are when it was offered last, and when it answered or
	// fetched last.
	offered, heard smr.Instant
}

// incoming is an image that this replica receives.
type incoming struct {
	file snapshot.File
	// source is who has it. Zero: not known, all members are asked, and those in
	// gone have it not.
	source smr.ReplicaID
	gone   []smr.ReplicaID
	// have are written, asked are asked for; scanned says that have is known.
	have, asked uint64
	scanned     bool
	whole       bool
	// moved is when have grown last or a block came in, begun when it began.
	moved smr.Instant
}

// restoring is an image that the core has accepted.
type restoring struct {
	file        snapshot.File
	restoration smr.Restoration
	head        *snapshot.Head
	// seq is the write after which the log begins at the image; zero: the core
	// has not handed it out yet.
	seq    uint64
	pushed bool
}

// patience is how many election timeouts a receiver waits for the host that has
// the image that it is receiving, before it takes another.
const patience = 10

// open finds out what the machine can do, and what images there are.
func (im *images) open(s *Shard, cfg *GroupConfig) error {
	im.at = smr.Never
	machine, ok := cfg.Machine.(smr.Snapshotter)
	if !ok {
		return nil
	}
	im.machine = machine
	im.durable, _ = cfg.Machine.(smr.Durable)
	fs := s.cfg.FS
	dir, err := snapshot.OpenDir(fs, fs.PathJoin(s.cfg.Dir, "snapshots", fmt.Sprintf("group-%016x", uint64(cfg.ID))))
	if err != nil {
		return err
	}
	dir.BlockBytes = s.cfg.Snapshots.BlockBytes
	dir.NoSync = s.without.ImageSync
	im.dir = dir
	return nil
}

// atStart makes the machine's state one that the log follows, and returns its
// index: that of applied if it does already, that of an image if not.
func (im *images) atStart(s *Shard, g smr.GroupID, state *smr.LogState, applied uint64, stop <-chan struct{}) (uint64, error) {
	if im.machine != nil {
		for _, f := range slices.Backward(im.dir.Whole()) {
			if f.Index <= applied || f.Index < state.Snapshot.Index || f.Index > state.Last || im.durable != nil && applied >= state.Snapshot.Index {
				continue
			}
			head, err := im.dir.ReadHead(f)
			if err == nil && head.Group != g {
				err = fmt.Errorf("it is of group %d", head.Group)
			}
			if err == nil && head.Term != termAt(state, f.Index) {
				continue // received, and never accepted
			}
			if err == nil {
				err = im.restoreNow(f, stop)
			}
			if err == nil {
				applied = f.Index
				break
			}
			if errors.Is(err, ErrStopped) {
				return 0, err
			}
			s.cfg.Logger.Error("a snapshot cannot be used; an older one may do", "group", g, "snapshot", f, "err", err)
		}
	}
	if applied < state.Snapshot.Index {
		return 0, fmt.Errorf("%w: the log of group %d begins after entry %d, the state machine has %d, and no snapshot fills the gap: restore the data directory, or replace this replica", ErrConfig, g, state.Snapshot.Index, applied)
	}
	return applied, nil
}

// termAt is the term of the entry at index, in [Snapshot.Index, Last].
func termAt(state *smr.LogState, index uint64) (term uint64) {
	term = state.Snapshot.Term
	for _, r := range state.Terms {
		if index > state.Snapshot.Index && r.First <= index {
			term = r.Term
		}
	}
	return term
}

// restoreNow brings an image into the machine, to its end, or ends with ErrStopped
// after the block at which stop was closed.
func (im *images) restoreNow(f snapshot.File, stop <-chan struct{}) error {
	blocks, err := im.dir.Open(f)
	if err != nil {
		return err
	}
	restoration, err := im.machine.BeginRestore()
	if err != nil {
		return errors.Join(err, blocks.Close())
	}
	r := &restoreImage{file: f, blocks: blocks, dec: snapshot.Decoder{ID: f.ID}, restoration: restoration}
	defer r.close()
	for !r.dec.Done() {
		select {
		case <-stop:
			return ErrStopped
		default:
		}
		if err := r.feed(); err != nil {
			return err
		}
	}
	if err := restoration.Finish(); err != nil {
		return err
	}
	return commitRestoration(restoration, im.machine, r.dec.Head())
}

// commitRestoration exchanges the states and checks what came of it.
func commitRestoration(r smr.Restoration, m smr.StateMachine, head *snapshot.Head) error {
	if err := r.Commit(); err != nil {
		return fmt.Errorf("restoring the state at %d: %w", head.Index, err)
	}
	if applied, digest := m.Digest(); applied != head.Index || digest != head.Digest {
		return fmt.Errorf("restored the state at %d with digest %x, the snapshot is of %d with %x: %w", applied, digest, head.Index, head.Digest, smr.ErrCorrupt)
	}
	return nil
}

// started notes the images that there are, once the group runs.
func (g *group) imagesStarted(now smr.Instant) {
	im := &g.images
	im.seen = g.applied
	if im.machine == nil {
		return
	}
	for _, f := range im.dir.Whole() {
		im.whole = append(im.whole, image{File: f, used: now})
		im.left = f
	}
	for _, f := range im.dir.Parts() {
		if f.Index > im.left.Index {
			im.left = f
		}
	}
	im.at = now.Add(g.shard.cfg.Snapshots.KeepFor)
}

// keep is how many of the newest images are kept in any case.
func (im *images) keep() int {
	if im.durable != nil {
		return 0
	}
	return 2
}

// find returns an image that is there, or nil.
func (im *images) find(f snapshot.File) *image {
	for i := range im.whole {
		if im.whole[i].File == f {
			return &im.whole[i]
		}
	}
	return nil
}

// add notes a whole image.
func (im *images) add(i image) {
	if im.find(i.File) != nil {
		return
	}
	im.whole = append(im.whole, i)
	slices.SortFunc(im.whole, func(a, b image) int {
		if a.Index != b.Index {
			return int(int64(a.Index) - int64(b.Index))
		}
		return int(int64(a.ID>>1) - int64(b.ID>>1))
	})
}

// tidy has the images removed that nobody needs any more.
func (g *group) tidyImages(now smr.Instant) {
	im := &g.images
	keepFor := g.shard.cfg.Snapshots.KeepFor
	for i := 0; i < len(im.whole)-im.keep(); {
		f := im.whole[i].File
		wanted := im.whole[i].used.Add(keepFor) > now && im.whole[i].used != 0 || im.in != nil && im.in.file == f ||
			im.restoring != nil && im.restoring.file == f // the log begins there, and the state is not there yet
		for _, s := range im.sends {
			wanted = wanted || s.file == f && g.core.Heard(now, s.to)
		}
		if wanted {
			i++
			continue
		}
		im.whole = slices.Delete(im.whole, i, i+1)
		g.shard.job.order(func() { _ = im.dir.Remove(f) })
	}
}

// imageBad takes an image out that cannot be read.
func (g *group) imageBad(f snapshot.File) {
	im := &g.images
	im.whole = slices.DeleteFunc(im.whole, func(i image) bool { return i.File == f })
	for i := range im.sends {
		if im.sends[i].file == f {
			im.sends[i].file, im.sends[i].offered = snapshot.File{}, 0
		}
	}
	im.at = 0
}

// tickImages does what is due: offers and questions that were lost, images that
// are no longer needed.
func (g *group) tickImages(now smr.Instant) {
	im := &g.images
	if now < im.at {
		return
	}
	im.at = smr.Never
	if im.machine == nil {
		return
	}
	retry := g.shard.cfg.ElectionTimeout
	if len(im.sends) > 0 {
		g.offerImages(now)
		im.at = min(im.at, now.Add(retry))
	}
	if im.in != nil {
		g.reaskBlocks(now)
		im.at = min(im.at, now.Add(retry))
	}
	g.tidyImages(now)
	if len(im.whole) > im.keep() {
		im.at = min(im.at, now.Add(max(g.shard.cfg.Snapshots.KeepFor/4, retry)))
	}
}

// wakeImages wants a tick at that time at the latest.
func (g *group) wakeImages(at smr.Instant) {
	g.images.at = min(g.images.at, at)
}

// status tells the leader, if one is known.
func (g *group) tellLeader(state wire.SnapshotState, index, have uint64) {
	v := g.core.State()
	if v.Leader == 0 || v.Leader == g.shard.id {
		return
	}
	f := g.shard.out.frame(v.Leader)
	f.B = wire.AppendSnapshotStatus(f.B, &wire.SnapshotStatus{Group: g.id, Term: v.Term, State: state, Index: index, Have: have})
}

// newImageID draws the id of an image.
func (s *Shard) newImageID() uint64 {
	s.imageIDs++
	return mix(s.origin, 1<<62+s.imageIDs) | 1
}

const compactionChecks = 16 // per EveryBytes or EveryEntries

// considerCompaction looks, now and then, whether the log has grown too large.
func (g *group) considerCompaction() {
	im, c := &g.images, &g.shard.cfg.Snapshots
	if im.machine == nil || im.flushing || im.taking || im.restoring != nil {
		return
	}
	if int64(im.grown) < c.EveryBytes/compactionChecks && g.applied < im.seen+max(1, c.EveryEntries/compactionChecks) {
		return
	}
	im.grown, im.seen = 0, g.applied
	v := g.core.State()
	size, _ := g.shard.log.Size(g.id, 0)
	if size < g.every() && v.Last-(v.First-1) < c.EveryEntries {
		return
	}
	g.startCompaction()
}

// startCompaction has the state made durable; the log is compacted when it is.
func (g *group) startCompaction() {
	im, c := &g.images, &g.shard.cfg.Snapshots
	v := g.core.State()
	if im.durable == nil {
		g.takeImage()
		return
	}
	im.flushing = true
	_, cut := g.shard.log.Size(g.id, c.TailBytes)
	g.shard.job.aside(&flushMachine{g: g, wanted: min(g.applied, max(cut, v.Last-min(v.Last, c.TailEntries)))})
}

// every is how large the log may grow before it is compacted.
func (g *group) every() int64 {
	im := &g.images
	every := g.shard.cfg.Snapshots.EveryBytes
	if n := len(im.whole); n > 0 && im.durable == nil {
		every = max(every, im.whole[n-1].bytes)
	}
	return every
}

// flushed is the word of how far the machine is durable.
func (g *group) flushed(now smr.Instant, durable uint64, err error) {
	g.images.flushing = false
	if errors.Is(err, smr.ErrNoSpace) {
		return // Apply finds out too
	}
	if err != nil {
		g.shard.cfg.Logger.Error("the state machine cannot be made durable; its log is kept", "group", g.id, "err", err)
		return
	}
	g.compact(now, durable)
}

// compact drops the log up to what is covered by a durable state, but for what
// followers may need.
func (g *group) compact(now smr.Instant, covered uint64) {
	im, c := &g.images, &g.shard.cfg.Snapshots
	v := g.core.State()
	size, cut := g.shard.log.Size(g.id, c.TailBytes)
	cut = max(cut, v.Last-min(v.Last, c.TailEntries))
	to := min(covered, cut, g.applied, v.Applied, v.Persisted)
	if hard := max(c.HardBytes, 4*g.every()); size <= hard {
		to = min(to, g.core.LeastMatch(now))
		for _, s := range im.sends {
			if s.file.Index != 0 && now.Sub(s.heard) < patience*g.shard.cfg.ElectionTimeout && s.heard != 0 {
				to = min(to, s.file.Index)
				if s.receiving != 0 {
					to = min(to, s.receiving)
				}
			}
		}
	}
	if to < v.First || im.restoring != nil {
		return
	}
	meta, err := g.core.SnapshotMeta(to)
	if err == nil {
		err = g.core.Compact(to)
	}
	if err != nil {
		g.shard.cfg.Logger.Error("the log cannot be compacted", "group", g.id, "index", to, "err", err)
		return
	}
	g.shard.log.SetSnapshot(g.id, meta)
	g.shard.metrics.compactions.Add(1)
}

// takeImage asks the machine for a view, between two of its applies.
func (g *group) takeImage() {
	if g.images.taking || g.images.restoring != nil {
		return
	}
	g.images.taking = true
	g.worker.push(&applyJob{group: g, act: func() error {
		view, err := g.images.machine.View()
		g.shard.inbox.put(func(l *letters) {
			l.control = append(l.control, func(now smr.Instant) { g.viewTaken(now, view, err) })
		})
		return nil
	}})
}

// viewTaken labels the view and has it written.
func (g *group) viewTaken(now smr.Instant, view smr.View, err error) {
	j := g.shard.job
	var meta smr.SnapshotMeta
	if err == nil && g.failed != nil {
		err = g.failed
	}
	if err == nil {
		meta, err = g.core.SnapshotMeta(view.Applied())
	}
	if err != nil {
		g.images.taking = false
		if view != nil {
			j.order(func() { _ = view.Close() })
		}
		if g.failed == nil {
			// A snapshot from the leader has overtaken it, or the machine is
			// broken, which Apply will say.
			g.shard.cfg.Logger.Warn("no snapshot was taken", "group", g.id, "err", err)
		}
		return
	}
	head := &snapshot.Head{Group: g.id, SnapshotMeta: meta, Digest: view.Digest()}
	id := g.shard.newImageID()
	j.order(func() { j.takeImage(g, head, id, view) })
	if g.shard.without.DurableImage {
		g.compact(now, meta.Index)
	}
}

// imageTaken is the word that an image is whole, or why it is not.
func (g *group) imageTaken(now smr.Instant, f snapshot.File, bytes int64, err error) {
	im := &g.images
	im.taking = false
	if err != nil {
		g.shard.cfg.Logger.Error("a snapshot could not be written; the log is kept", "group", g.id, "err", err)
		g.wakeImages(now.Add(g.shard.cfg.ElectionTimeout))
		return
	}
	g.shard.metrics.snapshotsTaken.Add(1)
	g.shard.cfg.Logger.Debug("snapshot taken", "group", g.id, "index", f.Index, "bytes", bytes)
	i := image{File: f, bytes: bytes}
	if len(im.sends) > 0 {
		i.used = now
	}
	im.add(i)
	if im.durable == nil {
		g.compact(now, f.Index)
	}
	g.offerImages(now)
	g.wakeImages(now)
}
