package lab

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/sim"
	"github.com/quorate/quorate/smr"
)

// Scenario is a parsed file.
//
// Invariants: (1) Arms begins with the one as shipped, and no two are without
// the same. (2) Every replica that a step or condition names is in the set-up.
type Scenario struct {
	Name     string
	Question string
	Paper    string
	Topic    string
	// Answer is the text below the heading, in paragraphs.
	Answer []string
	Setup  Setup
	Steps  []Step
	// Expect must hold at the end of every arm.
	Expect []Expectation
	Arms   []Arm
	// Source is the file.
	Source string
}

// Setup is the world that a scenario begins in.
type Setup struct {
	Hosts, Cores int
	// Swarm is the world of a swarm run, and Seed its seed. Else Seed is what
	// the election timeouts are drawn from.
	Swarm string
	Seed  uint64
	// EveryFault lets all faults of the swarm's world take part, instead of those
	// that the seed draws.
	EveryFault bool
	OneEntry   bool
	Lease      bool
	// Manual: nobody stands but when a step says so.
	Manual   bool
	Timeout  time.Duration
	Delay    time.Duration
	Sync     time.Duration
	Patience time.Duration
	Logs     map[smr.ReplicaID][]uint64
	Terms    map[smr.ReplicaID]uint64
	// Snapshots of hosts, and their states.
	Snapshots sim.ScriptSnapshots
}

func (s *Setup) replicas() int { return max(s.Hosts, s.Cores) }

// Arm is one way to run a scenario.
type Arm struct {
	// Without are the protections that are off. Empty: as shipped.
	Without []string
	// Ignore are the classes of violations that are not reported.
	Ignore []sim.Class
	Expect []Expectation
	Line   int
}

// Title is how people name the arm.
func (a *Arm) Title() string {
	if len(a.Without) == 0 {
		return "as shipped"
	}
	return "without " + strings.Join(a.Without, ", ")
}

// Step is one line of the script.
type Step struct {
	Line int
	Text string
	// Only is the title of the arm that the step is for; empty: all.
	Only string
	do   action
}

// Expectation is one line of what must be observed.
type Expectation struct {
	Line int
	Text string
	cond condition
}

// Arm returns the arm without exactly these protections. Empty names are nothing,
// and one that stands twice is one.
func (s *Scenario) Arm(without []string) (*Arm, error) {
	var names []string
	for _, w := range without {
		if w = strings.TrimSpace(w); w != "" && !slices.Contains(names, w) {
			names = append(names, w)
		}
	}
	without = names
	for i := range s.Arms {
		a := &s.Arms[i]
		if len(a.Without) == len(without) && !slices.ContainsFunc(without, func(w string) bool { return !slices.Contains(a.Without, w) }) {
			return a, nil
		}
	}
	var have []string
	for i := range s.Arms {
		have = append(have, s.Arms[i].Title())
	}
	return nil, fmt.Errorf("%w: %s has no arm without %s; it has: %s", ErrUnknown, s.Name, strings.Join(without, ", "), strings.Join(have, "; "))
}

// ErrUnknown is wrapped by errors about a scenario or arm that there is not.
var ErrUnknown = errors.New("not known to the lab")

//go:embed scenarios/*.txt
var files embed.FS

// Names are the names of the scenarios, in order.
func Names() []string {
	entries, _ := fs.ReadDir(files, "scenarios") // embedded: cannot fail
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".txt"))
	}
	return names
}

// Load returns a scenario by its name.
func Load(name string) (*Scenario, error) {
	b, err := files.ReadFile("scenarios/" + name + ".txt")
	if err != nil {
		return nil, fmt.Errorf("%w: no scenario is called %q; quorate lab list names them", ErrUnknown, name)
	}
	return Parse(name, string(b))
}

// LoadAll returns all scenarios, in the order of their names.
func LoadAll() ([]*Scenario, error) {
	var all []*Scenario
	for _, n := range Names() {
		s, err := Load(n)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}
