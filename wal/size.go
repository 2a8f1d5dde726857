package wal

import "github.com/quorate/quorate/smr"

// Size returns about how many bytes the synced entries of a group take, and
// where to compact so that about keep of them are left: the entries after cut.
// The exactness is that of a mark: 4 KiB, or a few thousandths of a long log. Any
// goroutine.
func (l *Log) Size(id smr.GroupID, keep int64) (bytes int64, cut uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[id]
	if g == nil || !g.exists {
		return 0, 0
	}
	cut = g.snapshot.Index
	for i := len(g.marks) - 1; i >= 0; i-- {
		bytes += g.marks[i].bytes
		if keep >= 0 && bytes >= keep {
			cut, keep = max(cut, g.marks[i].first-1), -1
		}
	}
	return bytes, cut
}
