package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"

	"google.golang.org/grpc"

	"github.com/quorate/quorate/etcdapi"
	"github.com/quorate/quorate/internal/settings"
)

// listenError is an address that could not be taken.
type listenError struct {
	addr, flag string
	err        error
}

func (e *listenError) Error() string {
	problem := "cannot be listened on; correct"
	switch {
	case errors.Is(e.err, syscall.EADDRINUSE):
		problem = "is taken by another process; stop that, or choose another port with"
	case errors.Is(e.err, syscall.EADDRNOTAVAIL):
		problem = "is no address of this machine; correct"
	case errors.Is(e.err, syscall.EACCES):
		problem = "may not be listened on by this user; choose another port with"
	}
	return fmt.Sprintf("%s %s %s: %v", e.addr, problem, e.flag, e.err)
}

func (e *listenError) Unwrap() error { return e.err }

// listen takes one address. flag is where the address came from.
func listen(flag string, u settings.URL) (net.Listener, error) {
	l, err := net.Listen("tcp", u.Addr)
	if err != nil {
		return nil, &listenError{u.Addr, flag, err}
	}
	return l, nil
}

// door is one listener and what is served there.
type door struct {
	listener net.Listener
	tls      *tls.Config // nil: plain text
	grpc     bool
	http     bool
}

// doors are the listeners of a member: for its clients, and for the other
// members.
type doors struct {
	all    []door
	peers  net.Listener
	served sync.WaitGroup
}

// openDoors takes all addresses of a member, before anything is started: a port
// that is taken is found out at once, and nothing is to be undone.
func openDoors(s *settings.Settings) (_ *doors, err error) {
	d := &doors{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.peers, err = listen("--listen-peer-urls", s.ListenPeer); err != nil {
		return nil, err
	}
	var secure *tls.Config
	if !s.ClientTLS.Empty() {
		if secure, err = s.ClientTLS.Server(); err != nil {
			return nil, fmt.Errorf("TLS for clients: %w", err)
		}
	}
	for _, group := range []struct {
		name string
		urls []settings.URL
		grpc bool
	}{
		{"--listen-client-urls", s.ListenClient, true},
		{"--listen-client-http-urls", s.ListenHTTP, false},
		{"--listen-metrics-urls", s.ListenMetrics, false},
	} {
		for _, u := range group.urls {
			l, err := listen(group.name, u)
			if err != nil {
				return nil, err
			}
			door := door{listener: l, grpc: group.grpc, http: true}
			if u.TLS {
				door.tls = secure
			}
			d.all = append(d.all, door)
		}
	}
	return d, nil
}

// serve serves at every door until its listener is closed.
func (d *doors) serve(g *grpc.Server, h http.Handler, failed func(error)) {
	for _, door := range d.all {
		d.served.Go(func() {
			at := g
			if !door.grpc {
				at = nil
			}
			if err := etcdapi.Serve(door.listener, door.tls, at, h); err != nil {
				failed(fmt.Errorf("serving %s: %w", door.listener.Addr(), err))
			}
		})
	}
}

// closeClients lets no client in any more. It does not wait.
func (d *doors) closeClients() {
	for _, door := range d.all {
		door.listener.Close()
	}
}

// close gives all addresses back. It does not wait.
func (d *doors) close() {
	d.closeClients()
	if d.peers != nil {
		d.peers.Close()
	}
}
