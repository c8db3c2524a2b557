// Command dimensions writes the tables of dimensions and collectors into docs/telemetry.md, from the code itself:
//
//	go run ./internal/dimensions . docs/telemetry.md
//
// The first argument is the directory of the root package, whose comments say what a dimension is.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router"
	"github.com/fettle-dev/fettle/telemetry"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: dimensions ROOT FILE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "dimensions:", err)
		os.Exit(1)
	}
}

func run(root, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	out, err := rewrite(root, b)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if bytes.Equal(b, out) {
		return nil
	}
	return os.WriteFile(file, out, 0o644)
}

const (
	begin = "<!-- Made by go generate ./telemetry: from here -->\n"
	end   = "<!-- to here. -->\n"
)

// rewrite replaces what stands between the marks.
func rewrite(root string, b []byte) ([]byte, error) {
	head, rest, ok := bytes.Cut(b, []byte(begin))
	_, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return nil, errors.New("the marks of the tables are missing")
	}
	says, err := comments(filepath.Join(root, "frame.go"))
	if err != nil {
		return nil, err
	}
	tables, err := tables(collectors(), says)
	if err != nil {
		return nil, err
	}
	return slices.Concat(head, []byte(begin), []byte(tables), []byte(end), tail), nil
}

// collectors are those of telemetry and the router, in the order in which they are asked.
func collectors() []telemetry.Collector {
	var p router.PoolFront
	through := telemetry.Collector{
		Name: "router", Dimensions: p.Dimensions(), Sets: p.Categories(),
		Reads:   "the router's own counts of what goes through it",
		Cost:    "counted while requests pass; one message a pool and frame",
		Without: "with serve: none the work is told by metrics of the application, else by what comes over the network",
	}
	cs := telemetry.Collectors()
	at := slices.IndexFunc(cs, func(c telemetry.Collector) bool { return len(c.Dimensions) == 0 })
	return slices.Insert(cs, max(at, 0), through)
}

// comments are what the constants of names say: by name.
func comments(path string) (map[string]string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	says := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 || v.Comment == nil {
			return true
		}
		if lit, ok := v.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if name, err := strconv.Unquote(lit.Value); err == nil {
				says[name] = strings.TrimSpace(v.Comment.Text())
			}
		}
		return true
	})
	return says, nil
}

func tables(cs []telemetry.Collector, says map[string]string) (string, error) {
	var b strings.Builder
	b.WriteString("\n| dimension | what it is | unit | role | transform | measured by | each |\n|---|---|---|---|---|---|---|\n")
	for _, c := range cs {
		for _, d := range c.Dimensions {
			what, role, ok := cutLast(says[d.Name], ";")
			if !ok {
				return "", fmt.Errorf("frame.go does not say what %s is, and its role after a semicolon", d.Name)
			}
			text := d.Role.String()
			if _, other, is := strings.Cut(role, ", "); is && other != "unbounded" {
				text += "; " + other
			}
			if d.Unbounded {
				text += "; its slope is watched"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", d.Name, cell(what), unit(d.Unit), text, d.Transform, c.Name, each(d.Every))
		}
	}
	b.WriteString("\n| category counts | what they are | kinds | role | measured by | each |\n|---|---|---|---|---|---|\n")
	for _, c := range cs {
		for _, s := range c.Sets {
			what, _, ok := cutLast(says[s.Name], ";")
			if !ok {
				return "", fmt.Errorf("frame.go does not say what the set %q is, and its role after a semicolon", s.Name)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", s.Name, cell(what), kinds(s), s.Role, c.Name, each(s.Every))
		}
	}
	b.WriteString("\n| collector | reads | costs | without it |\n|---|---|---|---|\n")
	for _, c := range cs {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.Name, cell(c.Reads), cell(c.Cost), cell(c.Without))
	}
	b.WriteString("\n")
	return b.String(), nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return strings.TrimSpace(s[:i]), strings.TrimSpace(s[i+len(sep):]), true
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

func unit(u string) string {
	switch u {
	case "":
		return "number"
	case "1":
		return "requests"
	default:
		return u
	}
}

func each[D ~int64](every D) string {
	if every == 0 {
		return "frame"
	}
	return fettle.Duration(every).String() + " or longer"
}

// kinds are the labels that are known, and how many more there may be.
func kinds(s fettle.CategorySet) string {
	known := slices.DeleteFunc(slices.Clone(s.Labels), func(l string) bool { return l == "" })
	if more := s.Size - len(known); more > 0 {
		return fmt.Sprintf("%d as they come, %s", more, strings.Join(known, ", "))
	}
	return strings.Join(known, ", ")
}
