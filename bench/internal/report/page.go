package report

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrSection is wrapped by errors about a page that lacks a section's marks.
var ErrSection = errors.New("the page has no such section")

// Replace returns page with the text between the marks
//
//	<!-- section: begin -->
//	<!-- section: end -->
//
// replaced. ErrSection if the marks are not there, each once and in this order.
func Replace(page, section, text string) (string, error) {
	begin, end := "<!-- "+section+": begin -->\n", "<!-- "+section+": end -->"
	if strings.Count(page, begin) != 1 || strings.Count(page, end) != 1 {
		return "", fmt.Errorf("%w: %q wants each of its marks once", ErrSection, section)
	}
	from, to := strings.Index(page, begin)+len(begin), strings.Index(page, end)
	if to < from {
		return "", fmt.Errorf("%w: %q ends before it begins", ErrSection, section)
	}
	return page[:from] + "\n" + strings.TrimSpace(text) + "\n\n" + page[to:], nil
}

// Into replaces a section of a file by tables as Markdown.
func Into(file, section string, tables []Table) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := Markdown(&text, tables); err != nil {
		return err
	}
	replaced, err := Replace(string(page), section, text.String())
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(replaced), 0o644)
}
