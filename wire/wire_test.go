package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
)

// golden is the format, version 1: an item of every kind with every field. If
// this test fails, the format has changed, and hosts of two releases no longer
// understand each other.
var golden = []struct {
	name string
	item Item
	hex  string
}{
	{"heartbeat", Item{Kind: KindMessage, Message: raft.Message{Type: raft.MsgHeartbeat, Group: 7, From: 1, To: 2, Term: 300, Commit: 128, Round: 9}},
		"01 0b000000 07 0c00 07 01 02 ac02 8001 09"},
	{"append", Item{Kind: KindMessage, Message: raft.Message{Type: raft.MsgAppend, Group: 1, From: 1, To: 3, Term: 2, Index: 10, LogTerm: 1, Commit: 9, Entries: []smr.Entry{
		{Index: 11, Term: 2, Kind: smr.KindEmpty},
		{Index: 12, Term: 2, Kind: smr.KindCommand, Origin: 5, Request: 6, Session: 7, Sequence: 8, Data: []byte("ab")},
	}}},
		"01 1b000000 05 0701 01 01 03 02 0a 01 09 02" +
			"00 00 0b 02 00" +
			"03 01 0c 02 05 06 07 08 02 6162"},
	{"reject", Item{Kind: KindMessage, Message: raft.Message{Type: raft.MsgAppendReply, Group: 1, From: 3, To: 1, Term: 2, Index: 10, Reject: true, ConflictIndex: 4, ConflictTerm: 1}},
		"01 0a000000 06 7100 01 03 01 02 0a 04 01"},
	{"vote by force", Item{Kind: KindMessage, Message: raft.Message{Type: raft.MsgVote, Group: 1, From: 3, To: 1, Term: 3, Index: 10, LogTerm: 2, Force: true}},
		"01 09000000 03 8300 01 03 01 03 0a 02"},
	{"pre-vote refused with an offer", Item{Kind: KindMessage, Message: raft.Message{Type: raft.MsgPreVoteReply, Group: 1, From: 3, To: 1, Term: 3, Index: 10, LogTerm: 2, Reject: true}},
		"01 09000000 02 1300 01 03 01 03 0a 02"},
	{"suffix ask", Item{Kind: KindMessage, Message: raft.Message{Type: raft.MsgSuffixAsk, Group: 1, From: 1, To: 3, Term: 3, Index: 9, LogTerm: 1, Round: 4}},
		"01 0a000000 0b 0b00 01 01 03 03 09 01 04"},
	{"suffix", Item{Kind: KindMessage, Message: raft.Message{Type: raft.MsgSuffix, Group: 1, From: 3, To: 1, Term: 3, Index: 9, LogTerm: 1, Round: 4, ConflictIndex: 10, ConflictTerm: 2, Entries: []smr.Entry{
		{Index: 10, Term: 2, Kind: smr.KindEmpty},
	}}},
		"01 12000000 0c 6b01 01 03 01 03 09 01 04 0a 02 01" +
			"00 00 0a 02 00"},
	{"heartbeat that lets a group rest", Item{Kind: KindMessage, Message: raft.Message{Type: raft.MsgHeartbeat, Group: 7, From: 1, To: 2, Term: 3, Index: 12, LogTerm: 2, Commit: 12, Round: 9, Rest: true}},
		"01 0b000000 07 0f02 07 01 02 03 0c 02 0c 09"},
	{"pulse", Item{Kind: KindPulse, Pulse: Pulse{Life: 300}}, "0a 02000000 ac02"},
	{"forward", Item{Kind: KindForward, Forward: Forward{Group: 200, Term: 2, Entries: []smr.Entry{{Kind: smr.KindCommand, Origin: 5, Request: 6, Data: []byte{0xff}}}}},
		"02 0c000000 c801 02 01 01 01 00 00 05 06 01 ff"},
	{"forward reject", Item{Kind: KindForwardReject, ForwardReject: ForwardReject{Group: 1, Term: 2, Reason: RejectBusy, Origin: 5, Requests: []uint64{6, 128}}},
		"03 08000000 01 02 02 05 02 06 8001"},
	{"read ask", Item{Kind: KindReadAsk, ReadAsk: ReadAsk{Group: 1, Term: 2, Ticket: 3}}, "04 03000000 01 02 03"},
	{"read reply", Item{Kind: KindReadReply, ReadReply: ReadReply{Group: 1, Ticket: 3, Index: 12, OK: true}}, "05 04000000 01 03 0c 01"},
}

