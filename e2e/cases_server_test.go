package e2e

import (
	"fmt"
	"io"
	"net/http"
	"sort"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

var compactCases = []conformanceCase{
	{"compact/reads afterwards", func(s *script) {
		fill(s)
		s.del(&pb.DeleteRangeRequest{Key: b("c")})
		s.compact(&pb.CompactionRequest{Revision: s.at(8), Physical: true})
		for rev := int64(5); rev <= 14; rev++ {
			s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: s.at(rev)})
			s.get(&pb.RangeRequest{Key: b("b/1"), Revision: s.at(rev), CountOnly: true})
			s.txn(&pb.TxnRequest{Success: ops(opGet(&pb.RangeRequest{Key: b("b/1"), Revision: s.at(rev)}))})
			s.txn(&pb.TxnRequest{Success: ops(opPut("w", "1"), opGet(&pb.RangeRequest{Key: b("b/1"), Revision: s.at(rev)}))})
		}
		s.stream(&pb.RangeRequest{Key: b("a"), RangeEnd: b("z"), Revision: s.at(3)})
		s.all()
	}},
	{"compact/errors", func(s *script) {
		fill(s)
		s.compact(&pb.CompactionRequest{Revision: s.at(100)})
		s.compact(&pb.CompactionRequest{Revision: s.at(100), Physical: true})
		s.compact(&pb.CompactionRequest{Revision: s.at(6)})
		s.compact(&pb.CompactionRequest{Revision: s.at(6)})
		s.compact(&pb.CompactionRequest{Revision: s.at(6), Physical: true})
		s.compact(&pb.CompactionRequest{Revision: s.at(5)})
		s.compact(&pb.CompactionRequest{Revision: 0})
		s.compact(&pb.CompactionRequest{Revision: -1})
		s.compact(&pb.CompactionRequest{Revision: s.at(7)})
		s.all()
	}},
	{"compact/at the current revision", func(s *script) {
		fill(s)
		s.del(&pb.DeleteRangeRequest{Key: b("b/"), RangeEnd: b("b0")})
		s.compact(&pb.CompactionRequest{Revision: s.at(13), Physical: true})
		s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: s.at(13)})
		s.get(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: s.at(12)})
		s.set("b/1", "again")
		s.get(&pb.RangeRequest{Key: b("b/1")})
		s.get(&pb.RangeRequest{Key: b("b/1"), Revision: s.at(13)})
		s.compact(&pb.CompactionRequest{Revision: s.at(14), Physical: true})
		s.all()
	}},
	{"compact/a deleted key", func(s *script) {
		s.set("a", "1")
		s.del(&pb.DeleteRangeRequest{Key: b("a")})
		s.set("b", "1")
		s.compact(&pb.CompactionRequest{Revision: s.at(2), Physical: true})
		s.get(&pb.RangeRequest{Key: b("a"), Revision: s.at(2)})
		s.set("a", "2")
		s.get(&pb.RangeRequest{Key: b("a")})
		s.get(&pb.RangeRequest{Key: b("a"), Revision: s.at(3)})
	}},
}

