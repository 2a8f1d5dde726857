package settings

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// The shape of the sample that etcd ships: every key is there, those that are
// not used are empty or off.
const sample = `
# Human-readable name for this member.
name: 'default'
data-dir:
wal-dir:
snapshot-count: 10000
heartbeat-interval: 100
election-timeout: 1000
quota-backend-bytes: 0
listen-peer-urls: http://localhost:2380
listen-client-urls: http://localhost:2379
max-snapshots: 5
max-wals: 5
cors:
initial-advertise-peer-urls: http://localhost:2380
advertise-client-urls: http://localhost:2379
discovery:
discovery-fallback: 'exit'
discovery-proxy:
discovery-srv:
initial-cluster:
initial-cluster-token: 'etcd-cluster'
initial-cluster-state: 'new'
strict-reconfig-check: false
enable-pprof: true
proxy: 'off'
proxy-failure-wait: 5000
client-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
peer-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
  allowed-cn:
  allowed-hostname:
self-signed-cert-validity: 1
log-level: debug
logger: zap
log-outputs: [stderr]
force-new-cluster: false
auto-compaction-mode: periodic
auto-compaction-retention: "0"
tls-min-version: 'TLS1.2'
tls-max-version: 'TLS1.3'
`

func TestSampleFile(t *testing.T) {
	s, err := loadFile(sample, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "default" || !s.EnablePprof || s.ClientTLS.ClientCertAuth || FormatMembers(s.Members) != "default=http://localhost:2380" {
		t.Fatalf("%+v", s)
	}
}

func TestFileSections(t *testing.T) {
	s, err := loadFile(`
name: m
listen-client-urls: https://127.0.0.1:2379
listen-peer-urls: https://127.0.0.1:2380
initial-advertise-peer-urls: https://127.0.0.1:2380
grpc-keepalive-interval: 60000000000
client-transport-security: {cert-file: c.pem, key-file: c.key, client-cert-auth: true, trusted-ca-file: ca.pem}
peer-transport-security:
  cert-file: p.pem
  key-file: p.key
  trusted-ca-file: pca.pem
  allowed-cn: [a, b]
socket-options: {reuse-port: false}
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.ClientTLS.Cert != "c.pem" || !s.ClientTLS.ClientCertAuth || s.PeerTLS.Key != "p.key" || s.PeerTLS.TrustedCA != "pca.pem" ||
		!slices.Equal(s.PeerTLS.AllowedCNs, []string{"a", "b"}) || s.KeepAliveInterval != time.Minute {
		t.Fatalf("%+v", s)
	}
}

func TestFileErrors(t *testing.T) {
	for text, want := range map[string]struct {
		kind error
		text string
	}{
		"nmae: x":                                {ErrUnknown, `key nmae of q.yml "x": neither etcd nor quorate`},
		"name: x\nname: y":                       {ErrInvalid, "stands twice"},
		"name: {a: b}":                           {ErrInvalid, "not a single value"},
		"- a":                                    {ErrInvalid, "KEY: VALUE"},
		"a: [":                                   {ErrInvalid, "is not YAML"},
		"max-txn-ops: many":                      {ErrInvalid, "key max-txn-ops of q.yml"},
		"discovery-config: {x: y}":               {ErrUnsupported, "--initial-cluster alone"},
		"peer-transport-security: {certfile: x}": {ErrUnknown, "key peer-transport-security.certfile of q.yml: neither etcd nor quorate"},
		"peer-transport-security: {auto-tls: true}":                 {ErrUnsupported, "peer-transport-security.auto-tls"},
		"client-transport-security: text":                           {ErrUnknown, "client-transport-security"},
		"a: " + strings.Repeat("x", fileBytesMax):                   {ErrInvalid, "more than the"},
		"a: &x [" + strings.Repeat("y,", 100) + "]\nname: [*x, *x]": {ErrInvalid, "not a single value"},
	} {
		_, err := loadFile(text, nil)
		var typed *Error
		if !errors.Is(err, want.kind) || !errors.As(err, &typed) || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%.60q:\n got %v\nwant %q", text, err, want.text)
		}
	}
	if _, err := loadFile("", nil); err != nil {
		t.Errorf("empty file: %v", err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add(sample)
	f.Add("a: &x [b]\nname: *x")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := loadFile(text, nil)
		if err != nil {
			var typed *Error
			if !errors.As(err, &typed) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		found := false
		for _, m := range s.Members {
			found = found || m.Name == s.Name && m.PeerURL == s.AdvertisePeer
		}
		if !found {
			t.Fatalf("invariant 2: %+v", s)
		}
	})
}
