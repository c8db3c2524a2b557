package config

import (
	"bytes"
	"encoding/json"
	"go/format"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	ft "github.com/fettle-dev/fettle"
	source "github.com/fettle-dev/fettle/config/internal/comments"
)

// TestGeneratedIsCurrent fails when a type or comment changed and `go generate ./config` was not run.
func TestGeneratedIsCurrent(t *testing.T) {
	all, err := source.Read("..", ".")
	if err != nil {
		t.Fatal(err)
	}
	src, err := format.Source([]byte(source.Source("config", all, TypeNames())))
	if err != nil {
		t.Fatal(err)
	}
	schema, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"comments_gen.go":            string(src),
		"../docs/fettle.schema.json": string(schema),
		"../docs/pool-file.md":       Reference(),
	} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(b)); diff != "" {
			t.Errorf("%s is not what go generate ./config writes:\n%s", path, diff)
		}
	}
}

// TestAllIsDescribed: a key without a meaning is of no help to who writes a file.
func TestAllIsDescribed(t *testing.T) {
	for _, typ := range structs() {
		for _, f := range fieldsOf(typ) {
			if f.meaning() == "" && len(fieldsOf(typ)) > 4 {
				t.Errorf("%s.%s has no doc comment", typ, f.goes)
			}
		}
	}
}

func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	b, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("fettle.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("fettle.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// valid checks a YAML text by the schema, as an editor does.
func valid(s *jsonschema.Schema, text []byte) error {
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

func TestSchemaAcceptsGoodFiles(t *testing.T) {
	s := compiled(t)
	for _, path := range []string{"testdata/fine.yaml", "init.yaml", "../examples/fettle.yaml"} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := valid(s, b); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compiled(t)
	const good = "pools: [{name: web, mode: heal, image: {command: [x]}, size: {min: 2}}]"
	if err := valid(s, []byte(good)); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"mode: heal":     "mode: heel",
		"mode: heal, ":   "",
		"name":           "nam",
		"command: [x]":   "command: x",
		"size: {min: 2}": "size: {min: two}",
		"min":            "minn",
		"size: {":        "heal: {drain: 3}, size: {",
		"size:":          "limits: {memory: much}, size:",
		"pools":          "pool",
	} {
		text := strings.Replace(good, from, to, 1)
		if err := valid(s, []byte(text)); err == nil {
			t.Errorf("the schema accepts %s", text)
		}
		if len(problemsOf(t, text)) == 0 {
			t.Errorf("Parse accepts %s", text)
		}
	}
}

func TestExamplesParse(t *testing.T) {
	const path = "../examples/fettle.yaml"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(path, b)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Pools) != 2 || f.Pools[1].Serve != ft.None || f.Pools[1].Heal.PerHour != 6 || !strings.HasPrefix(f.Pools[0].Image.Dir, "/") {
		t.Errorf("%+v", f.Pools)
	}
	fenced := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	for _, m := range fenced.FindAllStringSubmatch(Reference(), -1) {
		if _, err := Parse("pool-file.md", []byte(m[1])); err != nil {
			t.Error(err)
		}
	}
}

func TestInit(t *testing.T) {
	f, err := Parse("init.yaml", Init(nil, false))
	if err != nil {
		t.Fatal(err)
	}
	if f.Pools[0].Mode != ft.Observe {
		t.Errorf("mode %s", f.Pools[0].Mode)
	}
	command := []string{"node", "server.js", "--motto", "it's \"fine\": yes\n# no", "$PORT"}
	f, err = Parse("init.yaml", Init(command, true))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(command, f.Pools[0].Image.Command); diff != "" {
		t.Error(diff)
	}
}

// TestInitSaysTheDefaults takes the comments off all options of the starter file: they must be right, and but for those
// that the file calls examples they must change nothing.
func TestInitSaysTheDefaults(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("data", 0o755); err != nil {
		t.Fatal(err)
	}
	want, err := Parse("fettle.yaml", Init(nil, false))
	if err != nil {
		t.Fatal(err)
	}
	option := regexp.MustCompile(`(?m)^(\s*)# (\s*[a-z][a-zA-Z]*:(?: .*)?)$`)
	if n := len(option.FindAllString(string(Init(nil, false)), -1)); n < 30 {
		t.Errorf("only %d options", n)
	}
	text := option.ReplaceAll(Init(nil, false), []byte("$1$2"))
	got, err := Parse("fettle.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if err := valid(compiled(t), text); err != nil {
		t.Error(err)
	}
	p, q := &got.Pools[0], want.Pools[0]
	if p.Image.Hooks.SoftReset == nil || p.Route.Key == nil || p.Limits.Memory == 0 || p.Probes.Liveness == nil {
		t.Errorf("the examples are not in it: %+v", p)
	}
	p.Image.Dir, p.Image.Env, p.Image.Concurrency, p.Image.Hooks = "", nil, 0, ft.Hooks{}
	p.Route.Key, p.Limits.Memory, p.Objective.Latency = nil, 0, 0
	p.Probes.Readiness, p.Probes.Liveness = q.Probes.Readiness, nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("an option is not the default that it is said to be:\n%s", diff)
	}
}

func TestSchemaIsJSON(t *testing.T) {
	b, err := Schema()
	if err != nil || !json.Valid(b) {
		t.Errorf("%v: %.200s", err, b)
	}
}
