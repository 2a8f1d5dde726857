package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/quorate/quorate/internal/load"
)

type echoServer struct{ pb.UnimplementedKVServer }

func (echoServer) Put(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{}, nil
}

func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterKVServer(s, echoServer{})
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func TestBench(t *testing.T) {
	endpoint := echo(t)
	c := start(t, "bench", "put", "--endpoints", endpoint, "--clients", "4", "--conns", "2", "--warm", "0s", "--for", "100ms", "-o", "json")
	if code := c.end(); code != 0 {
		t.Fatalf("exit code %d: %s", code, &c.err)
	}
	var r load.Report
	if err := json.Unmarshal([]byte(c.out.String()), &r); err != nil || r.Ops == 0 || r.Clients != 4 || r.Work != load.Put {
		t.Errorf("%v: %+v", err, r)
	}
	c = start(t, "bench", "put", "--endpoints", endpoint, "--clients", "1", "--warm", "0s", "--for", "50ms")
	if code := c.end(); code != 0 || !strings.Contains(c.out.String(), "p99.9") {
		t.Errorf("exit code %d: %s%s", code, &c.out, &c.err)
	}
}

func TestBenchRefusals(t *testing.T) {
	endpoint := echo(t)
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
