package settings

import "strings"

// foreign is a setting that etcd has and Quorate does not.
type foreign struct {
	// neutral are values that ask for nothing that Quorate would not do anyway:
	// they pass without a word, as does an empty value.
	neutral []string
	// refuse says why another value is an error. Empty: it is a warning.
	refuse string
	// effect says in the warning why the setting has none.
	effect string
	// boolean flags may stand without a value.
	boolean bool
}

const (
	off      = "0"
	yes      = "true"
	no       = "false"
	watchers = "watches are not supported yet"
	users    = "users and roles are not supported yet"
)

func refuse(why string, neutral ...string) foreign {
	return foreign{refuse: why, neutral: neutral}
}

func refuseSwitch(why string, neutral ...string) foreign {
	return foreign{refuse: why, neutral: neutral, boolean: true}
}

func noEffect(why string) foreign { return foreign{effect: why} }

func noEffectSwitch(why string, neutral ...string) foreign {
	return foreign{effect: why, neutral: neutral, boolean: true}
}

const (
	onlyStatic  = "members are found through --initial-cluster alone"
	ownStorage  = "quorate's storage has nothing that it would set"
	ownLog      = "quorate's log is compacted by its own rules"
	noTracing   = "distributed tracing is not supported yet"
	noRotation  = "log files are not rotated by quorate; use logrotate or write to stderr"
	noCompactor = "automatic compaction is not supported yet: history would grow without the limit that it sets. Leave it out and have a client call Compact"
)

