package etcdapi

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// helloTimeout bounds how long a client may take to say which protocol it
	// speaks, TLS handshake included.
	helloTimeout = 20 * time.Second
	// drainTimeout bounds how long Serve waits for HTTP requests in progress.
	drainTimeout = 5 * time.Second
	// acceptPauseMax is the longest pause after a failed Accept.
	acceptPauseMax = time.Second
)

// Serve serves gRPC and HTTP on one listener, as etcd does on its client URLs.
// Without TLS a connection that begins with HTTP/2's preface goes to g and any
// other to h. With TLS a client that offers HTTP/2 alone (every gRPC client)
// goes to g; one that offers HTTP/1.1 as well is served by h, which hands gRPC
// requests on to g, at more cost. Either of g and h may be nil. A nil tls is
// plain text.
//
// Serve returns nil once l is closed or g is stopped, and waits at most 5 s for
// HTTP requests in progress; draining g is the caller's: see StopGRPC.
func Serve(l net.Listener, tls *tls.Config, g *grpc.Server, h http.Handler) error {
	m := newMux(l, tls, g, h)
	var wait sync.WaitGroup
	if g != nil {
		wait.Go(func() { _ = g.Serve(m.grpc) })
	}
	web := &http.Server{
		Handler:           m.handler(g, h),
		ReadHeaderTimeout: helloTimeout,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	wait.Go(func() { _ = web.Serve(m.http) })

	err := m.accept()
	m.close()
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if web.Shutdown(ctx) != nil {
		_ = web.Close()
	}
	wait.Wait()
	return err
}

// StopGRPC lets requests in progress on g end until ctx does, and then ends
// them.
func StopGRPC(ctx context.Context, g *grpc.Server) {
	drained := make(chan struct{})
	go func() {
		g.GracefulStop()
		close(drained)
	}()
	select {
	case <-drained:
	case <-ctx.Done():
		g.Stop()
		<-drained
	}
}

// mux divides the connections of one listener between two.
type mux struct {
	listener   net.Listener
	tls        *tls.Config // nil: plain text
	grpc, http *queue
	grpcOnly   bool // there is no HTTP handler
	httpOnly   bool // there is no gRPC server

	mu     sync.Mutex
	hellos map[net.Conn]struct{} // connections that have not said what they are
	closed bool
}

func newMux(l net.Listener, config *tls.Config, g *grpc.Server, h http.Handler) *mux {
	m := &mux{listener: l, grpcOnly: h == nil, httpOnly: g == nil, hellos: map[net.Conn]struct{}{}}
	m.grpc, m.http = newQueue(l), newQueue(l)
	if config != nil {
		m.tls = m.tlsConfig(config)
	}
	return m
}

// tlsConfig returns config with the protocols that Serve speaks, and with a
// note at each connection on whether its client offers HTTP/1.1.
func (m *mux) tlsConfig(config *tls.Config) *tls.Config {
	protocols := []string{"h2", "http/1.1"}
	config = config.Clone()
	config.NextProtos = protocols
	inner := config.GetConfigForClient
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if c, ok := hello.Conn.(*helloConn); ok {
			c.onlyHTTP2 = len(hello.SupportedProtos) > 0 && !slices.Contains(hello.SupportedProtos, "http/1.1")
		}
		if inner == nil {
			return nil, nil
		}
		chosen, err := inner(hello)
		if chosen != nil {
			chosen = chosen.Clone()
			chosen.NextProtos = protocols
		}
		return chosen, err
	}
	return config
}

// accept hands every connection on until the listener is closed.
func (m *mux) accept() error {
	var pause time.Duration
	for {
		conn, err := m.listener.Accept()
		switch {
		case err == nil:
			pause = 0
			go m.hello(conn)
		case errors.Is(err, net.ErrClosed):
			return nil
		case temporary(err):
			// Out of file descriptors, or the like: others will be closed.
			pause = min(max(2*pause, 5*time.Millisecond), acceptPauseMax)
			if !m.grpc.pause(pause) {
				return nil
			}
		default:
			return err
		}
	}
}

// temporary says whether Accept may succeed when it is called again. Nothing
// but the deprecated method tells.
func temporary(err error) bool {
	t, ok := err.(interface{ Temporary() bool })
	return ok && t.Temporary()
}

