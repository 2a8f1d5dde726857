package etcdapi

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/quorate/quorate/kv"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// The metrics. What is counted on a request's way is atomics of ours, because a
// look-up by labels costs more than all the rest of the counting; what the group
// and the store know is asked for when somebody looks. The names are etcd's
// where the meaning is, and quorate_… otherwise.

// codesMax is above every gRPC status code.
const codesMax = int(codes.Unauthenticated) + 1

// clientVersionsMax bounds the versions of clients that are told apart, since
// clients choose what they call themselves.
const clientVersionsMax = 64

type metrics struct {
	methods map[string]*methodMetrics // by full method; fixed
	other   methodMetrics             // methods that are not in methods

	unaryClients, streamClients clientVersions

	traffic traffic

	pending      atomic.Int64  // proposals that wait for their result
	failed       atomic.Uint64 // proposals that got none
	readsFailed  atomic.Uint64 // reads that were not told their index
	rangesInTxns atomic.Uint64 // of transactions that only read
	readTxnsMany atomic.Uint64 // transactions that only read, of more than one range

	ranges, readTxns, puts, deletes, txns, compacts latency

	healthOK, healthFailed atomic.Uint64
	checks                 map[string]*checkMetrics // by "livez/serializable_read"; fixed
}

// methodMetrics counts the requests of one gRPC method.
type methodMetrics struct {
	kind, service, method string

	started, received, sent atomic.Uint64
	handled                 [codesMax]atomic.Uint64
}

func (m *methodMetrics) ended(err error) {
	if err == nil {
		m.handled[codes.OK].Add(1)
		return
	}
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	code := st.Code()
	if int(code) >= codesMax {
		code = codes.Unknown
	}
	m.handled[code].Add(1)
}

func (m *metrics) method(full string) *methodMetrics {
	if mm := m.methods[full]; mm != nil {
		return mm
	}
	return &m.other
}

func (m *metrics) addMethods(d *grpc.ServiceDesc) {
	for _, x := range d.Methods {
		m.methods["/"+d.ServiceName+"/"+x.MethodName] = &methodMetrics{
			kind: "unary", service: d.ServiceName, method: x.MethodName}
	}
	for _, x := range d.Streams {
		kind := "server_stream"
		if x.ClientStreams {
			kind = "bidi_stream"
		}
		m.methods["/"+d.ServiceName+"/"+x.StreamName] = &methodMetrics{
			kind: kind, service: d.ServiceName, method: x.StreamName}
	}
}

// latency is how long one kind of request took.
type latency struct{ ok, failed prometheus.Observer }

func (l *latency) observe(start time.Time, err error) {
	to := l.ok
	if err != nil {
		to = l.failed
	}
	to.Observe(time.Since(start).Seconds())
}

// clientVersions counts requests by the version that the client says it has.
type clientVersions struct {
	counts sync.Map // string → *atomic.Uint64
	known  atomic.Int32
	others atomic.Uint64
}

func (c *clientVersions) add(version string) {
	if n, ok := c.counts.Load(version); ok {
		n.(*atomic.Uint64).Add(1)
		return
	}
	if c.known.Load() >= clientVersionsMax {
		c.others.Add(1)
		return
	}
	n, loaded := c.counts.LoadOrStore(strings.Clone(version), new(atomic.Uint64))
	if !loaded {
		c.known.Add(1)
	}
	n.(*atomic.Uint64).Add(1)
}

// each calls f with every version and its count.
func (c *clientVersions) each(f func(version string, count uint64)) {
	c.counts.Range(func(version, n any) bool {
		f(version.(string), n.(*atomic.Uint64).Load())
		return true
	})
	if n := c.others.Load(); n > 0 {
		f("other", n)
	}
}

// checkMetrics is the outcome of one health check.
type checkMetrics struct {
	kind, name string
	ok, failed atomic.Uint64
	lastOK     atomic.Bool
}

