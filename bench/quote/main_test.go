package main

import (
	"os"
	"testing"

	"github.com/fettle-dev/fettle/bench/internal/report"
)

// The documents say what the last benchmark found.
func TestDocumentsAreUpToDate(t *testing.T) {
	t.Chdir("../..")
	const source, doc, picture = "bench/results/telemetry.json", "docs/telemetry.md", "docs/plots/telemetry.svg"
	r, err := report.Read(source)
	if err != nil {
		t.Fatal(err)
	}
	is, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	want, err := quoted(string(is), source, r.Markdown())
	if err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	if want != string(is) {
		t.Errorf("%s does not quote %s as it is: go run ./bench/quote table %s %s", doc, source, source, doc)
	}
	drawn, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	if sampling(r).svg() != string(drawn) {
		t.Errorf("%s is not of %s: go run ./bench/quote plot %s %s", picture, source, source, picture)
	}
}

func TestQuotedKeepsTheRest(t *testing.T) {
	const doc = "# Costs\n<!-- Quoted from a.json: from here -->\nold\n<!-- to here: a.json -->\nafter\n"
	got, err := quoted(doc, "a.json", "| new |\n")
	if want := "# Costs\n<!-- Quoted from a.json: from here -->\n\n| new |\n\n<!-- to here: a.json -->\nafter\n"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	if again, err := quoted(got, "a.json", "| new |\n"); err != nil || again != got {
		t.Errorf("a second time: %q, %v", again, err)
	}
	if _, err := quoted("# Costs\n", "a.json", ""); err == nil {
		t.Error("a document without the comments is no error")
	}
}
