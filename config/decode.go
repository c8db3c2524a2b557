package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// decoder fills Go values from the tree and remembers where each came from.
type decoder struct {
	*report
	anchors []*ast.AnchorNode
	places  map[string]place // by path: "pools[0].size.max"
	zeros   []zero
	nodes   int
	full    bool // more than mostNodes: said once
}

// place is where a path stands in the file.
type place struct{ key, value spot }

// zero is a number that was written as 0.
type zero struct {
	path string
	v    reflect.Value
	at   spot
}

// top decodes the file itself.
func (d *decoder) top(root ast.Node, f *File) {
	entries, ok := d.entries(root, "the file", 0)
	if !ok {
		return
	}
	kept := entries[:0]
	for _, e := range entries {
		if !strings.HasPrefix(e.key, "x-") {
			kept = append(kept, e)
		}
	}
	if len(kept) == 0 {
		d.add(spot{1, 1}, "", "the file has no pools: `fettle init` writes one to start from")
		return
	}
	d.fields(kept, reflect.ValueOf(f).Elem(), "", startOf(root), 0)
}

// entry is a key of a mapping and its value.
type entry struct {
	key   string
	at    spot
	value ast.Node
}

// resolve follows anchors, aliases and tags to the value itself; nil means that a problem was reported.
func (d *decoder) resolve(n ast.Node, depth int) ast.Node {
	for ; ; depth++ {
		d.nodes++
		if depth > mostNesting || d.nodes > mostNodes {
			if !d.full {
				d.full = true
				d.add(startOf(n), "", "too much: more than %d levels, or %d values when all aliases are followed", mostNesting, mostNodes)
			}
			return nil
		}
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			target := d.target(v)
			if target == nil {
				d.add(startOf(v), "", "*%s: there is no anchor &%s before it", nameOf(v.Value), nameOf(v.Value))
				return nil
			}
			n = target.Value
		case *ast.TagNode:
			if !strings.HasPrefix(v.Start.Value, "!!") {
				d.add(startOf(v), "", "tags such as %s are not supported", v.Start.Value)
				return nil
			}
			n = v.Value
		case nil:
			return nil
		default:
			return n
		}
	}
}

func (d *decoder) target(alias *ast.AliasNode) (found *ast.AnchorNode) {
	for _, a := range d.anchors {
		if nameOf(a.Name) == nameOf(alias.Value) && a.Start.Position.Offset < alias.Start.Position.Offset {
			found = a
		}
	}
	return found
}

func nameOf(n ast.Node) string {
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}

// entries lists a mapping, with what it merges (<<) behind its own keys. It is false, and reported, when n is none.
func (d *decoder) entries(n ast.Node, what string, depth int) ([]entry, bool) {
	n = d.resolve(n, depth)
	var values []*ast.MappingValueNode
	switch v := n.(type) {
	case nil:
		return nil, false
	case *ast.MappingNode:
		values = v.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{v}
	case *ast.NullNode:
		return nil, true
	default:
		d.add(startOf(n), "", "%s is a mapping (key: value), not %s", what, describe(n))
		return nil, false
	}
	var own, merged []entry
	for _, v := range values {
		if v.Key.IsMergeKey() {
			merged = append(merged, d.merge(v.Value, what, depth+1)...)
			continue
		}
		key, ok := keyOf(v.Key)
		at := startOf(v.Key)
		if !ok {
			d.add(at, "", "a key is a plain word")
			continue
		}
		if i := indexOf(own, key); i >= 0 {
			d.add(at, "", "%q is given twice, first in line %d", key, own[i].at.line)
			continue
		}
		own = append(own, entry{key, at, v.Value})
	}
	for _, e := range merged {
		if indexOf(own, e.key) < 0 {
			own = append(own, e)
		}
	}
	return own, true
}

// merge lists what <<: stands for: a mapping, or several of which the first that has a key wins.
func (d *decoder) merge(n ast.Node, what string, depth int) []entry {
	resolved := d.resolve(n, depth)
	seq, ok := resolved.(*ast.SequenceNode)
	if !ok {
		if resolved == nil {
			return nil
		}
		es, _ := d.entries(resolved, "what "+what+" merges", depth)
		return es
	}
	var all []entry
	for _, v := range seq.Values {
		es, _ := d.entries(v, "what "+what+" merges", depth)
		all = append(all, es...)
	}
	return all
}

func indexOf(es []entry, key string) int {
	for i, e := range es {
		if e.key == key {
			return i
		}
	}
	return -1
}

func keyOf(k ast.Node) (string, bool) {
	switch v := k.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.MappingKeyNode:
		return keyOf(v.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return k.GetToken().Value, true
	default:
		return "", false
	}
}

