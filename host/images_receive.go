package host

import (
	"errors"
	"slices"
	"time"

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
	if im.in == nil && now < im.refusesUntil {
		return // it is offered again
	}
	file := snapshot.File{Index: o.Index, ID: o.ID}
	if in := im.in; in != nil {
		wait := g.patience()
		if o.Source != in.source {
			// Another host would send at once: what is heard of this one may be all
			// that it can do.
			wait = patience * max(g.shard.cfg.ElectionTimeout, im.pace)
		}
		useful := in.file.Index >= o.LogStart && (!in.scanned || in.have > 0 && now.Sub(in.moved) < wait)
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
	if !slices.Contains(im.parts, file) {
		im.parts = append(im.parts, file)
	}
	g.shard.cfg.Logger.Info("receiving a snapshot: the leader's log no longer reaches back to this replica", "group", g.id, "index", file.Index, "from", im.in.source)
	g.order(func(j *Job) { j.receiveImage(g, file) })
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

// dropIncoming gives up what is being received: the sender need send no more of it.
// What there is stays until something else comes, or the log has overtaken it.
func (g *group) dropIncoming() {
	if im := &g.images; im.in != nil && !im.in.whole {
		if im.in.source != 0 {
			g.fetchBlocks(im.in.source, im.in.came, 0)
		}
		im.in = nil
		g.order(func(j *Job) { j.stopReceiving(g) })
	}
}

// overtaken gives up what is being received when the log has come to where it
// leads.
func (g *group) overtaken() {
	in, v := g.images.in, g.core.State()
	if in.whole || in.file.Index > v.Commit {
		return
	}
	g.dropIncoming()
	g.tellLeader(wire.SnapshotInstalled, v.Commit, 0)
}

// refuse lets a while pass before another image is taken.
func (im *images) refuse(now smr.Instant, timeout time.Duration) {
	im.refusesUntil = now.Add(timeout << min(im.refusals, refusesMax))
	im.refusals++
}

// imageHas is the job's word on what there is of an image: blocks, and its bytes
// once it is whole.
func (g *group) imageHas(now smr.Instant, f snapshot.File, have uint32, whole int64, err error) {
	in := g.images.in
	if in == nil || in.file != f || in.whole {
		return
	}
	switch {
	case errors.Is(err, snapshot.ErrBlock):
		g.shard.metrics.badFrames.Add(1)
		if in.bad++; in.bad >= badCopiesMax {
			g.shard.cfg.Logger.Error("a block of a snapshot came in damaged again and again; the leader will be asked for another", "group", g.id, "snapshot", f, "from", in.source, "err", err)
			g.images.refuse(now, g.shard.cfg.ElectionTimeout)
			g.giveUpIncoming()
			return
		}
		in.came, in.asked = in.have, in.have
	case err != nil:
		g.imageFailed(now, f, err)
		return
	case whole > 0:
		in.whole = true
		g.images.add(image{File: f, bytes: whole, used: now})
		g.order(func(j *Job) { j.run(&restoreImage{g: g, file: f}) })
		return
	}
	if !in.scanned {
		in.scanned, in.came, in.asked = true, uint64(have), uint64(have)
		if in.source == 0 && have == 0 {
			g.giveUpIncoming() // there is nothing to go on with
			return
		}
	}
	if uint64(have) > in.have {
		in.have, in.bad = uint64(have), 0
		in.came = max(in.came, in.have)
		in.asked = max(in.asked, in.came)
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
	if in.asked == in.came {
		in.moved, in.again.count = now, 0 // the first block is under way from now on
	}
	if in.source == 0 {
		in.asked = in.came + 1
		g.fetchOfAll()
		return
	}
	g.fetchBlocks(in.source, in.asked, window-ahead)
	in.asked += window - ahead
}

// fetchOfAll asks all who may have the image for its next block.
func (g *group) fetchOfAll() {
	in := g.images.in
	for _, id := range g.others() {
		if !slices.Contains(in.gone, id) {
			g.fetchBlocks(id, in.came, 1)
		}
	}
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

// patience is how long this replica waits for the next block of what comes in.
func (g *group) patience() time.Duration {
	factor := time.Duration(patience)
	if q := g.shard.pulses.find(g.images.in.source); q != nil && !q.silent {
		factor = patienceAlive
	}
	return factor * max(g.shard.cfg.ElectionTimeout, g.images.pace)
}

// reaskBlocks asks again when nothing has come for a while.
func (g *group) reaskBlocks(now smr.Instant) {
	im, in := &g.images, g.images.in
	if in == nil || in.whole || !in.scanned || in.came > in.have {
		return
	}
	if now.Sub(in.moved) >= g.patience() {
		g.giveUpIncoming() // whoever has it is gone
		return
	}
	a := &in.again
	wait := max(g.shard.cfg.ElectionTimeout, paceFactor*im.pace) << a.back
	if now.Sub(max(in.moved, a.asked)) < wait {
		return
	}
	switch {
	case a.count == 0:
		a.count, a.until = 1, in.asked
	case a.tries == 0:
		a.count = min(2*a.count, uint64(g.shard.blocksAhead))
	}
	a.asked = now
	a.tries++
	a.back = min(a.back+1, backMax)
	if in.source == 0 {
		g.fetchOfAll()
	} else {
		g.fetchBlocks(in.source, in.came, min(a.count, in.asked-in.came))
	}
	g.tellLeader(wire.SnapshotRunning, in.file.Index, in.have)
}

// follow notes when a block has come, and whether it is the one that is wanted.
func (in *incoming) follow(now smr.Instant, number uint64, pace *time.Duration) (wanted bool) {
	a := &in.again
	wanted = number == in.came && number < in.asked
	if !wanted || a.tries == 0 {
		took := now.Sub(max(in.moved, in.heard))
		if *pace == 0 {
			*pace = took
		}
		*pace += (took - *pace) / 4
	}
	in.heard = now
	switch {
	case wanted:
		if a.tries == 0 {
			a.back = 0
		}
		in.moved, a.tries = now, 0
		if in.came++; in.came >= a.until {
			a.count = 0
		}
	case number < in.came:
		a.asked = now // a copy: what was asked for again was only slow
	case number >= a.gap && number < in.asked:
		// What should have come before it was lost.
		a.gap, a.count = in.asked, 0
		in.asked = in.came
	}
	return wanted
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
	if in.source = from; !in.follow(now, b.Number, &g.images.pace) {
		g.askBlocks(now)
		return
	}
	block := *b
	g.order(func(j *Job) { j.blockCame(g, block) })
}

// imageFailed gives an image up that cannot be received or restored. One that is
// whole, and may do another time, stays for a while.
func (g *group) imageFailed(now smr.Instant, f snapshot.File, err error) {
	im := &g.images
	im.refuse(now, g.shard.cfg.ElectionTimeout)
	g.shard.cfg.Logger.Error("a snapshot cannot be installed; the leader will be asked for another", "group", g.id, "snapshot", f, "wait", im.refusesUntil.Sub(now), "err", err)
	if im.in != nil && im.in.file == f {
		im.in = nil
	}
	bad := errors.Is(err, smr.ErrCorrupt) || errors.Is(err, snapshot.ErrFormat)
	if bad {
		im.whole = slices.DeleteFunc(im.whole, func(i image) bool { return i.File == f })
	}
	g.order(func(j *Job) {
		j.stopReceiving(g)
		if bad {
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
			g.shard.job.close(restoration)
		}
		g.imageFailed(now, f, err)
		return
	}
	if im.in != nil && im.in.file == f {
		im.in = nil
	}
	if im.restoring != nil || !g.core.Restored(now, head.SnapshotMeta) {
		// The log has overtaken it.
		g.shard.job.close(restoration)
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
	im.seen, im.grown, im.refusals = r.head.Index, 0, 0
	g.shard.metrics.snapshotsInstalled.Add(1)
	g.shard.cfg.Logger.Info("snapshot installed", "group", g.id, "index", r.head.Index)
	g.shard.job.close(r.restoration)
	g.tellLeader(wire.SnapshotInstalled, r.head.Index, 0)
	g.wakeImages(now)
}
