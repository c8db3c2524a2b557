package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	ft "github.com/fettle-dev/fettle"
)

// check fills the defaults in and reports what the types cannot say: the rules of [ft.Pool.Validate], names and
// addresses that two pools claim, and paths that lead nowhere.
func (d *decoder) check(f *File) {
	if len(d.problems) == 0 && len(f.Pools) == 0 {
		d.add(d.at("pools"), "", "pools: the list is empty")
	}
	for i := range f.Pools {
		p := &f.Pools[i]
		path := fmt.Sprintf("pools[%d]", i)
		if _, written := d.places[path+".serve"]; written && p.Watch != nil && p.Serve == ft.HTTP {
			d.add(d.at(path+".serve"), "", "serve: http does not go with watch: requests reach these servers as they always did, not through Fettle")
		}
		p.Defaults()
		for _, e := range p.Validate() {
			d.invalid(p, path, e)
		}
		d.paths(p, path)
	}
	for _, z := range d.zeros {
		if !z.v.IsZero() {
			d.add(z.at, "", "%s: 0 would be taken as the default, %v, here", local(z.path), z.v.Interface())
		}
	}
	d.unique(f, "name", func(p *ft.Pool) string { return string(p.Name) })
	d.unique(f, "listen", func(p *ft.Pool) string { return p.Listen })
}

// at is where a path stands; for one that is not in the file, where its nearest parent does.
func (d *decoder) at(path string) spot {
	if p, ok := d.places[path]; ok {
		return p.value
	}
	for path != "" {
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
		if p, ok := d.places[path]; ok {
			return p.key
		}
	}
	return spot{1, 1}
}

// invalid reports an error of a pool's validation, unless something at or around that place was reported already.
func (d *decoder) invalid(p *ft.Pool, pool string, e ft.FieldError) {
	at := d.at(pool + "." + e.Path)
	for _, said := range d.problems {
		if said.Line == at.line && said.Column == at.column {
			return
		}
	}
	suggest := ""
	switch {
	case strings.HasSuffix(e.Path, ".signal"):
		if v := d.valueAt(p, e.Path); v.Kind() == reflect.String {
			suggest = nearest(strings.TrimPrefix(strings.ToUpper(v.String()), "SIG"), []string{"HUP", "USR1", "USR2", "WINCH", "CONT"})
		}
	case e.Path == "initial":
		var names []string
		for _, s := range p.Specializations {
			names = append(names, s.Name)
		}
		suggest = nearest(p.Initial, names)
	case e.Path == "image.driver":
		suggest = nearest(p.Image.Driver, []string{"process"})
	}
	d.add(at, suggest, "%s: %s", e.Path, e.Msg)
}

// valueAt follows a path of JSON names and indices from a value.
func (d *decoder) valueAt(p *ft.Pool, path string) reflect.Value {
	v := reflect.ValueOf(p).Elem()
	for name := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		for v.Kind() == reflect.Pointer && !v.IsNil() {
			v = v.Elem()
		}
		switch v.Kind() {
		case reflect.Struct:
			i := slices.IndexFunc(fieldsOf(v.Type()), func(f field) bool { return f.name == name })
			if i < 0 {
				return reflect.Value{}
			}
			v = v.Field(fieldsOf(v.Type())[i].index)
		case reflect.Slice:
			i := 0
			if _, err := fmt.Sscan(name, &i); err != nil || i < 0 || i >= v.Len() {
				return reflect.Value{}
			}
			v = v.Index(i)
		default:
			return reflect.Value{}
		}
	}
	return v
}

// unique reports values that two pools share.
func (d *decoder) unique(f *File, name string, of func(*ft.Pool) string) {
	first := map[string]int{}
	for i := range f.Pools {
		v := of(&f.Pools[i])
		j, twice := first[v]
		switch {
		case v == "":
		case twice:
			d.add(d.at(fmt.Sprintf("pools[%d].%s", i, name)), "", "%s: %q is that of another pool, in line %d", name, v, d.at(fmt.Sprintf("pools[%d].%s", j, name)).line)
		default:
			first[v] = i
		}
	}
}

// paths makes a pool's paths absolute and reports those that lead nowhere.
func (d *decoder) paths(p *ft.Pool, pool string) {
	dir := filepath.Dir(d.name)
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	resolve := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	folder := func(path *string, name string) {
		given := *path
		*path = resolve(given)
		if given == "" {
			return
		}
		if st, err := os.Stat(*path); err != nil || !st.IsDir() {
			d.add(d.at(pool+"."+name), "", "%s: %s", name, whyNot(given, err, "is no directory"))
		}
	}
	folder(&p.Image.Dir, "image.dir")
	folder(&p.Image.WorkDir, "image.workDir")
	if p.Route.AccessLog != "-" {
		p.Route.AccessLog = resolve(p.Route.AccessLog)
	}
	for i := range p.Specializations {
		files := p.Specializations[i].Files
		for _, to := range slices.Sorted(maps.Keys(files)) {
			given := files[to]
			files[to] = resolve(given)
			name := fmt.Sprintf("specializations[%d].files.%s", i, to)
			if given == "" {
				d.add(d.at(pool+"."+name), "", "%s: the path of the source is missing", name)
			} else if _, err := os.Stat(files[to]); err != nil {
				d.add(d.at(pool+"."+name), "", "%s: %s", name, whyNot(given, err, ""))
			}
		}
	}
}

// whyNot is what is wrong with a path, as it was given.
func whyNot(given string, err error, otherwise string) string {
	relative := ""
	if !filepath.IsAbs(given) {
		relative = ", seen from the folder of this file"
	}
	switch {
	case err == nil:
		return fmt.Sprintf("%q %s", given, otherwise)
	case os.IsNotExist(err):
		return fmt.Sprintf("%q does not exist%s", given, relative)
	default:
		return fmt.Sprintf("%q cannot be looked at%s: %v", given, relative, underlying(err))
	}
}

func underlying(err error) error {
	if p, ok := err.(*os.PathError); ok { //nolint:errorlint // os.Stat returns it bare
		return p.Err
	}
	return err
}
