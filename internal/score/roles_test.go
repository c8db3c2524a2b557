package score

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	ft "github.com/fettle-dev/fettle"
)

func TestRoles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roles.yaml")
	text := `# what is what
every: 5m
columns:
  - {column: requests, role: load, unit: 1/s}
  - column: 3
    unit: B
    transform: identity
    unbounded: true
  - {column: "pod", role: ignore}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadRoles(path)
	if err != nil {
		t.Fatal(err)
	}
	identity := ft.Identity
	want := []Role{
		{Column: "requests", Role: ft.Load, Unit: "1/s"},
		{Column: "3", Role: ft.Response, Unit: "B", Transform: &identity, Unbounded: true},
		{Column: "pod", Role: ft.Response, Ignore: true},
	}
	if d := cmp.Diff(want, got.Columns, cmpopts.IgnoreUnexported(Role{})); d != "" || got.Every != 5*time.Minute {
		t.Errorf("every %s: %s", got.Every, d)
	}
	_, err = got.of([]string{"requests", "pod"})
	refused(t, err, "roles.yaml:5:13: there is no column \"3\": the files have requests, pod")
	said, err := got.of([]string{"pod", "requests", "memory", "time", "x"})
	if err != nil || !said[0].Ignore || said[1].Role != ft.Load || said[2].Unit != "B" || !said[3].Ignore || said[4].Role != ft.Response {
		t.Errorf("%v: %+v", err, said)
	}
}

// TestColumnNumbers: a name that is a number is a name first.
func TestColumnNumbers(t *testing.T) {
	r := &Roles{Columns: []Role{{Column: "2", Role: ft.Load}}}
	said, err := r.of([]string{"2", "1"})
	if err != nil || said[0].Role != ft.Load || said[1].Role != ft.Response {
		t.Errorf("%v %+v", err, said)
	}
}

func TestRolesRefuse(t *testing.T) {
	for text, want := range map[string]string{
		"columns:\n  - {column: a, role: boss}\n":       `r.yaml:2:23: role "boss" is none of load, intake, response and ignore`,
		"columns:\n  - {column: a, unit: ms}\n":         `r.yaml:2:23: unit "ms" is none of 1/s, B, `,
		"columns:\n  - {column: a, transform: log}\n":   `r.yaml:2:28: transform "log" is none of log1p, logit and identity`,
		"columns:\n  - {role: load}\n":                  "r.yaml:2:12: entry 1 of columns has no column",
		"columns:\n  - column: a\n    rolle: load\n":    `r.yaml:3:5: unknown field "rolle"`,
		"columns:\n  - column: [a]\n":                   "r.yaml:2:13: ",
		"every: soon\n":                                 "r.yaml:1:8: ",
		"every: -5m\n":                                  "r.yaml:1:8: every: ",
		"columns: {a\n":                                 "r.yaml:1:",
		"a: &a [*a]\n":                                  "r.yaml:",
		"columns:\n  - {column: a, unbounded: maybe}\n": `r.yaml:2:28: unbounded: "maybe" is neither true nor false`,
		"\xff":                           "r.yaml:1:1: it is no text",
		strings.Repeat("#", mostRoles+1): "r.yaml:1:1: it is no text of at most",
	} {
		_, err := parseRoles("r.yaml", []byte(text))
		refused(t, err, want)
	}
}

func FuzzRoles(f *testing.F) {
	f.Add([]byte("every: 5m\ncolumns:\n  - {column: 3, role: load, unit: 1/s, transform: log1p, unbounded: true}\n"))
	f.Add([]byte("columns: [{column: x}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRoles("r.yaml", b)
		if err != nil {
			if !errors.Is(err, ft.ErrInvalid) || !strings.HasPrefix(err.Error(), "r.yaml:") {
				t.Fatal(err)
			}
			return
		}
		for _, c := range r.Columns {
			if c.Column == "" {
				t.Fatalf("%+v", c)
			}
		}
		_, _ = r.of([]string{"x", "y", "z"})
	})
}

// TestSchema: what has a unit comes to the judge as it is, what has none in a scale of its own.
func TestSchema(t *testing.T) {
	m := made(90)
	m.size = []float64{50, 200, 0.3, 9e9, 7, 2, 4}
	members := m.members(1)
	identity, logit := ft.Identity, ft.Logit
	roles := &Roles{Columns: []Role{
		{Column: "7", Role: ft.Load},
		{Column: "1", Role: ft.Load, Unit: "1/s"},
		{Column: "3", Unit: "share", Role: ft.Response},
		{Column: "4", Unit: "B", Unbounded: true, Role: ft.Response},
		{Column: "5", Unit: Count, Transform: &identity, Role: ft.Response},
		{Column: "6", Ignore: true},
	}}
	cs, err := fit(roles, members)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := cs.schema()
	if err != nil {
		t.Fatal(err)
	}
	var got []ft.Dimension
	for i := range schema.Len() {
		got = append(got, schema.At(i))
	}
	want := []ft.Dimension{
		{Name: "c1", Unit: "1/s", Role: ft.Load, Transform: ft.Log1p},
		{Name: "c7", Role: ft.Load, Transform: ft.Log1p},
		{Name: "c2", Role: ft.Response},
		{Name: "c3", Unit: "share", Role: ft.Response, Transform: logit},
		{Name: "c4", Unit: "B", Role: ft.Response, Transform: ft.Log1p, Unbounded: true},
		{Name: "c5", Role: ft.Response},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	f := &ft.Frame{Schema: schema}
	cs.frame(f, members, 0, time.Minute)
	row := members[0].Test[0]
	if f.X[0] != row[0] || f.X[3] != row[2] || f.X[4] != row[3] || f.X[5] != row[4] {
		t.Errorf("%v is given as %v", row, f.X)
	}
	if v := f.X[1] / levelUnits; math.Abs(v-row[6]/4) > 0.1 {
		t.Errorf("a load of %g, usually about 4, is given as %g of its level", row[6], v)
	}
	if v := f.X[2] - cs.list[2].scale.forward(200); math.Abs(v) > 4*units {
		t.Errorf("%g, usually about 200, is given as %g, so much more than 200 is, %d a spread", row[1], v, units)
	}
}
