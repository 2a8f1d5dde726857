package settings

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// Flag is one setting that Quorate has, under etcd's name.
type Flag struct {
	Name string
	// Default and Usage are shown by the help.
	Default, Usage string
	// Bool flags may stand without a value.
	Bool bool
	// Section groups the help.
	Section string
	set     func(s *Settings, v string) error
}

// The sections of the help.
const (
	SectionMember   = "Member"
	SectionCluster  = "Cluster"
	SectionSecurity = "Security"
	SectionWatching = "Logging and monitoring"
)

// Flags are all settings that Quorate has, in the order of the help.
func Flags() []Flag { return flags }

var flags = []Flag{
	{"name", DefaultName, "name of this member, unique in the cluster", false, SectionMember,
		func(s *Settings, v string) error { return setName(&s.Name, v) }},
	{"data-dir", "NAME.quorate", "directory that holds everything this member must not forget", false, SectionMember,
		func(s *Settings, v string) error { return setName(&s.DataDir, v) }},
	{"listen-client-urls", DefaultClientURL, "where to serve clients, gRPC and HTTP; a list separated by commas", false, SectionMember,
		func(s *Settings, v string) error { return setListen(&s.ListenClient, v) }},
	{"listen-client-http-urls", "", "where to serve HTTP alone, beside --listen-client-urls", false, SectionMember,
		func(s *Settings, v string) error { return setListen(&s.ListenHTTP, v) }},
	{"listen-peer-urls", DefaultPeerURL, "where to listen for the other members; one URL", false, SectionMember,
		func(s *Settings, v string) error { return setOne(&s.ListenPeer, v, URL.checkBind) }},
	{"heartbeat-interval", "100", "interval of a leader's heartbeats, in milliseconds", false, SectionMember,
		func(s *Settings, v string) error { return setMillis(&s.Heartbeat, v) }},
	{"election-timeout", "1000", "time without a leader after which a member stands for election, in milliseconds", false, SectionMember,
		func(s *Settings, v string) error { return setMillis(&s.Election, v) }},
	{"leader-lease", "false", "let a leader answer reads without asking the others, while they have promised to elect nobody else; on all members or none", true, SectionMember,
		func(s *Settings, v string) error { return setBool(&s.LeaderLease, v) }},
	{"max-request-bytes", strconv.Itoa(DefaultMaxRequestBytes), "largest request of a client", false, SectionMember,
		func(s *Settings, v string) error { return setInt(&s.MaxRequestBytes, v, 1, 64<<20) }},
	{"max-txn-ops", strconv.Itoa(DefaultMaxTxnOps), "most operations of one transaction", false, SectionMember,
		func(s *Settings, v string) error { return setInt(&s.MaxTxnOps, v, 1, math.MaxInt32) }},
	{"snapshot-bandwidth", strconv.Itoa(DefaultSnapshotBandwidth), "bytes of snapshots that a member sends to others per second", false, SectionMember,
		func(s *Settings, v string) error { return setInt(&s.SnapshotBandwidth, v, 1<<10, math.MaxInt32) }},
	{"max-concurrent-streams", strconv.Itoa(math.MaxUint32), "most streams of one client connection at a time", false, SectionMember, setStreams},
	{"grpc-keepalive-min-time", "5s", "least interval at which a client may ping", false, SectionMember,
		func(s *Settings, v string) error { return setDuration(&s.KeepAliveMinTime, v) }},
	{"grpc-keepalive-interval", "2h", "interval of the server's pings; 0: none", false, SectionMember,
		func(s *Settings, v string) error { return setDuration(&s.KeepAliveInterval, v) }},
	{"grpc-keepalive-timeout", "20s", "time after which an unanswered ping closes the connection; 0: none is sent", false, SectionMember,
		func(s *Settings, v string) error { return setDuration(&s.KeepAliveTimeout, v) }},

	{"advertise-client-urls", DefaultClientURL, "where clients reach this member", false, SectionCluster,
		func(s *Settings, v string) error { return setAdvertise(&s.AdvertiseClient, v) }},
	{"initial-advertise-peer-urls", DefaultPeerURL, "where the other members reach this one; one URL", false, SectionCluster,
		func(s *Settings, v string) error { return setOne(&s.AdvertisePeer, v, URL.checkHost) }},
	{"initial-cluster", "NAME=ADVERTISED PEER URL", "all members: NAME=URL,NAME=URL,...", false, SectionCluster,
		func(s *Settings, v string) (err error) {
			s.Members, err = parseMembers(v)
			s.MembersGiven = err == nil
			return err
		}},
	{"initial-cluster-state", "new", "new; existing only for a member that has its data already", false, SectionCluster, setState},
	{"initial-cluster-token", DefaultToken, "a word of its own for each cluster, so that two never mix", false, SectionCluster,
		func(s *Settings, v string) error { s.Token = v; return nil }},

	{"cert-file", "", "certificate that clients are shown", false, SectionSecurity,
		func(s *Settings, v string) error { s.ClientTLS.Cert = v; return nil }},
	{"key-file", "", "its key", false, SectionSecurity,
		func(s *Settings, v string) error { s.ClientTLS.Key = v; return nil }},
	{"client-cert-auth", "false", "let in only clients with a certificate of --trusted-ca-file", true, SectionSecurity,
		func(s *Settings, v string) error { return setBool(&s.ClientTLS.ClientCertAuth, v) }},
	{"trusted-ca-file", "", "authority that signs the clients' certificates; makes them needed", false, SectionSecurity,
		func(s *Settings, v string) error { s.ClientTLS.TrustedCA = v; return nil }},
	{"client-cert-allowed-hostname", "", "names of which a client's certificate must have one", false, SectionSecurity,
		func(s *Settings, v string) error { s.ClientTLS.AllowedHostnames = split(v); return nil }},
	{"client-cert-allowed-cn", "", "common names of which a client's certificate must have one", false, SectionSecurity,
		func(s *Settings, v string) error { s.ClientTLS.AllowedCNs = split(v); return nil }},
	{"peer-cert-file", "", "certificate that other members are shown", false, SectionSecurity,
		func(s *Settings, v string) error { s.PeerTLS.Cert = v; return nil }},
	{"peer-key-file", "", "its key", false, SectionSecurity,
		func(s *Settings, v string) error { s.PeerTLS.Key = v; return nil }},
	{"peer-client-cert-file", "", "another certificate for connections that this member makes", false, SectionSecurity,
		func(s *Settings, v string) error { s.PeerTLS.ClientCert = v; return nil }},
	{"peer-client-key-file", "", "its key", false, SectionSecurity,
		func(s *Settings, v string) error { s.PeerTLS.ClientKey = v; return nil }},
	{"peer-client-cert-auth", "false", "let in only members with a certificate of --peer-trusted-ca-file", true, SectionSecurity,
		func(s *Settings, v string) error { return setBool(&s.PeerTLS.ClientCertAuth, v) }},
	{"peer-trusted-ca-file", "", "authority that signs the members' certificates; makes them needed", false, SectionSecurity,
		func(s *Settings, v string) error { s.PeerTLS.TrustedCA = v; return nil }},
	{"peer-cert-allowed-cn", "", "common names of which a member's certificate must have one", false, SectionSecurity,
		func(s *Settings, v string) error { s.PeerTLS.AllowedCNs = split(v); return nil }},
	{"peer-cert-allowed-hostname", "", "names of which a member's certificate must have one", false, SectionSecurity,
		func(s *Settings, v string) error { s.PeerTLS.AllowedHostnames = split(v); return nil }},
	{"cipher-suites", "", "TLS 1.2 cipher suites by name; empty: Go's choice", false, SectionSecurity, setCipherSuites},
	{"tls-min-version", "TLS1.2", "TLS1.2 or TLS1.3", false, SectionSecurity,
		func(s *Settings, v string) error {
			return setTLSVersion(&s.ClientTLS.MinVersion, &s.PeerTLS.MinVersion, v)
		}},
	{"tls-max-version", "", "TLS1.2 or TLS1.3; empty: Go's newest", false, SectionSecurity,
		func(s *Settings, v string) error {
			return setTLSVersion(&s.ClientTLS.MaxVersion, &s.PeerTLS.MaxVersion, v)
		}},

	{"log-level", "info", "debug, info, warn or error", false, SectionWatching, setLogLevel},
	{"log-format", "json", "json or console", false, SectionWatching, setLogFormat},
	{"log-outputs", "default", "default, stderr, stdout, or files to append to", false, SectionWatching, setLogOutputs},
	{"listen-metrics-urls", "", "where to serve /metrics and the health endpoints as well", false, SectionWatching,
		func(s *Settings, v string) error { return setListen(&s.ListenMetrics, v) }},
	{"enable-pprof", "false", "serve /debug/pprof/ at the client URLs", true, SectionWatching,
		func(s *Settings, v string) error { return setBool(&s.EnablePprof, v) }},
}

