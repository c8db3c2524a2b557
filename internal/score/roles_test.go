package score

import (
	"errors"
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