// only returns an item with nothing but what its kind says, in a form that
// compares equal: empty slices are nil.
func only(it *Item) Item {
	out := Item{Kind: it.Kind}
	entries := func(in []smr.Entry) (out []smr.Entry) {
		for _, e := range in {
			e.Data = append([]byte(nil), e.Data...)
			out = append(out, e)
		}
		return out
	}
	switch it.Kind {
	case KindMessage:
		out.Message = it.Message
		out.Message.Entries = entries(it.Message.Entries)
	case KindForward:
		out.Forward = it.Forward
		out.Forward.Entries = entries(it.Forward.Entries)
	case KindForwardReject:
		out.ForwardReject = it.ForwardReject
		out.ForwardReject.Requests = append([]uint64(nil), it.ForwardReject.Requests...)
	case KindReadAsk:
		out.ReadAsk = it.ReadAsk
	case KindReadReply:
		out.ReadReply = it.ReadReply
	case KindPulse:
		out.Pulse = it.Pulse
	case KindSnapshotOffer:
		out.SnapshotOffer = it.SnapshotOffer
	case KindSnapshotFetch:
		out.SnapshotFetch = it.SnapshotFetch
	case KindSnapshotBlock:
		out.SnapshotBlock = it.SnapshotBlock
	case KindSnapshotStatus:
		out.SnapshotStatus = it.SnapshotStatus
	}
	return out
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decodeAll(t testing.TB, frame []byte) (shard uint32, items []Item) {
	t.Helper()
	var r Reader
	var it Item
	shard, err := r.Reset(frame)
	for err == nil {
		var more bool
		if more, err = r.Next(&it); !more {
			break
		}
		items = append(items, only(&it))
	}
	if err != nil {
		t.Fatalf("decode %x: %v", frame, err)
	}
	return shard, items
}

func TestGolden(t *testing.T) {
	frame := unhex(t, "01 ac02")
	if got := AppendHeader(nil, 300); !bytes.Equal(got, frame) {
		t.Errorf("header: got %x, want %x", got, frame)
	}
	var want []Item
	for _, g := range golden {
		b := unhex(t, g.hex)
		if got := AppendItem(nil, &g.item); !bytes.Equal(got, b) {
			t.Errorf("%s: got %x, want %x", g.name, got, b)
		}
		frame = append(frame, b...)
		want = append(want, g.item)
	}
	shard, got := decodeAll(t, frame)
	if shard != 300 || !reflect.DeepEqual(got, want) {
		t.Errorf("shard %d, items\n%+v, want\n%+v", shard, got, want)
	}
	if s, err := FrameShard(frame); s != 300 || err != nil {
		t.Errorf("FrameShard: %d, %v", s, err)
	}
}

// "A kind that a reader does not know is skipped by its length."
func TestUnknownKindSkipped(t *testing.T) {
	frame := AppendHeader(nil, 0)
	frame = append(frame, 99, 3, 0, 0, 0, 1, 2, 3)
	frame = AppendReadAsk(frame, &ReadAsk{Group: 1, Ticket: 2})
	frame = append(frame, 100, 0, 0, 0, 0)
	_, items := decodeAll(t, frame)
	if want := []Item{{Kind: KindReadAsk, ReadAsk: ReadAsk{Group: 1, Ticket: 2}}}; !reflect.DeepEqual(items, want) {
		t.Errorf("got %+v, want %+v", items, want)
	}
}

// "Hosts of two releases next to each other work together": items of kinds that only
// a newer one knows, anywhere in a frame, change nothing of what the others say.
func TestNewerFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frame := AppendHeader(nil, 7)
		var want []Item
		unknown := 0
		news := func() {
			for range rapid.IntRange(0, 2).Draw(t, "news") {
				unknown++
				at := len(frame)
				frame = begin(frame, ItemKind(rapid.ByteMin(byte(kindSpareMessage)+1).Draw(t, "new kind")))
				frame = append(frame, rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "body")...)
				frame = end(frame, at)
			}
		}
		for range rapid.IntRange(0, 4).Draw(t, "items") {
			news()
			it := genItem(t)
			frame = AppendItem(frame, &it)
			want = append(want, only(&it))
		}
		news()
		var it Item
		r := Reader{Strict: true}
		_, err := r.Reset(frame)
		for more := err == nil; more; {
			more, err = r.Next(&it)
		}
		if (err != nil) != (unknown > 0) {
			t.Fatalf("read strictly, %d unknown items: %v", unknown, err)
		}
		r.Strict = false
		if _, err := r.Reset(frame); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if more, err := r.Next(&it); !more || err != nil || !reflect.DeepEqual(only(&it), want[i]) {
				t.Fatalf("item %d: %+v, %v, %v, want %+v", i, only(&it), more, err, want[i])
			}
		}
		if more, err := r.Next(&it); more || err != nil {
			t.Fatalf("at the end: %v, %v", more, err)
		}
	})
}

