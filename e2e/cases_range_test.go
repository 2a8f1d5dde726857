package e2e

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

var rangeCases = []conformanceCase{
	{"range/bounds", func(s *script) {
		fill(s)
		for _, r := range [][2]string{
			{"a", ""}, {"b", "c"}, {"b/", "b0"}, {"a", "a"}, {"c", "a"}, {"b/2", "\x00"}, {"\x00", "\x00"},
			{"zzz", "\x00"}, {"\x00", "a"}, {"\x00", "a\x00"}, {"a", "\xff"}, {"a", "\x00\x00"}, {"nothing", ""},
			{"d", "e"}, {"b/1", "b/1\x00"}, {"\x00", ""},
		} {
			s.get(&pb.RangeRequest{Key: b(r[0]), RangeEnd: b(r[1])})
		}
	}},
	{"range/limit, more and count", func(s *script) {
		fill(s)
		for _, limit := range []int64{1, 2, 8, 9, 10, 1000, 1<<63 - 1, -1} {
			s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Limit: limit})
			s.get(&pb.RangeRequest{Key: b("b"), RangeEnd: b("c"), Limit: limit})
			s.get(&pb.RangeRequest{Key: b("b"), RangeEnd: b("c"), Limit: limit, SortOrder: pb.RangeRequest_DESCEND})
			s.get(&pb.RangeRequest{Key: b("b"), RangeEnd: b("c"), Limit: limit, KeysOnly: true})
			s.get(&pb.RangeRequest{Key: b("b"), RangeEnd: b("c"), Limit: limit, CountOnly: true})
			s.get(&pb.RangeRequest{Key: b("b"), RangeEnd: b("c"), Limit: limit, MinModRevision: s.at(4)})
			s.get(&pb.RangeRequest{Key: b("a"), Limit: limit})
			s.get(&pb.RangeRequest{Key: b("nothing"), Limit: limit})
		}
	}},
	{"range/sort", func(s *script) {
		fill(s)
		for target := range pb.RangeRequest_SortTarget(len(pb.RangeRequest_SortTarget_name)) {
			for order := range pb.RangeRequest_SortOrder(len(pb.RangeRequest_SortOrder_name)) {
				for _, limit := range []int64{0, 3} {
					for _, keysOnly := range []bool{false, true} {
						s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0},
							SortTarget: target, SortOrder: order, Limit: limit, KeysOnly: keysOnly})
					}
				}
				s.get(&pb.RangeRequest{Key: b("b"), RangeEnd: b("c"), SortTarget: target, SortOrder: order, CountOnly: true})
				s.get(&pb.RangeRequest{Key: b("b"), RangeEnd: b("c"), SortTarget: target, SortOrder: order, Revision: s.at(8)})
			}
		}
	}},
	{"range/sort with equal values", func(s *script) {
		// One transaction: all keys have one revision, version and value, so
		// only the key can order them. Twelve keys, since etcd's sort keeps the
		// order of equals up to there and leaves it open beyond.
		var ops []*pb.RequestOp
		for i := range 12 {
			ops = append(ops, opPut(fmt.Sprintf("k%02d", (i*5)%12), "same"))
		}
		s.txn(&pb.TxnRequest{Success: ops})
		for target := range pb.RangeRequest_SortTarget(len(pb.RangeRequest_SortTarget_name)) {
			for order := range pb.RangeRequest_SortOrder(len(pb.RangeRequest_SortOrder_name)) {
				s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, SortTarget: target, SortOrder: order, Limit: 5})
			}
		}
	}},
	{"range/sort of many", func(s *script) {
		for i := range 30 {
			s.set(fmt.Sprintf("k%02d", i*7%30), fmt.Sprintf("v%02d", i*11%30))
		}
		for _, target := range []pb.RangeRequest_SortTarget{pb.RangeRequest_KEY, pb.RangeRequest_CREATE, pb.RangeRequest_MOD, pb.RangeRequest_VALUE} {
			for order := range pb.RangeRequest_SortOrder(len(pb.RangeRequest_SortOrder_name)) {
				s.get(&pb.RangeRequest{Key: b("k"), RangeEnd: b("l"), SortTarget: target, SortOrder: order, Limit: 20})
			}
		}
	}},
	{"range/sort with unknown options", func(s *script) {
		fill(s)
		s.get(&pb.RangeRequest{Key: b("a"), SortOrder: 3})
		s.get(&pb.RangeRequest{Key: b("a"), SortOrder: -1})
		s.get(&pb.RangeRequest{Key: b("a"), SortTarget: 5})
		s.get(&pb.RangeRequest{Key: b("a"), SortTarget: 99, SortOrder: 99})
	}},
	{"range/revisions", func(s *script) {
		fill(s)
		s.del(&pb.DeleteRangeRequest{Key: b("b/"), RangeEnd: b("b0")})
		s.set("b/2", "again")
		for rev := range int64(17) {
			s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: s.at(rev)})
			s.get(&pb.RangeRequest{Key: b("b"), RangeEnd: b("c"), Revision: s.at(rev), CountOnly: true})
			s.get(&pb.RangeRequest{Key: b("b"), RangeEnd: b("c"), Revision: s.at(rev), KeysOnly: true, Limit: 2})
			s.get(&pb.RangeRequest{Key: b("b/2"), Revision: s.at(rev), Serializable: true})
		}
		s.get(&pb.RangeRequest{Key: b("a"), Revision: -1})
		s.get(&pb.RangeRequest{Key: b("a"), Revision: s.at(1000000)})
		s.get(&pb.RangeRequest{Key: b("nothing"), Revision: s.at(1000000)})
		s.get(&pb.RangeRequest{Key: b("a"), RangeEnd: b("z"), Revision: s.at(1000000), CountOnly: true})
	}},
	{"range/min and max revisions", func(s *script) {
		fill(s)
		for lo := int64(1); lo <= 13; lo += 3 {
			for hi := int64(2); hi <= 14; hi += 4 {
				s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, MinModRevision: s.at(lo), MaxModRevision: s.at(hi)})
				s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, MinCreateRevision: s.at(lo), MaxCreateRevision: s.at(hi), Limit: 2})
				s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, MinModRevision: s.at(lo), MaxCreateRevision: s.at(hi),
					SortTarget: pb.RangeRequest_VALUE, SortOrder: pb.RangeRequest_DESCEND})
				s.get(&pb.RangeRequest{Key: b("a"), RangeEnd: b("z"), MaxModRevision: s.at(lo), KeysOnly: true})
				s.get(&pb.RangeRequest{Key: b("a"), RangeEnd: b("z"), MinCreateRevision: s.at(hi), CountOnly: true})
				s.get(&pb.RangeRequest{Key: b("a"), RangeEnd: b("z"), MinModRevision: s.at(lo), Revision: s.at(hi)})
			}
		}
		s.get(&pb.RangeRequest{Key: b("a"), RangeEnd: b("z"), MinModRevision: -5, MaxModRevision: 1 << 62})
		s.get(&pb.RangeRequest{Key: b("a"), RangeEnd: b("z"), MaxModRevision: -5})
	}},
	{"range/keys only, count only, serializable", func(s *script) {
		fill(s)
		for i := range 8 {
			s.get(&pb.RangeRequest{Key: b("b"), RangeEnd: b("c"), KeysOnly: i&1 != 0, CountOnly: i&2 != 0, Serializable: i&4 != 0})
			s.get(&pb.RangeRequest{Key: b("a"), KeysOnly: i&1 != 0, CountOnly: i&2 != 0, Serializable: i&4 != 0})
			s.get(&pb.RangeRequest{Key: b("nothing"), KeysOnly: i&1 != 0, CountOnly: i&2 != 0, Serializable: i&4 != 0})
		}
	}},
	{"range/pages", func(s *script) {
		const keys, perTxn, page = 500, 100, 37
		for from := 0; from < keys; from += perTxn {
			var ops []*pb.RequestOp
			for i := range perTxn {
				ops = append(ops, opPut(fmt.Sprintf("page/%05d", from+i), fmt.Sprint(i)))
			}
			s.txn(&pb.TxnRequest{Success: ops})
		}
		read := 0
		for key, more := b("page/"), true; more; {
			resp := s.get(&pb.RangeRequest{Key: key, RangeEnd: b("page0"), Limit: page, Revision: s.at(keys / perTxn)})
			if more = resp.GetMore(); more {
				key = append(resp.Kvs[len(resp.Kvs)-1].Key, 0)
				s.set("page/00000", "a later write does not show at the older revision")
			}
			read += len(resp.GetKvs())
		}
		s.note("keys read by pages", "%d", read)
		if read != keys {
			s.t.Errorf("%s: %d keys read by pages, %d written", s.target.name, read, keys)
		}
	}},
	{"range/stream", func(s *script) {
		fill(s)
		for _, req := range []*pb.RangeRequest{
			{Key: b("a")},
			{Key: b("nothing")},
			{Key: []byte{0}, RangeEnd: []byte{0}},
			{Key: b("b"), RangeEnd: b("c"), Limit: 2},
			{Key: b("b"), RangeEnd: b("c"), Limit: 4},
			{Key: b("b"), RangeEnd: b("c"), KeysOnly: true},
			{Key: b("b"), RangeEnd: b("c"), CountOnly: true},
			{Key: b("b"), RangeEnd: b("c"), Serializable: true},
			{Key: b("b"), RangeEnd: b("c"), Revision: s.at(5)},
			{Key: b("b"), RangeEnd: b("c"), Revision: s.at(500)},
			{Key: b("b"), RangeEnd: b("c"), SortOrder: pb.RangeRequest_ASCEND},
			{Key: b("b"), RangeEnd: b("c"), SortOrder: pb.RangeRequest_DESCEND},
			{Key: b("b"), RangeEnd: b("c"), SortTarget: pb.RangeRequest_MOD},
			{Key: b("b"), RangeEnd: b("c"), MinModRevision: s.at(1)},
			{Key: b("b"), RangeEnd: b("c"), SortOrder: 9},
			{},
		} {
			s.stream(req)
		}
	}},
	{"range/stream of many chunks", func(s *script) {
		for from := 0; from < 2400; from += 120 {
			var ops []*pb.RequestOp
			for i := range 120 {
				ops = append(ops, opPut(fmt.Sprintf("s/%05d", from+i), "v"))
			}
			s.txn(&pb.TxnRequest{Success: ops})
		}
		s.stream(&pb.RangeRequest{Key: b("s/"), RangeEnd: b("s0")})
		s.stream(&pb.RangeRequest{Key: b("s/"), RangeEnd: b("s0"), Limit: 2399})
		s.stream(&pb.RangeRequest{Key: b("s/"), RangeEnd: b("s0"), Limit: 2400})
		s.stream(&pb.RangeRequest{Key: b("s/"), RangeEnd: b("s0"), Revision: s.at(7)})
	}},
}

// stream records what all chunks of a RangeStream amount to: "The result of
// proto.Merge() applied on all responses should result in the same
// RangeResponse response as to the Range() method." (rpc.proto)
func (s *script) stream(req *pb.RangeRequest) {
	request := "RangeStream " + describe(req, s.base)
	merged := &pb.RangeResponse{}
	stream, err := s.target.kv.RangeStream(s.ctx, req)
	for err == nil {
		var chunk *pb.RangeStreamResponse
		if chunk, err = stream.Recv(); err == nil {
			proto.Merge(merged, chunk.RangeResponse)
		}
	}
	if !errors.Is(err, io.EOF) {
		s.record(request, nil, err)
		return
	}
	s.record(request, merged, nil)
	same, err := s.target.kv.Range(s.ctx, req)
	if status.Code(err) != codes.OK {
		s.t.Errorf("%s: %s: %v", s.target.name, request, err)
		return
	}
	want := step{resp: normalise(same, s.base)}
	d := want.difference(step{resp: normalise(merged, s.base)})
	s.note(request+" against Range", "the same: %v", d == "")
}
