package wal

import (
	"cmp"
	"slices"

	"github.com/quorate/quorate/smr"
)

// Oldest returns the groups whose synced entries take about so many bytes or more,
// those first whose entries have been in the log for longest. Any goroutine.
func (l *Log) Oldest(least int64) []smr.GroupID {
	l.mu.Lock()
	var gs []*group
	for _, g := range l.groups {
		bytes := int64(0)
		for i := 0; i < len(g.marks) && bytes < max(least, 1); i++ {
			bytes += g.marks[i].bytes
		}
		if g.exists && bytes >= max(least, 1) {
			gs = append(gs, g)
		}
	}
	slices.SortFunc(gs, func(a, b *group) int {
		x, y := &a.marks[0], &b.marks[0]
		return cmp.Or(cmp.Compare(x.segment, y.segment), cmp.Compare(x.off, y.off), cmp.Compare(a.id, b.id))
	})
	l.mu.Unlock()
	ids := make([]smr.GroupID, len(gs))
	for i, g := range gs {
		ids[i] = g.id
	}
	return ids
}
