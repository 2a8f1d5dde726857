package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorate/quorate/internal/settings"
)

// within bounds everything that a test waits for.
const within = 30 * time.Second

// output collects what a command prints.
type output struct {
	mu      sync.Mutex
	b       bytes.Buffer
	written chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.written <- struct{}{}:
	default:
	}
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// command is a command line that runs in this process.
type command struct {
	t        *testing.T
	args     []string
	out, err output
	cancel   context.CancelFunc
	code     chan int
}

func start(t *testing.T, args ...string) *command {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &command{t: t, args: args, cancel: cancel, code: make(chan int, 1)}
	c.out.written = make(chan struct{}, 1)
	go func() { c.code <- run(ctx, args, &c.out, &c.err) }()
	t.Cleanup(cancel)
	return c
}

// end waits for the exit code; stop sends what a signal would first.
func (c *command) end() int {
	c.t.Helper()
	select {
	case code := <-c.code:
		return code
	case <-time.After(within):
		c.t.Fatalf("quorate %v did not end; it printed:\n%s%s", c.args, &c.out, &c.err)
		return -1
	}
}

// prints waits until the command has printed text.
func (c *command) prints(text string) {
	c.t.Helper()
	deadline := time.After(within)
	for !strings.Contains(c.out.String(), text) {
		select {
		case <-c.out.written:
		case <-deadline:
			c.t.Fatalf("quorate %v did not print %q but:\n%s%s", c.args, text, &c.out, &c.err)
		}
	}
}

func (c *command) stop() int {
	c.t.Helper()
	c.cancel()
	return c.end()
}

// freePorts returns n ports that nobody listens on.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports
}

func kvAt(t *testing.T, port string) pb.KVClient {
	t.Helper()
	conn, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return pb.NewKVClient(conn)
}

// put retries until the cluster is there. The values of one key are equal, so a
// put that took effect although its answer was lost does no harm.
func put(t *testing.T, c *command, port, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_, err := kvAt(t, port).Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(value)}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatalf("put: %v; it printed:\n%s%s", err, &c.out, &c.err)
	}
}

func get(t *testing.T, c *command, port, key string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	resp, err := kvAt(t, port).Range(ctx, &pb.RangeRequest{Key: []byte(key)}, grpc.WaitForReady(true))
	if err != nil || len(resp.Kvs) > 1 {
		t.Fatalf("get: %v, %v; it printed:\n%s%s", resp, err, &c.out, &c.err)
	}
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

// "Ctrl-C ends it cleanly, and starting it again finds the data", with other
// ports too.
func TestDevKeepsItsData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for round := range 2 {
		p := freePorts(t, 6)
		c := start(t, "dev", "--data-dir", dir, "--client-ports", strings.Join(p[:3], ","), "--peer-ports", strings.Join(p[3:], ","))
		if round == 0 {
			put(t, c, p[0], "greeting", "hello")
		}
		for _, port := range p[:3] {
			if got := get(t, c, port, "greeting"); got != "hello" {
				t.Fatalf("round %d: member at %s has %q", round, port, got)
			}
		}
		c.prints("Ctrl-C")
		if code := c.stop(); code != 0 {
			t.Fatalf("exit code %d:\n%s%s", code, &c.out, &c.err)
		}
		for _, want := range []string{"127.0.0.1:" + p[0], "leads", "etcdctl --endpoints=", dir} {
			if !strings.Contains(c.out.String(), want) {
				t.Errorf("the output lacks %q:\n%s", want, &c.out)
			}
		}
	}
	checkAll(t, dir)
}

// checkAll lets the offline tools look at what dev has left.
func checkAll(t *testing.T, dir string) {
	t.Helper()
	c := start(t, "check", dir)
	if code := c.end(); code != 0 || strings.Count(c.out.String(), "  ok\n") != 3 {
		t.Fatalf("check: exit code %d:\n%s%s", code, &c.out, &c.err)
	}
	c = start(t, "log", "--entries", filepath.Join(dir, "dev1"))
	if code := c.end(); code != 0 || !strings.Contains(c.out.String(), `put "greeting", value of 5 bytes`) {
		t.Fatalf("log: exit code %d:\n%s%s", code, &c.out, &c.err)
	}
	damageLog(t, filepath.Join(dir, "dev2", "wal", "shard-000"))
	c = start(t, "check", dir)
	if code := c.end(); code != exitFailed || !strings.Contains(c.out.String(), "DAMAGED") || strings.Count(c.out.String(), "  ok\n") != 2 {
		t.Fatalf("check of a damaged log: exit code %d:\n%s%s", code, &c.out, &c.err)
	}
}

