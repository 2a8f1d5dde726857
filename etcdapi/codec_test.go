package etcdapi

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/mem"
)

// "Every other message goes to gRPC's own codec, and so does a request that this
// one does not understand in full": whatever comes, both codecs make the same of
// it.
func checkDecode(t *testing.T, b []byte) {
	t.Helper()
	for _, two := range [][2]any{{new(pb.PutRequest), new(pb.PutRequest)}, {new(pb.RangeRequest), new(pb.RangeRequest)}} {
		ours, theirs := two[0], two[1]
		// In two pieces, as messages arrive.
		in := mem.BufferSlice{mem.SliceBuffer(b[:len(b)/2]), mem.SliceBuffer(b[len(b)/2:])}
		errOurs, errTheirs := newCodec(new(traffic)).Unmarshal(in, ours), newCodec(new(traffic)).CodecV2.Unmarshal(in, theirs)
		if fmt.Sprint(errOurs) != fmt.Sprint(errTheirs) {
			t.Fatalf("%x as %T: %v, gRPC says %v", b, ours, errOurs, errTheirs)
		}
		if errOurs != nil {
			continue
		}
		if put, ok := ours.(*pb.PutRequest); ok {
			got, want := putOf(put), putOf(theirs.(*pb.PutRequest))
			if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
				t.Fatalf("%x: %#v, want %#v", b, got, want)
			}
		} else {
			got, want := ours.(*pb.RangeRequest), theirs.(*pb.RangeRequest)
			if fmt.Sprintf("%#v", rangeOf(got)) != fmt.Sprintf("%#v", rangeOf(want)) || got.Serializable != want.Serializable ||
				got.SortOrder != want.SortOrder || got.SortTarget != want.SortTarget {
				t.Fatalf("%x: %v, want %v", b, got, want)
			}
		}
		again, err := newCodec(new(traffic)).CodecV2.Marshal(ours)
		want, err2 := newCodec(new(traffic)).CodecV2.Marshal(theirs)
		if err != nil || err2 != nil || !bytes.Equal(again.Materialize(), want.Materialize()) {
			t.Fatalf("%x: %x, want %x (%v, %v)", b, again.Materialize(), want.Materialize(), err, err2)
		}
	}
}

// encoded is a message as gRPC's codec writes it.
func encoded(t testing.TB, v any) []byte {
	t.Helper()
	b, err := newCodec(new(traffic)).CodecV2.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b.Materialize()
}

func requestSeeds(t testing.TB) [][]byte {
	return [][]byte{
		nil,
		encoded(t, &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: -1, PrevKv: true}),
		encoded(t, &pb.PutRequest{Key: []byte("k"), IgnoreValue: true, IgnoreLease: true}),
		encoded(t, &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("z"), Limit: 5, Revision: 9, SortOrder: 2, SortTarget: 4,
			Serializable: true, KeysOnly: true, CountOnly: true, MinModRevision: 1, MaxModRevision: 2, MinCreateRevision: 3, MaxCreateRevision: math.MaxInt64}),
		encoded(t, &pb.RangeRequest{Key: []byte("a"), SortOrder: -1, Limit: math.MinInt64}),
		{0x0a, 0, 0x12, 0},                   // empty bytes that are there
		{0x0a, 1, 'x', 0x0a, 1, 'y'},         // a field twice
		{0x0a, 1, 'x', 0x7a, 1, 'y'},         // field 15, which nobody knows
		{0x0a, 1, 'x', 0xa2, 0x06, 1, 'y'},   // field 100
		{0x0a, 1, 'x', 0x1d, 1, 2, 3, 4},     // field 3 as a fixed number
		{0x0a, 2, 'x'},                       // cut off
		{0x08, 1},                            // field 1 as a number
		{0x20, 2},                            // a flag that is 2
		{0x28, 0x80, 0x80, 0x80, 0x80, 0x10}, // an enum above 32 bits
		{0x18, 0x80, 0x00},                   // a longer varint than needed
		{0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, // more than 64 bits
		{0x00, 1}, // field 0
	}
}

func TestCodecDecodes(t *testing.T) {
	for _, b := range requestSeeds(t) {
		checkDecode(t, b)
	}
}

func FuzzCodecDecodes(f *testing.F) {
	for _, b := range requestSeeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkDecode(t, b) })
}

