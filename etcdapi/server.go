package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quorate/quorate/kv"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

// Defaults of Config, all etcd's.
const (
	// DefaultVersion is the etcd whose API this is.
	DefaultVersion         = "3.7.3"
	DefaultMaxRequestBytes = 3 << 19 // 1.5 MiB
	DefaultMaxTxnOps       = 128
	// DefaultRequestTimeout is etcd's 5 s for queues, computation and disks,
	// and two election timeouts of a second.
	DefaultRequestTimeout = 7 * time.Second
)

const (
	// requestOverheadBytes is how much a gRPC message may exceed
	// MaxRequestBytes before gRPC itself refuses it.
	requestOverheadBytes = 512 << 10
	// A client may ping once per keepaliveTimeMin; it is pinged itself after
	// keepaliveInterval of silence, and has keepaliveTimeout to answer.
	keepaliveTimeMin  = 5 * time.Second
	keepaliveInterval = 2 * time.Hour
	keepaliveTimeout  = 20 * time.Second
	// streamWorkers is how many goroutines stay to serve requests. A request
	// that finds none free gets a new one, whose stack then grows by copying
	// several times: without workers that is a tenth to a fifth of what a
	// request costs. Each takes up to 16 KiB.
	streamWorkers = 512
	// How much a client may send before it is read, on a stream and on a connection.
	// With windows of gRPC's own choice the server pings each connection all the time to
	// find out its bandwidth, which costs 4 % of the processor time of small requests.
	streamWindowBytes = 1 << 20
	connWindowBytes   = 8 << 20
)

// ErrConfig is wrapped by every error about a Config.
var ErrConfig = errors.New("bad configuration")

// Config of a Server. Zero values mean the defaults given.
type Config struct {
	// Group replicates Store. Both are required.
	Group Group
	Store *kv.Store
	// Cluster and Member are the ids in every answer's header. Member is the
	// smr.ReplicaID of this host. Required.
	Cluster, Member uint64
	// Members returns the members of the cluster. Default: this one alone.
	Members func() []Member
	// MembersBarrier returns once Members sees all that was known when it was
	// called, with the errors of Group.Barrier. Default: Group's.
	MembersBarrier func(context.Context) error
	// Version is the version of etcd that clients are told, since they decide
	// by it what they may ask for. Default: DefaultVersion.
	Version string

	// MaxRequestBytes bounds an encoded command. Default 1.5 MiB.
	MaxRequestBytes int
	// MaxTxnOps bounds the operations of a transaction. Default 128.
	MaxTxnOps int
	// RequestTimeout bounds what a request waits for the group, whatever its
	// context says. Default 7 s; etcd's is 5 s and two election timeouts.
	RequestTimeout time.Duration

	// Logger for what an operator should know. Default: slog.Default().
	Logger *slog.Logger
	// Registry receives the server's metrics, and is what /metrics shows.
	// Default: a new one, with those of the Go runtime and the process.
	Registry *prometheus.Registry
}

func (c *Config) complete() error {
	if c.MaxRequestBytes == 0 {
		c.MaxRequestBytes = DefaultMaxRequestBytes
	}
	if c.MaxTxnOps == 0 {
		c.MaxTxnOps = DefaultMaxTxnOps
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = DefaultRequestTimeout
	}
	if c.Version == "" {
		c.Version = DefaultVersion
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Members == nil {
		self := []Member{{ID: c.Member}}
		c.Members = func() []Member { return self }
	}
	if c.MembersBarrier == nil && c.Group != nil {
		c.MembersBarrier = c.Group.Barrier
	}
	switch {
	case c.Group == nil:
		return fmt.Errorf("%w: Group is nil; give the group that replicates Store", ErrConfig)
	case c.Store == nil:
		return fmt.Errorf("%w: Store is nil; give the group's state machine", ErrConfig)
	case c.Cluster == 0 || c.Member == 0:
		return fmt.Errorf("%w: Cluster is %d and Member is %d; both need an id other than zero", ErrConfig, c.Cluster, c.Member)
	case c.MaxRequestBytes < 0 || c.MaxTxnOps < 0 || c.RequestTimeout < 0:
		return fmt.Errorf("%w: MaxRequestBytes, MaxTxnOps or RequestTimeout is negative", ErrConfig)
	case strings.Count(c.Version, ".") != 2:
		return fmt.Errorf("%w: Version %q does not have the form 3.7.3", ErrConfig, c.Version)
	}
	return nil
}

// Server answers etcd's API. All methods may be called concurrently.
type Server struct {
	cfg     Config
	group   Group
	store   *kv.Store
	metrics *metrics
	health  *health.Server
	backups backups
}

// New returns a server. The error wraps ErrConfig, or is the registry's.
func New(cfg Config) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, group: cfg.Group, store: cfg.Store, health: health.NewServer(), backups: newBackups()}
	if err := s.registerMetrics(); err != nil {
		return nil, err
	}
	return s, nil
}