// foreigns is complete for etcd 3.7, and has of older versions what is still
// found in scripts. A name with the prefix "experimental-" stands for the one
// without, as etcd renamed them.
var foreigns = map[string]foreign{
	// The data would be elsewhere, unbounded, or gone.
	"wal-dir":                   refuse("the log is kept below --data-dir; mount the other disk at DATA-DIR/wal"),
	"quota-backend-bytes":       refuse("a quota on the size of the data is not supported yet: it would not be enforced", off, "-1"),
	"auto-compaction-retention": refuse(noCompactor, off, "0s", "0h"),
	"auto-compaction-mode":      noEffect("automatic compaction is not supported yet"),
	"force-new-cluster":         refuseSwitch("making a cluster of one out of a member of many is not supported yet", no),
	"memory-mlock":              noEffectSwitch("memory is not locked", no),
	"unsafe-no-fsync":           noEffectSwitch("quorate always syncs before it acknowledges", no),

	// Security.
	"auto-tls":                          refuseSwitch("generating certificates is not supported; name files by --cert-file and --key-file", no),
	"peer-auto-tls":                     refuseSwitch("generating certificates is not supported; name files by --peer-cert-file and --peer-key-file", no),
	"self-signed-cert-validity":         noEffect("certificates are not generated"),
	"client-crl-file":                   refuse("certificate revocation lists are not supported yet: revoked certificates would be let in"),
	"peer-crl-file":                     refuse("certificate revocation lists are not supported yet: revoked certificates would be let in"),
	"client-cert-file":                  noEffect("quorate has no client connections to itself"),
	"client-key-file":                   noEffect("quorate has no client connections to itself"),
	"peer-skip-client-san-verification": noEffectSwitch("a peer is known by its authority and its id; its address is not compared with its certificate", yes),
	"host-whitelist":                    refuse("checking the Host of HTTP requests is not supported yet: every host would be let in", "*"),
	"cors":                              refuse("cross-origin rules are not supported yet", "*"),
	"auth-token":                        refuse(users, "simple"),
	"bcrypt-cost":                       noEffect(users),
	"auth-token-ttl":                    noEffect(users),

	// Another way to find the members.
	"discovery":                          refuse(onlyStatic),
	"discovery-token":                    refuse(onlyStatic),
	"discovery-endpoints":                refuse(onlyStatic),
	"discovery-srv":                      refuse(onlyStatic),
	"discovery-srv-name":                 refuse(onlyStatic),
	"discovery-config":                   refuse(onlyStatic),
	"discovery-proxy":                    refuse(onlyStatic),
	"discovery-fallback":                 refuse(onlyStatic, "exit"),
	"discovery-dial-timeout":             noEffect(onlyStatic),
	"discovery-request-timeout":          noEffect(onlyStatic),
	"discovery-keepalive-time":           noEffect(onlyStatic),
	"discovery-keepalive-timeout":        noEffect(onlyStatic),
	"discovery-insecure-transport":       noEffectSwitch(onlyStatic, yes),
	"discovery-insecure-skip-tls-verify": noEffectSwitch(onlyStatic, no),
	"discovery-cert":                     noEffect(onlyStatic),
	"discovery-key":                      noEffect(onlyStatic),
	"discovery-cacert":                   noEffect(onlyStatic),
	"discovery-user":                     noEffect(onlyStatic),
	"discovery-password":                 noEffect(onlyStatic),

	// Built differently here.
	"snapshot-count":                       noEffect(ownLog),
	"snapshot-catchup-entries":             noEffect(ownLog),
	"max-snapshots":                        noEffect(ownLog),
	"max-wals":                             noEffect(ownLog),
	"backend-bbolt-freelist-type":          noEffect(ownStorage),
	"backend-batch-interval":               noEffect(ownStorage),
	"backend-batch-limit":                  noEffect(ownStorage),
	"bootstrap-defrag-threshold-megabytes": noEffect(ownStorage),
	"compaction-batch-limit":               noEffect(ownStorage),
	"compaction-sleep-interval":            noEffect(ownStorage),
	"initial-election-tick-advance":        noEffectSwitch("a member that starts always stands soon, and disturbs no leader", yes),
	"pre-vote":                             refuseSwitch("pre-vote is always on", yes),
	"strict-reconfig-check":                noEffectSwitch("membership changes are not supported yet", yes),
	"max-learners":                         noEffect("membership changes are not supported yet"),
	"downgrade-check-time":                 noEffect("downgrades are not supported yet"),
	"corrupt-check-time":                   noEffect("replicas' digests are not compared on a timer"),
	"compact-hash-check-time":              noEffect("replicas' digests are not compared on a timer"),
	"compact-hash-check-enabled":           noEffectSwitch("replicas' digests are not compared on a timer", no),
	"initial-corrupt-check":                noEffectSwitch("replicas' digests are not compared at the start", no),
	"watch-progress-notify-interval":       noEffect(watchers),
	"raft-read-timeout":                    noEffect("connections between members have their own limits"),
	"raft-write-timeout":                   noEffect("connections between members have their own limits"),
	"socket-reuse-port":                    refuseSwitch("sharing a port between processes is not supported", no),
	"socket-reuse-address":                 noEffectSwitch("it is always so", yes, no),
	"feature-gates":                        noEffect("quorate has none of etcd's features to switch"),
	"v2-deprecation":                       noEffect("there is no v2 store"),
	"enable-v2":                            refuseSwitch("there is no v2 API", no),
	"proxy":                                refuse("there is no v2 proxy", "off"),
	"proxy-failure-wait":                   noEffect("there is no v2 proxy"),
	"proxy-refresh-interval":               noEffect("there is no v2 proxy"),
	"proxy-dial-timeout":                   noEffect("there is no v2 proxy"),
	"proxy-write-timeout":                  noEffect("there is no v2 proxy"),
	"proxy-read-timeout":                   noEffect("there is no v2 proxy"),

	// Watching it.
	"logger":                            refuse("there is one logger", "zap"),
	"enable-log-rotation":               refuseSwitch(noRotation, no),
	"log-rotation-config-json":          noEffect(noRotation),
	"metrics":                           {neutral: []string{"basic"}, effect: "all metrics are always there"},
	"enable-grpc-gateway":               noEffectSwitch("the JSON gateway is not supported yet", no),
	"warning-apply-duration":            noEffect("slow applies are a metric, not a warning"),
	"warning-unary-request-duration":    noEffect("slow requests are a metric, not a warning"),
	"enable-distributed-tracing":        refuseSwitch(noTracing, no),
	"distributed-tracing-address":       noEffect(noTracing),
	"distributed-tracing-service-name":  noEffect(noTracing),
	"distributed-tracing-instance-id":   noEffect(noTracing),
	"distributed-tracing-sampling-rate": noEffect(noTracing),
	"debug":                             noEffectSwitch("use --log-level debug", no),
	"log-package-levels":                noEffect("there is one log level"),
	"lease-checkpoint":                  noEffectSwitch("KV leases are not supported yet", no),
	"enable-lease-checkpoint":           noEffectSwitch("KV leases are not supported yet", no),
	"enable-lease-checkpoint-persist":   noEffectSwitch("KV leases are not supported yet", no),
	"txn-mode-write-with-shared-buffer": noEffectSwitch(ownStorage, yes, no),
	"stop-grpc-service-on-defrag":       noEffectSwitch("defragmenting stops nothing here", no),
	"set-member-localaddr":              noEffectSwitch("outgoing connections have the address that the system chooses", no),
	"cluster-active-size":               noEffect("etcd ignores it as well"),
	"cluster-remove-delay":              noEffect("etcd ignores it as well"),
	"cluster-sync-interval":             noEffect("etcd ignores it as well"),
	"max-result-buffer":                 noEffect("etcd ignores it as well"),
	"max-retry-attempts":                noEffect("etcd ignores it as well"),
	"peer-heartbeat-interval":           noEffect("etcd ignores it as well"),
	"peer-election-timeout":             noEffect("etcd ignores it as well"),
	"retry-interval":                    noEffect("etcd ignores it as well"),
}

// Foreign reports whether etcd, but not Quorate, has a setting of this name,
// and whether it may stand without a value.
func Foreign(name string) (boolean, ok bool) {
	f, ok := foreignByName(name)
	return f.boolean, ok
}

// ForeignNames calls f for the name of every setting that etcd has and Quorate
// has not, those with the prefix experimental- included.
func ForeignNames(visit func(name string, boolean bool)) {
	for name, f := range foreigns {
		visit(name, f.boolean)
		visit("experimental-"+name, f.boolean)
	}
}

func foreignByName(name string) (foreign, bool) {
	f, ok := foreigns[strings.TrimPrefix(name, "experimental-")]
	return f, ok
}

// judge says what becomes of a value of a foreign setting.
func (f *foreign) judge(r Raw) (*Warning, *Error) {
	if r.Value == "" {
		return nil, nil
	}
	for _, v := range f.neutral {
		if strings.EqualFold(v, r.Value) {
			return nil, nil
		}
	}
	if f.refuse != "" {
		return nil, &Error{Source: r.Source, Value: r.Value, Problem: "is not supported by quorate: " + f.refuse, Kind: ErrUnsupported}
	}
	return &Warning{Source: r.Source, Text: "has no effect in quorate: " + f.effect}, nil
}
