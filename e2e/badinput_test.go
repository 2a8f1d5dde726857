package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// refusalTimeout is how soon a mistake must be reported.
const refusalTimeout = 10 * time.Second

// Exit codes, from the command's documentation.
const (
	exitFailed = 1 // "failed while running; check: damage was found"
	exitUsage  = 2 // "wrong flags, settings or arguments: nothing was started"
	exitStart  = 3 // "could not start: the data directory or an address cannot be used"
)

// refused runs quorate, which must end in time with the exit code, and say all
// of the words: what is wrong, and what to do.
func refused(t *testing.T, code int, words []string, args ...string) {
	t.Helper()
	stdout, stderr, err := runTool(refusalTimeout, "", mustBinary(t, quorate.binary), args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Errorf("quorate %s: %v, want exit code %d\n%s%s", strings.Join(args, " "), err, code, stdout, stderr)
		return
	}
	for _, word := range words {
		if !strings.Contains(stderr, word) {
			t.Errorf("quorate %s does not say %q:\n%s", strings.Join(args, " "), word, stderr)
		}
	}
	if strings.Contains(stderr, "panic:") || strings.Contains(stderr, "goroutine ") {
		t.Errorf("quorate %s panics:\n%s", strings.Join(args, " "), stderr)
	}
	if n := strings.Count(stderr, "\n"); n > 12 {
		t.Errorf("quorate %s answers a mistake with %d lines:\n%s", strings.Join(args, " "), n, stderr)
	}
}

// serveArgs are flags of a single member that would start, with changes.
func serveArgs(t testing.TB, changes ...string) []string {
	c := prepareCluster(t, quorate, 1)
	args := c.members[0].args
	for i := 0; i+1 < len(changes); i += 2 {
		replaced := false
		for j := 1; j+1 < len(args); j += 2 {
			if args[j] == changes[i] {
				args[j+1], replaced = changes[i+1], true
			}
		}
		if !replaced {
			args = append(args, changes[i], changes[i+1])
		}
	}
	return args
}

func TestBadInputFlags(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes []string
		words   []string
	}{
		{"unknown flag", []string{"--no-such-flag", "1"}, []string{"--no-such-flag", "--help"}},
		{"no number", []string{"--heartbeat-interval", "soon"}, []string{"heartbeat-interval", "soon", "number"}},
		{"negative number", []string{"--election-timeout", "-5"}, []string{"election-timeout", "-5"}},
		{"election below heartbeat", []string{"--heartbeat-interval", "1000", "--election-timeout", "1000"}, []string{"election-timeout", "heartbeat-interval"}},
		{"no URL", []string{"--listen-client-urls", "127.0.0.1"}, []string{"listen-client-urls", "http://"}},
		{"no port", []string{"--listen-peer-urls", "http://127.0.0.1"}, []string{"listen-peer-urls", "HOST:PORT"}},
		{"a name to listen on", []string{"--listen-client-urls", "http://example.invalid:2379"}, []string{"listen-client-urls", "IP address"}},
		{"port 0 for peers", []string{"--initial-advertise-peer-urls", "http://127.0.0.1:0"}, []string{"port 0"}},
		{"malformed cluster", []string{"--initial-cluster", "just-a-name"}, []string{"initial-cluster", "NAME=URL"}},
		{"not in the cluster", []string{"--name", "stranger"}, []string{"stranger", "initial-cluster"}},
		{"a member twice", []string{"--initial-cluster", "m0=http://127.0.0.1:1,m0=http://127.0.0.1:2"}, []string{"initial-cluster", "m0"}},
		{"other peer URL", []string{"--initial-advertise-peer-urls", "http://127.0.0.1:1"}, []string{"initial-advertise-peer-urls", "initial-cluster"}},
		{"cluster state", []string{"--initial-cluster-state", "newish"}, []string{"initial-cluster-state", "newish", "existing"}},
		{"log level", []string{"--log-level", "loud"}, []string{"log-level", "loud", "debug"}},
		{"no certificate", []string{"--listen-client-urls", "https://127.0.0.1:0"}, []string{"cert-file"}},
		{"missing config file", []string{"--config-file", "/nowhere/quorate.yaml"}, []string{"/nowhere/quorate.yaml", "no such file"}},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, exitUsage, c.words, serveArgs(t, c.changes...)...) })
	}
	t.Run("argument", func(t *testing.T) { refused(t, exitUsage, []string{"extra"}, append(serveArgs(t), "extra")...) })
	t.Run("command", func(t *testing.T) { refused(t, exitUsage, []string{"sevre"}, "sevre") })
	t.Run("config file is a directory", func(t *testing.T) {
		dir := t.TempDir()
		refused(t, exitUsage, []string{dir, "directory"}, "serve", "--config-file", dir)
	})
	t.Run("config file is no YAML", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "bad.yaml")
		writeFile(t, file, "name: [unclosed\n\x00")
		refused(t, exitUsage, []string{file}, "serve", "--config-file", file)
	})
	t.Run("config file with an unknown setting", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "unknown.yaml")
		writeFile(t, file, "name: a\nno-such-setting: 1\n")
		refused(t, exitUsage, []string{file, "no-such-setting"}, "serve", "--config-file", file)
	})
	t.Run("dev: temporary and named", func(t *testing.T) {
		refused(t, exitUsage, []string{"--temp", "--data-dir"}, "dev", "--temp", "--data-dir", t.TempDir())
	})
	t.Run("dev: port", func(t *testing.T) {
		refused(t, exitUsage, []string{"port", "65535"}, "dev", "--temp", "--port-base", "70000")
	})
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBadInputPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	t.Run("client", func(t *testing.T) {
		refused(t, exitStart, []string{addr, "another process", "--listen-client-urls"}, serveArgs(t, "--listen-client-urls", "http://"+addr)...)
	})
	t.Run("peer", func(t *testing.T) {
		args := serveArgs(t, "--listen-peer-urls", "http://"+addr)
		refused(t, exitStart, []string{addr, "another process", "--listen-peer-urls"}, args...)
	})
	t.Run("no address of this machine", func(t *testing.T) {
		refused(t, exitStart, []string{"192.0.2.1", "--listen-client-urls"}, serveArgs(t, "--listen-client-urls", "http://192.0.2.1:2379")...)
	})
	t.Run("dev", func(t *testing.T) {
		_, port, _ := net.SplitHostPort(addr)
		refused(t, exitStart, []string{addr, "another process", "--port-base"}, "dev", "--temp", "--port-base", port)
	})
}

