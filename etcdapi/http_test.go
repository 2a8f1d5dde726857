package etcdapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quorate/quorate/host"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// fetch asks a handler and returns the status code and the body.
func fetch(h http.Handler, method, target string) (int, string, http.Header) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	body, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(body), w.Header()
}

func TestHealthEndpoints(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	h := newTestServer(t, m, nil).Handler()
	want := func(target string, code int, body string) {
		t.Helper()
		if gotCode, gotBody, _ := fetch(h, http.MethodGet, target); gotCode != code || gotBody != body {
			t.Errorf("%s: %d %q, want %d %q", target, gotCode, gotBody, code, body)
		}
	}
	const allReady = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
	want("/health", 200, `{"health":"true","reason":""}`)
	want("/health?exclude=NOSPACE&serializable=true", 200, `{"health":"true","reason":""}`)
	want("/livez", 200, "ok\n")
	want("/readyz", 200, "ok\n")
	want("/livez?verbose", 200, "[+]serializable_read ok\nok\n")
	want("/readyz?verbose", 200, allReady)
	want("/readyz/linearizable_read?verbose", 200, "[+]linearizable_read ok\nok\n")
	want("/readyz?verbose&exclude=linearizable_read&exclude=nothing", 200,
		"[+]data_corruption ok\n[+]serializable_read ok\n[+]non_learner ok\nok\n")
	want("/version", 200, `{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}`)

	// A member without a quorum is alive and not ready.
	m.set(func() { m.err = host.ErrNoLeader })
	const notReady = "[+]data_corruption ok\n[+]serializable_read ok\n" +
		"[-]linearizable_read failed: etcdserver: no leader\n[+]non_learner ok\n\n"
	want("/health", 503, `{"health":"false","reason":"RANGE ERROR:etcdserver: no leader"}`+"\n")
	want("/health?serializable=true", 200, `{"health":"true","reason":""}`)
	want("/livez", 200, "ok\n")
	want("/readyz", 503, notReady)
	want("/readyz/linearizable_read", 503, "[-]linearizable_read failed: etcdserver: no leader\n\n")
	want("/readyz?exclude=linearizable_read", 200, "ok\n")
	// An exclusion is for the whole set: a check asked for by name is made.
	want("/readyz/linearizable_read?exclude=linearizable_read", 503, "[-]linearizable_read failed: etcdserver: no leader\n\n")
	m.set(func() { m.cluster.leader = 0 })
	want("/health", 503, `{"health":"false","reason":"RAFT NO LEADER"}`+"\n")
	// "serializable=true" asks for the health of this member, not the cluster.
	want("/health?serializable=true", 200, `{"health":"true","reason":""}`)

	if err := m.store.Close(); err != nil {
		t.Fatal(err)
	}
	code, body, _ := fetch(h, http.MethodGet, "/livez")
	if code != 503 || !strings.HasPrefix(body, "[-]serializable_read failed: ") {
		t.Errorf("/livez with a closed store: %d %q", code, body)
	}
}

func TestHTTPMethods(t *testing.T) {
	h := newTestServer(t, newFakeCluster(t, 1)[0], nil).Handler()
	for _, target := range []string{"/health", "/livez", "/readyz", "/readyz/non_learner", "/version"} {
		code, _, header := fetch(h, http.MethodPost, target)
		if code != http.StatusMethodNotAllowed || header.Get("Allow") != "GET" {
			t.Errorf("POST %s: %d, allowed are %q", target, code, header.Get("Allow"))
		}
	}
	for _, target := range []string{"/", "/v2/keys", "/livez/nothing"} {
		if code, _, _ := fetch(h, http.MethodGet, target); code != http.StatusNotFound {
			t.Errorf("GET %s: %d", target, code)
		}
	}
}

// learner is a member without a vote.
type learner struct{ *fakeMember }

func (l learner) Status() Status {
	st := l.fakeMember.Status()
	st.IsLearner = true
	return st
}

// TestLearner: a learner serves, and says that it is one.
func TestLearner(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	s := newTestServer(t, m, func(cfg *Config) { cfg.Group = learner{m} })
	c := serve(t, s)
	c.put(t, "a", "1")
	if resp, err := c.Range(t.Context(), &pb.RangeRequest{Key: []byte("a")}); err != nil || resp.Count != 1 {
		t.Errorf("linearizable range: %v, %v", resp, err)
	}
	if resp, err := c.maintenance.Status(t.Context(), &pb.StatusRequest{}); err != nil || !resp.IsLearner {
		t.Errorf("status: %v, %v", resp, err)
	}
	if code, body, _ := fetch(s.Handler(), http.MethodGet, "/readyz/non_learner"); code != 503 ||
		body != "[-]non_learner failed: not supported for learner\n\n" {
		t.Errorf("/readyz/non_learner: %d %q", code, body)
	}
}

