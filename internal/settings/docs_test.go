package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Documentation that forgets a setting fails the build.
func TestOperationsDocumentsEverySetting(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, f := range Flags() {
		if !strings.Contains(doc, "`"+f.Name+"`") {
			t.Errorf("docs/operations.md does not have `%s`", f.Name)
		}
	}
	for name, f := range foreigns {
		if f.refuse == "" || strings.HasPrefix(name, "discovery") {
			continue
		}
		if !strings.Contains(doc, "`"+name) {
			t.Errorf("docs/operations.md does not say that `%s` is refused", name)
		}
	}
}