// damageLog flips a bit in the first segment's second batch, which many
// batches follow.
func damageLog(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "0000000000000001.wal")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[2*512+64] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDevWithTemporaryData(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p := freePorts(t, 6)
	c := start(t, "dev", "--temp", "--client-ports", strings.Join(p[:3], ","), "--peer-ports", strings.Join(p[3:], ","))
	put(t, c, p[1], "k", "v")
	if code := c.stop(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, &c.err)
	}
	if left, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*")); len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
}

func serveArgs(dir string, i int, names, clients, peers []string) []string {
	var members []string
	for j := range names {
		members = append(members, names[j]+"=http://127.0.0.1:"+peers[j])
	}
	client, peer := "http://127.0.0.1:"+clients[i], "http://127.0.0.1:"+peers[i]
	return []string{"serve", "--name", names[i], "-data-dir", filepath.Join(dir, names[i]), "--initial-cluster", strings.Join(members, ","),
		"--listen-client-urls", client, "--advertise-client-urls=" + client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--heartbeat-interval", "50", "--election-timeout", "300", "--initial-cluster-state", "new", "--log-level", "error", "--log-outputs", filepath.Join(dir, names[i]+".log")}
}

// knowsAll waits until a member's list shows where all members serve clients.
func knowsAll(t *testing.T, port string, clients []string) {
	t.Helper()
	conn, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	want := map[string]bool{}
	for _, c := range clients {
		want["http://127.0.0.1:"+c] = true
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := pb.NewClusterClient(conn).MemberList(ctx, &pb.MemberListRequest{}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatalf("member list: %v", err)
		}
		known := 0
		for _, m := range resp.Members {
			if len(m.ClientURLs) == 1 && want[m.ClientURLs[0]] {
				known++
			}
		}
		if known == len(clients) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the member at %s knows only %v", port, resp.Members)
		}
	}
}

// One member after the other is stopped and started again; the others go on,
// and nothing is lost.
func TestServeThreeMembers(t *testing.T) {
	dir := t.TempDir()
	names, p := []string{"a", "b", "c"}, freePorts(t, 6)
	all := make([]*command, 3)
	for i := range names {
		all[i] = start(t, serveArgs(dir, i, names, p[:3], p[3:])...)
	}
	put(t, all[0], p[0], "k", "0")
	for i := range names {
		knowsAll(t, p[i], p[:3])
	}
	for i := range names {
		if code := all[i].stop(); code != 0 {
			t.Fatalf("member %s: exit code %d:\n%s", names[i], code, &all[i].err)
		}
		other := (i + 1) % 3
		want := fmt.Sprint(i + 1)
		put(t, all[other], p[other], "k", want)
		all[i] = start(t, serveArgs(dir, i, names, p[:3], p[3:])...)
		if got := get(t, all[i], p[i], "k"); got != want {
			t.Fatalf("member %s after its restart has %q, want %q", names[i], got, want)
		}
		knowsAll(t, p[i], p[:3])
	}
	for i := range names {
		if code := all[i].stop(); code != 0 {
			t.Fatalf("member %s: exit code %d:\n%s", names[i], code, &all[i].err)
		}
	}
}