func TestCorrupt(t *testing.T) {
	for name, s := range map[string]string{
		"nothing":                       "",
		"no shard":                      "01",
		"another version":               "02 00",
		"shard beyond 32 bits":          "01 8080808010",
		"half a head":                   "01 00 04 030000",
		"body cut short":                "01 00 04 04000000 010203",
		"bytes left over in a body":     "01 00 04 04000000 01020300",
		"read ask of group zero":        "01 00 04 03000000 000203",
		"reply neither yes nor no":      "01 00 05 04000000 01030c02",
		"message of type zero":          "01 00 01 07000000 00 0000 07 01 02 03",
		"message of an unknown type":    "01 00 01 07000000 0d 0000 07 01 02 03",
		"unknown flag":                  "01 00 01 07000000 07 0004 07 01 02 03",
		"pulse of no life":              "01 00 0a 01000000 00",
		"message of group zero":         "01 00 01 07000000 07 0000 00 01 02 03",
		"message from nobody":           "01 00 01 07000000 07 0000 07 00 02 03",
		"message to nobody":             "01 00 01 07000000 07 0000 07 01 00 03",
		"flagged field is zero":         "01 00 01 08000000 07 0100 07 01 02 03 00",
		"flagged entries are none":      "01 00 01 08000000 07 0001 07 01 02 03 00",
		"more entries than bytes":       "01 00 01 0d000000 07 0001 07 01 02 03 02 0000010100",
		"entry with an unknown flag":    "01 00 01 0d000000 07 0001 07 01 02 03 01 0400010100",
		"forwarded entry with an index": "01 00 02 08000000 01 02 01 00 01 01 00 00",
		"forwarded entry with a term":   "01 00 02 08000000 01 02 01 00 01 00 01 00",
		"reject without a reason":       "01 00 03 05000000 01 02 00 05 00",
		"more requests than bytes":      "01 00 03 06000000 01 02 01 05 02 06",
	} {
		t.Run(name, func(t *testing.T) {
			var r Reader
			var it Item
			_, err := r.Reset(unhex(t, s))
			if err == nil {
				_, err = r.Next(&it)
			}
			if !errors.Is(err, smr.ErrCorrupt) {
				t.Fatalf("got %v, want ErrCorrupt", err)
			}
			if more, err := r.Next(&it); more || err != nil {
				t.Errorf("after the error: %v, %v", more, err)
			}
		})
	}
}

// Every prefix of a frame is a frame of fewer items, or an error; it is never
// read as something else.
func TestPrefixes(t *testing.T) {
	frame := AppendHeader(nil, 1)
	ends := map[int]bool{len(frame): true}
	for _, g := range golden {
		frame = AppendItem(frame, &g.item)
		ends[len(frame)] = true
	}
	var it Item
	for n := range frame {
		var r Reader
		_, err := r.Reset(frame[:n])
		for more := err == nil; more; {
			more, err = r.Next(&it)
		}
		if ends[n] != (err == nil) {
			t.Errorf("%d of %d bytes: %v", n, len(frame), err)
		}
	}
}

func genUint() *rapid.Generator[uint64] {
	return rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Range(0, 300), rapid.Uint64(), rapid.Just(uint64(math.MaxUint64)))
}

func genID() *rapid.Generator[uint64] {
	return rapid.OneOf(rapid.Uint64Range(1, 300), rapid.Uint64Min(1))
}

func genEntries(forward bool) *rapid.Generator[[]smr.Entry] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) smr.Entry {
		e := smr.Entry{
			Kind:   smr.EntryKind(rapid.Byte().Draw(t, "kind")),
			Origin: genUint().Draw(t, "origin"), Request: genUint().Draw(t, "request"),
			Session: genUint().Draw(t, "session"), Sequence: genUint().Draw(t, "sequence"),
			Data: rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "data"),
		}
		if !forward {
			e.Index, e.Term = genUint().Draw(t, "index"), genUint().Draw(t, "term")
		}
		return e
	}), 0, 20)
}

