package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
)

// printJSON prints a value for machines.
func (c *cli) printJSON(v any) error {
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

// say prints a line for people.
func (c *cli) say(format string, a ...any) { fmt.Fprintf(c.out, format+"\n", a...) }

// plainError leaves out what only says the kind of the error again.
func plainError(err error) string {
	text := err.Error()
	for _, k := range []error{fettle.ErrInvalid, fettle.ErrConflict, fettle.ErrBusy, api.ErrDegraded} {
		text = strings.TrimSuffix(text, ": "+k.Error())
	}
	return strings.Replace(text, ": "+fettle.ErrInvalid.Error()+": ", ": ", 1)
}

// terminal tells whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// paint colours text for a terminal; elsewhere, and with NO_COLOR set, it does nothing.
type paint bool

func painter(w io.Writer) paint { return paint(terminal(w) && os.Getenv("NO_COLOR") == "") }

func (p paint) sgr(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) bold(s string) string   { return p.sgr("1", s) }
func (p paint) dim(s string) string    { return p.sgr("2", s) }
func (p paint) red(s string) string    { return p.sgr("31", s) }
func (p paint) green(s string) string  { return p.sgr("32", s) }
func (p paint) yellow(s string) string { return p.sgr("33", s) }

// level gives text the colour of a level.
func (p paint) level(l fettle.Level, s string) string {
	switch l {
	case fettle.Learning:
		return p.dim(s)
	case fettle.Steady:
		return p.green(s)
	case fettle.Low, fettle.Medium:
		return p.yellow(s)
	case fettle.High, fettle.Critical:
		return p.red(s)
	}
	return s
}

// table lays out cells in columns two spaces apart. Colours take no width.
type table struct {
	p     paint
	rows  [][]string
	right []bool // right-aligned columns
}

// newTable begins with the heads; one that begins with ">" is of a right-aligned column.
func newTable(p paint, heads ...string) *table {
	t := &table{p: p, right: make([]bool, len(heads))}
	row := make([]string, len(heads))
	for i, h := range heads {
		row[i], t.right[i] = strings.CutPrefix(h, ">")
	}
	for i := range row {
		row[i] = p.dim(row[i])
	}
	t.rows = append(t.rows, row)
	return t
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer, indent string) {
	width := make([]int, len(t.right))
	for _, r := range t.rows {
		for i, c := range r {
			width[i] = max(width[i], visible(c))
		}
	}
	for _, r := range t.rows {
		var b strings.Builder
		b.WriteString(indent)
		for i, c := range r {
			pad := strings.Repeat(" ", width[i]-visible(c))
			if t.right[i] {
				b.WriteString(pad + c)
			} else {
				b.WriteString(c + pad)
			}
			b.WriteString("  ")
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// visible is the width of s without its colours.
func visible(s string) int {
	n, in := 0, false
	for _, r := range s {
		switch {
		case r == '\x1b':
			in = true
		case in:
			in = r != 'm'
		default:
			n++
		}
	}
	return n
}

// span rounds a duration for people: "340ms", "12s", "3m10s", "5h", "3d".
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < 10*time.Minute:
		return fettle.Duration(d.Round(time.Second)).String()
	case d < 10*time.Hour:
		return fettle.Duration(d.Round(time.Minute)).String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0fh", d.Hours())
	default:
		return fmt.Sprintf("%.0fd", d.Hours()/24)
	}
}

// latency prints seconds: "0.42ms", "12ms", "1.2s".
func latency(s float64) string {
	switch {
	case s <= 0:
		return "-"
	case s < 0.01:
		return fmt.Sprintf("%.1fms", 1e3*s)
	case s < 1:
		return fmt.Sprintf("%.0fms", 1e3*s)
	default:
		return fmt.Sprintf("%.1fs", s)
	}
}

// bytesOf prints a size: "45 MiB".
func bytesOf(b float64) string {
	if b <= 0 {
		return "-"
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for b >= 1000 && i < len(units)-1 {
		b /= 1024
		i++
	}
	return significant(b) + " " + units[i]
}

// significant prints three figures at most, without an exponent.
func significant(v float64) string {
	a := math.Abs(v)
	switch {
	case a != 0 && a < 0.001:
		return fmt.Sprintf("%.1g", v)
	case a < 10:
		return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
	case a < 100:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

// quantity prints a value with its unit.
func quantity(v float64, unit string) string {
	switch unit {
	case "B":
		return bytesOf(v)
	case "B/s":
		if v <= 0 {
			return "0 B/s"
		}
		return bytesOf(v) + "/s"
	case "s":
		if v == 0 {
			return "0s"
		}
		return latency(v)
	case "share":
		return significant(100*v) + " %"
	case "1/s":
		return significant(v) + "/s"
	case "":
		return significant(v)
	default:
		return significant(v) + " " + unit
	}
}

// bar shows a drift score up to 5 in five cells; 1 is the threshold.
func bar(score float64) string {
	const cells = 5
	eighths := []rune(" ▏▎▍▌▋▊▉█")
	full := min(max(score, 0), cells)
	var b strings.Builder
	for i := range cells {
		b.WriteRune(eighths[int(math.Round(8*min(max(full-float64(i), 0), 1)))])
	}
	return b.String()
}

// cut shortens s to n characters.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// pageWidth is how wide texts are made, in columns.
const pageWidth = 100

// wrap breaks s at spaces into lines of at most width columns; a longer word has a line of its own.
func wrap(s string, width int) []string {
	lines := []string{""}
	for w := range strings.FieldsSeq(s) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = w
		case visible(*last)+1+visible(w) <= width:
			*last += " " + w
		default:
			lines = append(lines, w)
		}
	}
	return lines
}
