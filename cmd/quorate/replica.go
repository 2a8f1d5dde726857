package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/pprof"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/quorate/quorate/etcdapi"
	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/internal/datadir"
	"github.com/quorate/quorate/internal/roster"
	"github.com/quorate/quorate/internal/settings"
	"github.com/quorate/quorate/kv"
	"github.com/quorate/quorate/raft"
	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// The groups of a cluster, each with all members: one for the keys, and a small
// one for where the members serve clients.
const (
	keysGroup   smr.GroupID = 1
	rosterGroup smr.GroupID = 2
)

// replica is one running member:
//
//	clients ──► doors ──► grpc, http ──► api ──► group ──► host ──► peers
//	                                      │        │        │
//	                                      └─reads─►store    └─► DATA-DIR/wal
//	                                                └─────────► DATA-DIR/kv
type replica struct {
	settings *settings.Settings
	log      *slog.Logger

	dir   *datadir.Dir
	doors *doors
	host  *host.Host
	group *host.Group // of the keys
	api   *etcdapi.Server
	grpc  *grpc.Server

	failed chan error // why the member cannot go on

	roster      *roster.Roster
	rosterGroup *host.Group
	announcing  sync.WaitGroup
	stopped     context.CancelFunc // ends the announcing
}

// startReplica puts a member together and starts it, from the disk up. It owns
// doors. After an error nothing of it is left.
func startReplica(s *settings.Settings, want datadir.Request, doors *doors, log *slog.Logger) (_ *replica, err error) {
	r := &replica{settings: s, doors: doors, log: log, failed: make(chan error, 1), roster: roster.New()}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.release())
		}
	}()
	fs := vfs.OS()
	if r.dir, err = datadir.Open(fs, s.DataDir, want); err != nil {
		return nil, err
	}
	hostConfig, err := r.hostConfig(fs)
	if err != nil {
		return nil, err
	}
	if r.host, err = host.Open(hostConfig); err != nil {
		return nil, damagedIn(s.DataDir, err)
	}
	if err := r.dir.LogMade(); err != nil {
		return nil, err
	}
	store := kv.New(kv.Config{FS: fs, Dir: r.dir.KV, Group: keysGroup, Logger: log,
		Failed: func(err error) { r.fail(fmt.Errorf("this member cannot go on: %w", err)) }})
	if r.group, err = r.host.StartGroup(host.GroupConfig{ID: keysGroup, Members: r.voters(), Machine: store}); err != nil {
		return nil, damagedIn(s.DataDir, err)
	}
	if r.rosterGroup, err = r.host.StartGroup(host.GroupConfig{ID: rosterGroup, Members: r.voters(), Machine: r.roster}); err != nil {
		return nil, err
	}
	registry, err := r.registry()
	if err != nil {
		return nil, err
	}
	if r.api, err = etcdapi.New(etcdapi.Config{
		Group: etcdapi.HostGroup(r.group), Store: store,
		Cluster: r.dir.Identity.Cluster, Member: uint64(r.dir.Identity.Member),
		Members: r.members, MembersBarrier: r.rosterGroup.Barrier,
		MaxRequestBytes: s.MaxRequestBytes, MaxTxnOps: s.MaxTxnOps,
		RequestTimeout: requestTimeout(s), Logger: log, Registry: registry,
	}); err != nil {
		return nil, err
	}
	r.grpc = r.api.NewGRPCServer(grpcOptions(s)...)
	r.doors.serve(r.grpc, r.handler(), r.fail)
	ctx, cancel := context.WithCancel(context.Background())
	r.stopped = cancel
	r.announcing.Go(func() { r.announce(ctx) })
	return r, nil
}

func (r *replica) hostConfig(fs vfs.FS) (host.Config, error) {
	s, id := r.settings, &r.dir.Identity
	var secure *tls.Config
	if s.ListenPeer.TLS {
		var err error
		if secure, err = s.PeerTLS.Peer(); err != nil {
			return host.Config{}, fmt.Errorf("TLS between members: %w", err)
		}
	}
	addresses := map[smr.ReplicaID]string{}
	for _, m := range id.Members {
		u, err := url.Parse(m.PeerURL)
		if err != nil {
			return host.Config{}, fmt.Errorf("peer URL of member %q: %w", m.Name, err)
		}
		addresses[m.ID] = u.Host
	}
	return host.Config{
		ID: id.Member, Cluster: id.Cluster, Incarnation: id.Incarnation,
		Dir: r.dir.WAL, FS: fs, LogsExist: id.HasLog,
		Listener: r.doors.peers, Peers: addresses, TLS: secure,
		ElectionTimeout: s.Election, HeartbeatInterval: s.Heartbeat, RequestTimeout: requestTimeout(s),
		CommandBytesMax: max(4<<20, 2*s.MaxRequestBytes),
		InboxBytesMax:   max(64<<20, 4*s.MaxRequestBytes), LogBufferBytesMax: max(64<<20, 4*s.MaxRequestBytes),
		Raft:      raft.Config{LeaderLease: s.LeaderLease},
		Snapshots: host.SnapshotConfig{BandwidthBytes: int64(s.SnapshotBandwidth)},
		Logger:    r.log,
	}, nil
}

// damagedIn is err, with the directory if it is that that is damaged.
func damagedIn(dir string, err error) error {
	if !errors.Is(err, host.ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", datadir.ErrDamaged, dir, err)
}

// requestTimeout is etcd's: 5 s for queues, work and the disk, and two election
// timeouts.
func requestTimeout(s *settings.Settings) time.Duration { return 5*time.Second + 2*s.Election }

// voters is the membership that the group begins with.
func (r *replica) voters() smr.Configuration {
	var ids []smr.ReplicaID
	for _, m := range r.dir.Identity.Members {
		ids = append(ids, m.ID)
	}
	return host.Voters(ids...)
}

// members is what clients are told of the cluster.
func (r *replica) members() []etcdapi.Member {
	var all []etcdapi.Member
	for _, m := range r.dir.Identity.Members {
		all = append(all, etcdapi.Member{ID: uint64(m.ID), Name: m.Name, PeerURLs: []string{m.PeerURL}, ClientURLs: r.roster.ClientURLs(m.ID)})
	}
	return all
}

func (r *replica) registry() (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newHostCollector(r.host, r.dir.Identity.Member),
	} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return registry, nil
}

func (r *replica) handler() http.Handler {
	if !r.settings.EnablePprof {
		return r.api.Handler()
	}
	mux := http.NewServeMux()
	mux.Handle("/", r.api.Handler())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func grpcOptions(s *settings.Settings) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxConcurrentStreams(s.MaxStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: s.KeepAliveMinTime}),
		grpc.KeepaliveParams(pings(s)),
	}
}

// pings are those of the server. gRPC takes a zero for its own defaults, and the
// longest duration for none at all.
func pings(s *settings.Settings) keepalive.ServerParameters {
	if s.KeepAliveInterval == 0 || s.KeepAliveTimeout == 0 {
		return keepalive.ServerParameters{Time: math.MaxInt64}
	}
	return keepalive.ServerParameters{Time: s.KeepAliveInterval, Timeout: s.KeepAliveTimeout}
}