func flagByName(name string) *Flag {
	for i := range flags {
		if flags[i].Name == name {
			return &flags[i]
		}
	}
	return nil
}

func setName(dst *string, v string) error {
	if strings.TrimSpace(v) == "" {
		return errors.New("is empty")
	}
	*dst = v
	return nil
}

func setBool(dst *bool, v string) error {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return errors.New("is neither true nor false")
	}
	*dst = b
	return nil
}

func setInt(dst *int, v string, lo, hi int) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < lo || n > hi {
		return fmt.Errorf("is not a number from %d to %d", lo, hi)
	}
	*dst = n
	return nil
}

func setStreams(s *Settings, v string) error {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n == 0 {
		return fmt.Errorf("is not a number from 1 to %d", uint32(math.MaxUint32))
	}
	s.MaxStreams = uint32(n)
	return nil
}

func setMillis(dst *time.Duration, v string) error {
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil || n == 0 {
		return errors.New("is not a number of milliseconds above zero")
	}
	*dst = time.Duration(n) * time.Millisecond
	return nil
}

// setDuration takes 1m30s, and nanoseconds, which is what etcd's configuration
// file has.
func setDuration(dst *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if n, nerr := strconv.ParseInt(v, 10, 64); nerr == nil {
		d, err = time.Duration(n), nil
	}
	if err != nil || d < 0 {
		return errors.New("is not a duration such as 5s or 2h")
	}
	*dst = d
	return nil
}

