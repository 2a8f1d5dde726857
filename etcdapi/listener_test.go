package etcdapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"testing"
	"testing/iotest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
)

// served is a server behind Serve on a port of 127.0.0.1.
type served struct {
	addr string
	g    *grpc.Server
	l    net.Listener
	done chan error // Serve's result
}

func listenAndServe(t *testing.T, config *tls.Config, s *Server, options ...grpc.ServerOption) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &served{addr: l.Addr().String(), g: s.NewGRPCServer(options...), l: l, done: make(chan error, 1)}
	go func() { x.done <- Serve(l, config, x.g, s.Handler()) }()
	t.Cleanup(x.g.Stop)
	return x
}

// wait returns Serve's result.
func (x *served) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-x.done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("Serve does not return")
		return nil
	}
}

func dial(t *testing.T, addr string, creds credentials.TransportCredentials) pb.KVClient {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pb.NewKVClient(conn)
}

// testTLS returns the configurations of a server with a certificate of its own
// and of a client that trusts it and shows the same one.
func testTLS(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	template.Subject.CommonName = "alice"
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	certs := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}
	return &tls.Config{Certificates: certs, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven},
		&tls.Config{Certificates: certs, RootCAs: pool}
}

func get(t *testing.T, c *http.Client, url string) (int, string, int) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.ProtoMajor
}

const healthy = `{"health":"true","reason":""}`

func TestServePlain(t *testing.T) {
	x := listenAndServe(t, nil, newTestServer(t, newFakeCluster(t, 1)[0], nil))
	c := dial(t, x.addr, insecure.NewCredentials())
	if _, err := c.Put(t.Context(), key("k")); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	web := &http.Client{Transport: &http.Transport{}}
	defer web.CloseIdleConnections()
	if code, body, _ := get(t, web, "http://"+x.addr+"/health"); code != 200 || body != healthy {
		t.Errorf("HTTP: %d %q", code, body)
	}
	// Nothing but the first bytes decides, and they may come one by one.
	for _, request := range []string{"PUT /health HTTP/1.0\r\n\r\n", "GET /version HTTP/1.0\r\n\r\n"} {
		if answer := dribble(t, x.addr, request); len(answer) < 12 || answer[:7] != "HTTP/1." {
			t.Errorf("%q: %q", request, answer)
		}
	}
	if answer := dribble(t, x.addr, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); len(answer) < 9 || answer[3] != 4 {
		t.Errorf("HTTP/2's preface is not answered with a SETTINGS frame: %q", answer)
	}
	// A client that says nothing, or leaves at once, holds nobody up.
	silent, err := net.Dial("tcp", x.addr)
	if err != nil {
		t.Fatal(err)
	}
	if gone, err := net.Dial("tcp", x.addr); err == nil {
		_ = gone.Close()
	}
	if _, err := c.Put(t.Context(), key("k")); err != nil {
		t.Errorf("gRPC beside a silent client: %v", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	StopGRPC(ctx, x.g)
	if err := x.wait(t); err != nil {
		t.Errorf("Serve: %v", err)
	}
	_ = silent.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the silent client's connection is still there: %v", err)
	}
	_ = silent.Close()
	if conn, err := net.Dial("tcp", x.addr); err == nil {
		_ = conn.Close()
		t.Error("the port is still open")
	}
}

// dribble sends a request byte by byte and returns the first bytes of the
// answer.
func dribble(t *testing.T, addr, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	for i := range len(request) {
		if _, err := conn.Write([]byte(request[i : i+1])); err != nil {
			t.Fatal(err)
		}
	}
	answer := make([]byte, 12)
	n, _ := io.ReadFull(conn, answer)
	return string(answer[:n])
}

// authType remembers what gRPC knows of a client.
func authType(seen *credentials.AuthInfo) grpc.ServerOption {
	return grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if p, ok := peer.FromContext(ctx); ok {
			*seen = p.AuthInfo
		}
		return next(ctx, req)
	})
}

