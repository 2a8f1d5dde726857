package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/quorate/quorate/bench/internal/report"
)

// saved is what -json writes and -from reads, but for the libraries' table: that is
// an array of its rows, for whoever reads it with no more than a JSON library.
type saved struct {
	Mode    string `json:"mode"`
	Machine string `json:"machine"`
	// Result is of the mode.
	Result json.RawMessage `json:"result"`
}

var errSaved = errors.New("not a file that -json wrote")

// savedRow is a row of the libraries' table in a file.
type savedRow struct {
	row
	Machine string `json:"machine"`
}

// save writes a result to a file.
func save(file, mode, machine string, r result) error {
	var content any
	if t, ok := r.(*libraryTable); ok {
		all := make([]savedRow, len(t.Rows))
		for i := range t.Rows {
			all[i] = savedRow{t.Rows[i], machine}
		}
		content = all
	} else {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		content = saved{mode, machine, b}
	}
	b, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// loadRows reads the libraries' table.
func (s *saved) loadRows(b []byte) (result, error) {
	var all []savedRow
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	s.Mode = "library"
	t := &libraryTable{}
	for _, r := range all {
		t.Rows, s.Machine = append(t.Rows, r.row), r.Machine
	}
	t.Targets = libraryTargets(t.Rows)
	return t, nil
}

// load reads what save has written. Medians and verdicts are as they were then.
func (s *saved) load(file string) (result, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		r, err := s.loadRows(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %w", file, errSaved, err)
		}
		return r, nil
	}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", file, errSaved, err)
	}
	results := map[string]result{
		"ablation": &ablation{}, "curves": &growth{}, "restart": &restarts{},
		"failover": &failovers{}, "where": &spending{}, "idle": &idling{}, "soak": &soaked{},
	}
	r := results[s.Mode]
	if r == nil {
		return nil, fmt.Errorf("%s: %w: no mode %q", file, errSaved, s.Mode)
	}
	if err := json.Unmarshal(s.Result, r); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", file, errSaved, err)
	}
	if g, ok := r.(*growth); ok {
		err = g.attach()
	}
	return r, err
}

// attach finds the curves that the rows are of.
func (g *growth) attach() error {
next:
	for i := range g.Curves {
		for _, c := range curves {
			if c.name == g.Curves[i].Name {
				g.Curves[i].curve = c
				continue next
			}
		}
		return fmt.Errorf("%w: no curve %q", errSaved, g.Curves[i].Name)
	}
	return nil
}

// rerender prints what was measured before, wherever it is wanted.
func rerender(o *options) error {
	var s saved
	r, err := s.load(o.from)
	if err != nil {
		return err
	}
	if g, ok := r.(*growth); ok {
		for i := range g.Curves {
			if err := g.Curves[i].draw(o.svg); err != nil {
				return err
			}
		}
	}
	return o.write(s.Mode, s.Machine, r)
}

// write prints a result, and puts it into the pages that are to have it.
func (o *options) write(mode, machine string, r result) error {
	note := report.Table{Notes: []string{machine}}
	all := append(r.tables(), note)
	print := report.Text
	if o.markdown {
		print = report.Markdown
	}
	if err := print(os.Stdout, all); err != nil {
		return err
	}
	if o.into != "" {
		if err := report.Into(o.into, mode, all); err != nil {
			return err
		}
	}
	if t, ok := r.(*libraryTable); ok && o.summary != "" {
		if err := report.Into(o.summary, "summary", []report.Table{t.summary(), note}); err != nil {
			return err
		}
	}
	if o.json == "" {
		return nil
	}
	return save(o.json, mode, machine, r)
}

// summary is the table in one glance: for each work quorate, the best peer and
// the limit.
func (t *libraryTable) summary() report.Table {
	s := report.Table{Head: []string{"work", "Quorate", "best peer", "×", "of what the disk allows"}}
	for _, w := range works {
		q := t.Rows.of("quorate", w)
		if q == nil {
			continue
		}
		cells := []string{w.String(), report.Count(q.OpsPerS) + "/s", "", "", ""}
		if best := t.Rows.bestPeer(w); best != nil {
			cells[2], cells[3] = report.Count(best.OpsPerS)+"/s ("+best.System+")", fmt.Sprintf("%.2f", q.OpsPerS/best.OpsPerS)
		}
		if limit := t.Rows.of(limitName, w); limit != nil {
			cells[4] = fmt.Sprintf("%.0f %%", 100*q.OpsPerS/limit.OpsPerS)
		}
		s.Add(cells...)
	}
	return s
}
