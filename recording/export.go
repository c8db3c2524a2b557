package recording

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// The columns of an exported file beside the dimensions and categories. With them an imported recording is judged as this
// one was; telemetry from elsewhere need not have them.
const (
	colTime       = "time"
	colGeneration = "fettle.generation"
	colAge        = "fettle.age"
	colSpan       = "fettle.span"
	colServing    = "fettle.serving"
	colHeld       = "fettle.held"
	colSettings   = "fettle.settings"
)

var ownColumns = []string{colTime, colGeneration, colAge, colSpan, colServing, colHeld, colSettings}

// unmeasurable stands in a cell of what cannot be measured of the instance at all; an empty one is missing this time.
const unmeasurable = "-"

// SchemaFile is the name of the file that says what the columns are.
const SchemaFile = "schema.yaml"

// Exported says what was written.
type Exported struct {
	Files   []string `json:"files"` // the members', in the order in which they appeared
	Schema  string   `json:"schema"`
	Rows    int      `json:"rows"`
	Frames  int      `json:"frames"`
	Broken  string   `json:"broken,omitempty"` // where the recording breaks off
	Members int      `json:"members"`
}

// Export writes the measurements of a recording to a directory: a CSV file for each member, and a schema that says what its
// columns are. The recording is read twice, since the names of categories come with it. Files that are there are
// overwritten with force only.
func Export(open func() (*Reader, error), dir string, force bool) (*Exported, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	labels, err := lastLabels(r)
	if err != nil {
		return nil, err
	}
	if r, err = open(); err != nil {
		return nil, err
	}
	x := &exporter{dir: dir, force: force, schema: r.Schema(), files: map[ft.InstanceID]*member{}}
	x.header(labels)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	if err := x.describe(r.Header(), labels); err != nil {
		return nil, err
	}
	err = x.run(r)
	for _, id := range x.order {
		err = errors.Join(err, x.files[id].close())
	}
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	if _, err := r.End(); err != nil {
		x.out.Broken = err.Error()
	}
	x.out.Members = len(x.order)
	return &x.out, nil
}

// lastLabels reads all and gives the names of the categories: they are added to, and do not change.
func lastLabels(r *Reader) ([]string, error) {
	labels := make([]string, r.Schema().Categories())
	at := 0
	for _, set := range r.Schema().Sets() {
		copy(labels[at:], set.Labels)
		at += set.Size
	}
	for {
		s, err := r.Next()
		if errors.Is(err, io.EOF) {
			return labels, nil
		}
		if err != nil {
			return nil, err
		}
		if s.Frame != nil {
			for i, l := range s.Frame.Labels {
				if l != "" {
					labels[i] = l
				}
			}
		}
	}
}

type exporter struct {
	dir    string
	force  bool
	schema *ft.Schema
	head   []string
	files  map[ft.InstanceID]*member
	order  []ft.InstanceID
	cells  []string
	out    Exported
}

// member is the file of one.
type member struct {
	f   *os.File
	buf *bufio.Writer
	csv *csv.Writer
}

func (m *member) close() error {
	m.csv.Flush()
	return errors.Join(m.csv.Error(), m.buf.Flush(), m.f.Close())
}

func (x *exporter) header(labels []string) {
	x.head = append(x.head, ownColumns...)
	for i := range x.schema.Len() {
		x.head = append(x.head, x.schema.At(i).Name)
	}
	for c := range x.schema.Categories() {
		set, begin := x.schema.SetAt(c)
		x.head = append(x.head, categoryColumn(x.schema.Sets()[set].Name, labels[c], c-begin))
	}
}

// categoryColumn names the column of a category: by its label, or by its number where it has none.
func categoryColumn(set, label string, n int) string {
	if label == "" {
		label = strconv.Itoa(n)
	}
	return set + ":" + label
}

