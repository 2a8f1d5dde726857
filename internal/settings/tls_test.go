package settings

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	path string
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert, key, filepath.Join(dir, name+".pem")}
	writePEM(t, a.path, "CERTIFICATE", der)
	return a
}

// issue writes a certificate for 127.0.0.1 and returns its paths.
func (a *authority) issue(t *testing.T, dir, cn string, names ...string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, cn+".crt"), filepath.Join(dir, cn+".key")
	writePEM(t, cert, "CERTIFICATE", der)
	writePEM(t, key, "EC PRIVATE KEY", kder)
	return cert, key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// shake runs a handshake over a pipe and returns both ends' errors and the
// common name that the client saw.
func shake(server, client *tls.Config) (cn string, serverErr, clientErr error) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go func() {
		c := tls.Server(a, server)
		err := c.Handshake()
		if err == nil {
			_, err = c.Write([]byte{1})
		}
		a.Close()
		done <- err
	}()
	c := tls.Client(b, client)
	if clientErr = c.Handshake(); clientErr == nil {
		cn = c.ConnectionState().PeerCertificates[0].Subject.CommonName
		_, clientErr = c.Read(make([]byte, 1))
	}
	b.Close()
	return cn, <-done, clientErr
}

func peerConfig(t *testing.T, f TLSFiles) *tls.Config {
	t.Helper()
	cfg, err := f.Peer()
	if err != nil {
		t.Fatal(err)
	}
	cfg.ServerName = "127.0.0.1"
	return cfg
}

func TestPeersKnowEachOtherByTheirAuthority(t *testing.T) {
	dir := t.TempDir()
	ca, other := newAuthority(t, dir, "ca"), newAuthority(t, dir, "other")
	files := func(a *authority, cn string) TLSFiles {
		cert, key := a.issue(t, dir, cn, cn+".example")
		return TLSFiles{Cert: cert, Key: key, TrustedCA: ca.path, MinVersion: tls.VersionTLS12}
	}
	good, good2, stranger := files(ca, "one"), files(ca, "two"), files(other, "stranger")
	if cn, serr, cerr := shake(peerConfig(t, good), peerConfig(t, good2)); serr != nil || cerr != nil || cn != "one" {
		t.Fatalf("same authority: %v, %v", serr, cerr)
	}
	if _, serr, _ := shake(peerConfig(t, good), peerConfig(t, stranger)); serr == nil {
		t.Fatal("a stranger was let in")
	}
	allowed := good
	allowed.AllowedCNs = []string{"two"}
	if _, serr, cerr := shake(peerConfig(t, allowed), peerConfig(t, good2)); serr != nil || cerr != nil {
		t.Fatalf("allowed name: %v, %v", serr, cerr)
	}
	allowed.AllowedCNs = []string{"three"}
	if _, serr, _ := shake(peerConfig(t, allowed), peerConfig(t, good2)); !errors.Is(serr, errName) {
		t.Fatalf("another name: %v", serr)
	}
	allowed.AllowedCNs, allowed.AllowedHostnames = nil, []string{"two.example"}
	if _, serr, cerr := shake(peerConfig(t, allowed), peerConfig(t, good2)); serr != nil || cerr != nil {
		t.Fatalf("allowed host: %v, %v", serr, cerr)
	}
}

func TestClientsNeedACertificateIfAnAuthorityIsNamed(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	cert, key := ca.issue(t, dir, "server")
	f := TLSFiles{Cert: cert, Key: key, MinVersion: tls.VersionTLS12}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	client := &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
	open, err := f.Server()
	if err != nil {
		t.Fatal(err)
	}
	if _, serr, cerr := shake(open, client); serr != nil || cerr != nil {
		t.Fatalf("no authority: %v, %v", serr, cerr)
	}
	f.TrustedCA = ca.path
	closed, err := f.Server()
	if err != nil {
		t.Fatal(err)
	}
	if _, serr, _ := shake(closed, client); serr == nil {
		t.Fatal("a client without a certificate was let in")
	}
}

func TestRenewedCertificateIsUsedWithoutARestart(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	cert, key := ca.issue(t, dir, "old")
	f := TLSFiles{Cert: cert, Key: key, TrustedCA: ca.path, MinVersion: tls.VersionTLS12}
	cfg := peerConfig(t, f)
	// The certificate of the new pair is there and its key is not yet: the old
	// pair still serves.
	cert2, key2 := ca.issue(t, dir, "renewed")
	if err := os.Rename(cert2, cert); err != nil {
		t.Fatal(err)
	}
	if cn, serr, cerr := shake(cfg, cfg); serr != nil || cerr != nil || cn != "old" {
		t.Fatalf("half renewed: %q, %v, %v", cn, serr, cerr)
	}
	if err := os.Rename(key2, key); err != nil {
		t.Fatal(err)
	}
	if cn, serr, cerr := shake(cfg, cfg); serr != nil || cerr != nil || cn != "renewed" {
		t.Fatalf("renewed: %q, %v, %v", cn, serr, cerr)
	}
}

func TestBadFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	cert, key := ca.issue(t, dir, "x")
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		files TLSFiles
		want  string
	}{
		{TLSFiles{Cert: filepath.Join(dir, "none"), Key: key}, "none"},
		{TLSFiles{Cert: junk, Key: key}, "junk"},
		{TLSFiles{Cert: cert, Key: key, TrustedCA: junk}, "holds none in PEM form"},
		{TLSFiles{Cert: cert, Key: key, TrustedCA: filepath.Join(dir, "gone")}, "gone"},
	} {
		if _, err := c.files.Server(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.files, err)
		}
	}
}
