package score

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	ft "github.com/fettle-dev/fettle"
)

// Bounds of a file, after it is unpacked.
const (
	mostLine    = 1 << 20 // bytes
	mostColumns = 1 << 10 // the judged ones are fewer
	mostRows    = 1 << 23
	mostCells   = 1 << 27
	blockRows   = 1 << 10
)

// lines are those of a CSV file, cell by cell. Cells may be quoted; no cell spans lines.
type lines struct {
	name  string
	in    *bufio.Reader
	line  int
	text  []byte
	cells []string
}

func newLines(name string, r io.Reader) *lines {
	return &lines{name: name, in: bufio.NewReaderSize(r, 64<<10)}
}

// wrong is the error about a cell, counted from 1, or about the line where that is 0.
func (l *lines) wrong(cell int, format string, a ...any) error {
	where := fmt.Sprintf("%s:%d", l.name, l.line)
	if cell > 0 {
		where += ":" + strconv.Itoa(cell)
	}
	return fmt.Errorf("%s: %s: %w", where, fmt.Sprintf(format, a...), ft.ErrInvalid)
}

// next gives the cells of the next line, without blanks and quotes around them, nil at the end. They are good until the next
// call. A line without any text has one empty cell.
func (l *lines) next() ([]string, error) {
	l.text = l.text[:0]
	l.line++
	for {
		part, err := l.in.ReadSlice('\n')
		if len(l.text)+len(part) > mostLine {
			return nil, l.wrong(0, "the line has more than %d bytes", mostLine)
		}
		l.text = append(l.text, part...)
		if err == nil {
			break
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if !errors.Is(err, io.EOF) {
			return nil, l.wrong(0, "%s", err)
		}
		if len(l.text) == 0 {
			return nil, nil
		}
		break
	}
	text := string(bytes.TrimRight(l.text, "\r\n"))
	if l.line == 1 {
		text = strings.TrimPrefix(text, "\ufeff")
	}
	l.cells = l.cells[:0]
	for {
		cell, rest, more := strings.Cut(text, ",")
		if trimmed := strings.TrimLeft(text, " \t"); strings.HasPrefix(trimmed, `"`) {
			var err error
			if cell, rest, more, err = l.quoted(trimmed); err != nil {
				return nil, err
			}
		} else {
			cell = strings.TrimSpace(cell)
		}
		l.cells = append(l.cells, cell)
		if !more {
			return l.cells, nil
		}
		text = rest
	}
}

// quoted takes a cell that begins with a quote.
func (l *lines) quoted(text string) (cell, rest string, more bool, err error) {
	cell = text[1:]
	for at := 0; ; {
		i := strings.IndexByte(cell[at:], '"')
		if i < 0 {
			return "", "", false, l.wrong(len(l.cells)+1, "the quote does not end on its line")
		}
		at += i
		if after := cell[at+1:]; strings.HasPrefix(after, `"`) {
			cell = cell[:at] + after
			at++
			continue
		}
		rest = strings.TrimLeft(cell[at+1:], " \t")
		if rest != "" && rest[0] != ',' {
			return "", "", false, l.wrong(len(l.cells)+1, "a comma is missing after the quoted cell")
		}
		cell = strings.TrimSpace(cell[:at])
		if rest == "" {
			return cell, "", false, nil
		}
		return cell, rest[1:], true, nil
	}
}

// table is a file of values.
type table struct {
	file  string
	head  []string // nil where the first line has values
	width int      // of rows
	rows  [][]float64
	block []float64 // that the next rows are cut from
}

// names are those of the columns.
func (t *table) names() []string {
	if t.head != nil {
		return t.head
	}
	out := make([]string, t.width)
	for i := range out {
		out[i] = "c" + strconv.Itoa(i+1)
	}
	return out
}

// fits compares the columns with those of the table that came before.
func (t *table) fits(before *table) error {
	if t.width != before.width {
		return fmt.Errorf("%s:1: %d columns, but %s has %d: %w", t.file, t.width, before.file, before.width, ft.ErrInvalid)
	}
	if t.head == nil || before.head == nil {
		return nil
	}
	for i, n := range t.head {
		if n != before.head[i] {
			return fmt.Errorf("%s:1:%d: column %q, but in %s it is %q: %w", t.file, i+1, n, before.file, before.head[i], ft.ErrInvalid)
		}
	}
	return nil
}

func readFile(path string) (*table, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("score: %w: %w", err, ft.ErrInvalid)
	}
	defer in.Close()
	return readTable(path, in)
}