func TestBadInputDataDir(t *testing.T) {
	bad := func(name string, words []string, prepare func(t *testing.T, dir string) string) {
		t.Run(name, func(t *testing.T) {
			dir := prepare(t, t.TempDir())
			refused(t, exitStart, append(words, dir), serveArgs(t, "--data-dir", dir)...)
		})
	}
	bad("is a file", []string{"not a directory", "--data-dir"}, func(t *testing.T, dir string) string {
		writeFile(t, filepath.Join(dir, "file"), "")
		return filepath.Join(dir, "file")
	})
	bad("below a file", []string{"not a directory", "--data-dir"}, func(t *testing.T, dir string) string {
		writeFile(t, filepath.Join(dir, "file"), "")
		return filepath.Join(dir, "file", "data")
	})
	bad("of an etcd member", []string{"etcd", "--data-dir"}, func(t *testing.T, dir string) string {
		c := newCluster(t, reference, 1)
		c.members[0].proc.kill()
		return c.members[0].dataDir
	})
	t.Run("of another member", func(t *testing.T) {
		c := newCluster(t, quorate, 1)
		m := c.members[0]
		m.proc.kill()
		refused(t, exitStart, []string{m.dataDir, "another member", "--data-dir", "m0"}, serveArgs(t, "--data-dir", m.dataDir)...)
		m.start(t) // and it is not damaged by the attempt
		c.awaitReady(t, m, 20*time.Second)
	})
	t.Run("in use", func(t *testing.T) {
		c := newCluster(t, quorate, 1)
		refused(t, exitStart, []string{c.members[0].dataDir, "locked", "stop the other process"}, serveTwice(t, c.members[0])...)
		c.awaitReady(t, c.members[0], 5*time.Second)
	})
	t.Run("identity damaged", func(t *testing.T) {
		c := newCluster(t, quorate, 1)
		m := c.members[0]
		m.proc.kill()
		flipIdentity(t, m.dataDir)
		refused(t, exitStart, []string{m.dataDir, "damaged"}, m.args...)
	})
	// "A member that has lost its data must not come back under its old URL: it may
	// have voted and acknowledged what it no longer knows."
	for name, lost := range map[string]string{"log lost": "wal", "segments lost": "wal/shard-000/*.wal"} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, quorate, 1)
			m := c.members[0]
			ctx, cancel := context.WithTimeout(context.Background(), refusalTimeout)
			defer cancel()
			if _, err := newClient(t, m.endpoint()).Put(ctx, "promised", "to be kept"); err != nil {
				t.Fatal(err)
			}
			m.proc.kill()
			paths, err := filepath.Glob(filepath.Join(m.dataDir, lost))
			if err != nil || len(paths) == 0 {
				t.Fatalf("%s: %v, %v", lost, paths, err)
			}
			for _, path := range paths {
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
			refused(t, exitFailed, []string{m.dataDir, "the log is missing"}, "check", m.dataDir)
			refused(t, exitStart, []string{m.dataDir, "damaged", "the log is missing", "put a whole copy"}, m.args...)
			refused(t, exitStart, []string{"the log is missing"}, m.args...) // nor at the second try
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root reads everything")
		}
		dir := filepath.Join(t.TempDir(), "locked")
		if err := os.Mkdir(dir, 0); err != nil {
			t.Fatal(err)
		}
		refused(t, exitStart, []string{dir, "permission denied"}, serveArgs(t, "--data-dir", dir)...)
	})
}