// As with etcd, the settings that made the cluster are not needed again.
func TestRestartWithoutNamingTheCluster(t *testing.T) {
	dir := t.TempDir()
	p := freePorts(t, 2)
	args := serveArgs(dir, 0, []string{"solo"}, p[:1], p[1:])
	c := start(t, args...)
	put(t, c, p[0], "k", "v")
	if code := c.stop(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, &c.err)
	}
	var short []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--initial-cluster" || args[i] == "--initial-advertise-peer-urls" {
			i++
			continue
		}
		short = append(short, args[i])
	}
	c = start(t, short...)
	if got := get(t, c, p[0], "k"); got != "v" {
		t.Fatalf("got %q", got)
	}
	if code := c.stop(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, &c.err)
	}
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	dir := t.TempDir()
	p := freePorts(t, 2)
	args := func(more ...string) []string { return append(serveArgs(dir, 0, []string{"a"}, p[:1], p[1:]), more...) }
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := start(t, args()...) // makes the data directory
	put(t, c, p[0], "k", "v")
	locked := start(t, append(args(), "--listen-client-urls", "http://127.0.0.1:0", "--listen-peer-urls", "http://127.0.0.1:0")...)
	if code := locked.end(); code != exitStart || !strings.Contains(locked.err.String(), filepath.Join(dir, "a")) || !strings.Contains(locked.err.String(), "stop the other process") {
		t.Errorf("locked directory: exit code %d:\n%s", code, &locked.err)
	}
	if code := c.stop(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, &c.err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	devArgs := []string{"dev", "--temp", "--client-ports", strings.TrimPrefix(taken.Addr().String(), "127.0.0.1:") + "," + p[0] + ",1", "--peer-ports", p[1] + ",2,3"}
	for _, test := range []struct {
		args []string
		code int
		want []string
	}{
		{args("--listen-metrics-urls", "http://"+taken.Addr().String()), exitStart, []string{taken.Addr().String(), "is taken by another process", "--listen-metrics-urls"}},
		{devArgs, exitStart, []string{taken.Addr().String(), "is taken by another process", "--port-base"}},
		{args("--initial-cluster-token", "another"), exitStart, []string{"belongs to another member", "the settings say member", "--initial-cluster-token"}},
		{args("--data-dir", filepath.Join(dir, "file")), exitStart, []string{filepath.Join(dir, "file"), "not a directory"}},
		{args("--data-dir", filepath.Join(dir, "joins"), "--initial-cluster-state", "existing"), exitStart, []string{"joining an existing cluster is not supported yet"}},
		{args("--cert-file", "/nonexistent/c", "--key-file", "/nonexistent/k"), exitStart, []string{"/nonexistent/c"}},
		{args("--log-outputs", "/nonexistent/log"), exitStart, []string{"--log-outputs", "/nonexistent/log"}},
		{args("--election-timeout", "10"), exitUsage, []string{"--election-timeout", "--heartbeat-interval"}},
		{args("--auto-compaction-retention", "1h"), exitUsage, []string{"--auto-compaction-retention", "not supported"}},
		{args("--nosuchflag"), exitUsage, []string{"--nosuchflag", "--help"}},
		{args("argument"), exitUsage, []string{"argument"}},
		{[]string{"dev", "--port-base", "65534"}, exitUsage, []string{"65536", "--port-base"}},
		{[]string{"dev", "--temp", "--data-dir", "x"}, exitUsage, []string{"--temp and --data-dir"}},
		{[]string{"nosuchcommand"}, exitUsage, []string{"nosuchcommand"}},
		{[]string{"check"}, exitUsage, []string{"--help"}},
		{[]string{"check", filepath.Join(dir, "nowhere")}, exitStart, []string{"nowhere"}},
		{[]string{"check", t.TempDir()}, exitStart, []string{"no data directory of quorate's"}},
		{[]string{"log", t.TempDir()}, exitStart, []string{"no data directory of quorate's"}},
	} {
		c := start(t, test.args...)
		if code := c.end(); code != test.code {
			t.Errorf("%v: exit code %d, want %d:\n%s", test.args, code, test.code, &c.err)
		}
		for _, want := range test.want {
			if !strings.Contains(c.err.String(), want) {
				t.Errorf("%v: stderr lacks %q:\n%s", test.args, want, &c.err)
			}
		}
	}
}

