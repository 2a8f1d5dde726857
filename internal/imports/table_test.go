package imports

import (
	"slices"
	"strings"
)

// rule is what one package may do.
type rule struct {
	// ours are the packages of this module that it may import, theirs the
	// prefixes of other modules' packages. "*" is all.
	ours, theirs []string
	// never are packages of the standard library that it may not import.
	never []string
	// pure packages neither read a clock, nor start a goroutine, nor use global
	// randomness: what they do is a function of what they are given.
	pure bool
}

func list(s string) []string { return strings.Fields(s) }

const (
	module = "github.com/quorate/quorate"
	pebble = "github.com/cockroachdb/pebble/v2"
	vfsOf  = pebble + "/vfs"
	etcd   = "go.etcd.io/etcd/api/v3"
	grpc   = "google.golang.org/grpc"
	proto  = "google.golang.org/protobuf"
	prom   = "github.com/prometheus"
)

// core is what a core never imports: whatever could block it, tell it the time,
// or make it depend on anything but its arguments.
var core = list("os os/exec net net/http sync sync/atomic context log log/slog math/rand crypto crypto/rand runtime unsafe io bufio")

// without returns all but one of the names.
func without(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}

// rules has every package of the module. A new package needs a line here and
// one in docs/architecture.md.
var rules = map[string]rule{
	"smr":       {never: without(core, "io"), pure: true}, // io for Reader and Writer alone
	"raft":      {ours: list("smr"), never: core, pure: true},
	"pbft":      {ours: list("smr"), never: core, pure: true},
	"vfs":       {theirs: []string{vfsOf, "golang.org/x/sys"}},
	"wal":       {ours: list("smr vfs"), theirs: []string{vfsOf}, never: list("os net context"), pure: true},
	"snapshot":  {ours: list("smr vfs"), theirs: []string{vfsOf}, never: list("os net")},
	"wire":      {ours: list("smr raft pbft"), never: list("os net sync context log log/slog"), pure: true},
	"transport": {},
	"session":   {ours: list("smr"), never: core, pure: true},
	"host":      {ours: list("smr raft pbft vfs wal snapshot wire transport session"), theirs: []string{vfsOf}},
	"kv":        {ours: list("smr session vfs"), theirs: []string{pebble}, never: list("os net")},
	"etcdapi":   {ours: list("smr kv host snapshot"), theirs: []string{etcd, grpc, proto, prom}},
	"sim":       {ours: list("smr raft pbft vfs wal snapshot wire transport session host kv"), theirs: []string{"*"}},
	"lab":       {ours: list("smr raft pbft vfs wal snapshot wire transport session host kv sim"), theirs: []string{"*"}},

	"internal/settings": {ours: list("smr"), theirs: []string{"gopkg.in/yaml.v3"}},
	"internal/datadir":  {ours: list("smr vfs")},
	"internal/roster":   {ours: list("smr"), never: list("os net context log log/slog"), pure: true},
	"internal/load":     {theirs: []string{etcd, grpc}},
	"internal/imports":  {},
	"internal/deps":     {theirs: []string{"*"}},
	"cmd/quorate":       {ours: []string{"*"}, theirs: []string{"*"}},
}

// importers restricts who, beside tests, may import a package.
var importers = map[string][]string{
	"sim":         list("lab cmd/quorate"),
	"lab":         list("cmd/quorate"),
	"cmd/quorate": {},
}

// reserved are names that take a protection away to show what it protects from.
// No setting of a server leads to them: only these packages, and tests, may use
// them.
var reserved = map[string]struct {
	names []string
	users []string
}{
	"raft": {list("Without Poison Paranoid"), list("raft host sim lab")},
	"host": {list("Protections OpenWithout"), list("host sim lab")},
}

// clocks are the parts of package time that depend on when they are called.
var clocks = list("Now Since Until After AfterFunc Sleep NewTimer NewTicker Tick")

// clockFiles are the files of host that are beside its turns: what a Turn
// reaches reads no clock.
var clockFiles = list("host.go handle.go loops.go")

// seeded are the parts of math/rand/v2 that have a seed.
var seeded = list("New NewPCG NewChaCha8 NewZipf Rand PCG ChaCha8 Source Zipf")