func genItem(t *rapid.T) Item {
	group := smr.GroupID(genID().Draw(t, "group"))
	u := func(name string) uint64 { return genUint().Draw(t, name) }
	it := Item{Kind: rapid.SampledFrom([]ItemKind{KindMessage, KindForward, KindForwardReject, KindReadAsk, KindReadReply, KindPulse}).Draw(t, "kind")}
	switch it.Kind {
	case KindMessage:
		it.Message = raft.Message{
			Type: raft.MessageType(rapid.IntRange(1, int(spareTypeMax)).Draw(t, "type")), Group: group,
			From: smr.ReplicaID(genID().Draw(t, "from")), To: smr.ReplicaID(genID().Draw(t, "to")),
			Term: u("term"), Index: u("index"), LogTerm: u("log term"), Commit: u("commit"), Round: u("round"),
			ConflictIndex: u("conflict index"), ConflictTerm: u("conflict term"),
			Reject: rapid.Bool().Draw(t, "reject"), Force: rapid.Bool().Draw(t, "force"), Rest: rapid.Bool().Draw(t, "rest"),
			Entries: genEntries(false).Draw(t, "entries"),
		}
	case KindForward:
		it.Forward = Forward{Group: group, Term: u("term"), Entries: genEntries(true).Draw(t, "entries")}
	case KindForwardReject:
		it.ForwardReject = ForwardReject{Group: group, Term: u("term"), Reason: rapid.ByteMin(1).Draw(t, "reason"), Origin: u("origin"), Requests: rapid.SliceOf(rapid.Uint64()).Draw(t, "requests")}
	case KindReadAsk:
		it.ReadAsk = ReadAsk{Group: group, Term: u("term"), Ticket: u("ticket")}
	case KindPulse:
		it.Pulse.Life = max(1, u("life"))
	case KindReadReply:
		it.ReadReply = ReadReply{Group: group, Ticket: u("ticket"), Index: u("index"), OK: rapid.Bool().Draw(t, "ok")}
	}
	return it
}

// Whatever is written is read back, whatever the reused Item held before.
func TestRoundTrip(t *testing.T) {
	var reused Item
	rapid.Check(t, func(t *rapid.T) {
		shard := rapid.Uint32().Draw(t, "shard")
		frame := AppendHeader(nil, shard)
		var want []Item
		for range rapid.IntRange(0, 5).Draw(t, "items") {
			it := genItem(t)
			frame = AppendItem(frame, &it)
			want = append(want, only(&it))
		}
		var r Reader
		got, err := r.Reset(frame)
		if err != nil || got != shard {
			t.Fatalf("shard %d, %v; want %d", got, err, shard)
		}
		for i := range want {
			if more, err := r.Next(&reused); !more || err != nil {
				t.Fatalf("item %d: %v, %v", i, more, err)
			}
			if got := only(&reused); !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("item %d: got\n%+v, want\n%+v", i, got, want[i])
			}
		}
		if more, err := r.Next(&reused); more || err != nil {
			t.Fatalf("at the end: %v, %v", more, err)
		}
	})
}

// The invariant of an Item's entries: what lies between length and capacity
// refers to nothing, so an Item keeps no frame alive but the last one.
func TestItemDropsOldFrames(t *testing.T) {
	var it Item
	check := func(when string, n int) {
		t.Helper()
		if len(it.Message.Entries) != n {
			t.Fatalf("%s: %d entries, want %d", when, len(it.Message.Entries), n)
		}
		for i, e := range it.Message.Entries[n:cap(it.Message.Entries)] {
			if e.Data != nil {
				t.Errorf("%s: entry %d behind the end holds %d bytes", when, i, len(e.Data))
			}
		}
	}
	next := func(entries int) {
		t.Helper()
		var r Reader
		if _, err := r.Reset(appendFrame(nil, entries, 10)); err != nil {
			t.Fatal(err)
		}
		if more, err := r.Next(&it); !more || err != nil {
			t.Fatal(more, err)
		}
	}
	next(64)
	check("after 64 entries", 64)
	next(3)
	check("after 3 entries", 3)
	it.Clear()
	check("after Clear", 0)
}

func appendFrame(dst []byte, entries, bytes int) []byte {
	m := raft.Message{Type: raft.MsgAppend, Group: 1, From: 1, To: 2, Term: 3, Index: 1000, LogTerm: 3, Commit: 990}
	for i := range entries {
		m.Entries = append(m.Entries, smr.Entry{Index: 1001 + uint64(i), Term: 3, Kind: smr.KindCommand, Origin: 1 << 60, Request: uint64(i), Data: make([]byte, bytes)})
	}
	return AppendMessage(AppendHeader(dst, 0), &m)
}

