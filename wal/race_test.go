package wal

import (
	"errors"
	"reflect"
	"sync"
	"testing"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// A shard, a syncer and readers at once, as in production: every entry that is
// read is one that was written at its index.
func TestReadersBesideSyncer(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), testOptions())
	l.Create(1, members(1))
	mustSync(t, l)
	const turns = 400
	work, done := make(chan struct{}, 1), make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { // the shard
		defer wg.Done()
		defer close(work)
		index, term := uint64(0), uint64(1)
		for i := uint64(1); i <= turns; i++ {
			if i%7 == 0 && index > 4 {
				index, term = index-2, term+1
			}
			l.Append(1, i, nil, run(index+1, index+5, term, 60))
			index += 5
			if i%10 == 0 {
				l.SetSnapshot(1, smr.SnapshotMeta{Index: index - 9, Term: l.groups[1].termAt(index - 9)})
			}
			l.Buffered()
			select {
			case work <- struct{}{}:
			default:
			}
		}
	}()
	go func() { // the syncer
		defer wg.Done()
		defer close(done)
		var acks []Ack
		var err error
		for range work {
			if acks, err = l.Sync(acks[:0]); err != nil {
				t.Error(err)
				return
			}
		}
		if _, err = l.Sync(nil); err != nil {
			t.Error(err)
		}
	}()
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			first := uint64(1)
			for {
				select {
				case <-done:
					return
				default:
				}
				es, err := l.Read(1, first, first+20, 2000, nil)
				if errors.Is(err, ErrCompacted) || errors.Is(err, ErrUnavailable) {
					first++
					if errors.Is(err, ErrUnavailable) {
						first = max(1, first-20)
					}
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				for i := range es {
					e := es[i]
					if e.Index != first+uint64(i) || !reflect.DeepEqual(e, run(e.Index, e.Index, e.Term, 60)[0]) {
						t.Errorf("entry %d is %+v", first+uint64(i), e)
						return
					}
				}
				l.Stats()
				first += uint64(len(es))
			}
		}()
	}
	wg.Wait()
}
