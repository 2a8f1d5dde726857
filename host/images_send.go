package host

import (
	"slices"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/snapshot"
	"github.com/quorate/quorate/wire"
)

// needImage is the core's word that a follower is behind the log's start.
func (g *group) needImage(now smr.Instant, to smr.ReplicaID) {
	im := &g.images
	if im.machine == nil {
		g.core.SnapshotDone(to, 0, false)
		return
	}
	im.sends = slices.DeleteFunc(im.sends, func(s sending) bool { return s.to == to })
	im.sends = append(im.sends, sending{to: to})
	g.wakeImages(now)
}

// dropSends forgets the followers that need an image: this replica leads no
// more, or another term.
func (g *group) dropSends() { g.images.sends = g.images.sends[:0] }

// offerImages offers an image to each follower that needs one, can be reached,
// and has not answered lately. If there is none it has one taken; all of them
// share it.
func (g *group) offerImages(now smr.Instant) {
	im := &g.images
	v := g.core.State()
	retry := g.shard.cfg.ElectionTimeout
	for i := range im.sends {
		s := &im.sends[i]
		if !g.core.Heard(now, s.to) || s.offered != 0 && now.Sub(max(s.offered, s.heard)) < retry {
			continue
		}
		if s.file.Index == 0 || s.file.Index < v.First-1 || im.find(s.file) == nil {
			best := g.bestImage(v.First - 1)
			if best == nil {
				s.file, s.offered = snapshot.File{}, 0
				g.takeImage()
				continue
			}
			s.file = best.File
		}
		im.find(s.file).used = now
		s.offered = now
		f := g.shard.out.frame(s.to)
		f.B = wire.AppendSnapshotOffer(f.B, &wire.SnapshotOffer{
			Group: g.id, Term: v.Term, Index: s.file.Index, ID: s.file.ID, Source: g.shard.id, LogStart: v.First - 1,
		})
	}
}

// bestImage is the newest image that the log reaches back to, nil if none does.
func (g *group) bestImage(logStart uint64) *image {
	whole := g.images.whole
	v := g.core.State()
	for i := len(whole) - 1; i >= 0; i-- {
		if !whole[i].bad && whole[i].Index >= logStart && whole[i].Index <= v.Applied {
			return &whole[i]
		}
	}
	return nil
}

// blocksWanted is a host's question for blocks of an image.
func (g *group) blocksWanted(now smr.Instant, from smr.ReplicaID, f *wire.SnapshotFetch) {
	im := &g.images
	if im.machine == nil || f.First >= snapshot.BlocksMax {
		return
	}
	file := snapshot.File{Index: f.Index, ID: f.ID}
	i := im.find(file)
	if i != nil && i.bad {
		g.order(func(j *Job) { j.sendGone(g, from, file) })
		return
	}
	if i != nil {
		i.used = now
	}
	for i := range im.sends {
		if im.sends[i].to == from {
			im.sends[i].heard = now
		}
	}
	r := blockRange{uint32(f.First), uint32(min(f.First+min(f.Count, uint64(g.shard.blocksAhead)), snapshot.BlocksMax))}
	g.order(func(j *Job) { j.sendBlocks(g, from, file, r) })
}

// imageStatus is a follower's word on how far it is.
func (g *group) imageStatus(now smr.Instant, from smr.ReplicaID, st *wire.SnapshotStatus) {
	im := &g.images
	if v := g.core.State(); v.Term != st.Term || v.Leader != g.shard.id {
		return
	}
	i := slices.IndexFunc(im.sends, func(s sending) bool { return s.to == from })
	if i < 0 {
		return
	}
	s := &im.sends[i]
	s.heard = now
	switch st.State {
	case wire.SnapshotRunning:
		s.receiving = st.Index
	case wire.SnapshotInstalled:
		im.sends = slices.Delete(im.sends, i, i+1)
		g.core.SnapshotDone(from, st.Index, true)
	case wire.SnapshotFailed:
		s.file, s.receiving, s.offered = snapshot.File{}, 0, 0
		g.wakeImages(now.Add(g.shard.cfg.ElectionTimeout))
	}
}
