package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Marshal writes a file as YAML that [Parse] reads as the same file. Numbers that are 0, which stand for defaults, are
// left out.
func Marshal(f File) ([]byte, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("write pool file: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := ordered(d)
	if err != nil {
		return nil, fmt.Errorf("write pool file: %w", err)
	}
	var out bytes.Buffer
	writeNode(&out, v, "", false)
	return out.Bytes(), nil
}

// object is a JSON object in its order.
type object []struct {
	key   string
	value any
}

// ordered reads the next JSON value: object, []any, or a scalar.
func ordered(d *json.Decoder) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	switch t {
	case json.Delim('{'):
		var o object
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := ordered(d)
			if err != nil {
				return nil, err
			}
			if v == json.Number("0") {
				continue
			}
			o = append(o, struct {
				key   string
				value any
			}{fmt.Sprint(key), v})
		}
		_, err = d.Token()
		return o, err
	case json.Delim('['):
		l := []any{}
		for d.More() {
			v, err := ordered(d)
			if err != nil {
				return nil, err
			}
			l = append(l, v)
		}
		_, err = d.Token()
		return l, err
	default:
		return t, nil
	}
}

// writeNode writes a value behind "key:" or "-"; in a list the first key of an object stands in the line of the dash.
func writeNode(out *bytes.Buffer, v any, indent string, item bool) {
	switch v := v.(type) {
	case object:
		if len(v) == 0 {
			out.WriteString(" {}\n")
			return
		}
		for i, e := range v {
			if i == 0 && item {
				out.WriteString(" ")
			} else {
				if i == 0 && indent != "" {
					out.WriteString("\n")
				}
				out.WriteString(indent)
			}
			out.WriteString(yamlText(e.key) + ":")
			writeNode(out, e.value, indent+"  ", false)
		}
	case []any:
		if flow, ok := flowOf(v); ok {
			out.WriteString(" " + flow + "\n")
			return
		}
		out.WriteString("\n")
		for _, e := range v {
			out.WriteString(indent + "-")
			writeNode(out, e, indent+"  ", true)
		}
	default:
		out.WriteString(" " + scalarYAML(v) + "\n")
	}
}

// flowOf writes a list of texts in one line.
func flowOf(l []any) (string, bool) {
	parts := make([]string, 0, len(l))
	for _, e := range l {
		s, ok := e.(string)
		if !ok {
			return "", false
		}
		parts = append(parts, quote(s))
	}
	return "[" + strings.Join(parts, ", ") + "]", true
}

func scalarYAML(v any) string {
	if s, ok := v.(string); ok {
		return yamlText(s)
	}
	return fmt.Sprint(v)
}

var plainText = regexp.MustCompile(`^(?:[A-Za-z][A-Za-z0-9_./-]*|[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|[KMGT]iB)(?:[0-9]+(?:ms|s|m|h))*)$`)

// yamlText is a text that YAML reads as this text: plain where that is sure.
func yamlText(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
		return quote(s)
	}
	if plainText.MatchString(s) {
		return s
	}
	return quote(s)
}

// quote is JSON's form of a string, which YAML reads in the same way.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}