// fields decodes the entries of a mapping into a struct.
func (d *decoder) fields(es []entry, v reflect.Value, path string, at spot, depth int) {
	known := fieldsOf(v.Type())
	var names []string
	for _, f := range known {
		names = append(names, f.name)
	}
	var meant []string // by misspelt keys: these are not missing as well
	for _, e := range es {
		i := -1
		for j := range known {
			if known[j].name == e.key {
				i = j
			}
		}
		if i < 0 {
			if near := d.unknown(e, names, path); near != "" {
				meant = append(meant, near)
				d.places[join(path, near)] = place{e.at, e.at}
			}
			continue
		}
		sub := join(path, e.key)
		d.places[sub] = place{key: e.at, value: startOf(e.value)}
		d.decode(e.value, v.Field(known[i].index), sub, depth+1)
	}
	for _, name := range mustBeWritten[v.Type()] {
		if other, has := instead[v.Type()][name]; has && (indexOf(es, other) >= 0 || slices.Contains(meant, other)) {
			continue
		}
		if i := indexOf(es, name); !slices.Contains(meant, name) && (i < 0 || isNull(es[i].value)) {
			d.missing(name, path, at, es, i)
		}
	}
}

func isNull(n ast.Node) bool { return n == nil || n.Type() == ast.NullType }

// missing reports a key that must be written, at the mapping where it is not, or where it stands without a value.
func (d *decoder) missing(name, path string, at spot, es []entry, i int) {
	if i >= 0 {
		at = es[i].at
	}
	full := join(path, name)
	suggest, why := "", "is missing"
	switch name {
	case "mode":
		why = "is missing: say what Fettle may do by itself, observe (judge and explain), tune (also adjust) or heal (also reset and replace)"
		suggest = "mode: observe"
	case "image":
		why = "is missing: what an instance starts from; or watch, for servers that run already"
	case "command":
		why = "is missing: the program and its arguments, as a list"
	case "pools":
		why = "is missing: a list of pools"
	}
	d.add(at, suggest, "%s %s", local(full), why)
	d.places[full] = place{at, at}
}

// unknown reports a key that nothing here knows, and gives the one that is near.
func (d *decoder) unknown(e entry, names []string, path string) (near string) {
	if len(d.problems) > 4*mostProblems {
		d.add(e.at, "", "unknown key %q", e.key) // it will only be counted
		return ""
	}
	where := strings.Join(elsewhere(e.key), " or ")
	near = nearest(e.key, names)
	switch {
	case near != "":
		d.add(e.at, near, "unknown key %q", e.key)
	case where != "" && path == "":
		d.add(e.at, "", "unknown key %q here: it goes into a pool in the list pools, as %s", e.key, where)
	case where != "":
		d.add(e.at, "", "unknown key %q here: in a pool it is %s", e.key, where)
	default:
		d.add(e.at, "", "unknown key %q; known here are %s", e.key, strings.Join(names, ", "))
	}
	return near
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// local is a path without the pool that it is in: the position tells that.
func local(path string) string {
	if strings.HasPrefix(path, "pools[") {
		if _, rest, ok := strings.Cut(path, "]."); ok {
			return rest
		}
	}
	return path
}

// decode fills v from n.
func (d *decoder) decode(n ast.Node, v reflect.Value, path string, depth int) {
	n = d.resolve(n, depth)
	if n == nil || n.Type() == ast.NullType {
		return
	}
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		d.decode(n, p.Elem(), path, depth+1)
		v.Set(p)
		return
	}
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		d.text(n, v, u, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if es, ok := d.entries(n, local(path), depth); ok {
			d.fields(es, v, path, startOf(n), depth)
		}
	case reflect.Slice:
		d.list(n, v, path, depth)
	case reflect.Map:
		d.mapping(n, v, path, depth)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) list(n ast.Node, v reflect.Value, path string, depth int) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		suggest := ""
		if s, is := scalarText(n); is && v.Type().Elem().Kind() == reflect.String {
			suggest = flowList(s)
		}
		d.add(startOf(n), suggest, "%s is a list, not %s", local(path), describe(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		sub := fmt.Sprintf("%s[%d]", path, i)
		at := startOf(item)
		d.places[sub] = place{at, at}
		if isNull(item) {
			d.add(at, "", "%s is empty", local(sub))
			continue
		}
		d.decode(item, v.Index(i), sub, depth+1)
	}
}

// flowList is the list that a command written as one string stands for.
func flowList(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		words[i] = strconv.Quote(strings.Trim(w, `"'`))
	}
	return "[" + strings.Join(words, ", ") + "]"
}

func (d *decoder) mapping(n ast.Node, v reflect.Value, path string, depth int) {
	es, ok := d.entries(n, local(path), depth)
	if !ok {
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(es)))
	for _, e := range es {
		sub := join(path, e.key)
		d.places[sub] = place{key: e.at, value: startOf(e.value)}
		item := reflect.New(v.Type().Elem()).Elem()
		d.decode(e.value, item, sub, depth+1)
		v.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), item)
	}
}
