package host

import (
	"errors"
	"slices"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/snapshot"
	"github.com/quorate/quorate/wire"
)

// imageOffered is the leader's offer of an image.
func (g *group) imageOffered(now smr.Instant, from smr.ReplicaID, o *wire.SnapshotOffer) {
	im := &g.images
	v := g.core.State()
	if v.Role == raft.Leader || v.Term != o.Term || v.Leader != from {
		return // not of the leader, or this replica has yet to hear of it
	}
	if im.machine == nil {
		g.tellLeader(wire.SnapshotFailed, o.Index, 0)
		return
	}
	if im.restoring != nil {
		g.tellLeader(wire.SnapshotRunning, im.restoring.head.Index, 0)
		return
	}
	if o.Index <= v.Commit {
		g.dropIncoming()
		g.tellLeader(wire.SnapshotInstalled, v.Commit, 0)
		return
	}
	file := snapshot.File{Index: o.Index, ID: o.ID}
	if in := im.in; in != nil {
		waited := now.Sub(in.moved)
		useful := in.file.Index >= o.LogStart && (!in.scanned || in.have > 0 && waited < patience*g.shard.cfg.ElectionTimeout)
		if in.file == file || in.whole || useful {
			// What comes in will do: the log follows it, wherever it comes from.
			g.tellLeader(wire.SnapshotRunning, in.file.Index, in.have)
			return
		}
		g.dropIncoming()
	}
	im.in = &incoming{file: file, source: o.Source, moved: now}
	if begun := im.begunBefore(o.LogStart, v.Commit); begun.Index != 0 && begun != file {
		file = begun
		im.in = &incoming{file: file, moved: now}
	}
	g.shard.cfg.Logger.Info("receiving a snapshot: the leader's log no longer reaches back to this replica", "group", g.id, "index", file.Index, "from", im.in.source)
	g.shard.job.order(func() { g.shard.job.receiveImage(g, file) })
	g.tellLeader(wire.SnapshotRunning, file.Index, 0)
	g.wakeImages(now.Add(g.shard.cfg.ElectionTimeout))
}

// begunBefore is an image that an earlier life of this host has received, whole or
// in part, and that will do; zero if there is none. The leader that it came from
// may be another's follower by now, and still have it. It is tried once.
func (im *images) begunBefore(logStart, commit uint64) snapshot.File {
	left := im.left
	im.left = snapshot.File{}
	if left.Index < logStart || left.Index <= commit {
		return snapshot.File{}
	}
	return left
}

// dropIncoming gives up what is being received; what there is of it stays until
// something else comes.
func (g *group) dropIncoming() {
	if im := &g.images; im.in != nil && !im.in.whole {
		im.in = nil
		g.shard.job.order(func() { g.shard.job.stopReceiving(g) })
	}
}

// imageHas is the job's word on what there is of an image.
func (g *group) imageHas(now smr.Instant, f snapshot.File, have uint32, whole bool, err error) {
	in := g.images.in
	if in == nil || in.file != f || in.whole {
		return
	}
	switch {
	case errors.Is(err, snapshot.ErrBlock):
		g.shard.metrics.badFrames.Add(1)
		if in.bad++; in.bad >= badCopiesMax {
			g.shard.cfg.Logger.Error("a block of a snapshot came in damaged again and again; the leader will be asked for another", "group", g.id, "snapshot", f, "from", in.source, "err", err)
			g.giveUpIncoming()
			return
		}
		in.asked = in.have
	case err != nil:
		g.imageFailed(f, err)
		return
	case whole:
		in.whole = true
		g.images.add(image{File: f, used: now})
		g.shard.job.order(func() { g.shard.job.restoreImage(g, f) })
		return
	}
	if !in.scanned {
		in.scanned, in.asked = true, uint64(have)
		if in.source == 0 && have == 0 {
			g.giveUpIncoming() // there is nothing to go on with
			return
		}
	}
	if uint64(have) > in.have {
		in.have, in.moved, in.bad = uint64(have), now, 0
		in.asked = max(in.asked, in.have)
	}
	g.askBlocks(now)
}

// askBlocks asks for more blocks, when half of the window is free.
func (g *group) askBlocks(now smr.Instant) {
	in := g.images.in
	window := uint64(g.shard.blocksAhead)
	if in == nil || !in.scanned || in.whole {
		return
	}
	ahead := in.asked - in.have
	if ahead > window/2 {
		return
	}
	if in.source == 0 {
		in.asked = in.have + 1
		for _, id := range g.others() {
			if !slices.Contains(in.gone, id) {
				g.fetchBlocks(id, in.have, 1)
			}
		}
		return
	}
	g.fetchBlocks(in.source, in.asked, window-ahead)
	in.asked += window - ahead
}

func (g *group) fetchBlocks(of smr.ReplicaID, first, count uint64) {
	file := g.images.in.file
	f := g.shard.out.frame(of)
	f.B = wire.AppendSnapshotFetch(f.B, &wire.SnapshotFetch{Group: g.id, Index: file.Index, ID: file.ID, First: first, Count: count})
}