func (c *checkMetrics) ended(err error) {
	c.lastOK.Store(err == nil)
	if err == nil {
		c.ok.Add(1)
	} else {
		c.failed.Add(1)
	}
}

// registerMetrics makes the server's metrics and registers them.
func (s *Server) registerMetrics() error {
	if s.cfg.Registry == nil {
		s.cfg.Registry = prometheus.NewRegistry()
		s.cfg.Registry.MustRegister(collectors.NewGoCollector(),
			collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	m := &metrics{methods: map[string]*methodMetrics{}, checks: map[string]*checkMetrics{}}
	m.other = methodMetrics{kind: "unknown", service: "unknown", method: "unknown"}
	for _, d := range []*grpc.ServiceDesc{
		&pb.KV_ServiceDesc, &pb.Watch_ServiceDesc, &pb.Lease_ServiceDesc, &pb.Cluster_ServiceDesc,
		&pb.Maintenance_ServiceDesc, &pb.Auth_ServiceDesc, &healthpb.Health_ServiceDesc,
	} {
		m.addMethods(d)
	}
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "etcd_server_request_duration_seconds",
		Help:    "Response latency distribution in seconds for each type.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
	}, []string{"type", "success"})
	for name, to := range map[string]*latency{
		"Range": &m.ranges, "ReadonlyTxn": &m.readTxns, "Put": &m.puts,
		"DeleteRange": &m.deletes, "Txn": &m.txns, "Compaction": &m.compacts,
	} {
		to.ok = durations.WithLabelValues(name, "true")
		to.failed = durations.WithLabelValues(name, "false")
	}
	s.metrics = m
	for _, c := range s.healthChecks() {
		m.checks[c.kind+"/"+c.name] = &checkMetrics{kind: c.kind, name: c.name}
	}
	for _, c := range []prometheus.Collector{durations, collector{s}} {
		if err := s.cfg.Registry.Register(c); err != nil {
			return fmt.Errorf("metrics of the etcd API: %w", err)
		}
	}
	return nil
}