// serveTwice are m's flags with other addresses to listen on.
func serveTwice(t testing.TB, m *member) []string {
	args := append([]string{}, m.args...)
	for i := 1; i+1 < len(args); i += 2 {
		switch args[i] {
		case "--listen-client-urls", "--listen-peer-urls":
			args[i+1] = fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
		}
	}
	return args
}

// flipIdentity changes a bit of each small file at the top of a data directory.
func flipIdentity(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	flipped := 0
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(path)
		if e.IsDir() || err != nil || len(text) == 0 {
			continue
		}
		text[len(text)/2] ^= 1
		writeFile(t, path, string(text))
		flipped++
	}
	if flipped == 0 {
		t.Fatalf("%s holds no identity: %v", dir, entries)
	}
}

// TestBadInputOtherCluster starts a member whose peers belong to another
// cluster. It must say so, must not serve, and must not disturb them.
func TestBadInputOtherCluster(t *testing.T) {
	c := newCluster(t, quorate, 3)
	victim := c.follower(t)
	victim.proc.kill()

	stranger := *victim
	stranger.name = "stranger"
	stranger.dataDir += "-stranger"
	stranger.logPath += "-stranger"
	stranger.args = append([]string{}, victim.args...)
	for i := range stranger.args {
		switch stranger.args[i] {
		case "--data-dir":
			stranger.args[i+1] = stranger.dataDir
		case "--initial-cluster-token":
			stranger.args[i+1] = "another-token"
		}
	}
	stranger.start(t)
	clue := regexp.MustCompile(`(?i)(another|other|different|wrong|foreign|not this) cluster|cluster.{0,40}(differ|mismatch)`)
	eventually(t, 15*time.Second, "the stranger says that its peers are of another cluster", func() error {
		if text := stranger.proc.output(); !clue.MatchString(text) {
			return fmt.Errorf("it says:\n%s", tail(text, 10))
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var live *member
	for _, m := range c.members {
		if m != victim {
			live = m
			if _, err := newClient(t, m.endpoint()).Put(ctx, "still", "served"); err != nil {
				t.Errorf("%s does not serve beside a stranger: %v", m.name, err)
			}
		}
	}
	if !stranger.proc.exited() {
		short, stop := context.WithTimeout(ctx, 2*time.Second)
		resp, err := pb.NewKVClient(dial(t, stranger.endpoint())).Range(short, &pb.RangeRequest{Key: b("still")})
		stop()
		if err == nil {
			t.Errorf("the stranger serves %v", resp.Kvs)
		}
	}
	stranger.proc.kill()
	victim.start(t)
	c.awaitReady(t, victim, 20*time.Second)
	c.awaitReady(t, live, 5*time.Second)
}

// TestBadInputRequests sends what no client sends. The member must answer or
// close the connection, and go on serving.
func TestBadInputRequests(t *testing.T) {
	c := newCluster(t, quorate, 1)
	m := c.members[0]
	t.Run("oversized", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), refusalTimeout)
		defer cancel()
		_, err := pb.NewKVClient(dial(t, m.endpoint())).Put(ctx, &pb.PutRequest{Key: b("a"), Value: make([]byte, 32<<20)})
		if code := status.Code(err); code != codes.ResourceExhausted && code != codes.InvalidArgument {
			t.Errorf("32 MiB: %v", err)
		}
	})
	for _, port := range []struct{ name, url string }{{"client", m.clientURL}, {"peer", m.peerURL}} {
		for _, input := range []struct{ name, text string }{
			{"nothing", ""},
			{"HTTP/1", "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"},
			{"noise", strings.Repeat("\x93\x00\xff\x17 noise", 1000)},
			{"zeros", string(make([]byte, 1<<16))},
			{"high bytes", strings.Repeat("\xff", 1<<16)},
			{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
			{"HTTP/2 and noise", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\x00\xff", 1000)},
		} {
			t.Run(port.name+"/"+input.name, func(t *testing.T) {
				conn, err := net.DialTimeout("tcp", strings.TrimPrefix(port.url, "http://"), refusalTimeout)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if err := conn.SetDeadline(time.Now().Add(refusalTimeout)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, input.text); err != nil {
					return // refused before it had read everything
				}
				conn.(*net.TCPConn).CloseWrite()
				answer, err := io.ReadAll(io.LimitReader(conn, 1<<20))
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the connection is still open after %v, %d bytes answered", refusalTimeout, len(answer))
				}
			})
		}
	}
	c.awaitReady(t, m, 5*time.Second)
	if text := m.proc.output(); strings.Contains(text, "panic:") || strings.Contains(text, "goroutine ") {
		t.Errorf("it has panicked:\n%s", tail(text, 40))
	}
}
