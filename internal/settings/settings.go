package settings

import (
	"crypto/tls"
	"log/slog"
	"time"
)

// Settings are everything that a server is told. Load fills and checks them:
// what it returns without an error satisfies
//
//  1. all URLs have a scheme of http or https, a host and a port, no path;
//  2. Members has a member called Name whose PeerURL is AdvertisePeer, no two
//     members share a name or a URL, and all peer URLs have the same scheme;
//  3. 5 × Heartbeat ≤ Election ≤ 50 s;
//  4. a https URL to listen on has a certificate and a key.
type Settings struct {
	// Name of this member, unique within Members.
	Name    string
	DataDir string

	ListenClient    []URL
	ListenHTTP      []URL // only HTTP, no gRPC
	ListenMetrics   []URL // only /metrics and the health endpoints
	AdvertiseClient []URL
	ListenPeer      URL
	AdvertisePeer   URL

	// Members the cluster begins with, by name ascending. MembersGiven is unset
	// if nobody named them: then a data directory that remembers its cluster
	// knows better.
	Members      []Member
	MembersGiven bool
	// Joining is --initial-cluster-state existing.
	Joining bool
	Token   string

	Heartbeat time.Duration
	Election  time.Duration

	// MaxRequestBytes bounds a client's request, MaxTxnOps the operations of
	// one transaction, MaxStreams the concurrent streams of one connection.
	MaxRequestBytes int
	MaxTxnOps       int
	MaxStreams      uint32
	// LeaderLease lets a leader answer reads by a lease.
	LeaderLease bool
	// SnapshotBandwidth bounds the bytes of snapshots sent per second.
	SnapshotBandwidth int
	// KeepAliveMinTime is the least interval at which clients may ping,
	// KeepAliveInterval and KeepAliveTimeout those of the server's own pings.
	// Zero interval or timeout: no pings.
	KeepAliveMinTime  time.Duration
	KeepAliveInterval time.Duration
	KeepAliveTimeout  time.Duration

	ClientTLS TLSFiles
	PeerTLS   TLSFiles

	LogLevel slog.Level
	// LogConsole selects lines for people instead of JSON.
	LogConsole bool
	// LogOutputs are "stderr", "stdout" or paths of files to append to.
	LogOutputs []string

	EnablePprof bool

	// Warnings are to be logged once there is a logger.
	Warnings []Warning

	// raw are the values given, by name; for the errors of checks.
	raw map[string]Raw
}

// Member is a member of the cluster that the server begins with.
type Member struct {
	Name    string
	PeerURL URL
}

// TLSFiles name what a side of TLS is made of. The zero value: no TLS.
type TLSFiles struct {
	Cert, Key string
	// ClientCert and ClientKey are shown when this host is the client of a
	// connection; empty: Cert and Key.
	ClientCert, ClientKey string
	// TrustedCA verifies the other side. It makes clients show a certificate,
	// as in etcd, with or without ClientCertAuth.
	TrustedCA      string
	ClientCertAuth bool
	// AllowedCNs and AllowedHostnames, if not empty, are the common names and
	// the subject alternative names of which the other side must have one.
	AllowedCNs       []string
	AllowedHostnames []string

	CipherSuites []uint16
	MinVersion   uint16
	MaxVersion   uint16 // zero: Go's newest
}

// Empty reports whether no certificate was named.
func (f *TLSFiles) Empty() bool { return f.Cert == "" && f.Key == "" }

// etcd's defaults.
const (
	DefaultName            = "default"
	DefaultToken           = "etcd-cluster"
	DefaultPeerURL         = "http://localhost:2380"
	DefaultClientURL       = "http://localhost:2379"
	DefaultMaxRequestBytes = 3 << 19 // 1.5 MiB
	DefaultMaxTxnOps       = 128

	DefaultSnapshotBandwidth = 128 << 20

	electionMax = 50 * time.Second
)

func defaults() *Settings {
	return &Settings{
		Name:              DefaultName,
		ListenClient:      []URL{mustURL(DefaultClientURL)},
		AdvertiseClient:   []URL{mustURL(DefaultClientURL)},
		ListenPeer:        mustURL(DefaultPeerURL),
		AdvertisePeer:     mustURL(DefaultPeerURL),
		Token:             DefaultToken,
		Heartbeat:         100 * time.Millisecond,
		Election:          time.Second,
		MaxRequestBytes:   DefaultMaxRequestBytes,
		MaxTxnOps:         DefaultMaxTxnOps,
		SnapshotBandwidth: DefaultSnapshotBandwidth,
		MaxStreams:        1<<32 - 1,
		KeepAliveMinTime:  5 * time.Second,
		KeepAliveInterval: 2 * time.Hour,
		KeepAliveTimeout:  20 * time.Second,
		ClientTLS:         TLSFiles{MinVersion: tls.VersionTLS12},
		PeerTLS:           TLSFiles{MinVersion: tls.VersionTLS12},
		LogOutputs:        []string{"stderr"},
		raw:               map[string]Raw{},
	}
}
