package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// devPorts returns the first of six free ports in a row.
func devPorts(t testing.TB) int {
	t.Helper()
	for range 200 {
		base := freePort(t)
		free := true
		for i := 1; i < 6 && free; i++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+i))
			if free = err == nil; free {
				l.Close()
			}
		}
		if free {
			return base
		}
	}
	t.Fatal("no six free ports in a row")
	return 0
}

// startDev starts quorate dev in dir and waits for what it prints once it is
// ready. It returns the process and the three endpoints for clients.
func startDev(t testing.TB, dir string, args ...string) (*process, []string) {
	t.Helper()
	base := devPorts(t)
	args = append([]string{"dev", "--port-base", fmt.Sprint(base)}, args...)
	log := filepath.Join(t.TempDir(), "dev.log")
	p := startProcess(t, "quorate dev", log, dir, mustBinary(t, quorate.binary), args...)
	endpoints := []string{}
	for i := range 3 {
		endpoints = append(endpoints, fmt.Sprintf("127.0.0.1:%d", base+2*i))
	}
	eventually(t, 20*time.Second, "quorate dev says who leads", func() error {
		if p.exited() {
			t.Fatalf("quorate dev has exited: %v\n%s", p.err, p.output())
		}
		if !strings.Contains(p.output(), "leads") || !strings.Contains(p.output(), "Ctrl-C") {
			return errNotYet
		}
		return nil
	})
	return p, endpoints
}

// "starts three replicas in one process ..., prints the endpoints, who leads,
// and a first command to try; Ctrl-C ends it cleanly, and starting it again
// finds the data"
func TestDev(t *testing.T) {
	dir := workDir(t)
	p, endpoints := startDev(t, dir)
	out := p.output()
	for _, want := range append([]string{"leads", "etcdctl --endpoints=", "put"}, endpoints...) {
		if !strings.Contains(out, want) {
			t.Errorf("quorate dev does not print %q:\n%s", want, out)
		}
	}
	if n := strings.Count(out, "leads"); n != 1 {
		t.Errorf("%d replicas are said to lead:\n%s", n, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for i, ep := range endpoints {
		if _, err := newClient(t, ep).Put(ctx, fmt.Sprint("key", i), ep); err != nil {
			t.Fatalf("put at %s: %v", ep, err)
		}
	}
	if err := p.signal(syscall.SIGINT, 15*time.Second); err != nil {
		t.Fatalf("Ctrl-C: %v\n%s", err, p.output())
	}
	if _, err := os.Stat(filepath.Join(dir, "quorate-data")); err != nil {
		t.Errorf("the data is not in ./quorate-data: %v", err)
	}

	// Other ports than before: the data does not depend on them.
	p, again := startDev(t, dir)
	for i, ep := range endpoints {
		for _, from := range again {
			resp, err := newClient(t, from).Get(ctx, fmt.Sprint("key", i))
			if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != ep {
				t.Errorf("after the restart, %s does not have key%d: %v %v", from, i, resp, err)
			}
		}
	}
	if err := p.signal(syscall.SIGTERM, 15*time.Second); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, p.output())
	}
}

func TestDevTemp(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temp)
	p, endpoints := startDev(t, dir, "--temp")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := newClient(t, endpoints...).Put(ctx, "a", "1"); err != nil {
		t.Error(err)
	}
	if err := p.signal(syscall.SIGINT, 15*time.Second); err != nil {
		t.Fatalf("Ctrl-C: %v\n%s", err, p.output())
	}
	for _, d := range []string{dir, temp} {
		if left, err := os.ReadDir(d); err != nil || len(left) != 0 {
			t.Errorf("quorate dev --temp leaves %v in %s (%v)", left, d, err)
		}
	}
}

// TestDevDefaultPorts: "client endpoints 127.0.0.1:2379, 22379, 32379".
func TestDevDefaultPorts(t *testing.T) {
	for _, port := range []int{2379, 22379, 32379, 2380, 22380, 32380} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Skipf("somebody uses port %d: %v", port, err)
		}
		l.Close()
	}
	p := startProcess(t, "quorate dev", filepath.Join(t.TempDir(), "dev.log"), t.TempDir(), mustBinary(t, quorate.binary), "dev", "--temp")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, port := range []int{2379, 22379, 32379} {
		if _, err := newClient(t, fmt.Sprintf("127.0.0.1:%d", port)).Put(ctx, "a", "1"); err != nil {
			t.Errorf("port %d: %v\n%s", port, err, p.output())
		}
	}
	if err := p.signal(syscall.SIGINT, 15*time.Second); err != nil {
		t.Error(err)
	}
}
