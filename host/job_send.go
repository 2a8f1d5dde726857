package host

import (
	"errors"
	"slices"
	"time"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/snapshot"
	"github.com/quorate/quorate/transport"
	"github.com/quorate/quorate/wire"
)

// BulkSender is a Sender that has a way of its own for what is large and may
// wait, so that it does not hold up what is small and may not.
type BulkSender interface {
	SendBulk(to uint64, b *transport.Buffer) error
}

// sendBlocks sends what a follower has asked for.
//
// Invariant: no block stands in wanted twice. One that is asked for again while it
// does is sent once.
type sendBlocks struct {
	g      *group
	to     smr.ReplicaID
	file   snapshot.File
	blocks *snapshot.Blocks
	count  uint32       // of the image's blocks
	wanted []blockRange // in the order in which they are sent
	// asked is when it was asked last: nobody waits for ever for a follower that
	// cannot be reached.
	asked smr.Instant
}

// blockRange is blocks [first, end).
type blockRange struct{ first, end uint32 }

// wantedMax bounds the ranges that wait for one follower, which asks for what
// follows what it asked for, or for what is missing.
const wantedMax = 16

// want adds what is asked for and does not wait already. What comes before all that
// waits is missed, and is sent first.
func (s *sendBlocks) want(r blockRange) {
	r.end = min(r.end, s.count)
	for _, w := range s.wanted {
		if w.first <= r.first && r.first < w.end {
			r.first = w.end
		}
		if r.first < w.first && w.first < r.end {
			r.end = w.first
		}
	}
	n := len(s.wanted)
	switch {
	case r.first >= r.end || n >= wantedMax:
	case n > 0 && s.wanted[n-1].end == r.first:
		s.wanted[n-1].end = r.end
	case n > 0 && r.end <= s.wanted[0].first:
		s.wanted = slices.Insert(s.wanted, 0, r)
	default:
		s.wanted = append(s.wanted, r)
	}
}

// sendBlocks takes a question for blocks. One for none says that what was asked for
// is no longer wanted.
func (j *Job) sendBlocks(g *group, to smr.ReplicaID, file snapshot.File, r blockRange) {
	for _, t := range j.tasks {
		s, ok := t.work.(*sendBlocks)
		if !ok || s.g != g || s.to != to {
			continue
		}
		if s.file == file && r.first < r.end {
			s.asked = j.now
			s.want(r)
			return
		}
		s.wanted, t.at = nil, 0 // it is over
	}
	if r.first >= r.end {
		return
	}
	blocks, err := g.images.dir.Open(file)
	if errors.Is(err, snapshot.ErrGone) {
		j.sendGone(g, to, file)
		return
	}
	if err != nil {
		j.cannotSend(g, to, file, err)
		return
	}
	s := &sendBlocks{g: g, to: to, file: file, blocks: blocks, count: blocks.Count(), asked: j.now}
	s.want(r)
	j.add(s)
}

func (s *sendBlocks) step(now smr.Instant) (smr.Instant, bool) {
	j := s.g.shard.job
	if len(s.wanted) == 0 {
		return 0, true
	}
	if at := j.tokens.ready(now); at > now {
		return at, false
	}
	next := s.wanted[0].first
	b, err := s.blocks.Verified(next)
	if err != nil {
		j.cannotSend(s.g, s.to, s.file, err)
		return 0, true
	}
	timeout := j.shard.cfg.ElectionTimeout
	if err := j.sendBlock(s.to, &wire.SnapshotBlock{Group: s.g.id, Index: s.file.Index, ID: s.file.ID, Number: uint64(next), Data: b}); err != nil {
		// There is no connection yet, or much waits for it.
		return now.Add(timeout / 4), !errors.Is(err, transport.ErrQueueFull) && now.Sub(s.asked) >= patience*timeout
	}
	s.sent()
	return now, len(s.wanted) == 0
}

// sent takes the first block out that waits.
func (s *sendBlocks) sent() {
	if s.wanted[0].first++; s.wanted[0].first == s.wanted[0].end {
		s.wanted = slices.Delete(s.wanted, 0, 1)
	}
}

// cannotSend gives up an image that cannot be read.
func (j *Job) cannotSend(g *group, to smr.ReplicaID, file snapshot.File, err error) {
	j.shard.cfg.Logger.Error("a snapshot cannot be read; another one will be taken", "group", g.id, "snapshot", file, "err", err)
	g.tell(func(now smr.Instant) { g.imageBad(file) })
	j.sendGone(g, to, file)
}

// sendGone says that an image is not to be had here.
func (j *Job) sendGone(g *group, to smr.ReplicaID, file snapshot.File) {
	_ = j.sendBlock(to, &wire.SnapshotBlock{Group: g.id, Index: file.Index, ID: file.ID}) // or the question comes again
}

func (s *sendBlocks) failed(err error) { s.g.shard.job.cannotSend(s.g, s.to, s.file, err) }

func (s *sendBlocks) close() { _ = s.blocks.Close() }

// sendBlock sends one block. An error says that it was not.
func (j *Job) sendBlock(to smr.ReplicaID, b *wire.SnapshotBlock) error {
	s := j.shard
	buf := transport.GetBuffer()
	buf.B = wire.AppendSnapshotBlock(wire.AppendHeader(buf.B[:0], s.number), b)
	n := len(buf.B)
	var err error
	if bulk, ok := s.out.sender.(BulkSender); ok {
		err = bulk.SendBulk(uint64(to), buf)
	} else {
		err = s.out.sender.Send(uint64(to), buf)
	}
	if err == nil && b.Data != nil {
		j.tokens.take(n)
		s.metrics.snapshotBytesSent.Add(uint64(n))
		s.metrics.snapshotBlocksSent.Add(1)
	}
	return err
}

// tokens limits a rate: what was taken is paid back as time passes.
type tokens struct {
	perSecond int64 // negative: no limit
	debt      int64 // bytes that are not paid back at at
	at        smr.Instant
}

// tokensBurst is how much may be sent at once after a pause.
const tokensBurst = 4 << 20

// tokensForget is how much of a pause counts.
const tokensForget = 10 * time.Second

// ready returns when something may be sent: now, or later.
func (t *tokens) ready(now smr.Instant) smr.Instant {
	if t.perSecond < 0 {
		return now
	}
	// Whole bytes are paid, and the time of a part of one is kept: whoever asks more
	// often than a byte takes would otherwise never see it paid.
	t.at = max(t.at, now.Add(-tokensForget))
	paid := int64(float64(now.Sub(t.at)) / 1e9 * float64(t.perSecond))
	t.debt = max(-tokensBurst, t.debt-paid)
	t.at = t.at.Add(durationOf(paid, t.perSecond))
	if t.debt <= 0 {
		return now
	}
	return now.Add(1 + durationOf(t.debt, t.perSecond))
}

func (t *tokens) take(n int) { t.debt += int64(n) }

// durationOf is how long so many bytes take.
func durationOf(bytes, perSecond int64) time.Duration {
	return time.Duration(float64(bytes) / float64(perSecond) * 1e9)
}