var serverCases = []conformanceCase{
	{"server/member list", func(s *script) {
		cl := pb.NewClusterClient(s.target.conn)
		for _, linearizable := range []bool{false, true} {
			resp, err := cl.MemberList(s.ctx, &pb.MemberListRequest{Linearizable: linearizable})
			if err != nil {
				s.record("MemberList", nil, err)
				continue
			}
			// How many there are depends on the target: look at each one's shape.
			ids := map[uint64]bool{}
			for _, m := range resp.Members {
				ids[m.ID] = true
				m.ID, m.Name = 0, strings.TrimRight(m.Name, "0123456789")
				for i := range m.ClientURLs {
					m.ClientURLs[i] = s.urlKind(m.ClientURLs[i])
				}
				for i := range m.PeerURLs {
					m.PeerURLs[i] = s.urlKind(m.PeerURLs[i])
				}
				if m.Name != "m" {
					s.t.Errorf("%s: a member is named %q", s.target.name, m.Name)
				}
			}
			s.note("MemberList: the first member", "%s", describe(resp.Members[0], 0))
			s.note("MemberList: ids", "one for each member: %v, header names one of them: %v",
				len(ids) == len(s.target.members), ids[resp.Header.MemberId])
			s.note("MemberList: header", "%s", shape(resp.Header.ProtoReflect()))
		}
	}},
	{"server/status", func(s *script) {
		s.set("a", "1")
		resp, err := pb.NewMaintenanceClient(s.target.conn).Status(s.ctx, &pb.StatusRequest{})
		if err != nil {
			s.record("Status", nil, err)
			return
		}
		s.note("Status", "%s", shape(resp.ProtoReflect()))
		s.note("Status: version", "has three parts: %v", strings.Count(resp.Version, ".") == 2)
		s.note("Status: header", "%s", shape(resp.Header.ProtoReflect()))
		s.note("Status: revision", "%d", resp.Header.Revision-s.base)
		s.note("Status: order", "applied <= committed: %v, in use <= size: %v",
			resp.RaftAppliedIndex <= resp.RaftIndex, resp.DbSizeInUse <= resp.DbSize)
	}},
	{"server/hash", func(s *script) {
		resp, err := pb.NewMaintenanceClient(s.target.conn).Hash(s.ctx, &pb.HashRequest{})
		if err != nil {
			s.record("Hash", nil, err)
			return
		}
		s.note("Hash", "%s", shape(resp.ProtoReflect()))
	}},
	{"server/hash of kv", func(s *script) {
		fill(s)
		s.compact(&pb.CompactionRequest{Revision: s.at(4), Physical: true})
		mt := pb.NewMaintenanceClient(s.target.conn)
		var before, now uint32
		for _, rev := range []int64{0, 12, 10, 4, 3, 13, 1000} {
			req := &pb.HashKVRequest{}
			if rev != 0 {
				req.Revision = s.at(rev)
			}
			resp, err := mt.HashKV(s.ctx, req)
			if err == nil {
				again, err := mt.HashKV(s.ctx, req)
				s.note("HashKV: twice", "%v, same %v", err, resp.Hash == again.GetHash())
				if rev == 12 {
					before = resp.Hash
				}
				resp.Hash = min(resp.Hash, 1) // how it is computed is each server's own matter
				if rev == 4 {
					// At a compacted revision etcd answers from before the
					// compaction, with whatever revision was compacted before.
					resp.CompactRevision = 0
				}
			}
			s.record(describe(req, s.base), resp, err)
		}
		s.set("later", "x")
		resp, err := mt.HashKV(s.ctx, &pb.HashKVRequest{Revision: s.at(12)})
		now = resp.GetHash()
		s.note("HashKV: of an old revision", "%v, unchanged by a later write: %v", err, before == now)
		resp, err = mt.HashKV(s.ctx, &pb.HashKVRequest{})
		s.note("HashKV: of the newest", "%v, changed: %v", err, resp.GetHash() != before)
	}},
	{"server/alarm", func(s *script) {
		resp, err := pb.NewMaintenanceClient(s.target.conn).Alarm(s.ctx, &pb.AlarmRequest{})
		s.record("Alarm: get", resp, err)
	}},
	{"server/health service", func(s *script) {
		h := grpc_health_v1.NewHealthClient(s.target.conn)
		for _, service := range []string{"", "etcdserverpb.KV", "nothing"} {
			resp, err := h.Check(s.ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
			s.record("health of "+service, resp, err)
		}
	}},
	{"server/unknown service", func(s *script) {
		for _, method := range []string{"/nosuch.Service/Method", "/etcdserverpb.KV/Nothing", "/etcdserverpb.Kv/Range", "nothing"} {
			out := &emptypb.Empty{}
			err := s.target.conn.Invoke(s.ctx, method, &emptypb.Empty{}, out)
			s.record(method, out, err)
		}
	}},
	{"server/malformed message", func(s *script) {
		err := s.target.conn.Invoke(s.ctx, "/etcdserverpb.KV/Range", []byte{0x0a, 0xff}, &emptypb.Empty{}, grpc.ForceCodec(rawCodec{}))
		s.note("a field that is longer than the message", "an error: %v", err != nil)
		s.all()
	}},
	{"server/http health", func(s *script) {
		for _, path := range []string{"/health", "/health?serializable=true", "/livez", "/readyz"} {
			code, body := s.http(path)
			s.note("GET "+path, "%d %s", code, strings.TrimSpace(body))
		}
		code, body := s.http("/version")
		s.note("GET /version", "%d, names etcdserver and etcdcluster: %v", code,
			strings.Contains(body, `"etcdserver"`) && strings.Contains(body, `"etcdcluster"`))
		code, _ = s.http("/metrics")
		s.note("GET /metrics", "%d", code)
		code, _ = s.http("/nothing")
		s.note("GET /nothing", "%d", code)
	}},
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawCodec) Unmarshal([]byte, any) error   { return nil }
func (rawCodec) Name() string                  { return "proto" }

func (s *script) http(path string) (int, string) {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, "http://"+s.target.endpoint+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return resp.StatusCode, err.Error()
	}
	return resp.StatusCode, string(body)
}

// urlKind tells which of its members' configured addresses a URL is.
func (s *script) urlKind(url string) string {
	for _, m := range s.target.members {
		switch url {
		case m.clientURL:
			return "client URL"
		case m.peerURL:
			return "peer URL"
		}
	}
	return "unknown URL " + url
}

// shape lists which fields are set: numbers that differ between any two
// servers must at least be there.
func shape(m protoreflect.Message) string {
	var set []string
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		set = append(set, string(fd.Name()))
		return true
	})
	sort.Strings(set)
	return fmt.Sprint(set)
}