// readTable reads a file of values, which may be gzip'd.
func readTable(name string, r io.Reader) (*table, error) {
	in := bufio.NewReader(r)
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %w", name, err, ft.ErrInvalid)
		}
		in = bufio.NewReader(z)
	}
	t := &table{file: name}
	if err := t.read(newLines(name, in)); err != nil {
		return nil, err
	}
	if len(t.rows) == 0 {
		return nil, fmt.Errorf("%s: it has no rows: %w", name, ft.ErrInvalid)
	}
	return t, nil
}

func (t *table) read(l *lines) error {
	blank := 0 // the first of the lines without text that came last
	for {
		cells, err := l.next()
		if err != nil || cells == nil {
			return err
		}
		if l.line == 1 {
			named, err := t.begin(l, cells)
			if err != nil {
				return err
			}
			if named {
				continue
			}
		}
		if len(cells) == 1 && cells[0] == "" && t.width > 1 {
			if blank == 0 {
				blank = l.line
			}
			continue // at the end of the file it means nothing
		}
		if blank > 0 {
			l.line = blank
			return l.wrong(0, "the line is blank: write commas alone for a row whose values are all missing")
		}
		if err := t.add(l, cells); err != nil {
			return err
		}
	}
}

// begin takes the first line, and tells whether it has names.
func (t *table) begin(l *lines, cells []string) (named bool, err error) {
	if t.width = len(cells); t.width > mostColumns {
		return false, l.wrong(0, "%d columns, at most %d", t.width, mostColumns)
	}
	if named, err = l.names(cells); named {
		t.head = clones(cells)
	}
	return named, err
}

// add takes a row.
func (t *table) add(l *lines, cells []string) error {
	if len(cells) != t.width {
		return l.wrong(0, "%d cells, but %d columns", len(cells), t.width)
	}
	if len(t.rows) == mostRows || len(t.rows)*t.width >= mostCells {
		return l.wrong(0, "more than %d rows or %d cells", mostRows, mostCells)
	}
	if len(t.block)+t.width > cap(t.block) {
		t.block = make([]float64, 0, t.width*blockRows)
	}
	at := len(t.block)
	for i, cell := range cells {
		v, ok := number(cell)
		switch {
		case !ok && t.head != nil && isTime(t.head[i]):
			v = math.NaN()
		case !ok:
			return l.wrong(i+1, "%.40q is no number; leave a cell empty where a value is missing", cell)
		}
		t.block = append(t.block, v)
	}
	t.rows = append(t.rows, t.block[at:len(t.block):len(t.block)])
	return nil
}

// isTime tells the columns that a table of measurements has beside them. Their cells may be anything.
func isTime(name string) bool {
	switch strings.ToLower(name) {
	case "time", "timestamp", "unix_time", "datetime", "date":
		return true
	}
	return false
}

// number is a value, NaN where it is missing.
func number(cell string) (float64, bool) {
	if missing(cell) {
		return math.NaN(), true
	}
	v, err := strconv.ParseFloat(cell, 64)
	return v, err == nil && !math.IsInf(v, 0)
}

func missing(cell string) bool {
	switch strings.ToLower(cell) {
	case "", "nan", "null", "na", "n/a":
		return true
	}
	return false
}

// names tells whether a first line has names, and checks them.
func (l *lines) names(cells []string) (bool, error) {
	values, text := 0, 0
	for i, c := range cells {
		if _, ok := number(c); !ok {
			if text == 0 {
				text = i + 1
			}
		} else if !missing(c) {
			values++
		}
	}
	if text == 0 {
		return false, nil
	}
	if values > 0 {
		return false, l.wrong(text, "%.40q is no number, and other cells of the first line are: it has values or names", cells[text-1])
	}
	seen := map[string]bool{}
	for i, c := range cells {
		if c == "" {
			return false, l.wrong(i+1, "the column has no name")
		}
		if seen[c] {
			return false, l.wrong(i+1, "column %q stands twice", c)
		}
		seen[c] = true
	}
	return true, nil
}

func clones(s []string) []string {
	out := make([]string, len(s))
	for i := range s {
		out[i] = strings.Clone(s[i])
	}
	return out
}
