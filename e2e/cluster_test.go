package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// flavour is a server program and how it is started. Both take etcd's flags.
type flavour struct {
	name   string
	binary func() (string, error)
	prefix []string // before the flags
	extra  []string // after them
	// endsBySignal: SIGTERM ends it cleanly, but as the signal would.
	endsBySignal bool
	// gapMax bounds the time without an acknowledged write after a kill; zero: it is
	// not asserted.
	gapMax time.Duration
}

var (
	reference = flavour{
		name:   "etcd",
		binary: func() (string, error) { return binaries.etcd() },
		extra:  []string{"--log-level", "warn"},

		endsBySignal: true,
	}
	// referenceFast answers the same and does not wait for the disk.
	referenceFast = flavour{
		name:   "etcd",
		binary: func() (string, error) { return binaries.etcd() },
		extra:  []string{"--log-level", "warn", "--unsafe-no-fsync"},

		endsBySignal: true,
	}
	quorate = flavour{
		name:   "quorate",
		binary: func() (string, error) { return binaries.subject() },
		prefix: []string{"serve"},
		gapMax: time.Second,
	}
)

// member is one process of a cluster, and what it takes to start it again.
type member struct {
	name               string
	clientURL, peerURL string
	dataDir, logPath   string
	bin                string
	args               []string
	proc               *process
}

func (m *member) endpoint() string { return strings.TrimPrefix(m.clientURL, "http://") }

func (m *member) start(t testing.TB) {
	t.Helper()
	m.proc = startProcess(t, m.name, m.logPath, filepath.Dir(m.logPath), m.bin, m.args...)
}

type cluster struct {
	flavour flavour
	members []*member
}

// newCluster starts n members and returns when every one answers a
// linearizable read.
func newCluster(t testing.TB, f flavour, n int) *cluster {
	t.Helper()
	c := prepareCluster(t, f, n)
	for _, m := range c.members {
		m.start(t)
	}
	for _, m := range c.members {
		c.awaitReady(t, m, 30*time.Second)
	}
	return c
}

// prepareCluster lays out the directories and flags without starting anything.
func prepareCluster(t testing.TB, f flavour, n int) *cluster {
	t.Helper()
	bin := mustBinary(t, f.binary)
	c := &cluster{flavour: f}
	root := workDir(t)
	var initial []string
	for i := range n {
		m := &member{
			name:      fmt.Sprintf("m%d", i),
			clientURL: fmt.Sprintf("http://127.0.0.1:%d", freePort(t)),
			peerURL:   fmt.Sprintf("http://127.0.0.1:%d", freePort(t)),
			bin:       bin,
		}
		m.dataDir = filepath.Join(root, m.name)
		m.logPath = filepath.Join(root, m.name+".log")
		initial = append(initial, m.name+"="+m.peerURL)
		c.members = append(c.members, m)
	}
	token := fmt.Sprintf("e2e-%d", freePort(t))
	for _, m := range c.members {
		m.args = append(append([]string{}, f.prefix...),
			"--name", m.name,
			"--data-dir", m.dataDir,
			"--listen-client-urls", m.clientURL,
			"--advertise-client-urls", m.clientURL,
			"--listen-peer-urls", m.peerURL,
			"--initial-advertise-peer-urls", m.peerURL,
			"--initial-cluster", strings.Join(initial, ","),
			"--initial-cluster-state", "new",
			"--initial-cluster-token", token)
		m.args = append(m.args, f.extra...)
	}
	// Runs after the processes have ended: cleanups run last in, first out.
	t.Cleanup(func() { c.explain(t) })
	return c
}

// workDir is a temporary directory that E2E_KEEP keeps.
func workDir(t testing.TB) string {
	t.Helper()
	if os.Getenv("E2E_KEEP") == "" {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("", "quorate-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("files kept in %s", dir)
	return dir
}

// explain prints what the members said last, when the test has failed.
func (c *cluster) explain(t testing.TB) {
	if !t.Failed() {
		return
	}
	for _, m := range c.members {
		if text, err := os.ReadFile(m.logPath); err == nil {
			t.Logf("last lines of %s %s (client %s):\n%s", c.flavour.name, m.name, m.clientURL, tail(string(text), 15))
		}
	}
}

func (c *cluster) endpoints() []string {
	var all []string
	for _, m := range c.members {
		all = append(all, m.endpoint())
	}
	return all
}

// awaitReady returns when m answers a linearizable read.
func (c *cluster) awaitReady(t testing.TB, m *member, within time.Duration) {
	t.Helper()
	kv := pb.NewKVClient(dial(t, m.endpoint()))
	eventually(t, within, c.flavour.name+" "+m.name+" serves", func() error {
		if m.proc.exited() {
			t.Fatalf("%s %s has exited: %v\n%s", c.flavour.name, m.name, m.proc.err, tail(m.proc.output(), 20))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("ready?")})
		return err
	})
}

// leader returns the member that at least one live member, itself included,
// names as leader.
func (c *cluster) leader(t testing.TB) *member {
	t.Helper()
	var found *member
	eventually(t, 20*time.Second, "a leader", func() error {
		for _, m := range c.members {
			if m.proc == nil || m.proc.exited() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			st, err := pb.NewMaintenanceClient(dial(t, m.endpoint())).Status(ctx, &pb.StatusRequest{})
			cancel()
			if err == nil && st.Leader != 0 && st.Leader == st.Header.MemberId {
				found = m
				return nil
			}
		}
		return errNotYet
	})
	return found
}

const messageBytesMax = 64 << 20

// dial returns a plain connection: no retries of what a server has answered and
// no load balancing, so that a test sees what it said.
func dial(t testing.TB, endpoint string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoffFast, MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(
			grpc.WaitForReady(true), // a member that has just come back is not an error
			grpc.MaxCallRecvMsgSize(messageBytesMax), grpc.MaxCallSendMsgSize(messageBytesMax)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// newClient returns etcd's own client.
func newClient(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   endpoints,
		DialTimeout: 5 * time.Second,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}