func TestServeTLS(t *testing.T) {
	serverTLS, clientTLS := testTLS(t)
	var seen credentials.AuthInfo
	x := listenAndServe(t, serverTLS, newTestServer(t, newFakeCluster(t, 1)[0], nil), authType(&seen))

	c := dial(t, x.addr, credentials.NewTLS(clientTLS))
	if _, err := c.Put(t.Context(), key("k")); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	if info, ok := seen.(credentials.TLSInfo); !ok || len(info.State.PeerCertificates) != 1 ||
		info.State.PeerCertificates[0].Subject.CommonName != "alice" {
		t.Errorf("gRPC does not know the client's certificate: %#v", seen)
	}
	for _, http2 := range []bool{false, true} {
		web := &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS.Clone(), ForceAttemptHTTP2: http2}}
		code, body, major := get(t, web, "https://"+x.addr+"/health")
		if code != 200 || body != healthy || (major == 2) != http2 {
			t.Errorf("HTTP/%d: %d %q", major, code, body)
		}
		web.CloseIdleConnections()
	}
	// A gRPC client that offers HTTP/1.1 as well gets there, too.
	both := clientTLS.Clone()
	both.NextProtos = []string{"h2", "http/1.1"}
	if _, err := dial(t, x.addr, credentials.NewTLS(both)).Put(t.Context(), key("k")); err != nil {
		t.Errorf("gRPC by way of HTTP: %v", err)
	}
	// Plain text on a TLS port is refused, not served.
	if answer := dribble(t, x.addr, "GET /"); answer != "" && answer[0] == 'H' {
		t.Errorf("plain text was answered: %q", answer)
	}
	if err := x.l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := x.wait(t); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// TestServeReloads: a caller's GetConfigForClient, by which certificates are
// exchanged while the server runs, is asked as well.
func TestServeReloads(t *testing.T) {
	serverTLS, clientTLS := testTLS(t)
	asked := make(chan struct{}, 8)
	outer := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		asked <- struct{}{}
		return serverTLS, nil
	}}
	x := listenAndServe(t, outer, newTestServer(t, newFakeCluster(t, 1)[0], nil))
	if _, err := dial(t, x.addr, credentials.NewTLS(clientTLS)).Put(t.Context(), key("k")); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	if len(asked) == 0 {
		t.Error("GetConfigForClient was not asked")
	}
	if serverTLS.NextProtos != nil {
		t.Error("the caller's configuration was changed")
	}
}

// TestServeOne: a listener for metrics alone has no gRPC server, one for gRPC
// alone no handler.
func TestServeOne(t *testing.T) {
	s := newTestServer(t, newFakeCluster(t, 1)[0], nil)
	for _, name := range []string{"http", "grpc"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var g *grpc.Server
		h := s.Handler()
		if name == "grpc" {
			g, h = s.NewGRPCServer(), nil
			t.Cleanup(g.Stop)
		}
		x := &served{addr: l.Addr().String(), l: l, done: make(chan error, 1)}
		go func() { x.done <- Serve(l, nil, g, h) }()
		if name == "grpc" {
			if _, err := dial(t, x.addr, insecure.NewCredentials()).Put(t.Context(), key("k")); err != nil {
				t.Errorf("gRPC: %v", err)
			}
		} else if code, _, _ := get(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+x.addr+"/metrics"); code != 200 {
			t.Errorf("HTTP: %d", code)
		}
		_ = l.Close()
		if err := x.wait(t); err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

// flaky is a listener whose first Accepts fail.
type flaky struct {
	net.Listener
	errs []error
}

func (f *flaky) Accept() (net.Conn, error) {
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		return nil, err
	}
	return f.Listener.Accept()
}

type temporaryError struct{ error }

func (temporaryError) Temporary() bool { return true }

func TestServeOutlivesAcceptErrors(t *testing.T) {
	s := newTestServer(t, newFakeCluster(t, 1)[0], nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{Listener: l, errs: []error{temporaryError{errors.New("too many open files")}}}
	done := make(chan error, 1)
	go func() { done <- Serve(f, nil, nil, s.Handler()) }()
	if code, _, _ := get(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+l.Addr().String()+"/version"); code != 200 {
		t.Errorf("after a temporary error: %d", code)
	}
	_ = l.Close()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}

	broken := errors.New("broken")
	l2, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := Serve(&flaky{l2, []error{broken}}, nil, nil, s.Handler()); !errors.Is(err, broken) {
		t.Errorf("Serve on a broken listener: %v", err)
	}
}

// TestReadAhead: what was read to tell the protocol is read again, whatever the
// size of the reads.
func TestReadAhead(t *testing.T) {
	for _, x := range []struct {
		sent  string
		http2 bool
	}{{"PRI * HTTP/2.0", true}, {"PRO", false}, {"GET / HTTP/1.1", false}, {"P", false}, {"", false}} {
		near, far := net.Pipe()
		go func() {
			_, _ = io.WriteString(far, x.sent)
			_ = far.Close()
		}()
		c := &helloConn{Conn: near}
		http2, err := c.peekHTTP2()
		if cut := len(x.sent) < 2; (err != nil) != cut {
			t.Errorf("%q: %v", x.sent, err)
			continue
		} else if cut {
			continue
		}
		got, err := io.ReadAll(iotest.OneByteReader(c))
		if err != nil || string(got) != x.sent || http2 != x.http2 {
			t.Errorf("%q came out as %q, HTTP/2 %v: %v", x.sent, got, http2, err)
		}
	}
}
