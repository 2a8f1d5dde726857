package lab

import (
	"context"

	"github.com/quorate/quorate/sim"
)

// meanings says what the protections are that an arm does without.
func meanings(names []string) []protectionText {
	known := map[string]string{
		"fence":      "a command that a change of leader has swallowed is proposed again",
		"fence-term": "a leader takes forwarded commands in the very term that they are meant for",
		"apply-wait": "a read waits until its index is applied",
		"sync":       "the log is synced before it is acknowledged",
	}
	for _, s := range sim.Protections() {
		if known[s.Name] == "" {
			known[s.Name] = s.Meaning
		}
	}
	var all []protectionText
	for _, n := range names {
		all = append(all, protectionText{n, known[n]})
	}
	return all
}

// RunAll runs every arm of a scenario, so that they can be compared. url gives
// the address of an arm's page, or is nil. current is the arm that is shown.
func RunAll(ctx context.Context, s *Scenario, current *Arm, url func(*Arm) string) ([]ArmLink, error) {
	var links []ArmLink
	for i := range s.Arms {
		a := &s.Arms[i]
		res, err := Run(ctx, s, a)
		if err != nil {
			return nil, err
		}
		l := ArmLink{Title: a.Title(), Current: a == current, Observed: res.Observed, Figures: res.Figures}
		if url != nil {
			l.URL = url(a)
		}
		if res.Violation != nil {
			l.Violation = string(res.Violation.Class)
		}
		if s.Setup.Swarm != "" {
			l.Figures = nil
		}
		links = append(links, l)
	}
	return links, nil
}