func TestHelp(t *testing.T) {
	for args, want := range map[string]string{
		"--help": "dev", "serve --help": "--initial-cluster", "dev --help": "--port-base", "check --help": "Exit codes", "version": "quorate ", "log --help": "--from",
	} {
		c := start(t, strings.Fields(args)...)
		if code := c.end(); code != 0 || !strings.Contains(c.out.String(), want) {
			t.Errorf("%s: exit code %d, lacks %q:\n%s%s", args, code, want, &c.out, &c.err)
		}
	}
	if c := start(t, "serve", "--help"); c.end() != 0 || strings.Contains(c.out.String(), "experimental-") {
		t.Errorf("help shows what is not supported:\n%s", &c.out)
	}
}

// "--grpc-keepalive-interval: interval of the server's pings; 0: none". gRPC itself
// takes a zero for two hours.
func TestPingsCanBeTurnedOff(t *testing.T) {
	for _, c := range []struct{ interval, timeout, every, answered time.Duration }{
		{time.Minute, time.Second, time.Minute, time.Second},
		{0, time.Second, math.MaxInt64, 0},
		{time.Minute, 0, math.MaxInt64, 0},
	} {
		got := pings(&settings.Settings{KeepAliveInterval: c.interval, KeepAliveTimeout: c.timeout})
		if got.Time != c.every || got.Timeout != c.answered {
			t.Errorf("interval %v, timeout %v: %+v", c.interval, c.timeout, got)
		}
	}
}

// mixin are the metrics that the dashboards and alerts of etcd's mixin ask for, and
// those that docs/operations.md says are shown beside them.
var mixin = []string{
	"etcd_server_has_leader", "etcd_server_leader_changes_seen_total", "etcd_server_proposals_failed_total",
	"etcd_server_proposals_pending", "etcd_server_proposals_committed_total", "etcd_server_proposals_applied_total",
	"etcd_server_quota_backend_bytes", "etcd_mvcc_db_total_size_in_bytes", "etcd_mvcc_db_total_size_in_use_in_bytes",
	"etcd_disk_wal_fsync_duration_seconds_bucket", "etcd_network_client_grpc_received_bytes_total",
	"etcd_network_client_grpc_sent_bytes_total", "etcd_network_peer_received_bytes_total",
	"etcd_network_peer_sent_bytes_total", "etcd_network_peer_sent_failures_total", "grpc_server_started_total",
	"grpc_server_handled_total", "process_resident_memory_bytes",

	"etcd_mvcc_put_total", "etcd_mvcc_delete_total", "etcd_mvcc_range_total", "etcd_mvcc_txn_total",
	"etcd_server_slow_apply_total", "etcd_server_read_indexes_failed_total", "etcd_cluster_version",
	"etcd_network_active_peers",
}

// notOurs are etcd's metrics that are not shown, because nothing here means the same.
var notOurs = []string{
	"etcd_disk_backend_commit_duration_seconds", "etcd_network_peer_round_trip_time_seconds",
	"etcd_server_apply_duration_seconds", "etcd_server_heartbeat_send_failures_total", "grpc_server_handling_seconds",
}

// "/metrics has etcd's names where the meaning is the same": what the dashboards
// and alerts of etcd ask for is there, or the documentation says that it is not.
func TestMetricsOfTheMixin(t *testing.T) {
	p := freePorts(t, 6)
	c := start(t, "dev", "--temp", "--client-ports", strings.Join(p[:3], ","), "--peer-ports", strings.Join(p[3:], ","))
	put(t, c, p[0], "a", "b")
	resp, err := http.Get("http://127.0.0.1:" + p[0] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range mixin {
		if !bytes.Contains(body, []byte("\n"+name+"{")) && !bytes.Contains(body, []byte("\n"+name+" ")) {
			t.Errorf("no %s", name)
		}
	}
	for _, name := range notOurs {
		if bytes.Contains(body, []byte("\n"+name)) || !bytes.Contains(docs, []byte("`"+name+"`")) {
			t.Errorf("%s is shown, or not said to be missing", name)
		}
	}
	if bytes.Contains(body, []byte("etcd_disk_wal_fsync_duration_seconds_count 0\n")) {
		t.Error("no sync was counted")
	}
	if code := c.stop(); code != 0 {
		t.Errorf("exit code %d:\n%s%s", code, &c.out, &c.err)
	}
}