func setListen(dst *[]URL, v string) error {
	return setURLs(dst, v, URL.checkBind)
}

func setAdvertise(dst *[]URL, v string) error {
	return setURLs(dst, v, URL.checkHost)
}

func setURLs(dst *[]URL, v string, check func(URL) error) error {
	urls, err := parseURLs(v)
	if err != nil {
		return err
	}
	for _, u := range urls {
		if err := check(u); err != nil {
			return err
		}
	}
	*dst = urls
	return nil
}

func setOne(dst *URL, v string, check func(URL) error) error {
	var urls []URL
	if err := setURLs(&urls, v, check); err != nil {
		return err
	}
	if len(urls) > 1 {
		return fmt.Errorf("has %d URLs; quorate uses one for each member (0.0.0.0 listens on all addresses)", len(urls))
	}
	*dst = urls[0]
	return nil
}

func setState(s *Settings, v string) error {
	switch v {
	case "new":
		s.Joining = false
	case "existing":
		s.Joining = true
	default:
		return errors.New(`is neither "new" nor "existing"`)
	}
	return nil
}

func setCipherSuites(s *Settings, v string) error {
	var suites []uint16
next:
	for _, name := range split(v) {
		for _, c := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			if c.Name == name {
				suites = append(suites, c.ID)
				continue next
			}
		}
		return fmt.Errorf("names the unknown suite %q", name)
	}
	s.ClientTLS.CipherSuites, s.PeerTLS.CipherSuites = suites, suites
	return nil
}

func setTLSVersion(client, peer *uint16, v string) error {
	switch v {
	case "TLS1.2":
		*client, *peer = tls.VersionTLS12, tls.VersionTLS12
	case "TLS1.3":
		*client, *peer = tls.VersionTLS13, tls.VersionTLS13
	default:
		return errors.New("is neither TLS1.2 nor TLS1.3")
	}
	return nil
}

func setLogLevel(s *Settings, v string) error {
	switch v {
	case "debug":
		s.LogLevel = slog.LevelDebug
	case "info":
		s.LogLevel = slog.LevelInfo
	case "warn":
		s.LogLevel = slog.LevelWarn
	case "error", "dpanic", "panic", "fatal":
		// etcd's three levels above error have no records of their own here.
		s.LogLevel = slog.LevelError
	default:
		return errors.New("is none of debug, info, warn, error")
	}
	return nil
}

func setLogFormat(s *Settings, v string) error {
	switch v {
	case "json":
		s.LogConsole = false
	case "console":
		s.LogConsole = true
	default:
		return errors.New("is neither json nor console")
	}
	return nil
}

func setLogOutputs(s *Settings, v string) error {
	s.LogOutputs = nil
	for _, out := range split(v) {
		switch out {
		case "systemd/journal":
			return errors.New("names the journal; write to stderr, which systemd takes there")
		case "default":
			out = "stderr"
		}
		s.LogOutputs = append(s.LogOutputs, out)
	}
	return nil
}

// split reads a list separated by commas, without its empty parts.
func split(v string) []string {
	var out []string
	for _, part := range strings.Split(v, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