// Register registers etcd's services and the health service with r.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	pb.RegisterKVServer(r, &kvService{Server: s})
	pb.RegisterClusterServer(r, &clusterService{Server: s})
	pb.RegisterMaintenanceServer(r, &maintenanceService{Server: s})
	pb.RegisterAuthServer(r, &authService{Server: s})
	pb.RegisterWatchServer(r, &watchService{})
	pb.RegisterLeaseServer(r, &leaseService{})
	healthpb.RegisterHealthServer(r, s.health)
}

// NewGRPCServer returns a gRPC server with all services registered, etcd's
// keep-alive enforcement and message sizes, for use with Serve. Options come
// after the server's own, and may override them.
func (s *Server) NewGRPCServer(options ...grpc.ServerOption) *grpc.Server {
	var g *grpc.Server
	g = grpc.NewServer(append([]grpc.ServerOption{
		grpc.Creds(newSniffedCredentials()),
		grpc.ForceServerCodecV2(newCodec(&s.metrics.traffic)),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.UnknownServiceHandler(unknownMethods(func() *grpc.Server { return g })),
		grpc.MaxRecvMsgSize(s.cfg.MaxRequestBytes + requestOverheadBytes),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(math.MaxUint32),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.InitialWindowSize(streamWindowBytes),
		grpc.InitialConnWindowSize(connWindowBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTimeMin}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
	}, options...)...)
	s.Register(g)
	reflection.Register(g)
	return g
}

// Shutdown makes the health service and streams that watch it say that this
// server is going away. Call it before the gRPC server is stopped.
func (s *Server) Shutdown() { s.health.Shutdown() }

// Handler returns the HTTP endpoints: /health, /livez, /readyz, /version and
// /metrics.
func (s *Server) Handler() http.Handler { return s.httpMux() }

// header fills in who answers. The revision is the store's, at the moment that
// the request was served.
func (s *Server) header(revision int64) *pb.ResponseHeader {
	h := new(pb.ResponseHeader)
	s.setHeader(h, revision)
	return h
}

func (s *Server) setHeader(h *pb.ResponseHeader, revision int64) {
	h.ClusterId, h.MemberId = s.cfg.Cluster, s.cfg.Member
	h.Revision, h.RaftTerm = revision, s.group.Status().Term
}

// deadlineContext is a context with a deadline that nothing but a Group keeps. Unlike
// one of context.WithTimeout it starts no timer; and whoever waits under it waits for
// the answer alone, not for the client's leaving as well, whose request cannot be
// called back anyway. Timer, channel and select would be a good part of what a
// request costs here.
type deadlineContext struct {
	context.Context
	at time.Duration // since epoch: half the size of a time.Time, one for each request
}

// epoch is what deadlines count from, by the monotonic clock.
var epoch = time.Now()

func (d *deadlineContext) Deadline() (time.Time, bool) { return epoch.Add(d.at), true }
func (d *deadlineContext) Done() <-chan struct{}       { return nil }

// bounded returns ctx with a deadline of at most RequestTimeout from now: no
// request waits for ever.
func (s *Server) bounded(ctx context.Context) context.Context {
	at := time.Since(epoch) + s.cfg.RequestTimeout
	if earlier, ok := ctx.Deadline(); ok {
		at = min(at, earlier.Sub(epoch))
	}
	return &deadlineContext{ctx, at}
}

// barrier returns once a local read is linearizable; the error is a status.
func (s *Server) barrier(ctx context.Context) error {
	if err := s.group.Barrier(s.bounded(ctx)); err != nil {
		s.metrics.readsFailed.Add(1)
		return groupError(err)
	}
	return nil
}
