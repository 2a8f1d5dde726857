package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// system is a server program and how it is started.
type system struct {
	name    string
	bin     string
	args    []string // before the flags that all have
	members int
	// reads: it is measured where there are reads alone.
	reads bool
}

// prepare builds what is to be measured.
func prepare(ctx context.Context, o *options, dir string) ([]system, error) {
	var all []system
	for _, name := range o.selected() {
		s := system{name: name, members: 3}
		var err error
		switch name {
		case "etcd":
			s.args = []string{"--log-level", "warn"}
			s.bin, err = build(ctx, *o.bin[name], "../e2e", "./cmd/etcdref", filepath.Join(dir, "etcd"))
		case "quorate", "quorate-lease":
			s.args = []string{"serve", "--log-level", "warn"}
			if s.reads = name == "quorate-lease"; s.reads {
				s.args = append(s.args, "--leader-lease")
			}
			bin := o.bin["quorate"] // built once, although it may be measured twice
			*bin, err = build(ctx, *bin, "..", "./cmd/quorate", filepath.Join(dir, "quorate"))
			s.bin = *bin
		case "echo":
			s.members = 1
			s.bin, err = os.Executable()
		default:
			err = s.variant(o, name)
		}
		if err != nil {
			return nil, err
		}
		if o.profile != "" && name != "echo" {
			s.args = append(s.args, "--enable-pprof")
		}
		all = append(all, s)
	}
	if o.profile != "" {
		return all, os.MkdirAll(o.profile, 0o755)
	}
	return all, nil
}

func (s *system) variant(o *options, name string) error {
	for _, v := range o.variants {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			words := strings.Fields(rest)
			s.bin = words[0]
			s.args = append([]string{"serve", "--log-level", "warn"}, words[1:]...)
			return nil
		}
	}
	return fmt.Errorf("no system %q; there are etcd, quorate, quorate-lease, echo and the variants", name)
}

// build returns given, or builds pkg of the module in dir.
func build(ctx context.Context, given, dir, pkg, out string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	fmt.Fprintf(os.Stderr, "building %s of %s\n", pkg, dir)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s in %s (run this in bench, or name a built program): %w\n%s", pkg, dir, err, text)
	}
	return out, nil
}

// cluster is the processes of one system.
type cluster struct {
	system
	dir     string
	members []*member
}

// member is one process and what it takes to start it again.
type member struct {
	name         string
	client, peer string // addresses
	bin          string
	args         []string
	log          string
	cmd          *exec.Cmd
	exited       chan struct{}
	conn         *grpc.ClientConn
	kv           pb.KVClient
}

// startMax bounds a cluster's start.
const startMax = 60 * time.Second

// startCluster returns a cluster whose members all answer linearizable reads.
func startCluster(ctx context.Context, dir string, s system) (_ *cluster, err error) {
	c := &cluster{system: s}
	if c.dir, err = os.MkdirTemp(dir, s.name+"-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	if err := c.layOut(); err != nil {
		return nil, err
	}
	for _, m := range c.members {
		if err := m.start(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	for _, m := range c.members {
		if err := m.await(ctx); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, c.tail())
		}
	}
	return c, nil
}

func (c *cluster) layOut() error {
	ports, err := freePorts(2 * c.system.members)
	if err != nil {
		return err
	}
	var initial []string
	for i := range c.system.members {
		m := &member{name: fmt.Sprintf("m%d", i), bin: c.bin}
		m.client, m.peer = ports[2*i], ports[2*i+1]
		m.log = filepath.Join(c.dir, m.name+".log")
		initial = append(initial, m.name+"=http://"+m.peer)
		c.members = append(c.members, m)
		m.conn, err = grpc.NewClient("passthrough:///"+m.client, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second}),
			grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
		if err != nil {
			return err
		}
		m.kv = pb.NewKVClient(m.conn)
	}
	for _, m := range c.members {
		if c.name == "echo" {
			m.args = []string{"-echo-at", m.client}
			continue
		}
		m.args = append(append([]string{}, c.args...),
			"--name", m.name, "--data-dir", filepath.Join(c.dir, m.name),
			"--listen-client-urls", "http://"+m.client, "--advertise-client-urls", "http://"+m.client,
			"--listen-peer-urls", "http://"+m.peer, "--initial-advertise-peer-urls", "http://"+m.peer,
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-state", "new",
			"--initial-cluster-token", filepath.Base(c.dir))
	}
	return nil
}

// freePorts returns addresses on 127.0.0.1 that nobody listens at, below those
// that the kernel gives to outgoing connections.
func freePorts(n int) (addrs []string, err error) {
	for range 1000 {
		if len(addrs) == n {
			return addrs, nil
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000)))
		if err == nil {
			defer l.Close()
			addrs = append(addrs, l.Addr().String())
		}
	}
	return nil, errors.New("no free ports on 127.0.0.1")
}

func (m *member) start() error {
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(m.bin, m.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Dir(m.log), log, log
	// Nothing may be left over, even if this process is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	exited := make(chan struct{})
	m.cmd, m.exited = cmd, exited
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	return nil
}

// kill is SIGKILL to the process, by its id.
func (m *member) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		<-m.exited
	}
}

func (m *member) dead() bool {
	select {
	case <-m.exited:
		return true
	default:
		return false
	}
}

// await returns when m answers a linearizable read.
func (m *member) await(ctx context.Context) error {
	for {
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		_, err := m.kv.Range(bounded, &pb.RangeRequest{Key: []byte("ready?")})
		cancel()
		if err == nil {
			return nil
		}
		if m.dead() || ctx.Err() != nil {
			return fmt.Errorf("%s does not serve: %w", m.name, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// leader returns the member that calls itself leader.
func (c *cluster) leader(ctx context.Context) (*member, error) {
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	for ctx.Err() == nil {
		for _, m := range c.members {
			if m.dead() {
				continue
			}
			bounded, done := context.WithTimeout(ctx, time.Second)
			st, err := pb.NewMaintenanceClient(m.conn).Status(bounded, &pb.StatusRequest{})
			done()
			if err == nil && st.Leader != 0 && st.Leader == st.Header.MemberId {
				return m, nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, fmt.Errorf("%s: no leader: %w", c.name, ctx.Err())
}

// leaderFirst returns the members' addresses, the leader's first.
func (c *cluster) leaderFirst(ctx context.Context) ([]string, error) {
	leader := c.members[0]
	if len(c.members) > 1 {
		var err error
		if leader, err = c.leader(ctx); err != nil {
			return nil, err
		}
	}
	all := []string{leader.client}
	for _, m := range c.members {
		if m != leader {
			all = append(all, m.client)
		}
	}
	return all, nil
}

func (c *cluster) deadMember() string {
	for _, m := range c.members {
		if m.dead() {
			return c.name + " " + m.name
		}
	}
	return ""
}

// tail is the last that the members said.
func (c *cluster) tail() string {
	var all []string
	for _, m := range c.members {
		text, _ := os.ReadFile(m.log)
		all = append(all, m.name+": "+string(text[max(0, len(text)-1000):]))
	}
	return strings.Join(all, "\n")
}

// stop ends all processes and removes their data.
func (c *cluster) stop() {
	for _, m := range c.members {
		m.kill()
		if m.conn != nil {
			m.conn.Close()
		}
	}
	_ = os.RemoveAll(c.dir)
}
