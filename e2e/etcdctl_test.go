package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// session is one user with etcdctl at one endpoint.
type session struct {
	t        testing.TB
	bin      string
	endpoint string
}

const etcdctlTimeout = 15 * time.Second

func (s *session) run(stdin string, args ...string) (stdout, stderr string, err error) {
	return runTool(etcdctlTimeout, stdin, s.bin, append([]string{"--endpoints", s.endpoint, "--command-timeout", "10s"}, args...)...)
}

// prints runs etcdctl and compares all that it prints.
func (s *session) prints(want string, args ...string) {
	s.t.Helper()
	s.printsWithInput(want, "", args...)
}

func (s *session) printsWithInput(want, stdin string, args ...string) {
	s.t.Helper()
	stdout, stderr, err := s.run(stdin, args...)
	if err != nil {
		s.t.Errorf("%s: etcdctl %s: %v\n%s", s.endpoint, strings.Join(args, " "), err, stderr)
		return
	}
	if stdout != want {
		s.t.Errorf("%s: etcdctl %s\nprints %q\nwant   %q", s.endpoint, strings.Join(args, " "), stdout, want)
	}
}

// matches runs etcdctl and matches what it prints on both streams: endpoint
// health prints to stderr.
func (s *session) matches(pattern string, args ...string) {
	s.t.Helper()
	stdout, stderr, err := s.run("", args...)
	if text := stdout + stderr; err != nil || !regexp.MustCompile(`^(?:`+pattern+`)$`).MatchString(strings.TrimSpace(text)) {
		s.t.Errorf("%s: etcdctl %s: %v\nprints %q\nwant a match of %s", s.endpoint, strings.Join(args, " "), err, text, pattern)
	}
}

// fails runs etcdctl, which must fail with this error.
func (s *session) fails(want string, args ...string) {
	s.t.Helper()
	_, stderr, err := s.run("", args...)
	if err == nil || !strings.HasSuffix(strings.TrimSpace(stderr), "Error: "+want) {
		s.t.Errorf("%s: etcdctl %s: %v\nprints %q\nwant the error %q", s.endpoint, strings.Join(args, " "), err, stderr, want)
	}
}

// revision is the newest revision, from a read's header.
func (s *session) revision() int64 {
	s.t.Helper()
	stdout, stderr, err := s.run("", "get", "none", "-w", "json")
	var resp struct{ Header struct{ Revision int64 } }
	if err == nil {
		err = json.Unmarshal([]byte(stdout), &resp)
	}
	if err != nil || resp.Header.Revision == 0 {
		s.t.Fatalf("%s: get -w json: %v\n%s%s", s.endpoint, err, stdout, stderr)
	}
	return resp.Header.Revision
}

func lines(all ...string) string { return strings.Join(all, "\n") + "\n" }

// runEtcdctl is a session at each endpoint, with keys of its own.
func runEtcdctl(t *testing.T, f flavour) {
	c := newCluster(t, f, 3)
	bin := mustBinary(t, func() (string, error) { return binaries.etcdctl() })
	for i, m := range c.members {
		t.Run(m.name, func(t *testing.T) {
			s := &session{t: t, bin: bin, endpoint: m.endpoint()}
			s.keys(fmt.Sprintf("s%d/", i))
			s.transactions(fmt.Sprintf("t%d/", i))
			s.history(fmt.Sprintf("h%d/", i))
			s.maintenance(c, m)
		})
	}
}

func (s *session) keys(p string) {
	s.t.Helper()
	s.prints("OK\n", "put", p+"a", "z")
	s.prints("OK\n", "put", p+"b", "y")
	s.prints("OK\n", "put", p+"c", "x")
	s.prints(lines(p+"a", "z"), "get", p+"a")
	s.prints("z\n", "get", p+"a", "--print-value-only")
	s.prints("", "get", p+"none")
	s.prints(lines(p+"a", "z"), "get", p+"a", "--consistency", "s")
	s.prints(lines(p+"a", "z", p+"b", "y", p+"c", "x"), "get", "--prefix", p)
	s.prints(lines(p+"b", "y", p+"c", "x"), "get", p+"b", p+"d")
	s.prints(lines(p+"c", "x", p+"b", "y", p+"a", "z"), "get", "--prefix", p, "--sort-by", "VALUE", "--order", "ASCEND")
	s.prints(lines(p+"c", "", p+"b", "", p+"a", ""), "get", "--prefix", p, "--sort-by", "MODIFY", "--order", "DESCEND", "--keys-only")
	// Pages: what comes after the last key of the page before.
	s.prints(lines(p+"a", "z", p+"b", "y"), "get", "--prefix", p, "--limit", "2")
	s.prints(lines(p+"c", "x"), "get", p+"b\x01", p+"\xff", "--limit", "2")
	s.matches(`(?s).*"Count" : 3`, "get", "--prefix", p, "--count-only", "-w", "fields")
	s.matches(`(?s).*"More" : true.*`, "get", "--prefix", p, "--limit", "1", "-w", "fields")

	s.prints(lines("OK", p+"a", "z"), "put", p+"a", "again", "--prev-kv")
	s.prints("OK\n", "put", p+"a", "--ignore-value")
	s.fails("etcdserver: key not found", "put", p+"none", "--ignore-value")
	s.fails("etcdserver: key is not provided", "put", "", "x")
	s.fails("etcdserver: requested lease not found", "put", p+"a", "x", "--lease", "1234")
	s.prints(lines("1", p+"b", "y"), "del", p+"b", "--prev-kv")
	s.prints(lines("2", p+"a", "again", p+"c", "x"), "del", "--prefix", "--prev-kv", p)
	s.prints(lines("0"), "del", "--prefix", p)
	s.prints("", "get", "--prefix", p)
}

