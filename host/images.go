package host

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

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
	left snapshot.File
	// parts are on disk, perhaps, and not whole; those that the log has overtaken
	// are removed.
	parts []snapshot.File
	// refusals are the images that could not be installed, one after another. Until
	// refusesUntil none is taken.
	refusals     int
	refusesUntil smr.Instant
	// pace is how long a block takes to come, smoothed; zero: not known.
	pace      time.Duration
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
	// bad: a block of it cannot be read. It is sent no more, and removed when there
	// is another one.
	bad bool
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

// incoming is an image that this replica receives. Its blocks come in their order,
// over one connection, so what is missing when something comes later was lost.
//
// Invariant: have <= came <= asked.
type incoming struct {
	file snapshot.File
	// source is who has it. Zero: not known, all members are asked, and those in
	// gone have it not.
	source smr.ReplicaID
	gone   []smr.ReplicaID
	// Blocks [0, have) are written, up to came they wait to be, up to asked they
	// are asked for. scanned says that have is known.
	have, came, asked uint64
	scanned           bool
	whole             bool
	// bad is how many copies of block have came in damaged, one after another.
	bad int
	// moved is when the block before came came in, or it was asked for if nothing
	// else was under way; heard when any block of the image came in.
	moved, heard smr.Instant
	// again is what is known of blocks that seem to be lost.
	again again
}

// again is how a receiver asks for what does not come. A link may be slow rather
// than lossy: then each question costs the block once more, and makes it slower.
// So it asks for one block, after a time that the link's pace and the number of
// questions in vain determine, and for twice as many each time that it needed to be
// asked and helped.
type again struct {
	asked smr.Instant // when it asked last
	tries int         // since a block came
	// back is how often the time has doubled. As in Karn's algorithm a block that
	// was asked for again says nothing about the pace, and back stays until one
	// comes that was not.
	back  int
	count uint64 // how many blocks it asks for; zero: nothing seems to be lost
	until uint64 // what was asked for when it began: with that it is over
	// gap is what was asked for when a block came before its turn. Those up to
	// there that come before theirs as well say nothing new.
	gap uint64
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

// patience is how many election timeouts, or times that a block takes, a receiver
// waits for the host that has the image that it is receiving, before it takes
// another; patienceAlive if other things come from that host: it may be the link.
const (
	patience      = 10
	patienceAlive = 10 * patience
)

// Of asking again: after paceFactor times the time that a block takes, which
// doubles with each time in vain, up to backMax times.
const (
	paceFactor = 4
	backMax    = 6
)

// refusesMax is how often the time doubles for which a replica that cannot install
// images takes none, from an election timeout on.
const refusesMax = 8

// badCopiesMax is how many damaged copies of a block a receiver takes before it
// gives the image up.
const badCopiesMax = 3

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
			s.cfg.Logger.Error("a snapshot cannot be used", "group", g, "snapshot", f, "err", err)
		}
	}
	if applied < state.Snapshot.Index {
		return 0, fmt.Errorf("%w: the log of group %d begins after entry %d, the state machine has %d, and no snapshot fills the gap", ErrDamaged, g, state.Snapshot.Index, applied)
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
		bytes, err := im.dir.Bytes(f)
		if err != nil {
			g.shard.cfg.Logger.Error("a snapshot cannot be read", "group", g.id, "snapshot", f, "err", err)
		}
		im.whole = append(im.whole, image{File: f, bytes: bytes, used: now})
		im.left = f
	}
	im.parts = im.dir.Parts()
	for _, f := range im.parts {
		if f.Index > im.left.Index {
			im.left = f
		}
	}
	im.at = now.Add(g.shard.cfg.Snapshots.KeepFor)
}

// own is the image that the next start of a state in memory would restore, nil if
// there is none, or the state is on disk. It is the newest of those that the state
// has come to and that the log follows; the older ones are of no use to a start,
// since the log is compacted up to the newest.
func (g *group) own() *image {
	im := &g.images
	if im.durable != nil {
		return nil
	}
	start := g.core.State().First - 1
	for i := len(im.whole) - 1; i >= 0; i-- {
		if f := im.whole[i].Index; !im.whole[i].bad && f >= start && f <= g.applied {
			return &im.whole[i]
		}
	}
	return nil
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
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.ID, b.ID))
	})
}

// tidyImages has the images removed that nobody needs any more.
func (g *group) tidyImages(now smr.Instant) {
	im := &g.images
	g.tidyParts()
	own := g.own()
	if own == nil && im.durable == nil && (g.core.State().First > 1 || im.restoring != nil) {
		return // one is on its way, and nobody knows what a crash before that needs
	}
	kept := im.whole[:0]
	for i := range im.whole {
		if f := im.whole[i]; own == nil || f.File != own.File {
			if !g.wanted(now, &f) {
				g.order(func(*Job) { _ = im.dir.Remove(f.File) })
				continue
			}
		}
		kept = append(kept, im.whole[i])
	}
	im.whole = kept
}

