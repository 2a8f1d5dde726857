package wal

import (
	"github.com/quorate/quorate/smr"
)

const (
	// moveSegmentsMin is how many segments there are before much is moved. An old
	// one of which no more than one part in moveTrifle is left is moved at any
	// time: that costs nothing, and frees what all others keep behind it.
	moveSegmentsMin = 4
	moveTrifle      = 64
	// moveStep is how much is moved in one batch.
	moveStep = 256 << 10
)

// move copies entries out of the oldest segment, if few are left there or little
// of the whole log is live, one batch at a time. So a group that has been idle
// for long does not keep the segments of all others. What is moved after one
// rotation is bounded, so that it never takes more than a part of the disk's
// work.
func (l *Log) move() error {
	l.mu.Lock()
	old := l.segments[0]
	many := len(l.segments) >= moveSegmentsMin && l.moveBytes > 0
	worth := len(l.segments) > 1 && old.marks > 0 && old.number != l.unmoved &&
		(old.live <= old.capacity/moveTrifle || many && l.worthMoving(old))
	l.mu.Unlock()
	if !worth {
		l.moveBytes = 0
		return nil
	}
	b := &buffer{bytes: make([]byte, batchHead, 4<<10)}
	if err := l.collect(b, old); err != nil {
		// The entries cannot be read. Whoever needs them will be told so; until
		// they are compacted they keep their segment.
		l.moveBytes, l.unmoved = 0, old.number
		l.o.Logger.Error("entries in an old segment of the log cannot be read, so it cannot be freed", "file", old.name, "error", err)
		return nil
	}
	if len(b.records) == 0 {
		l.moveBytes, l.unmoved = 0, old.number
		return nil
	}
	l.moveBytes -= int64(len(b.bytes))
	budget := l.moveBytes
	if err := l.write(b, 0); err != nil {
		return err
	}
	l.moveBytes = budget // a rotation on the way does not renew it
	l.mu.Lock()
	l.stats.MovedBytes += uint64(len(b.bytes))
	l.mu.Unlock()
	return nil
}

func (l *Log) worthMoving(old *segment) bool {
	if old.live <= old.capacity/4 {
		return true
	}
	var live, all int64
	for _, s := range l.segments {
		live += s.live
		all += s.end
	}
	return live*2 <= all
}

// collect reads entries that lie in segment old and encodes them into b, up to
// moveStep, and as much again at most.
func (l *Log) collect(b *buffer, old *segment) error {
	l.mu.Lock()
	gs := l.sorted()
	l.mu.Unlock()
	var es []smr.Entry
	for _, g := range gs {
		for i := 0; i < len(g.marks); i++ { // only the syncer, which this is, changes marks
			m := g.marks[i]
			if m.segment != old.number {
				continue
			}
			last := g.last
			if i+1 < len(g.marks) {
				last = g.marks[i+1].first - 1
			}
			first := max(m.first, g.snapshot.Index+1)
			var err error
			c := cursor{s: old, end: old.end, until: m.off + m.bytes + sectorBytes}
			es, err = c.span(g.id, m.off, first, last, moveStep, es[:0])
			if err != nil {
				return err
			}
			b.entries(kindMoved, g.id, es)
			if len(b.bytes) >= moveStep {
				return nil
			}
		}
	}
	return nil
}
