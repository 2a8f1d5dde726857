package sim

import (
	"bytes"
	"testing"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/wire"
)

// "Of the items that can still be read, each is one that was sent."
func TestLosesOnly(t *testing.T) {
	beat := wire.Item{Kind: wire.KindMessage, Message: raft.Message{Type: raft.MsgHeartbeat, Group: 1, From: 1, To: 2, Term: 5}}
	other := beat
	other.Message.Term = 6
	block := wire.Item{Kind: wire.KindSnapshotBlock, SnapshotBlock: wire.SnapshotBlock{Group: 1, Index: 9, ID: 1, Data: []byte("data")}}
	spoilt, gone := block, block
	spoilt.SnapshotBlock.Data = []byte("dat")
	gone.SnapshotBlock.Data = nil
	ask := wire.Item{Kind: wire.KindReadAsk, ReadAsk: wire.ReadAsk{Group: 1, Term: 5, Ticket: 3}}
	frame := func(shard uint32, items ...wire.Item) []byte {
		b := wire.AppendHeader(nil, shard)
		for i := range items {
			b = wire.AppendItem(b, &items[i])
		}
		return b
	}
	sent := frame(3, beat, ask, block)
	for name, c := range map[string]struct {
		arrives []byte
		want    bool
	}{
		"nothing":                   {nil, true},
		"another format":            {[]byte{9, 9, 9}, true},
		"cut short":                 {sent[:len(sent)-1], true},
		"an item is lost":           {frame(3, beat, block), true},
		"items of another order":    {frame(3, ask, beat), false},
		"an item twice":             {frame(3, beat, beat), false},
		"another term":              {frame(3, other, ask, block), false},
		"another shard":             {frame(4, beat), false},
		"another shard, of nothing": {append(frame(4), 1), true},
		"a block is spoilt":         {frame(3, beat, ask, spoilt), true},
		"a block is said to be gone": {
			frame(3, beat, ask, gone), false},
	} {
		if got := losesOnly(sent, c.arrives); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What a world garbles is garbled, of all kinds of damage, and its decoder reads
// nothing that was not sent.
func TestGarbled(t *testing.T) {
	w := &fullWorld{frameR: fork(1, 31)}
	n := wires{w: w}
	m := raft.Message{Type: raft.MsgHeartbeat, Group: 1, From: 1, To: 2, Term: 5, Commit: 300}
	b := wire.AppendMessage(wire.AppendMessage(wire.AppendHeader(nil, 0), &m), &m)
	garbled, shorter, lost := 0, 0, 0
	for range 1000 {
		g := n.garble(b)
		if g == nil {
			continue
		}
		if garbled++; bytes.Equal(g, b) {
			t.Fatal("a frame is garbled and the same")
		}
		if len(g) < len(b) {
			shorter++
		}
		_, items := readItems(g)
		if lost += 2 - len(items); len(items) > 2 {
			t.Fatalf("%d items", len(items))
		}
	}
	if garbled < 900 || shorter < 100 || shorter > garbled-100 || lost < garbled {
		t.Errorf("%d of 1000 garbled, %d cut short, %d items lost", garbled, shorter, lost)
	}
}
