package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/sim"
)

// Every arm of every scenario shows what its file expects: as shipped the
// protection holds, without it its danger is seen.
func TestScenarios(t *testing.T) {
	all, err := LoadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 18 {
		t.Errorf("%d scenarios, there should be at least 18", len(all))
	}
	for _, s := range all {
		for i := range s.Arms {
			a := &s.Arms[i]
			t.Run(s.Name+"/"+strings.ReplaceAll(a.Title(), " ", "_"), func(t *testing.T) {
				t.Parallel()
				res, err := Run(t.Context(), s, a)
				if err != nil {
					t.Fatal(err)
				}
				if testing.Verbose() && os.Getenv("LAB_SHOW") != "" {
					_ = WriteText(os.Stdout, res, TextOptions{Letters: os.Getenv("LAB_SHOW") == "letters"})
				}
				if !res.Observed {
					t.Errorf("%s %s: not observed: %s\nviolation: %v", s.Name, a.Title(), strings.Join(res.Missing, "; "), res.Violation)
				}
			})
		}
	}
}

// What a host's protection is there for, a scenario shows by the arm without it.
func TestProtectionsOfHostsHaveArms(t *testing.T) {
	// Seeds show them alone (sim: TestSwitches): what pulse protects from takes long,
	// and scripts spoil no frames.
	bySeeds := []string{"pulse", "frame-checksum"}
	all, err := LoadAll()
	if err != nil {
		t.Fatal(err)
	}
	arms := map[string]bool{}
	for _, s := range all {
		for i := range s.Arms {
			for _, name := range s.Arms[i].Without {
				arms[name] = true
			}
		}
	}
	if len(sim.HostProtections()) < 8 {
		t.Errorf("only %v are protections of hosts", sim.HostProtections())
	}
	for _, p := range sim.HostProtections() {
		if !arms[p.Name] && !slices.Contains(bySeeds, p.Name) {
			t.Errorf("no scenario has an arm without %s", p.Name)
		}
	}
}

// The docs say which question each scenario is about, and name no other.
func TestDocsNameScenarios(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "docs", "lab.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(b), "## Which question is where")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, name := range Names() {
		if !strings.Contains(table, "`"+name+"`") {
			t.Errorf("docs/lab.md does not say what %s is about", name)
		}
	}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for i, word := range strings.Split(cells[2], "`") {
			if i%2 == 1 && strings.Contains(word, "-") && !slices.Contains(Names(), word) {
				t.Errorf("docs/lab.md names %s, which there is not", word)
			}
		}
	}
}
