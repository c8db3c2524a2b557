package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	ft "github.com/fettle-dev/fettle"
)

// Schema is the JSON Schema (draft 2020-12) of the pool file, made from the types and their doc comments. What it
// cannot say, such as that a hook is exactly one of three things, Parse checks.
func Schema() ([]byte, error) {
	defs := map[string]any{}
	for _, t := range structs() {
		defs[t.Name()] = objectSchema(t)
	}
	root := objectSchema(reflect.TypeFor[File]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Fettle pool file"
	root["patternProperties"] = map[string]any{"^x-": map[string]any{"description": "Ignored: a place for anchors."}}
	root["$defs"] = defs
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("write schema: %w", err)
	}
	return b.Bytes(), nil
}

// structs are the types of a pool file, from the pool on, each once and in the order in which they are met.
func structs() []reflect.Type {
	list := []reflect.Type{reflect.TypeFor[ft.Pool]()}
	for i := 0; i < len(list); i++ {
		for _, f := range fieldsOf(list[i]) {
			if t := structOf(f.typ); t != nil && !slices.Contains(list, t) {
				list = append(list, t)
			}
		}
	}
	return list
}

// TypeNames are the Go names of all types of the pool file, whose comments describe it.
func TypeNames() []string {
	names := []string{"File"}
	for _, t := range structs() {
		names = append(names, t.Name())
		for _, f := range fieldsOf(t) {
			if f.typ.Kind() == reflect.Uint8 && !slices.Contains(names, f.typ.Name()) {
				names = append(names, f.typ.Name())
			}
		}
	}
	return names
}

func objectSchema(t reflect.Type) map[string]any {
	properties := map[string]any{}
	for _, f := range fieldsOf(t) {
		p := typeSchema(f.typ, f.name == "env" || f.name == "files")
		if text := f.meaning(); text != "" {
			p["description"] = text
		}
		if v, fixed := defaultOf(f); fixed {
			p["default"] = v
		}
		properties[f.name] = p
	}
	s := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if text := comments[t.Name()]; text != "" {
		s["description"] = text
	}
	var must []string
	for _, name := range mustBeWritten[t] {
		if other := instead[t][name]; other != "" {
			s["oneOf"] = []map[string]any{{"required": []string{name}}, {"required": []string{other}}}
			continue
		}
		must = append(must, name)
	}
	if len(must) > 0 {
		s["required"] = must
	}
	return s
}

// meaning is the doc comment of a field; one that begins with a Go name of several words has the key's instead.
func (f field) meaning() string {
	text := comments[f.owner.Name()+"."+f.goes]
	if rest, ok := strings.CutPrefix(text, f.goes+" "); ok && f.name != strings.ToLower(f.name) {
		return f.name + " " + rest
	}
	return text
}

// The forms of durations and sizes that are written as texts: those that the root package reads.
const (
	durationPattern = `^[-+]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$|^[-+]?0$`
	sizePattern     = `^\s*[-+]?[0-9.][0-9.eE_xXpPa-fA-F+-]*\s*([TGMK]iB|[TGMKk]B|B)?\s*$`
)

func typeSchema(t reflect.Type, anyText bool) map[string]any {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[ft.Duration]():
		return map[string]any{"type": []string{"string", "integer"}, "pattern": durationPattern, "minimum": 0, "maximum": 0}
	case reflect.TypeFor[ft.Size]():
		return map[string]any{"type": []string{"string", "number"}, "pattern": sizePattern, "minimum": 0}
	}
	if t.Kind() == reflect.Uint8 && t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return map[string]any{"type": "string", "enum": namesOf(t)}
	}
	switch t.Kind() {
	case reflect.Struct:
		return map[string]any{"$ref": "#/$defs/" + t.Name()}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": typeSchema(t.Elem(), true)}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": typeSchema(t.Elem(), true)}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	default:
		if anyText {
			return map[string]any{"type": []string{"string", "number", "boolean"}}
		}
		return map[string]any{"type": []string{"string", "number"}}
	}
}

// defaultOf is the default of a key as a file would say it. It is fixed where no other key changes it and where the
// type stands in one place only.
func defaultOf(f field) (v any, fixed bool) {
	var found []any
	each(reflect.ValueOf(defaults(1, 1)), func(at field, v reflect.Value) {
		if at.owner == f.owner && at.name == f.name && !v.IsZero() {
			found = append(found, jsonOf(v))
		}
	})
	other, others := defaults(3, 7), []any{}
	each(reflect.ValueOf(other), func(at field, v reflect.Value) {
		if at.owner == f.owner && at.name == f.name && !v.IsZero() {
			others = append(others, jsonOf(v))
		}
	})
	for _, x := range slices.Concat(found, others) {
		if x != found[0] {
			return nil, false
		}
	}
	return slices.Concat(found, []any{nil})[0], len(found) > 0
}

// defaults are those of a pool with some instances and an interval of some seconds; with a liveness probe, which there
// is none of by default, so that its own are seen.
func defaults(instances, seconds int) ft.Pool {
	p := ft.Pool{}
	if instances > 1 {
		p.Size.Min = instances
	}
	if seconds > 1 {
		p.Detect.Interval = ft.Duration(seconds) * 1e9
	}
	p.Probes.Liveness = &ft.Probe{}
	p.Defaults()
	if instances > 1 {
		p.Size.Min = 1
	}
	if seconds > 1 {
		p.Detect.Interval = 1e9
	}
	return p
}

// each walks over all fields of a value that are no structs themselves.
func each(v reflect.Value, f func(field, reflect.Value)) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	for _, at := range fieldsOf(v.Type()) {
		x := v.Field(at.index)
		if structOf(at.typ) != nil && x.Kind() != reflect.Slice {
			each(x, f)
			continue
		}
		f(at, x)
	}
}

// jsonOf is a value in its JSON form, texts without quotes.
func jsonOf(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case encoding.TextMarshaler:
		b, err := x.MarshalText()
		if err != nil {
			return nil
		}
		return string(b)
	case int, float64, bool:
		return x
	default:
		return strings.TrimSpace(fmt.Sprint(x))
	}
}