// collector shows the atomics, the group and the store.
type collector struct{ s *Server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descHasLeader     = desc("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.")
	descIsLeader      = desc("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.")
	descLeaderChanges = desc("etcd_server_leader_changes_seen_total", "The number of leader changes seen.")
	descIsLearner     = desc("etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.")
	descCommitted     = desc("etcd_server_proposals_committed_total", "The total number of consensus proposals committed.")
	descApplied       = desc("etcd_server_proposals_applied_total", "The total number of consensus proposals applied.")
	descPending       = desc("etcd_server_proposals_pending", "The current number of pending proposals to commit.")
	descFailed        = desc("etcd_server_proposals_failed_total", "The total number of failed proposals seen.")
	descVersion       = desc("etcd_server_version", "Which version is running. 1 for 'server_version' label with current version.", "server_version")
	descGoVersion     = desc("etcd_server_go_version", "Which Go version server is running with. 1 for 'server_go_version' label with current version.", "server_go_version")
	descID            = desc("etcd_server_id", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.", "server_id")
	descClients       = desc("etcd_server_client_requests_total", "The total number of client requests per client version.", "type", "client_api_version")
	descHealthOK      = desc("etcd_server_health_success", "The total number of successful health checks")
	descHealthFailed  = desc("etcd_server_health_failures", "The total number of failed health checks")
	descCheck         = desc("etcd_server_healthcheck", "The result of each kind of healthcheck.", "type", "name")
	descChecks        = desc("etcd_server_healthchecks_total", "The total number of each kind of healthcheck.", "type", "name", "status")

	descSize       = desc("etcd_mvcc_db_total_size_in_bytes", "Total size of the underlying database physically allocated in bytes.")
	descSizeInUse  = desc("etcd_mvcc_db_total_size_in_use_in_bytes", "Total size of the underlying database logically in use in bytes.")
	descQuota      = desc("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.")
	descKeys       = desc("etcd_debugging_mvcc_keys_total", "Total number of keys.")
	descRevision   = desc("etcd_debugging_mvcc_current_revision", "The current revision of store.")
	descCompactRev = desc("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.")

	descStarted  = desc("grpc_server_started_total", "Total number of RPCs started on the server.", "grpc_type", "grpc_service", "grpc_method")
	descHandled  = desc("grpc_server_handled_total", "Total number of RPCs completed on the server, regardless of success or failure.", "grpc_type", "grpc_service", "grpc_method", "grpc_code")
	descReceived = desc("grpc_server_msg_received_total", "Total number of RPC stream messages received on the server.", "grpc_type", "grpc_service", "grpc_method")
	descSent     = desc("grpc_server_msg_sent_total", "Total number of gRPC stream messages sent by the server.", "grpc_type", "grpc_service", "grpc_method")

	descClientReceived = desc("etcd_network_client_grpc_received_bytes_total", "The total number of bytes received from grpc clients.")
	descClientSent     = desc("etcd_network_client_grpc_sent_bytes_total", "The total number of bytes sent to grpc clients.")

	descPuts    = desc("etcd_mvcc_put_total", "Total number of puts seen by this member.")
	descDeletes = desc("etcd_mvcc_delete_total", "Total number of deletes seen by this member.")
	descRanges  = desc("etcd_mvcc_range_total", "Total number of ranges seen by this member.")
	descTxns    = desc("etcd_mvcc_txn_total", "Total number of txns seen by this member.")

	descReadsFailed    = desc("etcd_server_read_indexes_failed_total", "The total number of failed read indexes seen.")
	descClusterVersion = desc("etcd_cluster_version", "Which version is running. 1 for 'cluster_version' label with current cluster version", "cluster_version")

	descTerm     = desc("quorate_term", "The term of the group that this member knows of.")
	descLeaderID = desc("quorate_leader", "1 for the 'leader' label with the hexadecimal id of the leader that this member knows of.", "leader")
)

// The store's own.
var (
	descCacheHits   = desc("quorate_kv_cache_hits_total", "Writes that found the key's latest version in memory.")
	descCacheMisses = desc("quorate_kv_cache_misses_total", "Writes that had to look the key's latest version up on disk.")
	descCacheBytes  = desc("quorate_kv_cache_bytes", "Memory taken by the latest versions that are kept for writes.")
	descDebt        = desc("quorate_kv_compaction_debt_bytes", "Bytes that the storage engine has yet to merge.")
	descReadAmp     = desc("quorate_kv_read_amplification", "Files that the storage engine may have to look into for one key.")
	descSwept       = desc("quorate_kv_swept_revision", "The revision up to which compacted versions have been removed.")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descHasLeader, descIsLeader, descLeaderChanges, descIsLearner, descCommitted, descApplied, descPending,
		descFailed, descVersion, descGoVersion, descID, descClients, descHealthOK, descHealthFailed, descCheck,
		descChecks, descSize, descSizeInUse, descKeys, descRevision, descCompactRev, descStarted, descHandled,
		descReceived, descSent, descQuota, descTerm, descLeaderID, descCacheHits, descCacheMisses, descCacheBytes, descDebt,
		descReadAmp, descSwept, descClientReceived, descClientSent, descPuts, descDeletes, descRanges, descTxns,
		descReadsFailed, descClusterVersion,
	} {
		out <- d
	}
}

// sink sends samples.
type sink chan<- prometheus.Metric

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	c.collectState(out)
	c.collectRequests(out)
}

