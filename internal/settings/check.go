package settings

import (
	"crypto/tls"
	"fmt"
	"strings"
	"time"
)

// check compares the settings with each other and fills in what follows from
// them. It returns all that is wrong.
func (s *Settings) check() []error {
	var errs []error
	for _, check := range []func(*Settings) error{
		(*Settings).checkName,
		(*Settings).checkTimes,
		(*Settings).checkClientURLs,
		(*Settings).checkMembers,
		(*Settings).checkClientTLS,
		(*Settings).checkPeerTLS,
		(*Settings).checkTLSVersions,
		(*Settings).checkPorts,
	} {
		if err := check(s); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// conflict is an error at the setting name.
func (s *Settings) conflict(name, problem, hint string) error {
	return &Error{Source: s.source(name), Value: s.raw[name].Value, Problem: problem, Hint: hint, Kind: ErrConflict}
}

func (s *Settings) checkName() error {
	if strings.ContainsAny(s.Name, "=,") {
		return &Error{Source: s.source("name"), Value: s.Name, Problem: "has a comma or an equals sign", Kind: ErrInvalid}
	}
	if s.DataDir == "" {
		s.DataDir = s.Name + ".quorate"
	}
	return nil
}

func (s *Settings) checkTimes() error {
	switch {
	case s.Election > electionMax:
		return s.conflict("election-timeout", fmt.Sprintf("is above %d ms", electionMax/time.Millisecond), "")
	case 5*s.Heartbeat > s.Election:
		return s.conflict("election-timeout",
			fmt.Sprintf("%d ms is less than five times the --heartbeat-interval of %d ms", s.Election/time.Millisecond, s.Heartbeat/time.Millisecond),
			"raise the one or lower the other")
	}
	return nil
}

// checkClientURLs follows etcd: whoever moves the listener must say how clients
// reach it, but for a configuration file, where the default stays.
func (s *Settings) checkClientURLs() error {
	const listen, advertise = "listen-client-urls", "advertise-client-urls"
	if s.given(listen) && !s.given(advertise) && s.source(listen).Kind != FromFile {
		return s.conflict(listen, "needs --advertise-client-urls beside it", "say under which URLs clients reach this member")
	}
	return nil
}

func (s *Settings) checkMembers() error {
	const cluster, advertise = "initial-cluster", "initial-advertise-peer-urls"
	if !s.MembersGiven {
		s.Members = []Member{{Name: s.Name, PeerURL: s.AdvertisePeer}}
		return nil
	}
	for _, m := range s.Members {
		if m.Name != s.Name {
			continue
		}
		if !s.given(advertise) {
			s.AdvertisePeer = m.PeerURL
		}
		if m.PeerURL != s.AdvertisePeer {
			return s.conflict(cluster,
				fmt.Sprintf("has %s=%s, but --%s is %s", m.Name, m.PeerURL, advertise, s.AdvertisePeer),
				"both must be the same text")
		}
		return nil
	}
	return s.conflict(cluster, fmt.Sprintf("has no member with this one's --name, %q", s.Name),
		fmt.Sprintf("add %s=%s or correct --name", s.Name, s.AdvertisePeer))
}

func (s *Settings) checkClientTLS() error {
	if err := s.checkPair("", &s.ClientTLS); err != nil {
		return err
	}
	for _, l := range []struct {
		name string
		urls []URL
	}{
		{"listen-client-urls", s.ListenClient}, {"listen-client-http-urls", s.ListenHTTP}, {"listen-metrics-urls", s.ListenMetrics},
	} {
		for _, u := range l.urls {
			if u.TLS && s.ClientTLS.Empty() {
				return s.conflict(l.name, fmt.Sprintf("%s needs a certificate", u), "give --cert-file and --key-file, or use http")
			}
			if !u.TLS && !s.ClientTLS.Empty() && l.name != "listen-metrics-urls" {
				s.Warnings = append(s.Warnings, Warning{s.source(l.name), fmt.Sprintf("%s is plain http although --cert-file is given; the certificate is not used there", u)})
			}
		}
	}
	return nil
}

func (s *Settings) checkPeerTLS() error {
	if err := s.checkPair("peer-", &s.PeerTLS); err != nil {
		return err
	}
	t := &s.PeerTLS
	if (t.ClientCert == "") != (t.ClientKey == "") {
		return s.conflict("peer-client-cert-file", "--peer-client-cert-file and --peer-client-key-file belong together", "give both or none")
	}
	if s.ListenPeer.TLS != s.AdvertisePeer.TLS {
		return s.conflict("listen-peer-urls", fmt.Sprintf("listens at %s, but the others are told %s", s.ListenPeer, s.AdvertisePeer),
			"use https for both --listen-peer-urls and --initial-advertise-peer-urls, or for neither")
	}
	if s.ListenPeer.TLS && t.Empty() {
		return s.conflict("listen-peer-urls", fmt.Sprintf("%s needs a certificate", s.ListenPeer), "give --peer-cert-file and --peer-key-file, or use http")
	}
	if !s.ListenPeer.TLS && !t.Empty() {
		s.Warnings = append(s.Warnings, Warning{s.source("listen-peer-urls"), fmt.Sprintf("%s is plain http although --peer-cert-file is given; members speak without TLS", s.ListenPeer)})
	}
	return nil
}

// checkPair checks what both sides' files have in common.
func (s *Settings) checkPair(prefix string, t *TLSFiles) error {
	auth, hostnames := "client-cert-auth", "client-cert-allowed-hostname"
	if prefix != "" {
		auth, hostnames = "peer-client-cert-auth", "peer-cert-allowed-hostname"
	}
	switch {
	case (t.Cert == "") != (t.Key == ""):
		return s.conflict(prefix+"cert-file", fmt.Sprintf("--%scert-file and --%skey-file belong together", prefix, prefix), "give both or none")
	case t.ClientCertAuth && t.TrustedCA == "":
		return s.conflict(auth, fmt.Sprintf("needs --%strusted-ca-file", prefix), "name the authority that signs the certificates")
	case len(t.AllowedCNs) > 0 && len(t.AllowedHostnames) > 0:
		return s.conflict(hostnames, "stands beside allowed common names", "give one of the two")
	case (len(t.AllowedCNs) > 0 || len(t.AllowedHostnames) > 0) && t.TrustedCA == "":
		return s.conflict(prefix+"trusted-ca-file", "is needed to restrict names", "name the authority that signs the certificates")
	}
	return nil
}

func (s *Settings) checkTLSVersions() error {
	t := &s.ClientTLS
	switch {
	case t.MaxVersion != 0 && t.MinVersion > t.MaxVersion:
		return s.conflict("tls-min-version", "is above --tls-max-version", "")
	case t.MinVersion == tls.VersionTLS13 && len(t.CipherSuites) > 0:
		return s.conflict("cipher-suites", "cannot be chosen for TLS 1.3 alone", "leave it out or lower --tls-min-version")
	}
	return nil
}

// checkPorts finds an address that is to be listened on twice.
func (s *Settings) checkPorts() error {
	users := map[string]string{s.ListenPeer.Addr: "listen-peer-urls"}
	for _, l := range []struct {
		name string
		urls []URL
	}{
		{"listen-client-urls", s.ListenClient}, {"listen-client-http-urls", s.ListenHTTP}, {"listen-metrics-urls", s.ListenMetrics},
	} {
		for _, u := range l.urls {
			if by, taken := users[u.Addr]; taken && !strings.HasSuffix(u.Addr, ":0") {
				return s.conflict(l.name, fmt.Sprintf("%s is listened on by --%s already", u.Addr, by), "give each a port of its own")
			}
			users[u.Addr] = l.name
		}
	}
	return nil
}
