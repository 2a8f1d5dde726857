package e2e

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func opPut(key, value string) *pb.RequestOp {
	return opPutReq(&pb.PutRequest{Key: b(key), Value: b(value)})
}

func opPutReq(req *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: req}}
}

func opGet(req *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: req}}
}

func opAll() *pb.RequestOp { return opGet(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}) }

func opDel(req *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: req}}
}

func opDelKey(key string) *pb.RequestOp { return opDel(&pb.DeleteRangeRequest{Key: b(key)}) }

func opTxn(req *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: req}}
}

func ops(all ...*pb.RequestOp) []*pb.RequestOp { return all }

func cmpValue(key string, result pb.Compare_CompareResult, value string) *pb.Compare {
	return &pb.Compare{Key: b(key), Result: result, Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: b(value)}}
}

// compareWith returns a comparison of the target with the number n.
func compareWith(target pb.Compare_CompareTarget, n int64) *pb.Compare {
	c := &pb.Compare{Target: target}
	switch target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: n}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: n}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: n}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: n}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: b(fmt.Sprint(n))}
	}
	return c
}

// decide runs a transaction that writes nothing and tells which branch ran.
func decide(s *script, compares ...*pb.Compare) { s.txn(&pb.TxnRequest{Compare: compares}) }

var txnCases = []conformanceCase{
	{"txn/every target and operator", func(s *script) {
		s.set("a", "2") // create 1
		s.set("a", "4") // mod 2, version 2
		s.set("a", "5") // mod 3, version 3
		for target := range pb.Compare_CompareTarget(len(pb.Compare_CompareTarget_name)) {
			for result := range pb.Compare_CompareResult(len(pb.Compare_CompareResult_name)) {
				for n := int64(-1); n <= 6; n++ {
					value := n
					if target == pb.Compare_CREATE || target == pb.Compare_MOD {
						value = s.at(n)
					}
					for _, key := range []string{"a", "nothing"} {
						c := compareWith(target, value)
						c.Key, c.Result = b(key), result
						decide(s, c)
					}
				}
			}
		}
	}},
	{"txn/compare with zero", func(s *script) {
		s.set("a", "")
		for target := range pb.Compare_CompareTarget(len(pb.Compare_CompareTarget_name)) {
			for result := range pb.Compare_CompareResult(len(pb.Compare_CompareResult_name)) {
				for _, key := range []string{"a", "nothing"} {
					c := compareWith(target, 0)
					c.Key, c.Result = b(key), result
					decide(s, c)
					// Without the number: it counts as zero.
					decide(s, &pb.Compare{Key: b(key), Result: result, Target: target})
					// With another target's number.
					decide(s, &pb.Compare{Key: b(key), Result: result, Target: target, TargetUnion: &pb.Compare_Lease{Lease: 5}})
				}
			}
		}
		decide(s, cmpValue("a", pb.Compare_EQUAL, ""))
		decide(s, cmpValue("nothing", pb.Compare_EQUAL, ""))
		decide(s, cmpValue("nothing", pb.Compare_NOT_EQUAL, "x"))
	}},
	{"txn/unknown target and operator", func(s *script) {
		s.set("a", "1")
		decide(s, &pb.Compare{Key: b("a"), Target: 17})
		decide(s, &pb.Compare{Key: b("a"), Result: 17, TargetUnion: &pb.Compare_Version{Version: 1}})
		decide(s, &pb.Compare{Key: b("nothing"), Result: 17, Target: 17})
		decide(s, &pb.Compare{Key: b("nothing"), Result: 17, Target: pb.Compare_VALUE})
	}},
	{"txn/compare over a range", func(s *script) {
		fill(s)
		for _, r := range [][2]string{{"b/", "b0"}, {"a", "z"}, {"\x00", "\x00"}, {"c", "\x00"}, {"x", "z"}, {"c", "a"}, {"a", "a"}} {
			for target := range pb.Compare_CompareTarget(len(pb.Compare_CompareTarget_name)) {
				for result := range pb.Compare_CompareResult(len(pb.Compare_CompareResult_name)) {
					for _, n := range []int64{0, 1, 4, 100} {
						if n != 0 && (target == pb.Compare_CREATE || target == pb.Compare_MOD) {
							n = s.at(n)
						}
						c := compareWith(target, n)
						c.Key, c.RangeEnd, c.Result = b(r[0]), b(r[1]), result
						decide(s, c)
					}
				}
			}
		}
		decide(s, &pb.Compare{Key: b("b/"), RangeEnd: b("b0"), Result: pb.Compare_GREATER, Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: b("l")}})
		decide(s, &pb.Compare{Key: b("b/"), RangeEnd: b("b0"), Result: pb.Compare_GREATER, Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: b("n")}})
	}},
	{"txn/branches", func(s *script) {
		s.set("a", "1")
		for _, v := range []string{"1", "2"} {
			s.txn(&pb.TxnRequest{
				Compare: []*pb.Compare{cmpValue("a", pb.Compare_EQUAL, v)},
				Success: ops(opPut("yes", v), opGet(&pb.RangeRequest{Key: b("yes")})),
				Failure: ops(opPut("no", v), opDelKey("a"), opAll()),
			})
		}
		s.txn(&pb.TxnRequest{
			Compare: []*pb.Compare{cmpValue("yes", pb.Compare_EQUAL, "1"), cmpValue("no", pb.Compare_EQUAL, "wrong")},
			Success: ops(opPut("both", "1")),
		})
		s.all()
	}},
	{"txn/empty", func(s *script) {
		s.txn(&pb.TxnRequest{})
		s.set("a", "1")
		s.txn(&pb.TxnRequest{})
		s.txn(&pb.TxnRequest{Compare: []*pb.Compare{cmpValue("a", pb.Compare_EQUAL, "2")}})
		s.txn(&pb.TxnRequest{Success: ops(opTxn(&pb.TxnRequest{}))})
		s.all()
	}},
	{"txn/reads see the writes before them", func(s *script) {
		s.set("a", "0")
		s.txn(&pb.TxnRequest{Success: ops(
			opAll(), opPut("b", "1"), opAll(), opDelKey("a"), opAll(), opPutReq(&pb.PutRequest{Key: b("c"), Value: b("1"), PrevKv: true}),
			opAll(), opDel(&pb.DeleteRangeRequest{Key: b("d"), RangeEnd: b("z"), PrevKv: true}), opAll())})
		s.txn(&pb.TxnRequest{Success: ops(opDelKey("b"), opDelKey("b"), opDel(&pb.DeleteRangeRequest{Key: b("b"), RangeEnd: b("d"), PrevKv: true}), opAll())})
		s.all()
		for rev := range int64(4) {
			s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: s.at(rev)})
		}
	}},
	{"txn/reads at a revision", func(s *script) {
		s.set("a", "0")
		s.set("a", "1")
		for rev := range int64(6) {
			at := &pb.RangeRequest{Key: b("a"), RangeEnd: b("z"), Revision: s.at(rev)}
			s.txn(&pb.TxnRequest{Success: ops(opGet(at))})
			s.txn(&pb.TxnRequest{Success: ops(opPut("w", "1"), opGet(at), opPut("x", "1"))})
		}
		s.txn(&pb.TxnRequest{Success: ops(opGet(&pb.RangeRequest{Key: b("a"), Revision: -3}))})
		s.txn(&pb.TxnRequest{Success: ops(opPut("w", "2"), opGet(&pb.RangeRequest{Key: b("a"), Revision: -3}))})
		s.all()
	}},
	{"txn/range options inside", func(s *script) {
		fill(s)
		all := func(f func(r *pb.RangeRequest)) *pb.RequestOp {
			r := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
			f(r)
			return opGet(r)
		}
		s.txn(&pb.TxnRequest{Success: ops(
			opPut("b/2", "changed"),
			all(func(r *pb.RangeRequest) { r.Limit = 2 }),
			all(func(r *pb.RangeRequest) { r.CountOnly = true }),
			all(func(r *pb.RangeRequest) { r.KeysOnly = true }),
			all(func(r *pb.RangeRequest) {
				r.SortTarget, r.SortOrder, r.Limit = pb.RangeRequest_MOD, pb.RangeRequest_DESCEND, 3
			}),
			all(func(r *pb.RangeRequest) { r.MinModRevision = s.at(9) }),
			all(func(r *pb.RangeRequest) { r.MaxCreateRevision, r.Serializable = s.at(3), true }),
		)})
		s.txn(&pb.TxnRequest{Success: ops(all(func(r *pb.RangeRequest) { r.SortOrder = 8 }))})
		s.txn(&pb.TxnRequest{Success: ops(all(func(r *pb.RangeRequest) { r.Serializable, r.Limit, r.KeysOnly = true, 2, true }))})
	}},
	{"txn/nested", func(s *script) {
		s.set("a", "1")
		inner := func(want string) *pb.RequestOp {
			return opTxn(&pb.TxnRequest{
				Compare: []*pb.Compare{cmpValue("a", pb.Compare_EQUAL, want)},
				Success: ops(opPut("inner", "yes"), opTxn(&pb.TxnRequest{
					Compare: []*pb.Compare{cmpValue("inner", pb.Compare_EQUAL, "yes")},
					Success: ops(opPut("innermost", "saw the write")),
					Failure: ops(opPut("innermost", "saw the state before"), opAll()),
				})),
				Failure: ops(opPut("inner", "no"), opGet(&pb.RangeRequest{Key: b("inner")})),
			})
		}
		s.txn(&pb.TxnRequest{Success: ops(inner("1"))})
		s.txn(&pb.TxnRequest{Success: ops(opPut("a", "2"), inner("2"), opAll())})
		s.txn(&pb.TxnRequest{Success: ops(inner("2"), opPut("a", "3"))})
		s.txn(&pb.TxnRequest{Compare: []*pb.Compare{cmpValue("a", pb.Compare_EQUAL, "0")}, Failure: ops(inner("0"), opTxn(&pb.TxnRequest{Success: ops(opAll())}))})
		s.all()
	}},
	{"txn/two nested decide on the state before", func(s *script) {
		s.set("a", "1")
		s.txn(&pb.TxnRequest{Success: ops(
			opTxn(&pb.TxnRequest{Success: ops(opPut("b", "1"))}),
			opTxn(&pb.TxnRequest{
				Compare: []*pb.Compare{cmpValue("b", pb.Compare_EQUAL, "1")},
				Success: ops(opPut("c", "then")), Failure: ops(opPut("c", "else")),
			}),
			opTxn(&pb.TxnRequest{
				Compare: []*pb.Compare{cmpValue("a", pb.Compare_NOT_EQUAL, "1")},
				Success: ops(opPut("d", "then"), opTxn(&pb.TxnRequest{Success: ops(opPut("e", "then"))})),
				Failure: ops(opPut("d", "else"), opTxn(&pb.TxnRequest{Success: ops(opPut("e", "else"))})),
			}),
		)})
		s.all()
	}},
	{"txn/duplicate keys", func(s *script) {
		s.set("a", "1")
		then := func(all ...*pb.RequestOp) *pb.RequestOp { return opTxn(&pb.TxnRequest{Success: all}) }
		both := func(yes, no *pb.RequestOp) *pb.RequestOp {
			return opTxn(&pb.TxnRequest{Success: ops(yes), Failure: ops(no)})
		}
		ab := opDel(&pb.DeleteRangeRequest{Key: b("a"), RangeEnd: b("c")})
		for _, all := range [][]*pb.RequestOp{
			ops(opPut("a", "1"), opPut("a", "2")),
			ops(opPut("a", "1"), opPut("b", "2")),
			ops(opPut("a", "1"), opDelKey("a")),
			ops(opDelKey("a"), opPut("a", "1")),
			ops(opDelKey("a"), opDelKey("a")),
			ops(ab, opPut("b", "1")),
			ops(ab, opPut("c", "1")),
			ops(opPut("b", "1"), ab),
			ops(ab, ab),
			ops(opPut("a", "1"), then(opPut("a", "2"))),
			ops(then(opPut("a", "1")), then(opPut("a", "2"))),
			ops(then(opPut("a", "1")), opPut("b", "2")),
			ops(both(opPut("a", "1"), opPut("a", "2"))),
			ops(both(opPut("a", "1"), opPut("a", "2")), opPut("a", "3")),
			ops(both(opPut("a", "1"), opPut("b", "2")), both(opPut("c", "1"), opPut("b", "2"))),
			ops(then(opDelKey("a")), opPut("a", "1")),
			ops(opPut("a", "1"), then(opDelKey("a"))),
			ops(then(opDelKey("a")), then(opPut("a", "1"))),
			ops(then(opPut("a", "1")), then(opDelKey("a"))),
			ops(then(ab), opPut("b", "1")),
			ops(both(opDelKey("a"), opPut("a", "1"))),
			ops(then(then(opPut("a", "1"))), then(then(opPut("a", "1")))),
			ops(then(then(ab)), opPut("b", "1")),
		} {
			s.txn(&pb.TxnRequest{Success: all})
			s.txn(&pb.TxnRequest{Failure: all}) // checked though it does not run
		}
		s.txn(&pb.TxnRequest{Success: ops(opPut("a", "1")), Failure: ops(opPut("a", "2"))})
		s.all()
	}},
	{"txn/duplicate keys, open-ended delete", func(s *script) {
		s.set("b", "1")
		from := opDel(&pb.DeleteRangeRequest{Key: b("a"), RangeEnd: []byte{0}, PrevKv: true})
		s.txn(&pb.TxnRequest{Success: ops(from, opPut("b", "2"))})
		s.txn(&pb.TxnRequest{Success: ops(opPut("b", "3"), from)})
		s.all()
	}},
	{"txn/operation limit", func(s *script) {
		many := func(n int) []*pb.RequestOp {
			var all []*pb.RequestOp
			for i := range n {
				all = append(all, opPut(fmt.Sprintf("k%03d", i), "v"))
			}
			return all
		}
		compares := func(n int) []*pb.Compare {
			var all []*pb.Compare
			for range n {
				all = append(all, compareWithKey("a"))
			}
			return all
		}
		s.txn(&pb.TxnRequest{Success: many(128)})
		s.txn(&pb.TxnRequest{Success: many(129)})
		s.txn(&pb.TxnRequest{Failure: many(129)})
		s.txn(&pb.TxnRequest{Success: many(128), Failure: many(128), Compare: compares(128)})
		s.txn(&pb.TxnRequest{Compare: compares(129)})
		// A nested transaction has what the outer one leaves.
		s.txn(&pb.TxnRequest{Success: ops(opTxn(&pb.TxnRequest{Success: many(127)}))})
		s.txn(&pb.TxnRequest{Success: ops(opTxn(&pb.TxnRequest{Success: many(128)}))})
		s.txn(&pb.TxnRequest{Success: append(many(64), opTxn(&pb.TxnRequest{Failure: many(63)}))})
		s.txn(&pb.TxnRequest{Success: append(many(64), opTxn(&pb.TxnRequest{Failure: many(64)}))})
		s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true})
	}},
	{"txn/invalid operations", func(s *script) {
		s.set("a", "1")
		for _, op := range []*pb.RequestOp{
			{},
			opPut("", "1"),
			opGet(&pb.RangeRequest{}),
			opDel(&pb.DeleteRangeRequest{}),
			opGet(&pb.RangeRequest{Key: b("a"), SortTarget: 12}),
			opPutReq(&pb.PutRequest{Key: b("a"), Value: b("1"), IgnoreValue: true}),
			opPutReq(&pb.PutRequest{Key: b("a"), Lease: 3, IgnoreLease: true}),
			opPutReq(&pb.PutRequest{Key: b("nothing"), IgnoreValue: true}),
			opPutReq(&pb.PutRequest{Key: b("nothing"), IgnoreLease: true}),
			opPutReq(&pb.PutRequest{Key: b("a"), Lease: 123456}),
			opTxn(&pb.TxnRequest{Success: ops(opPut("", "1"))}),
			opTxn(&pb.TxnRequest{Success: ops(opPutReq(&pb.PutRequest{Key: b("nothing"), IgnoreValue: true}))}),
			opTxn(&pb.TxnRequest{Compare: []*pb.Compare{{}}}),
		} {
			s.txn(&pb.TxnRequest{Success: ops(opPut("first", "must not stay"), op)})
			s.txn(&pb.TxnRequest{Failure: ops(op)})
		}
		s.txn(&pb.TxnRequest{Compare: []*pb.Compare{{Target: pb.Compare_VERSION}}})
		s.all()
	}},
	{"txn/put options inside", func(s *script) {
		s.set("a", "1")
		s.txn(&pb.TxnRequest{Success: ops(
			opPutReq(&pb.PutRequest{Key: b("a"), IgnoreValue: true, PrevKv: true}),
			opPutReq(&pb.PutRequest{Key: b("b"), Value: b("new"), PrevKv: true}),
			opGet(&pb.RangeRequest{Key: b("a"), RangeEnd: b("c")}))})
		s.txn(&pb.TxnRequest{Success: ops(
			opPutReq(&pb.PutRequest{Key: b("a"), Value: b("2"), IgnoreLease: true, PrevKv: true}),
			opDel(&pb.DeleteRangeRequest{Key: b("b"), PrevKv: true}))})
		s.all()
	}},
}

func compareWithKey(key string) *pb.Compare {
	c := compareWith(pb.Compare_VERSION, 0)
	c.Key = b(key)
	return c
}