func TestAllocs(t *testing.T) {
	var it Item
	var r Reader
	frame := appendFrame(nil, 64, 128)
	forward := Item{Kind: KindForward, Forward: Forward{Group: 1, Term: 2, Entries: []smr.Entry{{Kind: smr.KindCommand, Data: make([]byte, 128)}}}}
	frame = AppendItem(frame, &forward)
	for i := range golden {
		frame = AppendItem(frame, &golden[i].item)
	}
	decode := func() {
		if _, err := r.Reset(frame); err != nil {
			t.Fatal(err)
		}
		for {
			more, err := r.Next(&it)
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				return
			}
		}
	}
	if n := testing.AllocsPerRun(100, decode); n != 0 {
		t.Errorf("decoding allocates %v times", n)
	}
	dst := make([]byte, 0, 64<<10)
	encode := func() {
		dst = AppendHeader(dst[:0], 0)
		for i := range golden {
			dst = AppendItem(dst, &golden[i].item)
		}
	}
	if n := testing.AllocsPerRun(100, encode); n != 0 {
		t.Errorf("encoding allocates %v times", n)
	}
}

func FuzzReader(f *testing.F) {
	all := AppendHeader(nil, 3)
	for i := range golden {
		all = AppendItem(all, &golden[i].item)
		f.Add(AppendItem(AppendHeader(nil, 0), &golden[i].item))
	}
	f.Add(all)
	f.Add(appendFrame(nil, 3, 128))
	newer := append(AppendHeader(nil, 3), byte(kindSpareMessage)+1, 2, 0, 0, 0, 0xff, 0xff)
	f.Add(append(AppendPulse(newer, &Pulse{Life: 5}), 0xff, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var r Reader
		var it Item
		shard, err := r.Reset(frame)
		if peeked, perr := FrameShard(frame); peeked != shard || (perr == nil) != (err == nil) {
			t.Fatalf("FrameShard %d, %v; Reset %d, %v", peeked, perr, shard, err)
		}
		again := AppendHeader(nil, shard)
		var items []Item
		for err == nil {
			var more bool
			if more, err = r.Next(&it); !more {
				break
			}
			if n := cap(it.Message.Entries) + cap(it.Forward.Entries); n > 4*len(frame)+16 {
				t.Fatalf("%d entries allocated for %d bytes", n, len(frame))
			}
			items = append(items, only(&it))
			again = AppendItem(again, &it)
		}
		if err != nil && !errors.Is(err, smr.ErrCorrupt) {
			t.Fatalf("%v does not wrap ErrCorrupt", err)
		}
		if err != nil && len(items) == 0 {
			return
		}
		if _, got := decodeAll(t, again); !reflect.DeepEqual(got, items) {
			t.Fatalf("written again and read:\n%+v, want\n%+v", got, items)
		}
	})
}

func BenchmarkAppendMessage(b *testing.B) {
	m := raft.Message{Type: raft.MsgAppend, Group: 1, From: 1, To: 2, Term: 3, Index: 1000, LogTerm: 3, Commit: 990}
	for i := range 64 {
		m.Entries = append(m.Entries, smr.Entry{Index: 1001 + uint64(i), Term: 3, Kind: smr.KindCommand, Origin: 1 << 60, Request: uint64(i), Data: make([]byte, 128)})
	}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendMessage(AppendHeader(dst[:0], 0), &m)
	}
	b.SetBytes(int64(len(dst)))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/entry")
}

func BenchmarkNextMessage(b *testing.B) {
	frame := appendFrame(nil, 64, 128)
	var r Reader
	var it Item
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Reset(frame); err != nil {
			b.Fatal(err)
		}
		if more, err := r.Next(&it); !more || err != nil {
			b.Fatal(more, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/entry")
}

func BenchmarkHeartbeat(b *testing.B) {
	m := raft.Message{Type: raft.MsgHeartbeat, Group: 7, From: 1, To: 2, Term: 3, Commit: 990, Round: 12}
	var dst []byte
	var r Reader
	var it Item
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendMessage(AppendHeader(dst[:0], 0), &m)
		if _, err := r.Reset(dst); err != nil {
			b.Fatal(err)
		}
		if more, err := r.Next(&it); !more || err != nil {
			b.Fatal(more, err)
		}
	}
}