// tidyParts has what was received of images removed that the log has overtaken.
func (g *group) tidyParts() {
	im := &g.images
	commit := g.core.State().Commit
	im.parts = slices.DeleteFunc(im.parts, func(f snapshot.File) bool {
		if f.Index > commit || im.in != nil && im.in.file == f {
			return false
		}
		g.order(func(*Job) { _ = im.dir.RemovePart(f) })
		return true
	})
}

// wanted reports whether anybody else may still need an image: a follower, or the
// restoration that is under way.
func (g *group) wanted(now smr.Instant, i *image) bool {
	im := &g.images
	if i.used != 0 && i.used.Add(g.shard.cfg.Snapshots.KeepFor) > now || im.in != nil && im.in.file == i.File ||
		im.restoring != nil && im.restoring.file == i.File { // the log begins there, and the state is not there yet
		return true
	}
	return slices.ContainsFunc(im.sends, func(s sending) bool { return s.file == i.File && g.core.Heard(now, s.to) })
}

// imageBad notes that an image of this host cannot be read. A state in memory has
// nothing else to start from, so it is written anew at once.
func (g *group) imageBad(f snapshot.File) {
	im := &g.images
	i := im.find(f)
	if i == nil || i.bad {
		return
	}
	i.bad, i.used = true, 0
	for i := range im.sends {
		if im.sends[i].file == f {
			im.sends[i].file, im.sends[i].offered = snapshot.File{}, 0
		}
	}
	if im.durable == nil {
		g.takeImage()
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
		g.overtaken()
		g.reaskBlocks(now)
		im.at = min(im.at, now.Add(retry))
	}
	g.tidyImages(now)
	if len(im.parts) > 0 || len(im.whole) > 1 || len(im.whole) == 1 && im.durable != nil {
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

const compactionChecks = 16 // per size at which a log is compacted, or EveryEntries

// considerCompaction looks, now and then, whether the log has grown too large.
func (g *group) considerCompaction(now smr.Instant) {
	im, c := &g.images, &g.shard.cfg.Snapshots
	if im.machine == nil || im.flushing || im.taking || im.restoring != nil {
		return
	}
	if int64(im.grown) < g.every()/compactionChecks && g.applied < im.seen+max(1, c.EveryEntries/compactionChecks) {
		return
	}
	im.grown, im.seen = 0, g.applied
	if !g.logTooLarge() {
		return
	}
	if own := g.own(); own != nil && own.Index >= g.core.State().First {
		// The log could be compacted further with the image that there is, but for
		// followers. Another image would change nothing.
		index := own.Index
		g.compact(now, index)
		if g.core.State().First <= index || !g.logTooLarge() {
			return
		}
	}
	g.startCompaction()
}

func (g *group) logTooLarge() bool {
	v := g.core.State()
	size, _ := g.shard.log.Size(g.id, 0)
	return size >= g.every() || v.Last-(v.First-1) >= g.shard.cfg.Snapshots.EveryEntries
}

// startCompaction has the state made durable; the log is compacted when it is.
func (g *group) startCompaction() {
	im := &g.images
	if im.durable == nil {
		g.takeImage()
		return
	}
	im.flushing = true
	_, cut := g.cut()
	g.shard.job.aside(&flushMachine{g: g, wanted: min(g.applied, cut)})
}

// cut is the size of the log, and up to where it is dropped at most: the rest is the
// tail. There is none while the shard's log is too large.
func (g *group) cut() (size int64, index uint64) {
	c, last := &g.shard.cfg.Snapshots, g.core.State().Last
	size, index = g.shard.log.Size(g.id, c.TailBytes)
	if g.shard.relief.pressed() {
		return size, last
	}
	return size, max(index, last-min(last, c.TailEntries))
}

// every is how large the log may grow before it is compacted.
func (g *group) every() int64 {
	every := g.shard.cfg.Snapshots.EveryBytes
	if own := g.own(); own != nil {
		every = max(every, own.bytes)
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
	size, cut := g.cut()
	to := min(covered, cut, g.applied, v.Applied, v.Persisted)
	if hard := max(c.HardBytes, 2*g.every()); size <= hard && !g.shard.overdue() {
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
	if g.shard.relief.pressed() {
		g.shard.metrics.compactionsForShard.Add(1)
	}
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
			g.shard.job.close(view)
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
	g.order(func(j *Job) { j.run(&takeImage{g: g, head: head, id: id, view: view}) })
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
