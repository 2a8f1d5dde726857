package settings

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
)

// Server makes the configuration of a listener for clients. Certificate and
// key are read again when their files change.
func (f *TLSFiles) Server() (*tls.Config, error) {
	cfg, err := f.base()
	if err != nil {
		return nil, err
	}
	if f.TrustedCA != "" || f.ClientCertAuth {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}

// Peer makes the configuration of connections between members, for both ends.
func (f *TLSFiles) Peer() (*tls.Config, error) {
	cfg, err := f.Server()
	if err != nil {
		return nil, err
	}
	cfg.RootCAs = cfg.ClientCAs
	pair := keyPair{cert: f.ClientCert, key: f.ClientKey}
	if f.ClientCert == "" {
		pair = keyPair{cert: f.Cert, key: f.Key}
	}
	if _, err := pair.load(); err != nil {
		return nil, err
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.load() }
	return cfg, nil
}

func (f *TLSFiles) base() (*tls.Config, error) {
	pair := &keyPair{cert: f.Cert, key: f.Key}
	if _, err := pair.load(); err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.load() },
		MinVersion:     f.MinVersion,
		MaxVersion:     f.MaxVersion,
		CipherSuites:   f.CipherSuites,
	}
	if f.TrustedCA != "" {
		pool, err := loadCA(f.TrustedCA)
		if err != nil {
			return nil, err
		}
		cfg.ClientCAs = pool
	}
	if len(f.AllowedCNs) > 0 || len(f.AllowedHostnames) > 0 {
		cfg.VerifyConnection = f.checkNames
	}
	return cfg, nil
}

// errName is what a peer with a good certificate in a wrong name is told.
var errName = errors.New("certificate has none of the allowed names")

// checkNames runs on both ends, for resumed connections too.
func (f *TLSFiles) checkNames(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errName
	}
	cert := state.PeerCertificates[0]
	if slices.Contains(f.AllowedCNs, cert.Subject.CommonName) && cert.Subject.CommonName != "" {
		return nil
	}
	for _, name := range f.AllowedHostnames {
		if cert.VerifyHostname(name) == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: it is for %q", errName, cert.Subject.CommonName)
}

func loadCA(path string) (*x509.CertPool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("authority's certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("authority's certificate: %s holds none in PEM form", path)
	}
	return pool, nil
}

// keyPair is a certificate and its key in two files, read again when one of
// them has changed: a certificate is renewed by writing the files.
type keyPair struct {
	cert, key string

	mu     sync.Mutex
	stamp  [2]os.FileInfo
	loaded *tls.Certificate
}

func (p *keyPair) load() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stamp, err := p.look()
	if err == nil && p.loaded != nil && sameFiles(stamp, p.stamp) {
		return p.loaded, nil
	}
	var c tls.Certificate
	if err == nil {
		c, err = tls.LoadX509KeyPair(p.cert, p.key)
	}
	if err != nil {
		if p.loaded != nil {
			// Half of a renewal, perhaps: the other file follows. The old pair
			// serves until the new one is whole.
			return p.loaded, nil
		}
		return nil, fmt.Errorf("certificate %s with key %s: %w", p.cert, p.key, err)
	}
	p.loaded, p.stamp = &c, stamp
	return p.loaded, nil
}

func (p *keyPair) look() (stamp [2]os.FileInfo, err error) {
	for i, path := range []string{p.cert, p.key} {
		if stamp[i], err = os.Stat(path); err != nil {
			return stamp, err
		}
	}
	return stamp, nil
}

// sameFiles reports whether nothing was written or exchanged since. The time of
// the last write alone does not tell: two files that are written within a tick of
// the system's clock have the same.
func sameFiles(a, b [2]os.FileInfo) bool {
	for i := range a {
		if a[i] == nil || b[i] == nil || !os.SameFile(a[i], b[i]) || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size() {
			return false
		}
	}
	return true
}
