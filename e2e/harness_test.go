package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binaries builds each program once, when a test first asks for it.
var binaries struct {
	dir                      string
	etcd, etcdctl, subject   func() (string, error)
	portsMu                  sync.Mutex
	portsGiven               map[int]bool
	portNext, portLo, portHi int
}

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "quorate-e2e-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries.dir = dir
	binaries.etcd = builder("E2E_ETCD_BIN", "etcdref", ".", "./cmd/etcdref")
	binaries.etcdctl = builder("E2E_ETCDCTL_BIN", "etcdctl", ".", "go.etcd.io/etcd/etcdctl/v3")
	binaries.subject = builder("QUORATE_BIN", "quorate", "..", "./cmd/quorate")

	// Below the range that the kernel gives to outgoing connections: a killed
	// member's port must still be free when the member comes back.
	binaries.portLo, binaries.portHi = 20000, 32000
	binaries.portNext = binaries.portLo + rand.IntN(binaries.portHi-binaries.portLo)
	binaries.portsGiven = map[int]bool{}
	return m.Run()
}

func builder(env, name, dir, pkg string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		if path := os.Getenv(env); path != "" {
			return filepath.Abs(path)
		}
		out := filepath.Join(binaries.dir, name)
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
		cmd.Dir = dir
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s (set %s to use a built one): %w\n%s", pkg, env, err, text)
		}
		return out, nil
	})
}

func mustBinary(t testing.TB, build func() (string, error)) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func short() bool { return os.Getenv("E2E_SHORT") != "" || testing.Short() }

// freePort returns a port of 127.0.0.1 that nobody listens on and that this
// test process has not given out before.
func freePort(t testing.TB) int {
	t.Helper()
	b := &binaries
	b.portsMu.Lock()
	defer b.portsMu.Unlock()
	for range b.portHi - b.portLo {
		port := b.portNext
		if b.portNext++; b.portNext >= b.portHi {
			b.portNext = b.portLo
		}
		if b.portsGiven[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		b.portsGiven[port] = true
		return port
	}
	t.Fatal("no free port on 127.0.0.1")
	return 0
}

// process is one started program. It ends with the test that started it.
type process struct {
	name    string
	logPath string
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has exited
	err     error         // of Wait; valid once done is closed
	stopped bool          // the test has ended it: its exit is no surprise
}

// startProcess starts the program and appends what it prints to logPath.
func startProcess(t testing.TB, name, logPath, dir, bin string, args ...string) *process {
	t.Helper()
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &process{name: name, logPath: logPath, done: make(chan struct{})}
	p.cmd = exec.Command(bin, args...)
	p.cmd.Dir, p.cmd.Env = dir, cleanEnviron()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	dieWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

// cleanEnviron is the environment without the variables that servers and
// etcdctl take settings from.
func cleanEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "ETCD_") || strings.HasPrefix(v, "ETCDCTL_")
	})
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill is SIGKILL: what a crash of the process looks like.
func (p *process) kill() {
	p.stopped = true
	if !p.exited() {
		p.cmd.Process.Kill()
		<-p.done
	}
}

// signal sends sig and waits for the exit.
func (p *process) signal(sig syscall.Signal, within time.Duration) error {
	p.stopped = true
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return p.wait(within)
}

// wait returns nil when the process ended with status 0 in time.
func (p *process) wait(within time.Duration) error {
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s: %w", p.name, p.err)
		}
		return nil
	case <-time.After(within):
		return fmt.Errorf("%s is still running after %v", p.name, within)
	}
}

func (p *process) output() string {
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// tail returns the last lines of what the process printed.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}

// eventually polls cond until it returns nil. Its error, when the time is
// over, says what was still missing.
func eventually(t testing.TB, within time.Duration, what string, cond func() error) {
	t.Helper()
	if err := poll(within, cond); err != nil {
		t.Fatalf("%s: not within %v: %v", what, within, err)
	}
}

var errNotYet = errors.New("not yet")

func poll(within time.Duration, cond func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := cond()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// runTool runs a program to its end and returns what it printed.
func runTool(within time.Duration, stdin, bin string, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = cleanEnviron()
	var out, errOut strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err = cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("did not end within %v: %w", within, err)
	}
	return out.String(), errOut.String(), err
}
