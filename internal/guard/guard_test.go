package guard

import (
	"strings"
	"testing"
)

func TestModule(t *testing.T) {
	graph, err := Load("../..", "./...")
	if err != nil {
		t.Fatal(err)
	}
	typed, err := LoadTyped("../..", "./core/...")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range Check(Module, graph, typed, Rules) {
		t.Error(v)
	}
}

// The planted module breaks every kind of rule once: a guard that never fires proves nothing.
func TestPlantedViolationsAreFound(t *testing.T) {
	graph, err := Load("testdata/planted", "./...")
	if err != nil {
		t.Fatal(err)
	}
	typed, err := LoadTyped("testdata/planted", "./...")
	if err != nil {
		t.Fatal(err)
	}
	got := Check("planted", graph, typed, []Rule{
		{From: "", StdlibOnly: true},
		{From: "core/...", Allow: []string{""}, StdlibOnly: true, Pure: true},
		{From: "store", Allow: []string{""}},
	})
	for _, want := range []string{
		"core/impure must not import store (core/impure -> core/middle -> store)",
		"core/impure must not import core/middle",
		"core/impure is pure but imports os",
		"core/impure is pure but starts a goroutine",
		"core/impure is pure but uses a channel",
		"core/impure is pure but ranges over a map",
		"core/impure is pure but calls time.Now",
		"core/impure is pure but calls the global rand.IntN",
		"stray: no rule names this package",
	} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("not found: %s\nfound:\n%s", want, strings.Join(got, "\n"))
		}
	}
}

func TestStandardLibraryOnly(t *testing.T) {
	ps, err := Load("../..", "./internal/guard")
	if err != nil {
		t.Fatal(err)
	}
	got := Check(Module, ps, nil, []Rule{{From: "internal/guard", StdlibOnly: true}})
	if len(got) == 0 || !strings.Contains(got[0], "standard library only, not golang.org/x/tools") {
		t.Errorf("a module of others was not found: %q", got)
	}
}