// What the codec reads by hand it does read by hand.
func TestCodecKnowsTheHotRequests(t *testing.T) {
	if !decodePutRequest(requestSeeds(t)[1], new(pb.PutRequest)) || !decodeRangeRequest(requestSeeds(t)[3], new(pb.RangeRequest)) {
		t.Error("refused")
	}
	if decodePutRequest(requestSeeds(t)[7], new(pb.PutRequest)) {
		t.Error("an unknown field was taken")
	}
}

// "What it writes is byte for byte what gRPC's codec writes."
func TestCodecEncodes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	number := func() int64 { return r.Int64() >> r.IntN(64) * int64(1-2*r.IntN(2)) * int64(r.IntN(4)) }
	text := func() []byte { return make([]byte, r.IntN(4)*r.IntN(300)) }
	header := func() *pb.ResponseHeader {
		if r.IntN(8) == 0 {
			return nil
		}
		return &pb.ResponseHeader{ClusterId: uint64(number()), MemberId: uint64(number()), Revision: number(), RaftTerm: uint64(number())}
	}
	keyValue := func() *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: text(), Value: text(), CreateRevision: number(), ModRevision: number(), Version: number(), Lease: number()}
	}
	c := newCodec(new(traffic))
	for range 3000 {
		put := &pb.PutResponse{Header: header()}
		if r.IntN(2) == 0 {
			put.PrevKv = keyValue()
		}
		ranged := &pb.RangeResponse{Header: header(), More: r.IntN(2) == 0, Count: number()}
		for range r.IntN(6) {
			ranged.Kvs = append(ranged.Kvs, keyValue())
		}
		for _, m := range []any{put, ranged, &pb.DeleteRangeResponse{Header: header(), Deleted: number()}} {
			got, err := c.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if want := encoded(t, m); !bytes.Equal(got.Materialize(), want) {
				t.Fatalf("%v: %x, want %x", m, got.Materialize(), want)
			}
			got.Free()
		}
	}
	for _, m := range []any{(*pb.PutResponse)(nil), (*pb.RangeResponse)(nil), &pb.PutResponse{}, &pb.RangeResponse{}, &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{{}}}} {
		got, err := c.Marshal(m)
		if err != nil || !bytes.Equal(got.Materialize(), encoded(t, m)) {
			t.Errorf("%T %v: %x, %v", m, m, got.Materialize(), err)
		}
	}
}

func TestCodecAllocations(t *testing.T) {
	c := newCodec(new(traffic))
	put := encoded(t, &pb.PutRequest{Key: []byte("a key of 16 byte"), Value: make([]byte, 16)})
	in := mem.BufferSlice{mem.SliceBuffer(put)}
	var request pb.PutRequest
	// The key and the value in one piece.
	if n := testing.AllocsPerRun(100, func() { _ = c.Unmarshal(in, &request) }); n > 2 {
		t.Errorf("decoding a put allocates %v times", n)
	}
	response := &pb.PutResponse{Header: &pb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: 3, RaftTerm: 4}}
	// The bytes, their buffer and the slice of one.
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Marshal(response) }); n > 3 {
		t.Errorf("encoding an answer allocates %v times", n)
	}
}

func BenchmarkCodec(b *testing.B) {
	put := mem.BufferSlice{mem.SliceBuffer(encoded(b, &pb.PutRequest{Key: []byte("a key of 16 byte"), Value: make([]byte, 16)}))}
	answer := &pb.RangeResponse{Header: &pb.ResponseHeader{ClusterId: 1 << 60, MemberId: 1 << 61, Revision: 1 << 20, RaftTerm: 2}, Count: 1,
		Kvs: []*mvccpb.KeyValue{{Key: []byte("a key of 16 byte"), Value: make([]byte, 16), CreateRevision: 1 << 19, ModRevision: 1 << 20, Version: 5}}}
	for name, c := range map[string]interface {
		Marshal(any) (mem.BufferSlice, error)
		Unmarshal(mem.BufferSlice, any) error
	}{"quorate": newCodec(new(traffic)), "grpc": newCodec(new(traffic)).CodecV2} {
		b.Run(name+"/put", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = c.Unmarshal(put, new(pb.PutRequest))
			}
		})
		b.Run(name+"/range", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.Marshal(answer)
			}
		})
	}
}
