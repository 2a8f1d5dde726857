package sim

import "github.com/quorate/quorate/smr"

// occurrence is one thing that will happen in a world. It names what it is
// about by small numbers, so that the queue holds no pointers.
type occurrence struct {
	at smr.Instant
	// order breaks ties: what was put in first happens first.
	order uint32
	what  what
	who   uint8
	// ref names a message, a cut, a client: what it means is what's matter.
	ref int32
	// life is the number of restarts of who at the time; an occurrence of a
	// former life is void.
	life uint32
}

type what uint8

const (
	whatDeliver what = iota
	whatTick
	whatTurn
	whatSync
	whatApply
	whatFetch
	whatImage
	whatImageDone
	whatRestart
	whatResume
	whatHeal
	whatFlap
	whatHunt
	whatNemesis
	whatClient
	whatDeadline
	whatPhase
	whatPulse  // a replica of the core world says that it lives
	whatPulsed // it hears one of another
	// Of the full world alone.
	whatLoop     // part ref of a host takes a turn
	whatPeerDown // a host notices that its connection to ref broke
	whatRoom     // a full disk has room again
	whatTrouble  // an outsider's fault comes or goes
	whatTold     // the shard ref of a host hears of a sync
	whatBackup   // backup ref goes on; if negative one is asked for
)

// queue is a 4-ary heap of occurrences, ordered by (at, order). It allocates
// only when it grows.
type queue struct {
	heap  []occurrence
	order uint32
}

func (a *occurrence) before(b *occurrence) bool {
	return a.at < b.at || a.at == b.at && a.order < b.order
}

func (q *queue) push(o occurrence) {
	q.order++
	o.order = q.order
	q.heap = append(q.heap, o)
	h := q.heap
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !o.before(&h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = o
}

func (q *queue) pop() (occurrence, bool) {
	h := q.heap
	if len(h) == 0 {
		return occurrence{}, false
	}
	top := h[0]
	last := h[len(h)-1]
	h = h[:len(h)-1]
	q.heap = h
	if len(h) == 0 {
		return top, true
	}
	i := 0
	for {
		first := 4*i + 1
		if first >= len(h) {
			break
		}
		least := first
		for c := first + 1; c < len(h) && c < first+4; c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if !h[least].before(&last) {
			break
		}
		h[i] = h[least]
		i = least
	}
	h[i] = last
	return top, true
}