// others are the other members of the group.
func (g *group) others() (ids []smr.ReplicaID) {
	for _, m := range g.core.Status().Configuration.Members {
		if m.ID != g.shard.id {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// giveUpIncoming gives up what comes in: whatever the leader offers next will be
// taken. If that is the same image, receiving goes on where it stopped.
func (g *group) giveUpIncoming() {
	index := g.images.in.file.Index
	g.dropIncoming()
	g.tellLeader(wire.SnapshotFailed, index, 0)
}

// reaskBlocks asks again when nothing has come for a while.
func (g *group) reaskBlocks(now smr.Instant) {
	in := g.images.in
	if in == nil || in.whole || !in.scanned || now.Sub(in.moved) < g.shard.cfg.ElectionTimeout {
		return
	}
	if now.Sub(in.moved) >= patience*g.shard.cfg.ElectionTimeout {
		g.giveUpIncoming() // whoever has it is gone
		return
	}
	in.asked = in.have
	g.askBlocks(now)
	g.tellLeader(wire.SnapshotRunning, in.file.Index, in.have)
}

// blockCame is a block of an image.
func (g *group) blockCame(now smr.Instant, from smr.ReplicaID, b *wire.SnapshotBlock) {
	in := g.images.in
	if in == nil || in.whole || in.file != (snapshot.File{Index: b.Index, ID: b.ID}) || in.source != 0 && from != in.source {
		return
	}
	if b.Data == nil {
		// It is not there, or no longer.
		if !slices.Contains(in.gone, from) {
			in.gone = append(in.gone, from)
		}
		if in.source != 0 || len(in.gone) >= len(g.others()) {
			g.giveUpIncoming()
		}
		return
	}
	if b.Number < in.have || b.Number >= in.asked {
		return
	}
	in.source = from
	block := *b
	g.shard.job.order(func() { g.shard.job.blockCame(g, block) })
}

// imageFailed gives an image up that cannot be received or restored.
func (g *group) imageFailed(f snapshot.File, err error) {
	im := &g.images
	g.shard.cfg.Logger.Error("a snapshot cannot be installed; the leader will be asked for another", "group", g.id, "snapshot", f, "err", err)
	if im.in != nil && im.in.file == f {
		im.in = nil
	}
	im.whole = slices.DeleteFunc(im.whole, func(i image) bool { return i.File == f })
	g.shard.job.order(func() {
		g.shard.job.stopReceiving(g)
		if errors.Is(err, smr.ErrCorrupt) || errors.Is(err, snapshot.ErrFormat) {
			_ = im.dir.Remove(f)
		}
	})
	g.tellLeader(wire.SnapshotFailed, f.Index, 0)
}

// imageReady is the job's word that an image is in the state machine, beside its
// state; the core decides whether it is wanted.
func (g *group) imageReady(now smr.Instant, f snapshot.File, head *snapshot.Head, restoration smr.Restoration, err error) {
	im := &g.images
	if err == nil && head.Group != g.id {
		err = errors.Join(smr.ErrCorrupt, errors.New("it is of another group"))
	}
	if err != nil {
		if restoration != nil {
			g.shard.job.order(func() { _ = restoration.Close() })
		}
		g.imageFailed(f, err)
		return
	}
	if im.in != nil && im.in.file == f {
		im.in = nil
	}
	if im.restoring != nil || !g.core.Restored(now, head.SnapshotMeta) {
		// The log has overtaken it.
		g.shard.job.order(func() { _ = restoration.Close() })
		g.tellLeader(wire.SnapshotInstalled, g.core.State().Commit, 0)
		return
	}
	im.restoring = &restoring{file: f, restoration: restoration, head: head}
}

// accepted is the core's word that the log begins at an image now. The marker
// goes to the log; when it is on disk the states are exchanged. If the host ends
// before that, it finds the image when it starts.
func (g *group) accepted(meta *smr.SnapshotMeta, seq uint64) {
	s, r := g.shard, g.images.restoring
	if r == nil || r.head.Index != meta.Index {
		panic("host: the core restores a snapshot that it was not offered")
	}
	s.log.SetSnapshot(g.id, *meta)
	r.seq = seq
	if s.without.ImageMarker {
		g.exchange(r)
	}
	// Proposals up to the image's term may be in it, and will not come out any
	// more (see the package comment on the term fence).
	g.committedTerm = max(g.committedTerm, meta.Term)
	for i := range s.waiters.slots {
		w := s.waiters.slots[i].w
		if w != nil && w.group == g && w.term != 0 && w.term <= meta.Term {
			s.waiters.remove(w)
			w.complete(smr.Result{}, ErrOutcomeUnknown)
		}
	}
}

// markerWritten hands the exchange of the states to the worker, before anything
// that follows the image.
func (g *group) markerWritten(seq uint64) {
	r := g.images.restoring
	if r == nil || r.seq == 0 || seq < r.seq || r.pushed {
		return
	}
	g.exchange(r)
}

// exchange has the worker put the image's state in the place of the present one.
func (g *group) exchange(r *restoring) {
	r.pushed = true
	g.worker.push(&applyJob{group: g, last: r.head.Index, act: func() error {
		if err := commitRestoration(r.restoration, g.machine, r.head); err != nil {
			return err
		}
		g.tell(func(now smr.Instant) { g.imageInstalled(now, r) })
		return nil
	}})
}

func (g *group) imageInstalled(now smr.Instant, r *restoring) {
	im := &g.images
	im.restoring = nil
	im.seen, im.grown = r.head.Index, 0
	g.shard.metrics.snapshotsInstalled.Add(1)
	g.shard.cfg.Logger.Info("snapshot installed", "group", g.id, "index", r.head.Index)
	g.shard.job.order(func() { _ = r.restoration.Close() })
	g.tellLeader(wire.SnapshotInstalled, r.head.Index, 0)
	g.wakeImages(now)
}
