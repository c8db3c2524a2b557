package score

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	ft "github.com/fettle-dev/fettle"
)

// Roles say what the columns of the files are. Columns that are not among them are responses without a unit.
//
//	every: 5m
//	columns:
//	  - {column: requests, role: load, unit: 1/s}
//	  - {column: 7, unit: B, unbounded: true}
//	  - {column: time, role: ignore}
//
// A column is given by its name or by its number from 1. Without a unit the judge is given the column in a scale of its own,
// which is found in the rows of train: ten units are one standard deviation as the middle half of the values tells it (or
// nine in ten of them, or all, where that half does not vary), but at least one in twenty of the median. The logarithm is taken
// first of columns without negative values whose upper tail, from the median to the 99th percentile, is more than ten times
// as long as the lower one. Work and what is unbounded is given relative to its median. Members of one pool have one scale, the
// median of theirs.
type Roles struct {
	Every   time.Duration // between rows, 0 where it is not said
	Columns []Role

	file string // for errors; "" if they were not read
}

// Role says what a column is.
type Role struct {
	Column    string // its name, or its number from 1
	Role      ft.Role
	Unit      string // one of Units, or "": then its scale is found
	Transform *ft.Transform
	Unbounded bool // its growth is watched
	Ignore    bool // it is not judged

	line, col int
}

// Count is the unit of what is counted and is no rate.
const Count = "count"

// Units are those whose least differences that matter are known.
var Units = []string{"1/s", "B", "B/s", "s", "s/s", "share", "cores", Count}

// transformOf is that of a unit where none is said.
func transformOf(unit string) ft.Transform {
	if unit == "share" {
		return ft.Logit
	}
	return ft.Log1p
}

const (
	mostRoles  = 64 << 10 // bytes
	roleIgnore = "ignore"
)

type rolesFile struct {
	Every   text       `yaml:"every"`
	Columns []roleFile `yaml:"columns"`
}

type roleFile struct {
	Column    text `yaml:"column"`
	Role      text `yaml:"role"`
	Unit      text `yaml:"unit"`
	Transform text `yaml:"transform"`
	Unbounded text `yaml:"unbounded"`
}

// text is a scalar and where it stands.
type text struct {
	value     string
	line, col int
}

// UnmarshalYAML implements [yaml.NodeUnmarshaler].
func (t *text) UnmarshalYAML(n ast.Node) error {
	if s, ok := n.(*ast.StringNode); ok {
		t.value = s.Value
	} else if s, ok := n.(ast.ScalarNode); ok && s.GetToken() != nil {
		t.value = s.GetToken().Value
	} else {
		return &yaml.UnexpectedNodeTypeError{Actual: n.Type(), Expected: ast.StringType, Token: n.GetToken()}
	}
	if k := n.GetToken(); k != nil && k.Position != nil {
		t.line, t.col = k.Position.Line, k.Position.Column
	}
	return nil
}

func (t *text) wrong(file, format string, a ...any) error {
	return fmt.Errorf("%s:%d:%d: %s: %w", file, max(t.line, 1), max(t.col, 1), fmt.Sprintf(format, a...), ft.ErrInvalid)
}

// ReadRoles reads a file of roles (YAML). Errors name file, line and column.
func ReadRoles(path string) (*Roles, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("score: %w: %w", err, ft.ErrInvalid)
	}
	if st.Size() > mostRoles {
		return nil, fmt.Errorf("%s: %d bytes, at most %d: %w", path, st.Size(), mostRoles, ft.ErrInvalid)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("score: %w: %w", err, ft.ErrInvalid)
	}
	return parseRoles(path, b)
}