// hello finds out what conn speaks and queues it.
func (m *mux) hello(raw net.Conn) {
	if !m.enter(raw) {
		_ = raw.Close()
		return
	}
	conn, toGRPC, err := m.identify(raw)
	m.leave(raw)
	if err != nil {
		_ = raw.Close()
		return
	}
	to := m.http
	if toGRPC {
		to = m.grpc
	}
	to.put(conn)
}

func (m *mux) identify(raw net.Conn) (conn net.Conn, toGRPC bool, err error) {
	if err := raw.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, false, err
	}
	h := &helloConn{Conn: raw}
	if m.tls != nil {
		secured := tls.Server(h, m.tls)
		if err := secured.Handshake(); err != nil {
			return nil, false, err
		}
		h2 := secured.ConnectionState().NegotiatedProtocol == "h2"
		conn, toGRPC = secured, h2 && h.onlyHTTP2
	} else if !m.grpcOnly && !m.httpOnly {
		if toGRPC, err = h.peekHTTP2(); err != nil {
			return nil, false, err
		}
		conn = h
	} else {
		conn = raw
	}
	if m.grpcOnly || m.httpOnly {
		toGRPC = m.grpcOnly
	}
	return conn, toGRPC, raw.SetDeadline(time.Time{})
}

func (m *mux) enter(conn net.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.hellos[conn] = struct{}{}
	}
	return !m.closed
}

func (m *mux) leave(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.hellos, conn)
}

func (m *mux) close() {
	_ = m.grpc.Close()
	_ = m.http.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for conn := range m.hellos {
		_ = conn.Close()
	}
}

// handler serves what is not plain gRPC over HTTP/2.
func (m *mux) handler(g *grpc.Server, h http.Handler) http.Handler {
	if h == nil {
		h = http.NotFoundHandler()
	}
	if g == nil || m.tls == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			g.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// helloConn is a connection whose first bytes have been read ahead.
type helloConn struct {
	net.Conn
	ahead     []byte // read, and not yet handed out
	onlyHTTP2 bool   // its TLS client offers HTTP/2 and not HTTP/1.1
}

// http2Preface is how a client's HTTP/2 connection begins (RFC 9113 §3.4). No
// HTTP/1 method begins with these four bytes.
const http2Preface = "PRI "

// peekHTTP2 reads just enough to tell HTTP/2 from anything else.
func (c *helloConn) peekHTTP2() (bool, error) {
	buf := make([]byte, 0, len(http2Preface))
	for len(buf) < cap(buf) {
		n, err := c.Conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if string(buf) != http2Preface[:len(buf)] {
			break
		}
		if err != nil {
			return false, err
		}
	}
	c.ahead = buf
	return string(buf) == http2Preface, nil
}

func (c *helloConn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// queue is a listener that is fed with connections. Closing it closes the
// listener that the connections come from, so that stopping a server that
// listens to it ends all.
type queue struct {
	source net.Listener
	conns  chan net.Conn
	done   chan struct{}
	once   atomic.Bool
}

func newQueue(source net.Listener) *queue {
	return &queue{source: source, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (q *queue) put(conn net.Conn) {
	select {
	case q.conns <- conn:
	case <-q.done:
		_ = conn.Close()
	}
}

// pause waits, and reports whether the queue is still open after it.
func (q *queue) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-q.done:
		return false
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	if q.once.Swap(true) {
		return nil
	}
	close(q.done)
	return q.source.Close()
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.source.Addr() }

// sniffedCredentials serve connections that Serve has identified, and whose
// TLS handshake, if any, is done: gRPC only takes note of it.
type sniffedCredentials struct {
	credentials.TransportCredentials
}

func newSniffedCredentials() credentials.TransportCredentials {
	return sniffedCredentials{insecure.NewCredentials()}
}

// ServerHandshake implements credentials.TransportCredentials.
func (c sniffedCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return c.TransportCredentials.ServerHandshake(conn)
	}
	info := credentials.TLSInfo{
		State:          secured.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}
	return conn, info, nil
}

// Clone implements credentials.TransportCredentials.
func (c sniffedCredentials) Clone() credentials.TransportCredentials { return c }
