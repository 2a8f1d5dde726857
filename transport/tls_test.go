package transport

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// authority is a certificate authority for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

// config is that of a host with a certificate for address ip.
func (a *authority) config(t testing.TB, ip string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(ip)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: a.pool}
}

func withTLS(c *tls.Config) func(*Config) { return func(cfg *Config) { cfg.TLS = c } }

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	a, b := newHost(t, 1, withTLS(ca.config(t, "127.0.0.1"))), newHost(t, 2, withTLS(ca.config(t, "127.0.0.1")))
	connect(t, a, b)
	for i, n := range []int{1, 100000, 3 << 20} {
		a.send(t, 2, pattern(n, i))
		b.expect(t, 1, pattern(n, i))
		b.send(t, 1, pattern(n, i))
		a.expect(t, 2, pattern(n, i))
	}
	_ = b.Close()
	receive(t, "PeerDown", a.downs)
}

func TestTLSRefusals(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	nobody := &tls.Config{RootCAs: ca.pool}
	notQuorate := func(err error) bool { return errors.Is(err, ErrNotQuorate) }
	says := func(text string) func(error) bool {
		return func(err error) bool { return strings.Contains(err.Error(), text) }
	}
	for _, c := range []struct {
		name               string
		dialling, dialled  *tls.Config
		diallings, dialeds func(error) bool
	}{
		{"authority unknown to both", other.config(t, "127.0.0.1"), ca.config(t, "127.0.0.1"), says("unknown authority"), says("bad certificate")},
		{"no client certificate", nobody, ca.config(t, "127.0.0.1"), says("certificate required"), says("didn't provide a certificate")},
		{"certificate for another address", ca.config(t, "127.0.0.1"), ca.config(t, "127.0.0.9"), says("127.0.0.9"), says("bad certificate")},
		{"only the dialled side uses TLS", nil, ca.config(t, "127.0.0.1"), says("uses TLS while this host does not"), notQuorate},
		{"only the dialling side uses TLS", ca.config(t, "127.0.0.1"), nil, nil, notQuorate},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newHost(t, 1, withTLS(c.dialling)), newHost(t, 2, withTLS(c.dialled))
			b.SetPeer(1, "127.0.0.1:1")
			a.SetPeer(2, b.Addr().String())
			if err := receive(t, "warning", a.reasons); c.diallings != nil && !c.diallings(err) {
				t.Errorf("dialling side: %v", err)
			}
			for {
				err := receive(t, "warning", b.reasons)
				if c.dialeds(err) {
					break
				}
			}
		})
	}
}

// The certificate that a dialling host shows must come from an authority that
// the dialled one trusts, although that one's is fine.
func TestTLSClientUnknown(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	cfg := other.config(t, "127.0.0.1")
	cfg.RootCAs = ca.pool
	a, b := newHost(t, 1, withTLS(cfg)), newHost(t, 2, withTLS(ca.config(t, "127.0.0.1")))
	b.SetPeer(1, "127.0.0.1:1")
	a.SetPeer(2, b.Addr().String())
	if err := receive(t, "warning", a.reasons); !bytes.Contains([]byte(err.Error()), []byte("remote error: tls")) {
		t.Errorf("dialling side: %v", err)
	}
	for {
		if err := receive(t, "warning", b.reasons); strings.Contains(err.Error(), "unknown authority") {
			return
		}
	}
}
