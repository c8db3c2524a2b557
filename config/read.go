package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// mostNesting bounds how deep a file's values may stand in each other, and mostNodes how many there may be when all
// aliases are followed; mostTokens bounds the words and marks of its text.
const (
	mostNesting = 100
	mostNodes   = 50000
	mostTokens  = 40000
)

// read gives the root of the one document of a file; nil if there is none, with the problem reported.
func read(r *report, b []byte) ast.Node {
	if len(b) > MaxSize {
		r.add(spot{1, 1}, "", "the file has %d bytes; a pool file has at most %d", len(b), MaxSize)
		return nil
	}
	if at, ok := invalidUTF8(b); !ok {
		r.add(at, "", "the file is no UTF-8 text")
		return nil
	}
	f, err := parse(string(b))
	if err != nil {
		r.syntax(err)
		return nil
	}
	var root ast.Node
	for _, doc := range f.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.CommentType:
		case root == nil:
			root = doc.Body
		default:
			r.add(startOf(doc.Body), "", "a second document begins here: write all pools into one, as a list under pools:")
			return nil
		}
	}
	if root == nil || root.Type() == ast.NullType {
		r.add(spot{1, 1}, "", "the file is empty: `fettle init` writes one to start from")
		return nil
	}
	return root
}

func invalidUTF8(b []byte) (spot, bool) {
	at := spot{1, 1}
	for len(b) > 0 {
		c, n := utf8.DecodeRune(b)
		if c == utf8.RuneError && n == 1 || c == 0 {
			return at, false
		}
		at.column++
		if c == '\n' {
			at = spot{at.line + 1, 1}
		}
		b = b[n:]
	}
	return at, true
}

// syntaxError is what the text is refused for before or in parsing.
type syntaxError struct {
	at  spot
	msg string
}

func (e *syntaxError) Error() string { return e.msg }

// parse makes the tree. The YAML library recurses as deep as the text nests, and a stack that overflows cannot be
// recovered from: so the nesting is bounded before. A panic of the library is an error of the file.
func parse(text string) (f *ast.File, err error) {
	defer func() {
		if v := recover(); v != nil {
			f, err = nil, &syntaxError{spot{1, 1}, fmt.Sprintf("the file cannot be read as YAML: %v", v)}
		}
	}()
	text = strings.TrimPrefix(strings.ReplaceAll(text, "\r\n", "\n"), "\ufeff")
	tokens := lexer.Tokenize(text)
	if err := tooDeep(tokens); err != nil {
		return nil, err
	}
	// Duplicate keys are reported by the decoder, with both places.
	return parser.Parse(joinColons(tokens), 0, parser.AllowDuplicateMapKey())
}

// tooDeep counts what opens a level: brackets until they are closed, and what can stand many times in one line.
func tooDeep(tokens token.Tokens) error {
	if len(tokens) > mostTokens {
		at := tokens[mostTokens].Position
		return &syntaxError{spot{at.Line, at.Column}, fmt.Sprintf("the file is too long from here on: more than %d words and marks", mostTokens)}
	}
	flow, inLine, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, inLine = t.Position.Line, 0
		}
		switch t.Type { //nolint:exhaustive // the others open no level
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType, token.MappingValueType:
			inLine++
		}
		if flow > mostNesting || inLine > 10*mostNesting {
			return &syntaxError{spot{t.Position.Line, t.Position.Column}, fmt.Sprintf("more than %d levels in each other", mostNesting)}
		}
	}
	return nil
}

// joinColons makes one text of an item such as app:app or :8080 of a list in brackets. A colon with no space behind it
// is part of a plain text, but inside of braces the YAML library takes it for the end of a key.
func joinColons(tokens token.Tokens) token.Tokens {
	var joined token.Tokens
	var open []token.Type
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		switch t.Type { //nolint:exhaustive // the others open and close nothing
		case token.SequenceStartType, token.MappingStartType:
			open = append(open, t.Type)
		case token.SequenceEndType, token.MappingEndType:
			open = open[:max(len(open)-1, 0)]
		}
		if len(open) > 0 && open[len(open)-1] == token.SequenceStartType {
			if n, text := colonText(tokens[i:]); n > 0 && (n == 3 || startsItem(tokens[i-1])) {
				t = token.String(text, text, t.Position)
				i += n - 1
			}
		}
		joined.Add(t)
	}
	if n := len(joined); n > 0 {
		joined[n-1].Next = nil // or it would still lead to what was joined
	}
	return joined
}

func startsItem(before *token.Token) bool {
	return before.Type == token.SequenceStartType || before.Type == token.CollectEntryType
}

// colonText gives how many tokens make up the text with a colon at the beginning of ts, and that text; 0 for none.
func colonText(ts token.Tokens) (n int, text string) {
	if len(ts) > 0 && isPlain(ts[0]) && strings.HasSuffix(ts[0].Origin, ts[0].Value) { // no space before the colon
		n, text = 1, ts[0].Value
	}
	if len(ts) < n+3 || ts[n].Type != token.MappingValueType || !isPlain(ts[n+1]) {
		return 0, ""
	}
	colon, rest, end := ts[n].Position, ts[n+1], ts[n+2].Type
	adjacent := rest.Position.Line == colon.Line && rest.Position.Column == colon.Column+1
	whole := end == token.CollectEntryType || end == token.SequenceEndType || end == token.CommentType
	if !adjacent || !whole || strings.Contains(rest.Value, ": ") {
		return 0, ""
	}
	return n + 2, text + ":" + rest.Value
}

func isPlain(t *token.Token) bool {
	return t.CharacterType == token.CharacterTypeMiscellaneous && t.Indicator == token.NotIndicator
}

// syntax reports an error of the YAML library.
func (r *report) syntax(err error) {
	var own *syntaxError
	var lib yaml.Error
	switch {
	case errors.As(err, &own):
		r.add(own.at, "", "%s", own.msg)
	case errors.As(err, &lib) && lib.GetToken() != nil && lib.GetToken().Position != nil:
		at := lib.GetToken().Position
		if strings.Contains(lib.GetMessage(), "character '\t'") {
			r.add(spot{at.Line, at.Column}, "", "not valid YAML: a tab cannot indent, use spaces")
			return
		}
		r.add(spot{at.Line, at.Column}, "", "not valid YAML: %s", lib.GetMessage())
	default:
		first, _, _ := strings.Cut(err.Error(), "\n")
		r.add(spot{1, 1}, "", "not valid YAML: %s", first)
	}
}

// startOf is where a node begins: the library names the colon for a mapping.
func startOf(n ast.Node) spot {
	switch v := n.(type) {
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return startOf(v.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return startOf(v.Key)
	case *ast.MappingKeyNode:
		if v.Value != nil {
			return startOf(v.Value)
		}
	}
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return spot{1, 1}
	}
	p := n.GetToken().Position
	return spot{p.Line, p.Column}
}

// anchorsOf finds the anchors of a document, in its order.
func anchorsOf(root ast.Node) []*ast.AnchorNode {
	var found anchors
	ast.Walk(&found, root)
	return found
}

type anchors []*ast.AnchorNode

// Visit implements [ast.Visitor].
func (a *anchors) Visit(n ast.Node) ast.Visitor {
	if v, ok := n.(*ast.AnchorNode); ok {
		*a = append(*a, v)
	}
	return a
}
