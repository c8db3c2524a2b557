package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/telemetry"
)

// TestTablesAreCurrent fails when a collector changed and `go generate ./telemetry` was not run.
func TestTablesAreCurrent(t *testing.T) {
	b, err := os.ReadFile("../../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := rewrite("../..", b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(b)); diff != "" {
		t.Errorf("docs/telemetry.md: run go generate ./telemetry (-want +is):\n%s", diff)
	}
}

// Every name that the root package has is in the tables: nothing is measured unsaid, nothing said unmeasured.
func TestEveryNameIsMeasured(t *testing.T) {
	says, err := comments("../../frame.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := tables(collectors(), says)
	if err != nil {
		t.Fatal(err)
	}
	for name := range says {
		if !strings.Contains(text, "| `"+name+"` |") && !strings.Contains(text, "| "+name+" |") {
			t.Errorf("nothing measures %s", name)
		}
	}
}

func TestADimensionWithoutWordsIsRefused(t *testing.T) {
	cs := []telemetry.Collector{{Name: "x", Dimensions: []fettle.Dimension{{Name: "unknown"}}}}
	if _, err := tables(cs, map[string]string{}); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("it is told as %v", err)
	}
	if _, err := rewrite("../..", []byte("no marks")); err == nil {
		t.Error("a file without marks is taken")
	}
}
