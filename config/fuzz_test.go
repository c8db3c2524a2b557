package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	ft "github.com/fettle-dev/fettle"
)

// FuzzParse: whatever the text, there is an answer; mistakes are placed within the file and in its order; what is
// accepted is valid and survives being written and read again.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(files, "init.yaml", "../examples/fettle.yaml") {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{"a: &a [*a]", "? [x]\n: y", "pools: !!map {}", "\ufeffpools: []", "a: |\n  b\n", "pools:\r\n- mode: x\r\n", "%YAML 1.2\n---\na", "&a : *a", "<<: [*a, *b]", "pools: [{<<: {<<: {}}}]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<14 {
			t.Skip("the YAML library is too slow for long texts here")
		}
		got, err := Parse("fuzz.yaml", b)
		if err == nil {
			again(t, got)
			return
		}
		var e *Error
		if !errors.As(err, &e) || len(e.Problems) == 0 {
			t.Fatalf("%T: %v", err, err)
		}
		checkProblems(t, b, e.Problems)
	})
}

func checkProblems(t *testing.T, b []byte, ps []Problem) {
	t.Helper()
	lines := bytes.Count(b, []byte("\n")) + 1
	for i, p := range ps {
		if p.Line < 1 || p.Line > lines || p.Column < 1 || p.Column > utf8.RuneCountInString(p.Source)+1 {
			t.Errorf("%d:%d of %d lines, %q: %s", p.Line, p.Column, lines, p.Source, p.Msg)
		}
		if p.Msg == "" || strings.Contains(p.Source, "\n") {
			t.Errorf("%q: %q", p.Msg, p.Source)
		}
		if i > 0 && (p.Line < ps[i-1].Line || p.Line == ps[i-1].Line && p.Column < ps[i-1].Column) {
			t.Errorf("%d:%d comes after %d:%d", p.Line, p.Column, ps[i-1].Line, ps[i-1].Column)
		}
	}
}

// again writes a file and reads it.
func again(t interface {
	Helper()
	Fatal(...any)
	Errorf(string, ...any)
}, f *File,
) {
	t.Helper()
	for _, p := range f.Pools {
		if errs := p.Validate(); len(errs) > 0 {
			t.Errorf("accepted, but %v", errs)
		}
	}
	b, err := Marshal(*f)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("again.yaml", b)
	if err != nil {
		t.Fatal(err, string(b))
	}
	if diff := cmp.Diff(f, got, cmp.Comparer(func(a, b map[string]string) bool { return len(a) == 0 && len(b) == 0 || cmp.Equal(a, b) }), cmp.Comparer(func(a, b []string) bool { return len(a) == 0 && len(b) == 0 || cmp.Equal(a, b) })); diff != "" {
		t.Errorf("%s\n%s", diff, b)
	}
}

func TestHugeAndNested(t *testing.T) {
	laugh := "x-a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		from, to := string(rune('a'+i)), string(rune('b'+i))
		laugh += "x-" + to + ": &" + to + " [" + strings.Repeat("*"+from+", ", 9) + "*" + from + "]\n"
	}
	for name, text := range map[string]string{
		"brackets":  strings.Repeat("[", MaxSize),
		"braces":    "a: " + strings.Repeat("{a: ", 1<<15),
		"dashes":    strings.Repeat("- ", MaxSize/2),
		"question":  strings.Repeat("? ", MaxSize/2),
		"anchors":   "pools: " + strings.Repeat("&a ", 1<<15),
		"tags":      "pools: " + strings.Repeat("!!a ", 1<<15),
		"keys":      strings.Repeat("a:\n", 1<<16),
		"huge":      strings.Repeat("#\n", MaxSize/2+1),
		"laughs":    laugh + "pools: [{name: web, mode: heal, serve: none, image: {command: *j}}]\n",
		"itself":    "pools: &p [{name: web, mode: heal, serve: none, image: {command: [x]}, specializations: *p}]\n",
		"binary":    "pools: \x00\x01",
		"not UTF-8": "pools:\n  - name: \xff\xfe",
	} {
		t.Run(name, func(t *testing.T) {
			ps := problemsOf(t, text)
			if len(ps) == 0 {
				t.Fatal("accepted")
			}
			checkProblems(t, []byte(text), ps)
			if len(ps) > mostProblems {
				t.Errorf("%d problems", len(ps))
			}
			t.Log(ps[0])
		})
	}
}