func parseRoles(file string, b []byte) (r *Roles, err error) {
	defer func() {
		if v := recover(); v != nil { // of the YAML library
			r, err = nil, fmt.Errorf("%s:1:1: it cannot be read as YAML: %v: %w", file, v, ft.ErrInvalid)
		}
	}()
	if len(b) > mostRoles || !utf8.Valid(b) {
		return nil, fmt.Errorf("%s:1:1: it is no text of at most %d bytes: %w", file, mostRoles, ft.ErrInvalid)
	}
	var f rolesFile
	if err := yaml.UnmarshalWithOptions(b, &f, yaml.Strict()); err != nil {
		line, col, msg := 1, 1, err.Error()
		if lib, ok := errors.AsType[yaml.Error](err); ok {
			msg = lib.GetMessage()
			if k := lib.GetToken(); k != nil && k.Position != nil {
				line, col = k.Position.Line, k.Position.Column
			}
		}
		first, _, _ := strings.Cut(strings.TrimSpace(msg), "\n")
		return nil, fmt.Errorf("%s:%d:%d: %s: %w", file, line, col, first, ft.ErrInvalid)
	}
	out := &Roles{file: file}
	if f.Every.value != "" {
		var every ft.Duration
		if err := every.UnmarshalText([]byte(f.Every.value)); err != nil {
			return nil, f.Every.wrong(file, "every: %s", err)
		}
		if out.Every = every.D(); out.Every <= 0 {
			return nil, f.Every.wrong(file, "every: %s is no time between rows", every)
		}
	}
	for i := range f.Columns {
		c, err := f.Columns[i].role(file, i)
		if err != nil {
			return nil, err
		}
		out.Columns = append(out.Columns, c)
	}
	return out, nil
}

// role checks one entry.
func (f *roleFile) role(file string, i int) (Role, error) {
	r := Role{Column: strings.TrimSpace(f.Column.value), Role: ft.Response, line: f.Column.line, col: f.Column.col}
	if r.Column == "" {
		at := cmp.Or(f.Column, f.Role, f.Unit, f.Transform)
		return r, at.wrong(file, "entry %d of columns has no column: its name, or its number from 1", i+1)
	}
	switch f.Role.value {
	case "":
	case roleIgnore:
		r.Ignore = true
	default:
		if err := r.Role.UnmarshalText([]byte(f.Role.value)); err != nil {
			return r, f.Role.wrong(file, "role %q is none of load, intake, response and %s", f.Role.value, roleIgnore)
		}
	}
	if r.Unit = f.Unit.value; r.Unit != "" && !slices.Contains(Units, r.Unit) {
		return r, f.Unit.wrong(file, "unit %q is none of %s; leave it out, and a scale is found", r.Unit, strings.Join(Units, ", "))
	}
	if f.Transform.value != "" {
		r.Transform = new(ft.Transform)
		if err := r.Transform.UnmarshalText([]byte(f.Transform.value)); err != nil {
			return r, f.Transform.wrong(file, "transform %q is none of log1p, logit and identity", f.Transform.value)
		}
	}
	switch f.Unbounded.value {
	case "", "false":
	case "true":
		r.Unbounded = true
	default:
		return r, f.Unbounded.wrong(file, "unbounded: %q is neither true nor false", f.Unbounded.value)
	}
	return r, nil
}

// of gives what is said of each of the columns.
func (r *Roles) of(names []string) ([]Role, error) {
	out := make([]Role, len(names))
	for i := range out {
		out[i] = Role{Role: ft.Response, Ignore: isTime(names[i])}
	}
	if r == nil {
		return out, nil
	}
	taken := make([]bool, len(names))
	for _, c := range r.Columns {
		i := slices.Index(names, c.Column)
		if n, err := strconv.Atoi(c.Column); i < 0 && err == nil {
			i = n - 1
		}
		switch {
		case i < 0 || i >= len(names):
			return nil, r.wrong(&c, "there is no column %q: the files have %s", c.Column, someOf(names))
		case taken[i]:
			return nil, r.wrong(&c, "column %q stands twice", c.Column)
		}
		taken[i], out[i] = true, c
	}
	return out, nil
}

func (r *Roles) wrong(c *Role, format string, a ...any) error {
	where := "score: roles"
	if r.file != "" {
		where = fmt.Sprintf("%s:%d:%d", r.file, c.line, c.col)
	}
	return fmt.Errorf("%s: %s: %w", where, fmt.Sprintf(format, a...), ft.ErrInvalid)
}

// someOf lists names, the first of them where they are many.
func someOf(names []string) string {
	const most = 10
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