// describe writes the schema.
func (x *exporter) describe(h *Header, labels []string) error {
	every := ft.Duration(0)
	if h.Judge != nil {
		every = h.Judge.Interval
	}
	b := describe(&h.Schema, labels, every)
	f, err := x.create(SchemaFile)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	x.out.Schema = f.Name()
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

func (x *exporter) create(name string) (*os.File, error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if x.force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	return os.OpenFile(filepath.Join(x.dir, name), flags, 0o600)
}

func (x *exporter) run(r *Reader) error {
	for {
		s, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if s.Frame == nil {
			continue
		}
		x.out.Frames++
		for i := range s.Frame.Rows {
			m, err := x.member(s.Rows[i].ID)
			if err != nil {
				return err
			}
			if err := m.csv.Write(x.row(s, i)); err != nil {
				return err
			}
			x.out.Rows++
		}
	}
}

func (x *exporter) member(id ft.InstanceID) (*member, error) {
	if m := x.files[id]; m != nil {
		return m, nil
	}
	if id == "" || strings.ContainsAny(string(id), "/\\\x00") || strings.HasPrefix(string(id), ".") {
		return nil, fmt.Errorf("%q makes no name of a file", id)
	}
	f, err := x.create(string(id) + ".csv")
	if err != nil {
		return nil, err
	}
	m := &member{f: f, buf: bufio.NewWriter(f)}
	m.csv = csv.NewWriter(m.buf)
	x.files[id] = m
	x.order = append(x.order, id)
	x.out.Files = append(x.out.Files, f.Name())
	return m, m.csv.Write(x.head)
}

func (x *exporter) row(s *Step, i int) []string {
	f, row := s.Frame, &s.Frame.Rows[i]
	d, c := f.Schema.Len(), f.Schema.Categories()
	flag := func(is bool) string {
		if is {
			return "1"
		}
		return "0"
	}
	x.cells = append(x.cells[:0],
		f.At.Format(time.RFC3339Nano), strconv.FormatUint(uint64(s.Rows[i].Generation), 10), number32(row.Age), number32(f.Span[i]),
		flag(row.Serving), flag(row.Held), strconv.FormatUint(uint64(row.Settings), 10))
	for k, v := range f.X[i*d : i*d+d] {
		switch {
		case !f.Have[i].Has(k):
			x.cells = append(x.cells, unmeasurable)
		case math.IsNaN(v):
			x.cells = append(x.cells, "")
		default:
			x.cells = append(x.cells, strconv.FormatFloat(v, 'g', -1, 64))
		}
	}
	for _, n := range f.Counts[i*c : i*c+c] {
		x.cells = append(x.cells, strconv.FormatUint(uint64(n), 10))
	}
	return x.cells
}

func number32(v float32) string { return strconv.FormatFloat(float64(v), 'g', -1, 32) }

// describe is the schema as YAML, with what it is for.
func describe(s *Schema, labels []string, every ft.Duration) []byte {
	var b bytes.Buffer
	b.WriteString("# The columns of the CSV files beside this one, for fettle record import --schema.\n")
	b.WriteString("# role: load (what an instance is asked to do), intake (what it was given), response (what doing it costs).\n")
	if every > 0 {
		fmt.Fprintf(&b, "every: %s\n", every)
	}
	b.WriteString("dimensions:\n")
	for _, d := range s.Dimensions {
		fmt.Fprintf(&b, "  - name: %q\n    unit: %q\n    role: %s\n    transform: %s\n    kind: %s\n", d.Name, d.Unit, d.Role, d.Transform, d.Kind)
		if d.Floor != 0 {
			fmt.Fprintf(&b, "    floor: %s\n", strconv.FormatFloat(d.Floor, 'g', -1, 64))
		}
		if d.Unbounded {
			b.WriteString("    unbounded: true\n")
		}
		if d.Every != 0 {
			fmt.Fprintf(&b, "    every: %s\n", d.Every)
		}
	}
	if len(s.Sets) == 0 {
		return b.Bytes()
	}
	b.WriteString("sets:\n")
	at := 0
	for _, c := range s.Sets {
		fmt.Fprintf(&b, "  - name: %q\n    role: %s\n    size: %d\n", c.Name, c.Role, c.Size)
		if c.Every != 0 {
			fmt.Fprintf(&b, "    every: %s\n", c.Every)
		}
		b.WriteString("    labels:\n")
		for i := range c.Size {
			fmt.Fprintf(&b, "      - %q\n", labels[at+i])
		}
		at += c.Size
	}
	return b.Bytes()
}
