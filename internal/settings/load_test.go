package settings

import (
	"errors"
	"io/fs"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

type args map[string]string

func load(t *testing.T, flags args, environ ...string) *Settings {
	t.Helper()
	s, err := Load(Input{Flags: flags, Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func loadFile(text string, flags args, environ ...string) (*Settings, error) {
	if flags == nil {
		flags = args{configFile: "q.yml"}
	}
	return Load(Input{Flags: flags, Environ: environ, ReadFile: func(path string) ([]byte, error) {
		if path != "q.yml" {
			return nil, fs.ErrNotExist
		}
		return []byte(text), nil
	}})
}

func TestDefaultsAreThoseOfEtcd(t *testing.T) {
	s := load(t, nil)
	if s.Name != "default" || s.Heartbeat != 100*time.Millisecond || s.Election != time.Second ||
		s.MaxRequestBytes != 1572864 || s.MaxTxnOps != 128 || Join(s.ListenClient) != "http://localhost:2379" ||
		s.AdvertisePeer.String() != "http://localhost:2380" || s.Token != "etcd-cluster" || s.DataDir != "default.quorate" {
		t.Fatalf("defaults: %+v", s)
	}
	if got := FormatMembers(s.Members); got != "default=http://localhost:2380" {
		t.Fatalf("members %s", got)
	}
	if len(s.Warnings) > 0 {
		t.Fatalf("warnings without a setting: %v", s.Warnings)
	}
}

// A flag of the help whose default is not what Load does would be a lie.
func TestDefaultsOfTheTableAreTheDefaults(t *testing.T) {
	for _, f := range Flags() {
		if f.Default == "" || strings.ToUpper(f.Default) == f.Default && strings.ContainsAny(f.Default, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") && f.Name != "tls-min-version" || f.Name == "data-dir" {
			continue // a placeholder
		}
		flags := args{f.Name: f.Default}
		if f.Name == "listen-client-urls" {
			flags["advertise-client-urls"] = f.Default
		}
		got, want := load(t, flags), defaults()
		if err := errors.Join(want.check()...); err != nil {
			t.Fatal(err)
		}
		got.raw, want.raw = nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("--%s %s changes the settings:\n%+v\n%+v", f.Name, f.Default, got, want)
		}
	}
}

// "If a configuration file is provided, other command line flags and
// environment variables will be ignored." (etcd --help)
func TestFileAlone(t *testing.T) {
	s, err := loadFile("name: fromfile\nmax-txn-ops: 7\n", args{configFile: "q.yml", "name": "fromflag", "max-request-bytes": "1"}, "ETCD_HEARTBEAT_INTERVAL=1")
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "fromfile" || s.MaxTxnOps != 7 || s.MaxRequestBytes != DefaultMaxRequestBytes || s.Heartbeat != 100*time.Millisecond {
		t.Fatalf("%+v", s)
	}
	if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0].Text, "--max-request-bytes, --name, ETCD_HEARTBEAT_INTERVAL are ignored") {
		t.Fatalf("warnings %v", s.Warnings)
	}
	if s, err = loadFile("name: x", args{}, "ETCD_CONFIG_FILE=q.yml"); err != nil || s.Name != "x" {
		t.Fatalf("ETCD_CONFIG_FILE: %v", err)
	}
}

// "Flags set on the command line take precedence over those from the
// environment." (etcd's documentation)
func TestFlagsOverEnvironment(t *testing.T) {
	s := load(t, args{"name": "flag"}, "ETCD_NAME=env", "ETCD_MAX_TXN_OPS=9", "ETCD_TRUSTED_CA_FILE=", "PATH=/bin")
	if s.Name != "flag" || s.MaxTxnOps != 9 || len(s.Warnings) != 0 {
		t.Fatalf("%+v", s)
	}
	s = load(t, nil, "ETCD_PORT_2379_TCP=x")
	if len(s.Warnings) != 1 || s.Warnings[0].Source.Name != "ETCD_PORT_2379_TCP" {
		t.Fatalf("warnings %v", s.Warnings)
	}
}

func TestThreeMembers(t *testing.T) {
	const all = "c=http://10.0.0.3:2380,a=http://10.0.0.1:2380,b=http://10.0.0.2:2380"
	s := load(t, args{
		"name": "b", "initial-cluster": all, "listen-peer-urls": "http://0.0.0.0:2380",
		"listen-client-urls": "http://0.0.0.0:2379,http://127.0.0.1:4001", "advertise-client-urls": "http://b.example:2379",
		"initial-cluster-token": "t", "heartbeat-interval": "10", "election-timeout": "50", "log-level": "debug", "log-format": "console", "log-outputs": "stdout,/tmp/x",
		"enable-pprof": "true", "grpc-keepalive-min-time": "3s",
	})
	if got := FormatMembers(s.Members); got != "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380" {
		t.Fatal(got)
	}
	if s.AdvertisePeer.Addr != "10.0.0.2:2380" || len(s.ListenClient) != 2 || s.LogLevel != slog.LevelDebug || !s.LogConsole ||
		!slices.Equal(s.LogOutputs, []string{"stdout", "/tmp/x"}) || !s.EnablePprof || s.KeepAliveMinTime != 3*time.Second {
		t.Fatalf("%+v", s)
	}
}

func TestErrorsNameTheSettingAndTheProblem(t *testing.T) {
	for _, c := range []struct {
		flags args
		kind  error
		want  string
	}{
		{args{"listen-client-urls": "http://0.0.0.0:1"}, ErrConflict, `--listen-client-urls "http://0.0.0.0:1": needs --advertise-client-urls beside it`},
		{args{"listen-peer-urls": "127.0.0.1:2380"}, ErrInvalid, "is not a URL (want http://HOST:PORT"},
		{args{"listen-peer-urls": "ftp://127.0.0.1:2380"}, ErrInvalid, "no scheme of http or https"},
		{args{"listen-peer-urls": "http://127.0.0.1"}, ErrInvalid, "does not end in HOST:PORT"},
		{args{"listen-peer-urls": "http://127.0.0.1:65536"}, ErrInvalid, "no port between"},
		{args{"listen-peer-urls": "http://127.0.0.1:1/x"}, ErrInvalid, "more than scheme, host and port"},
		{args{"listen-peer-urls": "http://example.com:2380"}, ErrInvalid, "IP address (or localhost)"},
		{args{"listen-peer-urls": "http://:2380"}, ErrInvalid, "no host to listen on"},
		{args{"listen-peer-urls": "unix://x:1"}, ErrInvalid, "unix socket"},
		{args{"listen-peer-urls": "http://1.1.1.1:1,http://1.1.1.2:1"}, ErrInvalid, "has 2 URLs"},
		{args{"listen-peer-urls": ""}, ErrInvalid, "--listen-peer-urls"},
		{args{"initial-advertise-peer-urls": "http://:1"}, ErrInvalid, "no host"},
		{args{"advertise-client-urls": "http://a:0"}, ErrInvalid, "port 0"},
		{args{"initial-cluster": "a=http://a:1,a=http://b:1"}, ErrInvalid, "two URLs"},
		{args{"initial-cluster": "a=http://a:1,a=http://a:1"}, ErrInvalid, "stands twice"},
		{args{"initial-cluster": "a=http://a:1,b=http://a:1"}, ErrInvalid, "the same URL"},
		{args{"initial-cluster": "a=http://a:1,b=https://b:1"}, ErrInvalid, "either all or none use https"},
		{args{"initial-cluster": "a"}, ErrInvalid, "NAME=URL"},
		{args{"initial-cluster": "a=http://a:1", "name": "b"}, ErrConflict, `no member with this one's --name, "b"`},
		{args{"initial-cluster": "a=http://a:1", "name": "a", "initial-advertise-peer-urls": "http://b:1"}, ErrConflict, "both must be the same text"},
		{args{"initial-cluster-state": "old"}, ErrInvalid, `neither "new" nor "existing"`},
		{args{"election-timeout": "499"}, ErrConflict, "five times the --heartbeat-interval of 100 ms"},
		{args{"election-timeout": "50001"}, ErrConflict, "above 50000 ms"},
		{args{"heartbeat-interval": "0"}, ErrInvalid, "milliseconds above zero"},
		{args{"max-txn-ops": "-1"}, ErrInvalid, "not a number"},
		{args{"name": "a,b"}, ErrInvalid, "comma"},
		{args{"name": ""}, ErrInvalid, "is empty"},
		{args{"client-cert-auth": "maybe"}, ErrInvalid, "neither true nor false"},
		{args{"client-cert-auth": "true"}, ErrConflict, "needs --trusted-ca-file"},
		{args{"peer-client-cert-auth": "true"}, ErrConflict, "needs --peer-trusted-ca-file"},
		{args{"cert-file": "a"}, ErrConflict, "--cert-file and --key-file belong together"},
		{args{"peer-key-file": "a"}, ErrConflict, "--peer-cert-file and --peer-key-file belong together"},
		{args{"peer-client-key-file": "a"}, ErrConflict, "belong together"},
		{args{"peer-cert-allowed-cn": "a"}, ErrConflict, "needed to restrict names"},
		{args{"listen-client-urls": "https://127.0.0.1:1", "advertise-client-urls": "https://a:1"}, ErrConflict, "needs a certificate"},
		{args{"listen-peer-urls": "https://127.0.0.1:1"}, ErrConflict, "for both --listen-peer-urls"},
		{args{"listen-peer-urls": "https://127.0.0.1:1", "initial-advertise-peer-urls": "https://127.0.0.1:1"}, ErrConflict, "needs a certificate"},
		{args{"tls-min-version": "TLS1.3", "tls-max-version": "TLS1.2"}, ErrConflict, "above --tls-max-version"},
		{args{"tls-min-version": "SSL3"}, ErrInvalid, "neither TLS1.2 nor TLS1.3"},
		{args{"tls-min-version": "TLS1.3", "cipher-suites": "TLS_RSA_WITH_AES_128_CBC_SHA"}, ErrConflict, "TLS 1.3 alone"},
		{args{"cipher-suites": "ROT13"}, ErrInvalid, "ROT13"},
		{args{"listen-metrics-urls": "http://localhost:2379"}, ErrConflict, "listened on by --listen-client-urls already"},
		{args{"log-level": "loud"}, ErrInvalid, "none of debug"},
		{args{"log-format": "xml"}, ErrInvalid, "neither json nor console"},
		{args{"log-outputs": "systemd/journal"}, ErrInvalid, "stderr"},
		{args{"grpc-keepalive-timeout": "-1s"}, ErrInvalid, "not a duration"},
		{args{"no-such-flag": "1"}, ErrUnknown, "neither etcd nor quorate has"},
		{args{configFile: "/nonexistent/q.yml"}, ErrInvalid, "cannot be read"},
	} {
		_, err := Load(Input{Flags: c.flags})
		var typed *Error
		if !errors.Is(err, c.kind) || !errors.As(err, &typed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v:\n got %v\nwant %v ... %q", c.flags, err, c.kind, c.want)
		}
	}
}

func TestAllErrorsAreReportedTogether(t *testing.T) {
	_, err := Load(Input{Flags: args{"max-txn-ops": "x", "log-level": "y"}, Environ: []string{"ETCD_ELECTION_TIMEOUT=z"}})
	for _, want := range []string{"--max-txn-ops", "--log-level", "environment variable ETCD_ELECTION_TIMEOUT"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}

// Identifiers equal those that etcd prints for the same settings.
func TestIDsAreThoseOfEtcd(t *testing.T) {
	if got := MemberID(mustURL("http://localhost:2380"), "etcd-cluster"); got != 0x8e9e05c52164694d {
		t.Errorf("default member %x", got)
	}
	if got := ClusterID(load(t, nil).Members, "etcd-cluster"); got != 0xcdf818194e3a8c32 {
		t.Errorf("default cluster %x", got)
	}
	members, err := parseMembers("infra1=http://127.0.0.1:12380,infra2=http://127.0.0.1:22380,infra3=http://127.0.0.1:32380")
	if err != nil {
		t.Fatal(err)
	}
	if got := ClusterID(members, "etcd-cluster-1"); got != 0xef37ad9dc622a7c4 {
		t.Errorf("cluster of three %x", got)
	}
	if MemberID(members[0].PeerURL, "other") == MemberID(members[0].PeerURL, "etcd-cluster-1") {
		t.Error("the token does not count")
	}
}

func TestIPv6(t *testing.T) {
	s := load(t, args{"listen-peer-urls": "http://[::1]:2380", "initial-advertise-peer-urls": "http://[::1]:2380"})
	if s.ListenPeer.String() != "http://[::1]:2380" {
		t.Fatal(s.ListenPeer)
	}
}
