// Package report prints what a benchmark measured: as text for a terminal, as
// Markdown for a page, and with each target beside the figure that it is about.
package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Table is figures under a head. Title and Notes, if there are any, are written
// above and below it.
type Table struct {
	Title string
	Head  []string
	Rows  [][]string
	Notes []string
}

// Add appends a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Text writes the tables for a terminal.
func Text(w io.Writer, tables []Table) error {
	for _, t := range tables {
		fmt.Fprintln(w)
		if t.Title != "" {
			fmt.Fprintln(w, t.Title)
		}
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, row := range t.lines() {
			fmt.Fprintf(tw, "  %s\n", strings.Join(row, "\t"))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
		for _, n := range t.Notes {
			fmt.Fprintln(w, n)
		}
	}
	return nil
}

// Markdown writes the tables as Markdown.
func Markdown(w io.Writer, tables []Table) error {
	for i, t := range tables {
		var b strings.Builder
		if i > 0 {
			b.WriteByte('\n')
		}
		if t.Title != "" {
			fmt.Fprintf(&b, "**%s**\n\n", t.Title)
		}
		for i, row := range t.lines() {
			b.WriteByte('|')
			for _, cell := range row {
				fmt.Fprintf(&b, " %s |", strings.ReplaceAll(cell, "|", `\|`))
			}
			b.WriteByte('\n')
			if i == 0 && len(t.Head) > 0 {
				b.WriteString("|" + strings.Repeat("---|", len(row)) + "\n")
			}
		}
		for i, n := range t.Notes {
			if i == 0 && len(t.Head) > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(n + "\n")
		}
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
	}
	return nil
}

// lines are the head and the rows, all of the same length.
func (t *Table) lines() [][]string {
	if len(t.Head) == 0 {
		return nil
	}
	all := [][]string{t.Head}
	for _, row := range t.Rows {
		row = slices.Clone(row)
		for len(row) < len(t.Head) {
			row = append(row, "")
		}
		all = append(all, row)
	}
	return all
}

// Median of values, which must not be empty.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// Count writes a number without a fraction and with commas: 98,000.
func Count(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// Digits writes a number with about three digits that count: 0.0123, 1.23, 12.3,
// 1,234.
func Digits(v float64) string {
	switch a := max(v, -v); {
	case a >= 100 || a == 0:
		return Count(v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	case a >= 0.1:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.4f", v)
}
