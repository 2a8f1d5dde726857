package report

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTables(t *testing.T) {
	tab := Table{Title: "write", Head: []string{"system", "ops/s"}, Notes: []string{"A note."}}
	tab.Add("a|b", "1,000")
	tab.Add("short")
	for _, c := range []struct {
		write func(*strings.Builder, []Table) error
		want  string
	}{
		{func(b *strings.Builder, t []Table) error { return Text(b, t) }, "\nwrite\n  system  ops/s\n  a|b     1,000\n  short   \nA note.\n"},
		{func(b *strings.Builder, t []Table) error { return Markdown(b, t) }, "**write**\n\n| system | ops/s |\n|---|---|\n| a\\|b | 1,000 |\n| short |  |\n\nA note.\n"},
	} {
		var b strings.Builder
		if err := c.write(&b, []Table{tab}); err != nil || b.String() != c.want {
			t.Errorf("%v, got:\n%s\nwant:\n%s", err, b.String(), c.want)
		}
	}
}

// A target is met at its very limit, missed beyond it, and neither without a
// figure.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		v    Verdict
		want Verdict
	}{
		{AtLeast("w", 200, 2, 100, "a"), Verdict{"w", "≥ 2 × a", "2.00 × a", Met}},
		{AtLeast("w", 199, 2, 100, "a"), Verdict{"w", "≥ 2 × a", "1.99 × a", Missed}},
		{AtLeast("w", 199, 2, 0, "a"), Verdict{"w", "≥ 2 × a", "", NotMeasured}},
		{AtLeast("w", 0, 2, 1, "a"), Verdict{"w", "≥ 2 × a", "", NotMeasured}},
		{AtMostOf("w", 50, 0.5, 100, "a"), Verdict{"w", "≤ 0.5 × a", "0.500 × a", Met}},
		{AtMostOf("w", 51, 0.5, 100, "a"), Verdict{"w", "≤ 0.5 × a", "0.510 × a", Missed}},
		{AtMostOf("w", 51, 0.5, 0, "a"), Verdict{"w", "≤ 0.5 × a", "", NotMeasured}},
		{AtMost("w", 64, 64, "B", true), Verdict{"w", "≤ 64 B", "64.0 B", Met}},
		{AtMost("w", 65, 64, "B", true), Verdict{"w", "≤ 64 B", "65.0 B", Missed}},
		{AtMost("w", 0, 64, "B", true), Verdict{"w", "≤ 64 B", "0 B", Met}},
		{AtMost("w", 0, 64, "B", false), Verdict{"w", "≤ 64 B", "", NotMeasured}},
	} {
		if c.v != c.want {
			t.Errorf("got %+v, want %+v", c.v, c.want)
		}
	}
}

func TestReplace(t *testing.T) {
	const page = "before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter\n<!-- b: begin -->\n<!-- b: end -->\n"
	got, err := Replace(page, "a", "new\n")
	if want := "before\n<!-- a: begin -->\n\nnew\n\n<!-- a: end -->\nafter\n<!-- b: begin -->\n<!-- b: end -->\n"; err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if again, err := Replace(got, "a", "new"); err != nil || again != got {
		t.Errorf("not the same when done again: %q, %v", again, err)
	}
	for _, bad := range []string{"", page + page, "<!-- a: end -->\n<!-- a: begin -->\n"} {
		if _, err := Replace(bad, "a", "new"); !errors.Is(err, ErrSection) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Into(file, "b", []Table{{Notes: []string{"text"}}}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(file); !strings.Contains(string(b), "old") || !strings.Contains(string(b), "begin -->\n\ntext\n\n<!-- b: end") {
		t.Errorf("%s", b)
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 999.6: "1,000", 1234567: "1,234,567", -1234: "-1,234", 100: "100"} {
		if got := Count(v); got != want {
			t.Errorf("Count(%v) = %s, want %s", v, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0", 0.0123: "0.0123", 0.25: "0.250", 1.234: "1.23", 12.34: "12.3", 1234: "1,234"} {
		if got := Digits(v); got != want {
			t.Errorf("Digits(%v) = %s, want %s", v, got, want)
		}
	}
	if m := Median([]float64{3, 1, 2}); m != 2 {
		t.Error(m)
	}
	if m := Median([]float64{4, 1}); m != 2.5 {
		t.Error(m)
	}
}
