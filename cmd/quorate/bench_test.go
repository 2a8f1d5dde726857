package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/quorate/quorate/internal/load"
)

// echoServer answers puts; loaded is closed once it has answered many, so that
// the window of whoever sends them is long open.
type echoServer struct {
	pb.UnimplementedKVServer
	puts   atomic.Int64
	loaded chan struct{}
}

func (s *echoServer) Put(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
	if s.puts.Add(1) == 2000 {
		close(s.loaded)
	}
	return &pb.PutResponse{}, nil
}

func echo(t *testing.T) (endpoint string, loaded <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	server := &echoServer{loaded: make(chan struct{})}
	pb.RegisterKVServer(s, server)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String(), server.loaded
}

// What is interrupted says what it has measured until then.
func TestBench(t *testing.T) {
	run := func(args ...string) *command {
		endpoint, loaded := echo(t)
		c := start(t, append([]string{"bench", "put", "--endpoints", endpoint, "--warm", "0s", "--for", "1h"}, args...)...)
		select {
		case <-loaded:
		case <-time.After(within):
			t.Fatalf("the load does not begin: %s", &c.err)
		}
		if code := c.stop(); code != 0 {
			t.Fatalf("exit code %d: %s", code, &c.err)
		}
		return c
	}
	c := run("--clients", "4", "--conns", "2", "-o", "json")
	var r load.Report
	if err := json.Unmarshal([]byte(c.out.String()), &r); err != nil || r.Ops == 0 || r.Clients != 4 || r.Work != load.Put {
		t.Errorf("%v: %+v", err, r)
	}
	if c = run("--clients", "1"); !strings.Contains(c.out.String(), "p99.9") {
		t.Errorf("%s%s", &c.out, &c.err)
	}
}

func TestBenchRefusals(t *testing.T) {
	endpoint, _ := echo(t)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"", exitUsage, "accepts 1 arg"},
		{"watch", exitUsage, `invalid argument "watch"`},
		{"put --output xml", exitUsage, "text and json"},
		{"put --clients 0", exitUsage, "there must be one"},
		{"put --cacert /nonexistent", exitUsage, "--cacert"},
		{"range --for 1ms --warm 0s", exitFailed, "Txn not implemented"}, // the keys cannot be written
	} {
		command := start(t, append([]string{"bench", "--endpoints", endpoint}, strings.Fields(c.args)...)...)
		if code := command.end(); code != c.code || !strings.Contains(command.err.String(), c.want) {
			t.Errorf("bench %s: exit code %d, %s", c.args, code, &command.err)
		}
	}
}

// The bar is for terminals: what is redirected stays free of it.
func TestProgressBar(t *testing.T) {
	if newProgressBar(io.Discard) != nil {
		t.Error("a bar for what is no terminal")
	}
	var b strings.Builder
	bar := &progressBar{&b}
	bar.draw(load.Progress{Elapsed: 5 * time.Second, Window: 10 * time.Second, Ops: 1000, Errors: 2})
	if want := "[" + strings.Repeat("#", 15) + strings.Repeat(".", 15) + "] 5.0 s of 10s, 200/s, 2 errors"; !strings.Contains(b.String(), want) {
		t.Errorf("%q", b.String())
	}
}
