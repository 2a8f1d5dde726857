package settings

import (
	"errors"
	"strings"
	"testing"
)

// etcdFlags are the flags of etcd 3.7.
const etcdFlags = `name data-dir wal-dir snapshot-count heartbeat-interval election-timeout initial-election-tick-advance
listen-peer-urls listen-client-urls listen-client-http-urls max-snapshots max-wals memory-mlock quota-backend-bytes
backend-bbolt-freelist-type backend-batch-interval backend-batch-limit max-txn-ops max-request-bytes max-concurrent-streams
grpc-keepalive-min-time grpc-keepalive-interval grpc-keepalive-timeout socket-reuse-port socket-reuse-address
enable-grpc-gateway raft-read-timeout raft-write-timeout feature-gates initial-advertise-peer-urls initial-cluster
initial-cluster-state initial-cluster-token advertise-client-urls discovery-token discovery-endpoints discovery-dial-timeout
discovery-request-timeout discovery-keepalive-time discovery-keepalive-timeout discovery-insecure-transport
discovery-insecure-skip-tls-verify discovery-cert discovery-key discovery-cacert discovery-user discovery-password
discovery-fallback discovery-srv discovery-srv-name strict-reconfig-check pre-vote auto-compaction-retention
auto-compaction-mode v2-deprecation cert-file key-file client-cert-auth client-cert-file client-key-file client-crl-file
client-cert-allowed-hostname trusted-ca-file auto-tls peer-cert-file peer-key-file peer-client-cert-auth
peer-client-cert-file peer-client-key-file peer-trusted-ca-file peer-cert-allowed-cn peer-cert-allowed-hostname
peer-auto-tls self-signed-cert-validity peer-crl-file cipher-suites cors host-whitelist tls-min-version tls-max-version
auth-token bcrypt-cost auth-token-ttl enable-pprof metrics listen-metrics-urls logger log-outputs log-level log-format
enable-log-rotation log-rotation-config-json warning-unary-request-duration enable-distributed-tracing
distributed-tracing-address distributed-tracing-service-name distributed-tracing-instance-id
distributed-tracing-sampling-rate corrupt-check-time compact-hash-check-time compaction-batch-limit
peer-skip-client-san-verification watch-progress-notify-interval warning-apply-duration
bootstrap-defrag-threshold-megabytes max-learners compaction-sleep-interval downgrade-check-time
snapshot-catchup-entries force-new-cluster unsafe-no-fsync`

func TestEveryFlagOfEtcdIsKnown(t *testing.T) {
	for _, name := range strings.Fields(etcdFlags) {
		_, isForeign := Foreign(name)
		if own := flagByName(name) != nil; own == isForeign {
			t.Errorf("--%s: own %v, foreign %v", name, own, isForeign)
		}
	}
	for name, f := range foreigns {
		if flagByName(name) != nil {
			t.Errorf("--%s is supported and foreign", name)
		}
		if (f.refuse == "") == (f.effect == "") {
			t.Errorf("--%s needs either a reason to refuse it or one why it has no effect", name)
		}
	}
}

func TestWhatCannotBeKeptIsRefused(t *testing.T) {
	for name, value := range map[string]string{
		"auto-compaction-retention": "1h", "quota-backend-bytes": "8589934592", "wal-dir": "/w", "force-new-cluster": "true",
		"client-crl-file": "x", "host-whitelist": "a", "auth-token": "jwt,x", "auto-tls": "true", "peer-auto-tls": "true",
		"discovery-srv": "example.com", "pre-vote": "false", "enable-v2": "true", "logger": "capnslog",
	} {
		_, err := Load(Input{Flags: args{name: value}})
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "--"+name) {
			t.Errorf("--%s %s: %v", name, value, err)
		}
	}
}

func TestWhatIsNeutralPassesSilently(t *testing.T) {
	for name, value := range map[string]string{
		"auto-compaction-retention": "0", "quota-backend-bytes": "0", "pre-vote": "true", "auto-tls": "false",
		"logger": "zap", "auth-token": "simple", "metrics": "basic", "discovery-srv": "", "cors": "*", "unsafe-no-fsync": "false",
	} {
		if s := load(t, args{name: value}); len(s.Warnings) > 0 {
			t.Errorf("--%s %s: %v", name, value, s.Warnings)
		}
	}
}

func TestWhatIsHarmlessIsAWarning(t *testing.T) {
	// What kubeadm gives etcd beside the flags that Quorate has.
	s := load(t, args{"snapshot-count": "10000", "experimental-initial-corrupt-check": "true", "experimental-watch-progress-notify-interval": "5s", "feature-gates": "InitialCorruptCheck=true"})
	if len(s.Warnings) != 4 {
		t.Fatalf("%d warnings: %v", len(s.Warnings), s.Warnings)
	}
	for _, w := range s.Warnings {
		if !strings.Contains(w.String(), "--") || !strings.Contains(w.String(), "has no effect in quorate: ") {
			t.Errorf("%s", w)
		}
	}
}
