package lab

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func pageOf(t *testing.T, name string, without ...string) []byte {
	t.Helper()
	s, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	arm, err := s.Arm(without)
	if err != nil {
		t.Fatal(err)
	}
	res, err := Run(t.Context(), s, arm)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := WritePage(&b, res, nil, ""); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// "One self-contained page": nothing is loaded from elsewhere.
func TestPageIsSelfContained(t *testing.T) {
	page := pageOf(t, "figure-8")
	outside := regexp.MustCompile(`(src|href)="(https?:|//)|@import|url\("?https?:`)
	if m := outside.Find(page); m != nil {
		t.Errorf("the page loads something: %s", m)
	}
	for _, want := range []string{"leader t2", "partition 1 2 | 3 4 5", `class="crash"`, "prefers-color-scheme", "@media print"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page has no %q", want)
		}
	}
}

// The same scenario gives the same page: a run is decided by its file alone.
func TestPageIsRepeatable(t *testing.T) {
	for _, name := range []string{"figure-8", "split-brain", "forwarding-retry", "snapshot-transfer"} {
		if a, b := pageOf(t, name), pageOf(t, name); !bytes.Equal(a, b) {
			t.Errorf("%s: two runs give two pages", name)
		}
	}
}

func TestHandler(t *testing.T) {
	h, err := Handler()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		code int
		want string
	}{
		{"/", 200, `href="/figure-8?without=own-term-commit"`},
		{"/figure-8", 200, "As shipped"},
		{"/figure-8?without=own-term-commit", 200, "violation: leader-completeness"},
		{"/figure-9", 404, "no scenario"},
		{"/figure-8?without=sync", 404, "has no arm"},
		{"/a/b", 404, ""},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.path, nil))
		if w.Code != c.code || !strings.Contains(strings.ToLower(w.Body.String()), strings.ToLower(c.want)) {
			t.Errorf("%s: %d, want %d and %q", c.path, w.Code, c.code, c.want)
		}
	}
}

func browser() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "headless-shell"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// The page works in a browser: the keys step from the first event to the last
// and back, the cursor moves down, the logs are shown, no label lies on another.
func TestPageInBrowser(t *testing.T) {
	path := browser()
	switch {
	case testing.Short():
		t.Skip("a browser takes seconds to start")
	case path == "":
		t.Skip("no chromium on this machine: apt-get install chromium")
	}
	found := regexp.MustCompile(`data-selftest="([^"]*)"`)
	for _, c := range []struct {
		name    string
		without []string
	}{
		{"figure-8", nil}, {"figure-8", []string{"own-term-commit"}}, {"follower-repair", []string{"conflict-hint"}}, {"split-brain", nil}, {"snapshot-transfer", nil},
	} {
		file := filepath.Join(t.TempDir(), "page.html")
		if err := os.WriteFile(file, pageOf(t, c.name, c.without...), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,1000",
			"--user-data-dir="+t.TempDir(), "--dump-dom", "file://"+file+"#selftest")
		cmd.WaitDelay = time.Second
		dom, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: the browser failed: %v", c.name, err)
		}
		m := found.FindSubmatch(dom)
		if m == nil {
			t.Errorf("%s: the page's script did not run", c.name)
			continue
		}
		said := string(m[1])
		t.Logf("%s: %s", c.name, said)
		if strings.Contains(said, "FAIL") || strings.Contains(strings.ReplaceAll(said, "overlaps 0 ", ""), "overlaps") {
			t.Errorf("%s: %s", c.name, said)
		}
	}
}
