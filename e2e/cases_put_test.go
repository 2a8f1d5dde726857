package e2e

import (
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

var putCases = []conformanceCase{
	{"put/plain", func(s *script) {
		s.set("a", "1")
		s.get(&pb.RangeRequest{Key: b("a")})
		s.set("a", "2")
		s.get(&pb.RangeRequest{Key: b("a")})
		s.set("b", "")
		s.get(&pb.RangeRequest{Key: b("b")})
		s.set("\x00", "zero byte")
		s.set("\xff\xff", "high bytes")
		s.set("a\x00b", "zero inside")
		s.all()
	}},
	{"put/prev_kv", func(s *script) {
		s.put(&pb.PutRequest{Key: b("a"), Value: b("1"), PrevKv: true})
		s.put(&pb.PutRequest{Key: b("a"), Value: b("2"), PrevKv: true})
		s.put(&pb.PutRequest{Key: b("a"), PrevKv: true})
		s.put(&pb.PutRequest{Key: b("a"), Value: b("3"), PrevKv: true})
		s.del(&pb.DeleteRangeRequest{Key: b("a")})
		s.put(&pb.PutRequest{Key: b("a"), Value: b("4"), PrevKv: true})
		s.all()
	}},
	{"put/ignore_value", func(s *script) {
		s.put(&pb.PutRequest{Key: b("a"), IgnoreValue: true})
		s.set("a", "1")
		s.put(&pb.PutRequest{Key: b("a"), IgnoreValue: true})
		s.put(&pb.PutRequest{Key: b("a"), IgnoreValue: true, PrevKv: true})
		s.put(&pb.PutRequest{Key: b("a"), Value: b("2"), IgnoreValue: true})
		s.get(&pb.RangeRequest{Key: b("a")})
		s.del(&pb.DeleteRangeRequest{Key: b("a")})
		s.put(&pb.PutRequest{Key: b("a"), IgnoreValue: true})
		s.all()
	}},
	{"put/ignore_lease", func(s *script) {
		s.put(&pb.PutRequest{Key: b("a"), Value: b("1"), IgnoreLease: true})
		s.set("a", "1")
		s.put(&pb.PutRequest{Key: b("a"), Value: b("2"), IgnoreLease: true})
		s.put(&pb.PutRequest{Key: b("a"), IgnoreLease: true, IgnoreValue: true, PrevKv: true})
		s.put(&pb.PutRequest{Key: b("a"), Value: b("2"), Lease: 77, IgnoreLease: true})
		s.all()
	}},
	{"put/lease not found", func(s *script) {
		s.put(&pb.PutRequest{Key: b("a"), Value: b("1"), Lease: 123456789})
		s.put(&pb.PutRequest{Key: b("a"), Value: b("1"), Lease: -1})
		s.put(&pb.PutRequest{Key: b("a"), Lease: 123456789, IgnoreValue: true})
		s.all()
	}},
	{"put/empty key", func(s *script) {
		s.put(&pb.PutRequest{Value: b("1")})
		s.put(&pb.PutRequest{})
		s.put(&pb.PutRequest{IgnoreValue: true, Value: b("1")})
		s.get(&pb.RangeRequest{})
		s.get(&pb.RangeRequest{RangeEnd: b("z")})
		s.del(&pb.DeleteRangeRequest{})
		s.del(&pb.DeleteRangeRequest{RangeEnd: b("z")})
		s.all()
	}},
	{"put/size", func(s *script) {
		s.set("mib", strings.Repeat("x", 1<<20))
		s.get(&pb.RangeRequest{Key: b("mib"), KeysOnly: true})
		// etcd's limit for a request is 1.5 MiB; its gRPC server takes 512 KiB more.
		s.set("limit", strings.Repeat("x", 3<<19))
		s.set("over", strings.Repeat("x", 3<<19+1000))
		s.set("far over", strings.Repeat("x", 3<<20))
		s.set(strings.Repeat("k", 3<<19+1000), "")
		s.set("after", "1")
		s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, KeysOnly: true})
	}},
	{"put/versions over delete and create again", func(s *script) {
		for range 3 {
			s.set("a", "x")
			s.set("a", "y")
			s.set("other", "z")
			s.get(&pb.RangeRequest{Key: b("a")})
			s.del(&pb.DeleteRangeRequest{Key: b("a"), PrevKv: true})
			s.get(&pb.RangeRequest{Key: b("a")})
		}
		for rev := range int64(14) {
			s.get(&pb.RangeRequest{Key: b("a"), Revision: s.at(rev)})
		}
		s.all()
	}},
	{"put/header revisions", func(s *script) {
		s.get(&pb.RangeRequest{Key: b("none")})
		s.set("a", "1")
		s.get(&pb.RangeRequest{Key: b("none")})
		s.set("b", "1")
		s.get(&pb.RangeRequest{Key: b("a")})
		s.get(&pb.RangeRequest{Key: b("a"), Revision: s.at(1)})
		s.del(&pb.DeleteRangeRequest{Key: b("none")})
		s.del(&pb.DeleteRangeRequest{Key: b("a")})
		s.txn(&pb.TxnRequest{})
		s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opGet(&pb.RangeRequest{Key: b("b")})}})
		s.txn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("b", "2"), opPut("c", "2")}})
		s.all()
	}},
}

var deleteCases = []conformanceCase{
	{"delete/one", func(s *script) {
		s.del(&pb.DeleteRangeRequest{Key: b("a")})
		s.del(&pb.DeleteRangeRequest{Key: b("a"), PrevKv: true})
		s.set("a", "1")
		s.set("aa", "1")
		s.del(&pb.DeleteRangeRequest{Key: b("a"), PrevKv: true})
		s.del(&pb.DeleteRangeRequest{Key: b("a"), PrevKv: true})
		s.all()
	}},
	{"delete/range", func(s *script) {
		fill(s)
		s.del(&pb.DeleteRangeRequest{Key: b("b"), RangeEnd: b("c"), PrevKv: true})
		s.del(&pb.DeleteRangeRequest{Key: b("b"), RangeEnd: b("c"), PrevKv: true})
		s.all()
		s.del(&pb.DeleteRangeRequest{Key: b("c"), RangeEnd: b("c")})
		s.del(&pb.DeleteRangeRequest{Key: b("d"), RangeEnd: b("c")})
		s.all()
	}},
	{"delete/prefix", func(s *script) {
		fill(s)
		s.del(&pb.DeleteRangeRequest{Key: b("b/"), RangeEnd: b("b0")})
		s.all()
		s.get(&pb.RangeRequest{Key: b("b/"), RangeEnd: b("b0"), Revision: s.at(9)})
	}},
	{"delete/from key", func(s *script) {
		fill(s)
		s.del(&pb.DeleteRangeRequest{Key: b("b/2"), RangeEnd: []byte{0}, PrevKv: true})
		s.all()
	}},
	{"delete/all", func(s *script) {
		fill(s)
		s.del(&pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true})
		s.all()
		s.del(&pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true})
		s.set("a", "again")
		s.all()
	}},
}

// fill writes nine keys at revisions 1 to 12; no two agree in the order of
// their versions, creations, modifications and values.
func fill(s *script) {
	for _, kv := range [][2]string{
		{"b/3", "m"}, {"a", "z"}, {"b/1", "q"}, {"d", "c"}, {"b/2", "x"}, {"b", "f"}, {"c", "a"}, {"b0", "y"}, {"a\x00", "k"},
		{"b/1", "e"}, {"d", "w"}, {"b/1", "p"},
	} {
		s.set(kv[0], kv[1])
	}
}
