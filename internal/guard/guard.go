// Package guard proves the architecture: which package may import which, transitively within the module, and that the
// core is pure. Its test runs the rules over the module and over a planted module that breaks each of them.
package guard

import (
	"fmt"
	"go/ast"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// Module is this module's path.
const Module = "github.com/fettle-dev/fettle"

// Rule says what the packages under From may import of the module. Paths are relative to the module; "" is the root
// package; a trailing /... means all below.
type Rule struct {
	From  string
	Allow []string
	// StdlibOnly forbids modules of others too.
	StdlibOnly bool
	// Pure forbids goroutines, mutexes, channels, clocks, global randomness, I/O packages, and ranging over maps.
	Pure bool
}

// Rules are the import rules of the design, most specific first: a package is judged by the first rule that fits.
var Rules = []Rule{
	{From: "", StdlibOnly: true},
	{From: "core/stat", StdlibOnly: true, Pure: true},
	{From: "core/profile", Allow: []string{"", "core/stat"}, StdlibOnly: true, Pure: true},
	{From: "core/drift", Allow: []string{"", "core/stat", "core/profile"}, StdlibOnly: true, Pure: true},
	{From: "core/plan", Allow: []string{"", "core/stat", "core/tune", "core/mitigate", "core/size", "core/specialize"}, StdlibOnly: true, Pure: true},
	{From: "core/...", Allow: []string{"", "core/stat"}, StdlibOnly: true, Pure: true},
	{From: "engine", Allow: []string{"", "core/..."}},
	{From: "recording", Allow: []string{"", "engine", "core/..."}},
	{From: "telemetry/...", Allow: []string{"", "telemetry/..."}},
	{From: "config/...", Allow: []string{"", "config/..."}},
	{From: "router/...", Allow: []string{"", "internal/hook", "router/..."}},
	{From: "journal", Allow: []string{"", "engine", "core/..."}},
	{From: "driver/drivertest", Allow: []string{""}},
	{From: "driver/sim", Allow: []string{"", "engine", "core/..."}},
	{From: "driver/process", Allow: []string{"", "internal/cgroup", "internal/durable", "internal/hook", "internal/procfs"}},
	{From: "driver/watch", Allow: []string{"", "internal/durable", "internal/procfs"}},
	{From: "internal/cgroup", Allow: nil},
	{From: "internal/durable", Allow: nil, StdlibOnly: true},
	{From: "internal/procfs", Allow: []string{""}},
	{From: "internal/hook", Allow: []string{""}},
	{From: "internal/score", Allow: []string{"", "core/..."}},
	{From: "api", Allow: []string{"", "core/..."}},
	{From: "client", Allow: []string{"", "api", "core/..."}},
	{From: "cmd/...", Allow: []string{"..."}},
	{From: "internal/daemon", Allow: []string{"..."}},
	{From: "internal/demo/...", Allow: []string{"..."}},
	{From: "internal/dimensions", Allow: []string{"..."}},
	{From: "internal/guard", Allow: nil},
	{From: "test/...", Allow: []string{"..."}},
	{From: "bench/...", Allow: []string{"..."}},
}

// impure are the packages that the core may not import: they do I/O, keep time, or run things at once.
var impure = []string{
	"os", "os/exec", "os/signal", "io/ioutil", "net", "net/http", "syscall", "sync", "sync/atomic", "log", "log/slog",
	"database/sql", "context", "runtime", "unsafe", "crypto/rand", "embed", "plugin", "testing",
}

// clocks are functions of package time that read a clock or wait.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// Load reads the import graph of the packages that the patterns match, below dir. Tests are not loaded: they may do as
// they like.
func Load(dir string, patterns ...string) ([]*packages.Package, error) {
	return load(dir, packages.NeedName|packages.NeedImports|packages.NeedDeps|packages.NeedModule, patterns)
}

// LoadTyped type-checks the packages, what they import from export data.
func LoadTyped(dir string, patterns ...string) ([]*packages.Package, error) {
	return load(dir, packages.NeedName|packages.NeedFiles|packages.NeedImports|packages.NeedSyntax|packages.NeedTypes|packages.NeedTypesInfo, patterns)
}

func load(dir string, mode packages.LoadMode, patterns []string) ([]*packages.Package, error) {
	ps, err := packages.Load(&packages.Config{Dir: dir, Mode: mode}, patterns...)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", strings.Join(patterns, " "), err)
	}
	for _, p := range ps {
		for _, e := range p.Errors {
			return nil, fmt.Errorf("load %s: %w", p.PkgPath, e)
		}
	}
	return ps, nil
}