func (s *session) transactions(p string) {
	s.t.Helper()
	s.prints("OK\n", "put", p+"user", "bad")
	txn := lines(
		fmt.Sprintf("value(%q) = \"bad\"", p+"user"), fmt.Sprintf("version(%q) > \"0\"", p+"user"), fmt.Sprintf("create(%q) = \"0\"", p+"new"), "",
		"put "+p+"user good", "put "+p+"new 1", "get --prefix "+p, "",
		"get "+p+"user", "del "+p+"user", "")
	s.printsWithInput(lines("SUCCESS", "", "OK", "", "OK", "", p+"new", "1", p+"user", "good"), txn, "txn")
	s.printsWithInput(lines("FAILURE", "", p+"user", "good", "", "1"), txn, "txn")
	s.prints(lines(p+"new", "1"), "get", "--prefix", p)
	_, stderr, err := s.run(lines("", "put "+p+"k 1", "put "+p+"k 2", "", ""), "txn")
	if err == nil || !strings.Contains(stderr, "etcdserver: duplicate key given in txn request") {
		s.t.Errorf("%s: txn with a key twice: %v %s", s.endpoint, err, stderr)
	}
}

func (s *session) history(p string) {
	s.t.Helper()
	s.prints("OK\n", "put", p+"k", "first")
	old := s.revision()
	s.prints("OK\n", "put", p+"k", "second")
	at := func(rev int64) []string { return []string{"get", p + "k", "--rev", fmt.Sprint(rev)} }
	s.prints(lines(p+"k", "first"), at(old)...)
	s.prints(lines(p+"k", "second"), at(old+1)...)
	s.prints("", at(old-1)...)
	s.fails("etcdserver: mvcc: required revision is a future revision", at(old+1000)...)

	s.prints(fmt.Sprintf("compacted revision %d\n", old+1), "compaction", fmt.Sprint(old+1), "--physical")
	s.fails("etcdserver: mvcc: required revision has been compacted", at(old)...)
	s.prints(lines(p+"k", "second"), at(old+1)...)
	s.fails("etcdserver: mvcc: required revision has been compacted", "compaction", fmt.Sprint(old))
	s.fails("etcdserver: mvcc: required revision is a future revision", "compaction", fmt.Sprint(old+1000))
}

func (s *session) maintenance(c *cluster, m *member) {
	s.t.Helper()
	ep, id := regexp.QuoteMeta(m.endpoint()), `[0-9a-f]+`
	s.matches(ep+`, `+id+`, \d+\.\d+\.\d+[^,]*, [^,]*, [\d.]+ \w+, [\d.]+ \w+, \d+%, [^,]*, (true|false), false, \d+, \d+, \d+, , [^,]*, false`, "endpoint", "status")
	s.matches(ep+` is healthy: successfully committed proposal: took = \S+`, "endpoint", "health")
	s.matches(ep+`, \d+, \d+`, "endpoint", "hashkv")
	s.prints("", "alarm", "list")
	leaders := 0
	for _, other := range c.members {
		there := &session{t: s.t, bin: s.bin, endpoint: other.endpoint()}
		stdout, stderr, err := there.run("", "endpoint", "status")
		if err != nil {
			s.t.Errorf("endpoint status of %s: %v %s", other.endpoint(), err, stderr)
		}
		if fields := strings.Split(stdout, ", "); len(fields) > 8 && fields[8] == "true" {
			leaders++
		}
	}
	if leaders != 1 {
		s.t.Errorf("%d members say that they lead", leaders)
	}
	stdout, stderr, err := s.run("", "member", "list")
	if err != nil {
		s.t.Errorf("%s: member list: %v %s", s.endpoint, err, stderr)
	}
	for _, other := range c.members {
		want := fmt.Sprintf(", started, %s, %s, %s, false\n", other.name, other.peerURL, other.clientURL)
		if !strings.Contains(stdout, want) {
			s.t.Errorf("%s: member list lacks %q:\n%s", s.endpoint, want, stdout)
		}
	}
	if n := strings.Count(stdout, "\n"); n != len(c.members) {
		s.t.Errorf("%s: member list prints %d lines:\n%s", s.endpoint, n, stdout)
	}
}

func TestReferenceEtcdctl(t *testing.T) { runEtcdctl(t, referenceFast) }
func TestEtcdctl(t *testing.T)          { runEtcdctl(t, quorate) }