func (c collector) collectState(out sink) {
	s, st, stats := c.s, c.s.group.Status(), c.s.store.Stats()
	out.gauge(descHasLeader, truth(st.Leader != 0))
	out.gauge(descIsLeader, truth(uint64(st.Leader) == s.cfg.Member))
	out.counter(descLeaderChanges, st.LeaderChanges)
	out.gauge(descIsLearner, truth(st.IsLearner))
	out.gauge(descCommitted, float64(st.Commit))
	out.gauge(descApplied, float64(st.Applied))
	out.gauge(descPending, float64(s.metrics.pending.Load()))
	out.counter(descFailed, s.metrics.failed.Load())
	out.gauge(descVersion, 1, s.cfg.Version)
	out.gauge(descGoVersion, 1, runtime.Version())
	out.gauge(descClusterVersion, 1, s.cfg.Version[:strings.LastIndexByte(s.cfg.Version, '.')])
	c.collectOperations(out, &stats)
	out.gauge(descID, 1, fmt.Sprintf("%x", s.cfg.Member))
	size, inUse := s.sizes(stats)
	out.gauge(descSize, float64(size))
	out.gauge(descSizeInUse, float64(inUse))
	out.gauge(descQuota, quotaBytes)
	out.gauge(descKeys, float64(stats.Keys))
	out.gauge(descRevision, float64(s.store.Revision()))
	out.gauge(descCompactRev, float64(s.store.CompactRevision()))
	out.gauge(descTerm, float64(st.Term))
	out.counter(descCacheHits, stats.CacheHits)
	out.counter(descCacheMisses, stats.CacheMisses)
	out.gauge(descCacheBytes, float64(stats.CacheBytes))
	out.gauge(descDebt, float64(stats.CompactionDebtBytes))
	out.gauge(descReadAmp, float64(stats.ReadAmplification))
	out.gauge(descSwept, float64(stats.SweptRevision))
	if st.Leader != 0 {
		out.gauge(descLeaderID, 1, fmt.Sprintf("%x", uint64(st.Leader)))
	}
}

// collectOperations shows what was executed: in commands, which every member
// executes, and in reads, which the member does that was asked.
func (c collector) collectOperations(out sink, stats *kv.Stats) {
	m := c.s.metrics
	served := func(method string) uint64 { return m.methods["/etcdserverpb.KV/"+method].handled[codes.OK].Load() }
	out.counter(descPuts, stats.Puts)
	out.counter(descDeletes, stats.DeleteRanges)
	out.counter(descRanges, stats.Ranges+served("Range")+served("RangeStream")+m.rangesInTxns.Load())
	out.counter(descTxns, stats.Txns+m.readTxnsMany.Load())
}

func (c collector) collectRequests(out sink) {
	m := c.s.metrics
	out.counter(descClientReceived, m.traffic.received.Load())
	out.counter(descClientSent, m.traffic.sent.Load())
	out.counter(descReadsFailed, m.readsFailed.Load())
	m.unaryClients.each(func(v string, n uint64) { out.counter(descClients, n, "unary", v) })
	m.streamClients.each(func(v string, n uint64) { out.counter(descClients, n, "stream", v) })
	out.counter(descHealthOK, m.healthOK.Load())
	out.counter(descHealthFailed, m.healthFailed.Load())
	for _, x := range m.checks {
		ok, failed := x.ok.Load(), x.failed.Load()
		if ok+failed > 0 {
			out.gauge(descCheck, truth(x.lastOK.Load()), x.kind, x.name)
		}
		out.counter(descChecks, ok, x.kind, x.name, "success")
		out.counter(descChecks, failed, x.kind, x.name, "error")
	}
	for _, x := range m.methods {
		x.collect(out)
	}
	m.other.collect(out)
}

func (m *methodMetrics) collect(out sink) {
	out.counter(descStarted, m.started.Load(), m.kind, m.service, m.method)
	out.counter(descReceived, m.received.Load(), m.kind, m.service, m.method)
	out.counter(descSent, m.sent.Load(), m.kind, m.service, m.method)
	for code := range m.handled {
		// The success of every method is shown from the start, so that rates
		// begin at zero; other codes when they have happened.
		if n := m.handled[code].Load(); n > 0 || code == int(codes.OK) {
			out.counter(descHandled, n, m.kind, m.service, m.method, codes.Code(code).String())
		}
	}
}
