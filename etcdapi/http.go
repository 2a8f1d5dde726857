package etcdapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/quorate/quorate/kv"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// healthCheck is one part of what a probe asks for.
type healthCheck struct {
	kind, name string
	check      func(context.Context) error
}

// healthChecks are the checks of /livez (is this process able to read what it
// has) and of /readyz (can it serve a client now).
func (s *Server) healthChecks() []healthCheck {
	local := func(ctx context.Context) error { return s.probe(ctx, true) }
	quorum := func(ctx context.Context) error { return s.probe(ctx, false) }
	return []healthCheck{
		{"livez", "serializable_read", local},
		{"readyz", "data_corruption", func(context.Context) error { return nil }}, // a corrupt member has stopped
		{"readyz", "serializable_read", local},
		{"readyz", "linearizable_read", quorum},
		{"readyz", "non_learner", s.checkVoter},
	}
}

func (s *Server) checkVoter(context.Context) error {
	if s.group.Status().IsLearner {
		return errors.New("not supported for learner")
	}
	return nil
}

// probeKey is read by probes; it need not exist.
var probeKey = []byte{0}

// probe reads from the store as a client would.
func (s *Server) probe(ctx context.Context, serializable bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer cancel()
	if !serializable {
		if err := s.barrier(ctx); err != nil {
			return errors.New(rpctypes.ErrorDesc(err))
		}
	}
	_, err := s.store.Range(ctx, &kv.RangeRequest{Key: probeKey, KeysOnly: true, Limit: 1})
	return err
}

func (s *Server) httpMux() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/health", getOnly(s.serveHealth))
	mux.Handle("/version", getOnly(s.serveVersion))
	mux.Handle("/metrics", promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{}))
	all := s.healthChecks()
	for _, kind := range []string{"livez", "readyz"} {
		var of []healthCheck
		for _, c := range all {
			if c.kind == kind {
				of = append(of, c)
				mux.Handle("/"+kind+"/"+c.name, getOnly(s.serveChecks(c)))
			}
		}
		mux.Handle("/"+kind, getOnly(s.serveChecks(of...)))
	}
	return mux
}

func getOnly(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		h(w, r)
	})
}

// healthAnswer is the body of /health. Both are strings, as at etcd.
type healthAnswer struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

// serveHealth answers /health. With ?serializable=true it speaks of this member
// alone, otherwise of the cluster. ?exclude names alarms, of which there are
// none.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	serializable := r.URL.Query().Get("serializable") == "true"
	answer := healthAnswer{Health: "true"}
	if !serializable && s.group.Status().Leader == 0 {
		answer = healthAnswer{"false", "RAFT NO LEADER"}
	} else if err := s.probe(r.Context(), serializable); err != nil {
		answer = healthAnswer{"false", "RANGE ERROR:" + err.Error()}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if answer.Health != "true" {
		s.metrics.healthFailed.Add(1)
		s.cfg.Logger.Warn("unhealthy", "path", r.URL.Path, "reason", answer.Reason)
		http.Error(w, string(body), http.StatusServiceUnavailable)
		return
	}
	s.metrics.healthOK.Add(1)
	_, _ = w.Write(body)
}

// serveChecks answers with "ok" if all checks pass but those that ?exclude
// names, and with the outcome of each one if not, or if ?verbose is given.
func (s *Server) serveChecks(checks ...healthCheck) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		excluded := map[string]bool{}
		if len(checks) > 1 || strings.Count(r.URL.Path, "/") == 1 {
			for _, name := range query["exclude"] {
				excluded[name] = true
			}
		}
		var report strings.Builder
		ok := true
		for _, c := range checks {
			if excluded[c.name] {
				continue
			}
			err := c.check(r.Context())
			s.metrics.checks[c.kind+"/"+c.name].ended(err)
			if err != nil {
				ok = false
				fmt.Fprintf(&report, "[-]%s failed: %v\n", c.name, err)
				continue
			}
			fmt.Fprintf(&report, "[+]%s ok\n", c.name)
		}
		if !ok {
			s.cfg.Logger.Warn("unhealthy", "path", r.URL.Path, "reason", report.String())
			http.Error(w, report.String(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if query.Has("verbose") {
			fmt.Fprint(w, report.String())
		}
		fmt.Fprint(w, "ok\n")
	}
}

// versions is the body of /version.
type versions struct {
	Server  string `json:"etcdserver"`
	Cluster string `json:"etcdcluster"`
	Storage string `json:"storage"`
}

func (s *Server) serveVersion(w http.ResponseWriter, _ *http.Request) {
	minor := minorVersion(s.cfg.Version)
	body, err := json.Marshal(versions{Server: s.cfg.Version, Cluster: minor, Storage: minor})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// minorVersion returns 3.7.0 for 3.7.3: the versions of a cluster and of what
// is stored know no patches.
func minorVersion(v string) string { return v[:strings.LastIndexByte(v, '.')] + ".0" }
