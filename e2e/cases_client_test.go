package e2e

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// do sends an operation of etcd's own client.
func (s *script) do(what string, op clientv3.Op) {
	resp, err := s.target.client.Do(s.ctx, op)
	if err != nil {
		s.record(what, nil, err)
		return
	}
	var m proto.Message
	switch {
	case resp.Get() != nil:
		m = (*pb.RangeResponse)(resp.Get())
	case resp.Put() != nil:
		m = (*pb.PutResponse)(resp.Put())
	case resp.Del() != nil:
		m = (*pb.DeleteRangeResponse)(resp.Del())
	case resp.Txn() != nil:
		m = (*pb.TxnResponse)(resp.Txn())
	}
	s.record(what, m, nil)
}

var clientCases = []conformanceCase{
	{"clientv3/operations", func(s *script) {
		for i := range 5 {
			s.do("put", clientv3.OpPut(fmt.Sprintf("k/%d", i), fmt.Sprint(9-i), clientv3.WithPrevKV()))
		}
		s.do("prefix", clientv3.OpGet("k/", clientv3.WithPrefix()))
		s.do("from key", clientv3.OpGet("k/2", clientv3.WithFromKey(), clientv3.WithKeysOnly()))
		s.do("everything", clientv3.OpGet("", clientv3.WithFromKey(), clientv3.WithCountOnly()))
		s.do("range", clientv3.OpGet("k/1", clientv3.WithRange("k/3"), clientv3.WithSerializable()))
		s.do("sort", clientv3.OpGet("k/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByValue, clientv3.SortDescend), clientv3.WithLimit(2)))
		s.do("first created", clientv3.OpGet("k/", clientv3.WithFirstCreate()...))
		s.do("last revision", clientv3.OpGet("k/", clientv3.WithLastRev()...))
		s.do("first key", clientv3.OpGet("k/", clientv3.WithFirstKey()...))
		s.do("revision", clientv3.OpGet("k/", clientv3.WithPrefix(), clientv3.WithRev(s.at(3))))
		s.do("future", clientv3.OpGet("k/", clientv3.WithRev(s.at(300))))
		s.do("min mod", clientv3.OpGet("k/", clientv3.WithPrefix(), clientv3.WithMinModRev(s.at(4))))
		s.do("empty key", clientv3.OpPut("", "x"))
		s.do("ignore value", clientv3.OpPut("k/0", "", clientv3.WithIgnoreValue()))
		s.do("ignore value of none", clientv3.OpPut("none", "", clientv3.WithIgnoreValue()))
		s.do("lease", clientv3.OpPut("k/0", "", clientv3.WithLease(99)))
		s.do("delete", clientv3.OpDelete("k/", clientv3.WithPrefix(), clientv3.WithPrevKV()))
		s.do("delete none", clientv3.OpDelete("k/", clientv3.WithPrefix(), clientv3.WithPrevKV()))
	}},
	{"clientv3/transactions", func(s *script) {
		for i := range 3 {
			resp, err := s.target.client.Txn(s.ctx).
				If(clientv3.Compare(clientv3.CreateRevision("lock"), "=", 0), clientv3.Compare(clientv3.Version("x/").WithPrefix(), "<", 5)).
				Then(clientv3.OpPut("lock", fmt.Sprint(i)), clientv3.OpGet("", clientv3.WithFromKey())).
				Else(clientv3.OpGet("lock"), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("x/lost", fmt.Sprint(i))}, nil)).
				Commit()
			s.record(fmt.Sprint("lock by ", i), (*pb.TxnResponse)(resp), err)
		}
		_, err := s.target.client.Txn(s.ctx).Then(clientv3.OpPut("a", "1"), clientv3.OpPut("a", "2")).Commit()
		s.record("duplicate", nil, err)
	}},
	{"clientv3/compaction", func(s *script) {
		s.set("a", "1")
		s.set("a", "2")
		s.set("a", "3")
		resp, err := s.target.client.Compact(s.ctx, s.at(2), clientv3.WithCompactPhysical())
		s.record("compact", (*pb.CompactionResponse)(resp), err)
		s.do("compacted", clientv3.OpGet("a", clientv3.WithRev(s.at(1))))
		s.do("kept", clientv3.OpGet("a", clientv3.WithRev(s.at(2))))
		_, err = s.target.client.Compact(s.ctx, s.at(1))
		s.record("compact again", nil, err)
		_, err = s.target.client.Compact(s.ctx, s.at(100))
		s.record("compact the future", nil, err)
	}},
}
