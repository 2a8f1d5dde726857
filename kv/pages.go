package kv

import (
	"bytes"
	"sync"
)

// pages remembers what was left of ranges with a limit. The answer to one says how
// many keys the whole range has, and so the naive design counts all that are left for
// each page: to list a million keys in pages of 500 then means to visit a thousand
// million. Whoever lists by pages asks next for what comes after the last key, at the
// same revision; and what was counted then is known now.
//
// What a revision holds never changes, so a page is right for ever. It is asked for
// only when its revision has been found to be neither compacted nor in the future.
type pages struct {
	mu   sync.Mutex
	all  [pagesMax]page
	next int // the oldest, to be overwritten
}

// page: so many keys of [key, end) live at revision.
type page struct {
	key, end []byte
	revision int64 // zero: unused
	count    int64
}

const (
	pagesMax = 128
	// pageKeyMax bounds the keys of what is remembered.
	pageKeyMax = 1 << 10
)

// get returns how many keys [key, end) has at the revision, if it is known.
func (p *pages) get(key, end []byte, revision int64) (count int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.all {
		if e := &p.all[i]; e.revision == revision && bytes.Equal(e.key, key) && bytes.Equal(e.end, end) {
			return e.count, true
		}
	}
	return 0, false
}

// left notes that count keys of those before end come after last, at the revision.
func (p *pages) left(last, end []byte, revision, count int64) {
	if len(last) >= pageKeyMax || len(end) > pageKeyMax {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &p.all[p.next]
	p.next = (p.next + 1) % pagesMax
	e.key = append(append(e.key[:0], last...), 0) // the least key after last
	e.end = append(e.end[:0], end...)
	e.revision, e.count = revision, count
}

// reset forgets everything: another state has been taken.
func (p *pages) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.all {
		p.all[i].revision = 0
	}
}
