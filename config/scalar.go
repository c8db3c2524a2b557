package config

import (
	"encoding"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	ft "github.com/fettle-dev/fettle"
)

// text decodes durations, sizes and enumerations.
func (d *decoder) text(n ast.Node, v reflect.Value, u encoding.TextUnmarshaler, path string) {
	s, ok := scalarText(n)
	if !ok {
		d.add(startOf(n), "", "%s is one value, not %s", local(path), describe(n))
		return
	}
	if err := u.UnmarshalText([]byte(s)); err != nil {
		suggest := nearest(s, namesOf(v.Type()))
		if _, is := u.(*ft.Duration); is {
			if _, err := strconv.ParseFloat(s, 64); err == nil {
				suggest = s + "s"
			}
		}
		d.add(startOf(n), suggest, "%s: %s", local(path), err)
		return
	}
	if v.IsZero() && v.Kind() == reflect.Int64 {
		d.zeros = append(d.zeros, zero{path, v, startOf(n)})
	}
}

// scalar decodes plain strings, numbers and truth values.
func (d *decoder) scalar(n ast.Node, v reflect.Value, path string) {
	s, ok := scalarText(n)
	if !ok {
		d.add(startOf(n), "", "%s is one value, not %s", local(path), describe(n))
		return
	}
	wrong := func(what, suggest string) {
		d.add(startOf(n), suggest, "%s: %s is no %s", local(path), describe(n), what)
	}
	plain := !isQuoted(n)
	switch v.Kind() { //nolint:exhaustive // the types of a pool have no other kinds
	case reflect.String:
		if _, isBool := n.(*ast.BoolNode); isBool && !strings.HasSuffix(path, "]") && !inMap(path) {
			wrong("text", strconv.Quote(s))
			return
		}
		v.SetString(s)
	case reflect.Bool:
		b, isBool := n.(*ast.BoolNode)
		if !isBool {
			wrong("truth value: write true or false", map[string]string{"yes": "true", "on": "true", "no": "false", "off": "false"}[strings.ToLower(s)])
			return
		}
		v.SetBool(b.Value)
	case reflect.Int:
		i, err := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 0, 32)
		if err != nil || !plain {
			wrong("whole number", "")
			return
		}
		v.SetInt(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
		if p, isShare := strings.CutSuffix(s, "%"); isShare {
			if share, err := strconv.ParseFloat(strings.TrimSpace(p), 64); err == nil {
				wrong("number", strconv.FormatFloat(share/100, 'g', -1, 64))
				return
			}
		}
		if err != nil || !plain {
			wrong("number", "")
			return
		}
		v.SetFloat(f)
	}
	if v.IsZero() && (v.Kind() == reflect.Int || v.Kind() == reflect.Float64) {
		d.zeros = append(d.zeros, zero{path, v, startOf(n)})
	}
}

// inMap tells the paths below env and files, whose values are texts however they are written.
func inMap(path string) bool {
	return strings.Contains(path, ".env.") || strings.Contains(path, ".files.")
}

// scalarText is the text of a value that is neither list nor mapping.
func scalarText(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return strings.TrimSpace(n.GetToken().Value), true
	default:
		return "", false
	}
}

func isQuoted(n ast.Node) bool {
	t := n.GetToken().Type
	return t == token.SingleQuoteType || t == token.DoubleQuoteType
}

// describe is how a message calls a value.
func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		s, _ := scalarText(n)
		if len(s) > 40 {
			s = strings.ToValidUTF8(s[:40], "") + "…"
		}
		return strconv.Quote(s)
	default:
		s, _ := scalarText(n)
		return s
	}
}

// namesOf lists the values of an enumeration: those that its text form has names for.
func namesOf(t reflect.Type) []string {
	if t.Kind() != reflect.Uint8 {
		return nil
	}
	var names []string
	for i := range 256 {
		v := reflect.New(t)
		v.Elem().SetUint(uint64(i))
		m, ok := reflect.TypeAssert[encoding.TextMarshaler](v)
		if !ok {
			return nil
		}
		b, err := m.MarshalText()
		u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v)
		if err != nil || !ok || u.UnmarshalText(b) != nil {
			break
		}
		names = append(names, string(b))
	}
	return names
}
