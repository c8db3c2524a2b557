package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	ft "github.com/fettle-dev/fettle"
)

// Override sets values of a pool that is complete, each written PATH=VALUE as in "heal.young=10m": the path of the key in
// the pool file, and the value as it would stand there. The pool is checked as one in a file is. What is wrong is an
// *[Error], in which the lines are the assignments; the pool is then not to be used.
func Override(p *ft.Pool, sets []string) error {
	text := strings.Join(sets, "\n")
	d := &decoder{report: newReport("--set", []byte(text)), places: map[string]place{}}
	for i, set := range sets {
		d.override(p, i, set)
	}
	if err := d.err(); err != nil {
		return err
	}
	for _, z := range d.zeros {
		if z.v.IsZero() {
			p.Defaults()
			if !z.v.IsZero() {
				d.add(z.at, "", "%s: 0 would be taken as the default, %v, here", local(z.path), z.v.Interface())
			}
		}
	}
	p.Defaults()
	for _, e := range p.Validate() {
		d.invalid(p, thePool, e)
	}
	return d.err()
}

// thePool stands before the paths of the pool that is changed, as in a file of one.
const thePool = "pools[0]"

// override carries out one assignment, in line i.
func (d *decoder) override(p *ft.Pool, i int, set string) {
	here := spot{i + 1, 1}
	path, value, ok := strings.Cut(set, "=")
	if !ok || path == "" || strings.ContainsAny(set, "\n\r") {
		d.add(here, "", "%.100q is not PATH=VALUE, such as heal.young=10m", set)
		return
	}
	v, ok := d.find(reflect.ValueOf(p).Elem(), path, here)
	if !ok {
		return
	}
	at := spot{i + 1, utf8.RuneCountInString(path) + 2}
	// The blanks move what the YAML library says to where the value stands.
	f, err := parse(strings.Repeat("\n", i) + strings.Repeat(" ", at.column-1) + value)
	switch {
	case err != nil:
		d.add(at, "", "%s: %q is not valid YAML", path, value)
	case len(f.Docs) != 1 || isNull(f.Docs[0].Body):
		d.add(at, "", "%s: the value is missing", path)
	default:
		full := thePool + "." + path
		d.places[full] = place{here, at}
		d.decode(f.Docs[0].Body, v, full, 0)
	}
}

// find follows a path from a struct; what is wrong with it is reported.
func (d *decoder) find(v reflect.Value, path string, at spot) (reflect.Value, bool) {
	done := ""
	for part := range strings.SplitSeq(path, ".") {
		name, index, _ := strings.Cut(part, "[")
		for v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			d.add(at, "", "%s has no keys that could be set one by one", done)
			return v, false
		}
		known := fieldsOf(v.Type())
		i := slices.IndexFunc(known, func(f field) bool { return f.name == name })
		if i < 0 {
			d.stray(name, done, known, at)
			return v, false
		}
		v, done = v.Field(known[i].index), join(done, name)
		at.column += utf8.RuneCountInString(part) + 1
		if index == "" {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
		if v.Kind() != reflect.Slice || err != nil || n < 0 || n >= v.Len() {
			d.add(at, "", "%s: there is no %s", path, done+"["+index)
			return v, false
		}
		v, done = v.Index(n), done+"["+index
	}
	return v, true
}

// stray reports a key of a path that nothing knows.
func (d *decoder) stray(name, parent string, known []field, at spot) {
	var names []string
	for _, f := range known {
		names = append(names, f.name)
	}
	near, where := nearest(name, names), strings.Join(elsewhere(name), " or ")
	switch {
	case near != "":
		d.add(at, join(parent, near), "unknown key %q", name)
	case where != "":
		d.add(at, where, "unknown key %q here", name)
	default:
		d.add(at, "", "unknown key %q; known here are %s", name, strings.Join(names, ", "))
	}
}
