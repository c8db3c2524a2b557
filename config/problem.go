package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// mostProblems bounds how much is told at once.
const mostProblems = 50

// Error is all that is wrong with a file, in the order of the file.
type Error struct {
	Problems []Problem
	// More is how many problems there are beyond those.
	More int
}

// Problem is one thing that is wrong, and where.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`              // from 1
	Column  int    `json:"column"`            // from 1, in characters
	Source  string `json:"source"`            // the line itself
	Msg     string `json:"message"`           // what is wrong
	Suggest string `json:"suggest,omitempty"` // the nearest right name or form, if any
}

// widest is how much of a line is shown.
const widest = 120

// String is file, line, column and message, and below it the line itself with a caret under the column. Of a line that
// is too wide, the part around the column is shown.
func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: %s", p.File, p.Line, p.Column, p.Msg)
	if p.Suggest != "" {
		fmt.Fprintf(&b, "; did you mean %s?", p.Suggest)
	}
	before := firstRunes(p.Source, p.Column-1)
	after := p.Source[len(before):]
	if n := utf8.RuneCountInString(before); n > widest*2/3 {
		before = "…" + before[len(firstRunes(before, n-widest/2)):]
	}
	if shown := firstRunes(after, widest-utf8.RuneCountInString(before)); shown != after {
		after = shown + "…"
	}
	indent := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, before)
	fmt.Fprintf(&b, "\n%5d | %s%s\n%5s | %s^", p.Line, before, after, "", indent)
	return b.String()
}

func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// Error is all problems, one after the other.
func (e *Error) Error() string {
	parts := make([]string, 0, len(e.Problems)+1)
	for _, p := range e.Problems {
		parts = append(parts, p.String())
	}
	if e.More > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", e.More))
	}
	return strings.Join(parts, "\n")
}

// report gathers the problems of one file.
type report struct {
	name     string
	lines    []string
	problems []Problem
}

// spot is a place in a file; line and column count from 1.
type spot struct{ line, column int }

func newReport(name string, b []byte) *report {
	text := strings.ToValidUTF8(string(b[:min(len(b), MaxSize)]), "�")
	return &report{name: name, lines: strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")}
}

// add notes a problem. A place outside of the file is moved to the nearest within.
func (r *report) add(at spot, suggest, format string, a ...any) {
	line := min(max(at.line, 1), len(r.lines))
	source := strings.TrimRight(strings.ReplaceAll(r.lines[line-1], "\r", " "), " \t")
	column := min(max(at.column, 1), utf8.RuneCountInString(source)+1)
	r.problems = append(r.problems, Problem{File: r.name, Line: line, Column: column, Source: source, Msg: fmt.Sprintf(format, a...), Suggest: suggest})
}

// err is nil if nothing is wrong.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	r.problems = slices.Compact(r.problems)
	e := &Error{Problems: r.problems}
	if len(e.Problems) > mostProblems {
		e.More = len(e.Problems) - mostProblems
		e.Problems = e.Problems[:mostProblems]
	}
	return e
}
