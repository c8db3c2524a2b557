// Package config reads, checks, writes and describes the pool file.
//
// A pool file is one YAML document, a mapping with the key pools: a list of [ft.Pool] by their JSON names. Durations,
// sizes and enumerations have the text forms of the root package. Keys at the top level that begin with x- are
// ignored: a place for anchors. Everything that is wrong with a file is told at once, each thing with file, line,
// column, the line itself and the nearest right name: see [Error].
package config

import (
	"reflect"
	"strings"

	ft "github.com/fettle-dev/fettle"
)

//go:generate go run ./schemagen comments comments_gen.go ..
//go:generate go run ./schemagen docs ../docs

// MaxSize is the most bytes that a pool file may have: some 1,000 pools. The YAML library's time grows with the square
// of what it reads, so a longer text would keep its reader for minutes.
const MaxSize = 256 << 10

// File is a pool file.
type File struct {
	// Pools of instances.
	Pools []ft.Pool `json:"pools"`
}

// Parse reads a pool file. Its name is for messages, and for its folder, against which relative paths in it are
// resolved: the result has absolute ones. Defaults are filled in. What is wrong with the file is an *[Error].
func Parse(name string, b []byte) (*File, error) {
	r := newReport(name, b)
	f := &File{}
	if root := read(r, b); root != nil {
		d := &decoder{report: r, anchors: anchorsOf(root), places: map[string]place{}}
		d.top(root, f)
		d.check(f)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return f, nil
}

// field is a field of a struct by its JSON name.
type field struct {
	name  string
	index int
	typ   reflect.Type
	owner reflect.Type
	goes  string // Go's name
}

// fieldsOf lists what a struct has in JSON.
func fieldsOf(t reflect.Type) []field {
	var fs []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		fs = append(fs, field{name: name, index: i, typ: f.Type, owner: t, goes: f.Name})
	}
	return fs
}

// mustBeWritten are the keys that a file must have: what a pool may do is never left to a default.
var mustBeWritten = map[reflect.Type][]string{
	reflect.TypeFor[File]():              {"pools"},
	reflect.TypeFor[ft.Pool]():           {"name", "mode", "image"},
	reflect.TypeFor[ft.Image]():          {"command"},
	reflect.TypeFor[ft.Specialization](): {"name"},
	reflect.TypeFor[ft.HTTPHook]():       {"path"},
}

// instead are keys that stand for one that must be written: a pool of servers that run already has no image.
var instead = map[reflect.Type]map[string]string{reflect.TypeFor[ft.Pool](): {"image": "watch"}}
