package sim

// sync lets a syncer write and sync. While a disk works, its shard goes on and
// writes more, which the sync does not cover: where late words are drawn, the
// shard hears of a sync a while after it. Told at once, it would never have a
// newer write than the one that it hears of.
func (w *fullWorld) sync(h *simHost, shard int) {
	s := h.rt.Shards()[shard].Syncer()
	switch {
	case h.untold[shard]: // told looks again
	case !w.full.lateWord:
		s.Turn()
	case s.Sync():
		h.untold[shard] = true
		d := w.tellR.between(0, w.features.syncMax)
		w.queue.push(occurrence{at: w.now.Add(d), what: whatTold, who: uint8(h.slot), ref: int32(shard), life: h.life})
	}
}

// told lets a shard hear of a sync, and has what it wrote since synced.
func (w *fullWorld) told(h *simHost, shard int) {
	s := h.rt.Shards()[shard].Syncer()
	h.untold[shard] = false
	s.Tell()
	if s.HasWork() {
		w.marks.hit(MarkLateWord)
		part := partsPerShard*shard + 1
		h.schedule(part, w.now.Add(h.waits(part)))
	}
}
