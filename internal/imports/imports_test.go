package imports

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// file is one source file that is no test.
type file struct {
	pkg  string // path below the module
	name string
	ast  *ast.File
}

// sources reads all files of the module at root.
func sources(t *testing.T, root string, fset *token.FileSet) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, err := os.Stat(filepath.Join(p, "go.mod"))
			if p != root && (err == nil || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
				return fs.SkipDir // another module, or no code
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(p))
		if err != nil {
			return err
		}
		files = append(files, file{filepath.ToSlash(rel), d.Name(), parsed})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestImports(t *testing.T) {
	fset := token.NewFileSet()
	files := sources(t, filepath.Join("..", ".."), fset)
	seen := map[string]bool{}
	for _, f := range files {
		seen[f.pkg] = true
		r, ok := rules[f.pkg]
		if !ok {
			t.Errorf("package %s has no rule: add it to rules and to docs/architecture.md", f.pkg)
			continue
		}
		for _, problem := range check(fset, f, r) {
			t.Error(problem)
		}
	}
	if !seen["smr"] || !seen["raft"] || !seen["cmd/quorate"] {
		t.Fatalf("only %v was found: the test looks in the wrong place", seen)
	}
}

// check returns what is wrong with one file.
func check(fset *token.FileSet, f file, r rule) (problems []string) {
	bad := func(pos token.Pos, text string) {
		problems = append(problems, fset.Position(pos).String()+": package "+f.pkg+" "+text)
	}
	names := map[string]string{} // import path by the name in this file
	for _, imp := range f.ast.Imports {
		p, _ := strconv.Unquote(imp.Path.Value)
		name := path.Base(strings.TrimSuffix(p, "/v2"))
		if imp.Name != nil {
			name = imp.Name.Name
		}
		if name == "." {
			bad(imp.Pos(), "imports "+p+" into its own names, which this test cannot follow")
		}
		names[name] = p
		if why := forbidden(f.pkg, r, p); why != "" {
			bad(imp.Pos(), why)
		}
	}
	noClock := r.pure || f.pkg == "host" && !slices.Contains(clockFiles, f.name)
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			if r.pure {
				bad(n.Pos(), "starts a goroutine")
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			from := names[x.Name]
			switch {
			case from == "time" && noClock && slices.Contains(clocks, n.Sel.Name):
				bad(n.Pos(), "reads a clock (time."+n.Sel.Name+"): time is an argument")
			case from == "math/rand/v2" && noClock && !slices.Contains(seeded, n.Sel.Name):
				bad(n.Pos(), "uses global randomness (rand."+n.Sel.Name+"): use a seeded source")
			}
			own, ok := strings.CutPrefix(from, module+"/")
			if use := reserved[own]; ok && slices.Contains(use.names, n.Sel.Name) && !slices.Contains(use.users, f.pkg) {
				bad(n.Pos(), "uses "+own+"."+n.Sel.Name+", which is for simulations and tests alone")
			}
		}
		return true
	})
	return problems
}

// forbidden says why package pkg may not import p, or "".
func forbidden(pkg string, r rule, p string) string {
	own, ours := strings.CutPrefix(p, module+"/")
	switch {
	case p == "C":
		return "uses cgo; the product is built without it"
	case p == "math/rand":
		return "imports math/rand; use math/rand/v2 with a seed"
	case ours:
		if users, ok := importers[own]; ok && !slices.Contains(users, pkg) {
			return "imports " + own + ", which only tests and " + strings.Join(users, ", ") + " may"
		}
		if !slices.Contains(r.ours, own) && !slices.Contains(r.ours, "*") {
			return "imports " + own + ", which the table does not allow"
		}
	case strings.Contains(strings.Split(p, "/")[0], "."):
		for _, prefix := range r.theirs {
			if prefix == "*" || p == prefix || strings.HasPrefix(p, prefix+"/") {
				return ""
			}
		}
		return "imports " + p + ", which the table does not allow"
	case slices.Contains(r.never, p):
		return "imports " + p + ", which it never may"
	}
	return ""
}

// A test of imports that never fails proves nothing: each rule is broken once.
func TestEveryRuleCanFail(t *testing.T) {
	for _, c := range []struct{ pkg, name, src, want string }{
		{"raft", "x.go", `import "os"`, "never may"},
		{"raft", "x.go", `import "github.com/quorate/quorate/wal"`, "the table does not allow"},
		{"raft", "x.go", `import "google.golang.org/protobuf/proto"`, "the table does not allow"},
		{"raft", "x.go", "import \"time\"\nvar x = time.Now()", "reads a clock"},
		{"raft", "x.go", "import tm \"time\"\nvar x = tm.Since", "reads a clock"},
		{"raft", "x.go", "import \"math/rand/v2\"\nvar x = rand.IntN(3)", "global randomness"},
		{"raft", "x.go", `import "math/rand"`, "imports math/rand"},
		{"raft", "x.go", "func f() { go f() }", "starts a goroutine"},
		{"host", "shard.go", "import \"time\"\nvar x = time.Now()", "reads a clock"},
		{"host", "x.go", `import "github.com/quorate/quorate/kv"`, "the table does not allow"},
		{"host", "x.go", `import "github.com/quorate/quorate/sim"`, "only tests and lab"},
		{"etcdapi", "x.go", `import "github.com/quorate/quorate/raft"`, "the table does not allow"},
		{"cmd/quorate", "x.go", "import \"github.com/quorate/quorate/raft\"\nvar x = raft.Without", "simulations and tests alone"},
		{"cmd/quorate", "x.go", "import \"github.com/quorate/quorate/host\"\nvar x host.Protections", "simulations and tests alone"},
		{"cmd/quorate", "x.go", "import \"github.com/quorate/quorate/host\"\nvar x = host.OpenWithout", "simulations and tests alone"},
		{"transport", "x.go", `import "github.com/quorate/quorate/wire"`, "the table does not allow"},
		{"vfs", "x.go", `import "C"`, "cgo"},
		// And what is allowed passes.
		{"raft", "x.go", "import \"time\"\nvar x time.Duration = time.Second", ""},
		{"raft", "x.go", "import \"math/rand/v2\"\nvar x = rand.New(rand.NewPCG(1, 2))", ""},
		{"host", "host.go", "import \"time\"\nvar x = time.Now()", ""},
		{"sim", "x.go", "import \"github.com/quorate/quorate/raft\"\nvar x = raft.Without", ""},
		{"cmd/quorate", "x.go", `import "github.com/quorate/quorate/sim"`, ""},
	} {
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, c.name, "package x\n"+c.src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		problems := strings.Join(check(fset, file{c.pkg, c.name, parsed}, rules[c.pkg]), "\n")
		if c.want == "" && problems != "" || !strings.Contains(problems, c.want) {
			t.Errorf("%s with %q: got %q, want %q", c.pkg, c.src, problems, c.want)
		}
	}
}