func TestProblemsAreBounded(t *testing.T) {
	_, err := Parse("pool.yaml", []byte("pools:\n"+strings.Repeat("  - wrong: x\n", 100)))
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) != mostProblems || e.More == 0 || !strings.Contains(err.Error(), "and 350 more") {
		t.Errorf("%d problems, %d more: %.300s", len(e.Problems), e.More, err)
	}
}

// TestWrittenFilesAreReadAlike: any good pool, written, is read as the same, and the schema accepts it.
func TestWrittenFilesAreReadAlike(t *testing.T) {
	schema := compiled(t)
	rapid.Check(t, func(t *rapid.T) {
		f := &File{Pools: []ft.Pool{pool(t, "web")}}
		if rapid.Bool().Draw(t, "two") {
			f.Pools = append(f.Pools, pool(t, "queue"))
		}
		for i := range f.Pools {
			f.Pools[i].Defaults()
			if errs := f.Pools[i].Validate(); len(errs) > 0 {
				t.Fatalf("the test makes bad pools: %v", errs)
			}
		}
		again(t, f)
		b, err := Marshal(*f)
		if err != nil {
			t.Fatal(err)
		}
		if err := valid(schema, b); err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
	})
}

func pool(t *rapid.T, name string) ft.Pool {
	texts := rapid.SliceOfN(rapid.String(), 1, 4)
	dict := rapid.MapOfN(rapid.String(), rapid.String(), 0, 3)
	duration := rapid.Custom(func(t *rapid.T) ft.Duration {
		unit := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Minute, 7 * time.Nanosecond}).Draw(t, "unit")
		return ft.Duration(rapid.IntRange(0, 5000).Draw(t, "n")) * ft.Duration(unit)
	})
	share := rapid.Float64Range(0, 1)
	size := rapid.Custom(func(t *rapid.T) ft.Size {
		return ft.Size(rapid.Int64Range(0, 1<<20).Draw(t, "n") << rapid.IntRange(0, 20).Draw(t, "shift"))
	})
	p := ft.Pool{Name: ft.PoolName(name), Mode: rapid.SampledFrom([]ft.Mode{ft.Observe, ft.AdjustOnly, ft.HealAutomatic}).Draw(t, "mode")}
	p.Image.Command = append([]string{"x"}, texts.Draw(t, "command")...)
	p.Image.Env = dict.Draw(t, "env")
	p.Image.User = rapid.String().Draw(t, "user")
	p.Image.Hooks.SoftReset = rapid.SampledFrom([]*ft.Hook{nil, {Signal: "HUP"}, {Command: []string{"y"}, Timeout: 3e9}, {HTTP: &ft.HTTPHook{Path: "/reset", Body: "{\"a\": [1]}\n# x"}}}).Draw(t, "hook")
	p.Serve = rapid.SampledFrom([]ft.Protocol{ft.HTTP, ft.None}).Draw(t, "serve")
	if p.Serve == ft.HTTP {
		p.Listen = name + ":8080"
		p.Probes.Liveness = rapid.SampledFrom([]*ft.Probe{nil, {HTTP: "/live", Failures: 2}, {Command: []string{"true"}}}).Draw(t, "probe")
	}
	p.Size.Min = rapid.IntRange(1, 9).Draw(t, "min")
	p.Size.Max = p.Size.Min + rapid.IntRange(0, 9).Draw(t, "more")
	p.Route.Key = rapid.SampledFrom([]*ft.RouteKey{nil, {Header: "X-Tenant"}, {Path: 2}, {Host: true}}).Draw(t, "key")
	p.Route.RetryShare = share.Draw(t, "retry")
	p.Route.Timeout = duration.Draw(t, "timeout")
	p.Route.TrustForwarded = rapid.Bool().Draw(t, "trust")
	p.Limits.Memory, p.Budget.Memory = size.Draw(t, "memory"), size.Draw(t, "budget")
	p.Objective.Latency = duration.Draw(t, "latency")
	p.Heal.Breaker, p.Heal.Young = share.Draw(t, "breaker"), duration.Draw(t, "young")
	p.Heal.WorkloadDrift = rapid.SampledFrom([]ft.WorkloadPolicy{ft.Adapt, ft.Mitigate}).Draw(t, "policy")
	if rapid.Bool().Draw(t, "special") {
		p.Specializations = []ft.Specialization{{Name: rapid.StringN(1, 8, 32).Draw(t, "name"), Env: dict.Draw(t, "env"), WarmUp: []string{"/" + rapid.String().Draw(t, "path")}}}
		p.Initial = p.Specializations[0].Name
	}
	return p
}