// Check returns all violations of the rules, sorted: of imports in the graph, of purity in the typed packages. module
// is the path of the module that is checked.
func Check(module string, graph, typed []*packages.Package, rules []Rule) []string {
	var out []string
	for _, p := range typed {
		rel, ok := relative(module, p.PkgPath)
		if i := slices.IndexFunc(rules, func(r Rule) bool { return match(r.From, rel) }); ok && i >= 0 && rules[i].Pure {
			out = append(out, purity(p, rel)...)
		}
	}
	for _, p := range graph {
		rel, ok := relative(module, p.PkgPath)
		if !ok {
			continue
		}
		i := slices.IndexFunc(rules, func(r Rule) bool { return match(r.From, rel) })
		if i < 0 {
			out = append(out, fmt.Sprintf("%s: no rule names this package; add one to internal/guard", name(rel)))
			continue
		}
		out = append(out, imports(module, p, rel, rules[i])...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// imports walks all that p depends on inside the module: what it may not import directly it may not reach either.
func imports(module string, p *packages.Package, rel string, r Rule) []string {
	var out []string
	seen := map[string]bool{}
	var walk func(q *packages.Package, path []string)
	walk = func(q *packages.Package, path []string) {
		for _, imp := range q.Imports {
			to, inside := relative(module, imp.PkgPath)
			switch {
			case inside:
				if seen[to] {
					continue
				}
				seen[to] = true
				chain := append(slices.Clone(path), name(to))
				if !slices.ContainsFunc(r.Allow, func(a string) bool { return match(a, to) }) {
					out = append(out, fmt.Sprintf("%s must not import %s (%s)", name(rel), name(to), strings.Join(chain, " -> ")))
				}
				walk(imp, chain)
			case r.StdlibOnly && strings.Contains(strings.SplitN(imp.PkgPath, "/", 2)[0], "."):
				out = append(out, fmt.Sprintf("%s must import the standard library only, not %s", name(rel), imp.PkgPath))
			}
		}
	}
	walk(p, []string{name(rel)})
	return out
}

func purity(p *packages.Package, rel string) []string {
	var out []string
	bad := func(n ast.Node, what string) {
		pos := p.Fset.Position(n.Pos())
		out = append(out, fmt.Sprintf("%s is pure but %s (%s:%d)", name(rel), what, pos.Filename[strings.LastIndexByte(pos.Filename, '/')+1:], pos.Line))
	}
	for _, f := range p.Syntax {
		for _, i := range f.Imports {
			if path := strings.Trim(i.Path.Value, `"`); slices.Contains(impure, path) {
				bad(i, "imports "+path)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				bad(n, "starts a goroutine")
			case *ast.ChanType, *ast.SendStmt, *ast.SelectStmt:
				bad(n, "uses a channel")
			case *ast.RangeStmt:
				if t := p.TypesInfo.TypeOf(n.X); t != nil {
					if _, is := t.Underlying().(*types.Map); is {
						bad(n, "ranges over a map")
					}
				}
			case *ast.SelectorExpr:
				if what := forbidden(p.TypesInfo.Uses[n.Sel]); what != "" {
					bad(n, "calls "+what)
				}
			}
			return true
		})
	}
	return out
}

// forbidden names a package-level function that reads a clock or global randomness.
func forbidden(o types.Object) string {
	f, ok := o.(*types.Func)
	if !ok || f.Pkg() == nil || f.Signature().Recv() != nil {
		return ""
	}
	switch f.Pkg().Path() {
	case "time":
		if slices.Contains(clocks, f.Name()) {
			return "time." + f.Name()
		}
	case "math/rand", "math/rand/v2":
		if !strings.HasPrefix(f.Name(), "New") {
			return "the global rand." + f.Name()
		}
	case "maps":
		return "maps." + f.Name() + ", which ranges over a map"
	}
	return ""
}

func relative(module, path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

func match(pattern, rel string) bool {
	if pattern == "..." {
		return true
	}
	if head, all := strings.CutSuffix(pattern, "/..."); all {
		return rel == head || strings.HasPrefix(rel, head+"/")
	}
	return pattern == rel
}

func name(rel string) string {
	if rel == "" {
		return "fettle (root)"
	}
	return rel
}