func TestMetrics(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	s := newTestServer(t, m, nil)
	c := serve(t, s)
	c.put(t, "a", "1")
	c.put(t, "b", "1")
	if _, err := c.Put(t.Context(), &pb.PutRequest{}); err == nil {
		t.Fatal("put without a key")
	}
	if _, err := receive(c.RangeStream(t.Context(), &pb.RangeRequest{Key: []byte("a")})); err != nil {
		t.Fatal(err)
	}
	get := rangeOp(&pb.RangeRequest{Key: []byte("a")})
	for _, ops := range [][]*pb.RequestOp{{get}, {get, get}, {get, txnOp(&pb.TxnRequest{Success: []*pb.RequestOp{get}})}} {
		if _, err := c.Txn(t.Context(), &pb.TxnRequest{Success: ops}); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Invoke(t.Context(), "/no.Service/Method", &pb.StatusRequest{}, &pb.StatusRequest{})
	m.set(func() { m.err = host.ErrBusy })
	if _, err := c.Put(t.Context(), key("c")); err == nil {
		t.Fatal("put to a group that is busy")
	}
	h := s.Handler()
	fetch(h, http.MethodGet, "/livez")
	fetch(h, http.MethodGet, "/health")
	fetch(h, http.MethodGet, "/health?serializable=true")

	code, body, _ := fetch(h, http.MethodGet, "/metrics")
	if code != 200 {
		t.Fatalf("/metrics: %d", code)
	}
	const kvUnary = `{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} `
	const kvStream = `{grpc_method="RangeStream",grpc_service="etcdserverpb.KV",grpc_type="server_stream"} `
	for _, line := range []string{
		`etcd_server_has_leader 1`,
		`etcd_server_is_leader 1`,
		`etcd_server_is_learner 0`,
		`etcd_server_leader_changes_seen_total 3`,
		`etcd_server_proposals_committed_total 3`,
		`etcd_server_proposals_applied_total 3`,
		`etcd_server_proposals_pending 0`,
		`etcd_server_proposals_failed_total 1`,
		`etcd_server_id{server_id="1"} 1`,
		`etcd_server_version{server_version="3.7.3"} 1`,
		`etcd_server_client_requests_total{client_api_version="unknown",type="unary"} 7`,
		`etcd_server_client_requests_total{client_api_version="unknown",type="stream"} 2`,
		`etcd_server_health_success 1`,
		`etcd_server_health_failures 1`,
		`etcd_server_healthcheck{name="serializable_read",type="livez"} 1`,
		`etcd_server_healthchecks_total{name="serializable_read",status="success",type="livez"} 1`,
		`etcd_server_request_duration_seconds_count{success="true",type="Put"} 2`,
		`etcd_server_request_duration_seconds_count{success="false",type="Put"} 2`,
		`etcd_debugging_mvcc_current_revision 3`,
		`etcd_debugging_mvcc_keys_total 2`,
		`grpc_server_started_total` + kvUnary + `4`,
		`grpc_server_msg_received_total` + kvUnary + `4`,
		`grpc_server_msg_sent_total` + kvUnary + `2`,
		`grpc_server_msg_sent_total` + kvStream + `1`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 2`,
		`grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_handled_total{grpc_code="ResourceExhausted",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Compact",grpc_service="etcdserverpb.KV",grpc_type="unary"} 0`,
		`grpc_server_handled_total{grpc_code="Unimplemented",grpc_method="unknown",grpc_service="unknown",grpc_type="unknown"} 1`,
		`etcd_mvcc_put_total 2`,
		`etcd_mvcc_delete_total 0`,
		`etcd_mvcc_range_total 6`, // a stream, three in transactions that read, two in one that nests
		`etcd_mvcc_txn_total 2`,
		`etcd_server_read_indexes_failed_total 1`,
		`etcd_cluster_version{cluster_version="3.7"} 1`,
		`quorate_term 5`,
		`quorate_leader{leader="1"} 1`,
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	for _, name := range []string{"etcd_mvcc_db_total_size_in_bytes", "etcd_mvcc_db_total_size_in_use_in_bytes",
		"etcd_debugging_mvcc_compact_revision", "etcd_server_go_version", "process_start_time_seconds", "go_goroutines"} {
		if !strings.Contains(body, "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
}

// TestClientTraffic: what clients send and are sent is counted, by message.
func TestClientTraffic(t *testing.T) {
	m := newFakeCluster(t, 1)[0]
	s := newTestServer(t, m, nil)
	c := serve(t, s)
	put := &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1000)}
	resp, err := c.Put(t.Context(), put)
	if err != nil {
		t.Fatal(err)
	}
	traffic := &s.metrics.traffic
	if got, want := traffic.received.Load(), uint64(proto.Size(put)); got != want {
		t.Errorf("received %d bytes, want %d", got, want)
	}
	if got, want := traffic.sent.Load(), uint64(proto.Size(resp)); got != want {
		t.Errorf("sent %d bytes, want %d", got, want)
	}
	// A message that goes to gRPC's codec counts as well.
	before := traffic.sent.Load()
	status, err := c.maintenance.Status(t.Context(), &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := traffic.sent.Load()-before, uint64(proto.Size(status)); got != want {
		t.Errorf("sent %d bytes of status, want %d", got, want)
	}
}

// TestHistoryIsInUse: etcd's alert of fragmentation asks for "database size in use
// … less than 50% of the actual allocated storage". History that can be read takes
// its space with right, and defragmenting would not give it back.
func TestHistoryIsInUse(t *testing.T) {
	c, _ := single(t)
	for range 100 {
		c.put(t, "a", string(make([]byte, 10<<10)))
	}
	st, err := c.maintenance.Status(t.Context(), &pb.StatusRequest{})
	if err != nil || st.DbSize < 1<<20 || st.DbSizeInUse < st.DbSize/2 || st.DbSizeInUse > st.DbSize {
		t.Errorf("%d bytes in use of %d: %v", st.GetDbSizeInUse(), st.GetDbSize(), err)
	}
}

// TestClientVersionsAreBounded: a client chooses the label's value, so their
// number has a limit.
func TestClientVersionsAreBounded(t *testing.T) {
	var c clientVersions
	for i := range 3 * clientVersionsMax {
		c.add(strings.Repeat("x", i))
		c.add("")
	}
	labels, total := 0, uint64(0)
	c.each(func(_ string, n uint64) {
		labels++
		total += n
	})
	if labels != clientVersionsMax+1 || total != 6*clientVersionsMax {
		t.Errorf("%d labels for %d requests", labels, total)
	}
}
