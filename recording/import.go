package recording

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/plan"
	"github.com/fettle-dev/fettle/engine"
)

// Input is a file with the measurements of one member.
type Input struct {
	Name string
	R    io.Reader
}

// ImportOptions say what the files are.
type ImportOptions struct {
	Pool   ft.PoolName   // "imported" if empty
	Every  time.Duration // between rows; taken from the schema if 0
	Schema []byte        // YAML, as [Export] writes it; nil: all columns are responses
	Start  time.Time     // of the first row where the files tell no time
	Fettle string
}

// Imported says what was read.
type Imported struct {
	Pool    ft.PoolName `json:"pool"`
	Members []string    `json:"members"` // what each file became
	Columns []string    `json:"columns"`
	Frames  int         `json:"frames"`
	Rows    int         `json:"rows"`
}

// schemaFile is the form of a schema in YAML.
type schemaFile struct {
	Every      ft.Duration     `yaml:"every"`
	Dimensions []dimensionFile `yaml:"dimensions"`
	Sets       []setFile       `yaml:"sets"`
}

type dimensionFile struct {
	Name      string       `yaml:"name"`
	Unit      string       `yaml:"unit"`
	Role      *ft.Role     `yaml:"role"`
	Transform ft.Transform `yaml:"transform"`
	Kind      ft.Kind      `yaml:"kind"`
	Floor     float64      `yaml:"floor"`
	Unbounded bool         `yaml:"unbounded"`
	Every     ft.Duration  `yaml:"every"`
}

type setFile struct {
	Name   string      `yaml:"name"`
	Role   ft.Role     `yaml:"role"`
	Size   int         `yaml:"size"`
	Labels []string    `yaml:"labels"`
	Every  ft.Duration `yaml:"every"`
}

// maxSchema bounds a schema file.
const maxSchema = 256 << 10

// readSchema reads a schema file.
func readSchema(b []byte) (s Schema, every time.Duration, err error) {
	if len(b) > maxSchema {
		return s, 0, fmt.Errorf("schema: %d bytes, at most %d: %w", len(b), maxSchema, ft.ErrInvalid)
	}
	var f schemaFile
	if err := yaml.UnmarshalWithOptions(b, &f, yaml.Strict()); err != nil {
		return s, 0, fmt.Errorf("schema: %s: %w", strings.TrimSpace(yaml.FormatError(err, false, true)), ft.ErrInvalid)
	}
	for _, d := range f.Dimensions {
		role := ft.Response
		if d.Role != nil {
			role = *d.Role
		}
		s.Dimensions = append(s.Dimensions, Dimension{d.Name, d.Unit, role, d.Transform, d.Kind, d.Floor, d.Unbounded, d.Every})
	}
	for _, c := range f.Sets {
		if c.Size == 0 {
			c.Size = len(c.Labels)
		}
		s.Sets = append(s.Sets, Set(c))
	}
	return s, f.Every.D(), nil
}

// Import makes a recording of telemetry from elsewhere and gives its lines to out: each file is a member of the pool. A file
// may begin with a line of names; without one its columns are c1, c2 and so on, or those of the schema in its order. A column
// "time" has times (RFC 3339, or seconds since 1970) that ascend; without it rows stand Every apart. Cells that are empty or
// NaN are missing. Errors wrap [ft.ErrInvalid] and name file, line and column.
func Import(files []Input, o ImportOptions, out func(line []byte) error) (*Imported, error) {
	if len(files) == 0 || len(files) > maxRows {
		return nil, fmt.Errorf("import: %d files: %w", len(files), ft.ErrInvalid)
	}
	m := &importer{o: o}
	if err := m.open(files); err != nil {
		return nil, err
	}
	h, err := m.header()
	if err != nil {
		return nil, err
	}
	lines, err := h.lines()
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		if err := out(l); err != nil {
			return nil, err
		}
	}
	if err := m.run(out); err != nil {
		return nil, err
	}
	for i := range m.schema.Len() {
		m.done.Columns = append(m.done.Columns, m.schema.At(i).Name)
	}
	b, err := (&End{At: m.last, Reason: "end of the files"}).line()
	if err != nil {
		return nil, err
	}
	return &m.done, out(b)
}

type importer struct {
	o      ImportOptions
	desc   Schema
	schema *ft.Schema
	files  []*source
	first  time.Time
	last   time.Time
	done   Imported
}

// source is a file under way.
type source struct {
	name    string
	csv     *csv.Reader
	ref     ft.Ref
	cols    []column
	pending []string // the first line where it is no header
	n       int      // lines of data so far

	at      time.Time // of the row that waits
	waits   bool
	gen     uint32
	row     ft.Row
	span    float32
	have    ft.Dims
	x       []float64
	counts  []uint32
	started bool
}

// column is what a column of a file is.
type column struct {
	own string // one of ownColumns
	dim int    // of the schema, -1 if it is none
	cat int    // -1 if it is none
}

// open reads the first lines, makes the schema, and reads the first row of each file.
func (m *importer) open(inputs []Input) error {
	inputs = slices.Clone(inputs)
	slices.SortStableFunc(inputs, func(a, b Input) int { return natural(filepath.Base(a.Name), filepath.Base(b.Name)) })
	heads := make([][]string, len(inputs))
	for i, in := range inputs {
		s := &source{name: in.Name, csv: csv.NewReader(in.R)}
		s.csv.FieldsPerRecord, s.csv.TrimLeadingSpace, s.csv.Comment = -1, true, '#'
		line, err := s.csv.Read()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("%s: it is empty: %w", in.Name, ft.ErrInvalid)
			}
			return s.broken(err)
		}
		if names(line) {
			heads[i] = slices.Clone(line)
		} else {
			s.pending = slices.Clone(line)
		}
		m.files = append(m.files, s)
	}
	if err := m.describe(heads); err != nil {
		return err
	}
	for i, s := range m.files {
		if err := m.columns(s, heads[i]); err != nil {
			return err
		}
		s.x, s.counts = make([]float64, m.schema.Len()), make([]uint32, m.schema.Categories())
	}
	m.name()
	m.o.Start = cmp.Or(m.o.Start, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
	for _, s := range m.files {
		if err := m.advance(s); err != nil {
			return err
		}
		if s.waits && (m.first.IsZero() || s.at.Before(m.first)) {
			m.first = s.at
		}
	}
	if m.first.IsZero() {
		return fmt.Errorf("import: the files have no rows: %w", ft.ErrInvalid)
	}
	return nil
}

// names tells whether a first line has names rather than values.
func names(line []string) bool {
	for i, c := range line {
		c = strings.TrimSpace(c)
		if missing(c) || c == unmeasurable {
			continue
		}
		if _, err := strconv.ParseFloat(c, 64); err == nil {
			continue
		}
		if _, err := parseTime(c); err == nil && i == 0 {
			continue
		}
		return true
	}
	return false
}

func missing(c string) bool {
	switch strings.ToLower(c) {
	case "", "nan", "null", "na", "n/a":
		return true
	}
	return false
}

// natural orders names with numbers in them by those numbers.
func natural(a, b string) int {
	split := func(s string) (head string, n int) {
		s = strings.TrimSuffix(s, filepath.Ext(s))
		i := len(s)
		for i > 0 && s[i-1] >= '0' && s[i-1] <= '9' {
			i--
		}
		n, err := strconv.Atoi(s[i:])
		if err != nil {
			return s, -1
		}
		return s[:i], n
	}
	x, i := split(a)
	y, j := split(b)
	return cmp.Or(strings.Compare(x, y), cmp.Compare(i, j), strings.Compare(a, b))
}

// describe finds the schema: the given one, or a response for each column of the first file.
func (m *importer) describe(heads [][]string) error {
	var every time.Duration
	var err error
	if m.o.Schema != nil {
		if m.desc, every, err = readSchema(m.o.Schema); err != nil {
			return err
		}
	} else {
		names := heads[0]
		if names == nil {
			names = m.unnamed(m.files[0])
		}
		for _, n := range names {
			if n = strings.TrimSpace(n); !slices.Contains(ownColumns, n) {
				m.desc.Dimensions = append(m.desc.Dimensions, Dimension{Name: n, Role: ft.Response})
			}
		}
	}
	m.o.Every = cmp.Or(m.o.Every, every)
	if m.o.Every < 10*time.Millisecond {
		return fmt.Errorf("import: every %s: the time between rows is missing or less than 10ms: %w", m.o.Every, ft.ErrInvalid)
	}
	if m.schema, err = m.desc.Make(); err != nil {
		return fmt.Errorf("import: %w: %w", err, ft.ErrInvalid)
	}
	if m.schema.Len() == 0 {
		return fmt.Errorf("import: there are no columns to judge: %w", ft.ErrInvalid)
	}
	m.desc = SchemaOf(m.schema) // in the order of the schema
	return nil
}

// unnamed names the columns of a file without a header: those of the schema in its order, or c1 and so on.
func (m *importer) unnamed(s *source) []string {
	var names []string
	values := s.pending
	if _, err := strconv.ParseFloat(strings.TrimSpace(values[0]), 64); err != nil && !missing(strings.TrimSpace(values[0])) && values[0] != unmeasurable {
		names = append(names, colTime)
		values = values[1:]
	}
	for i := range values {
		if m.schema != nil && i < m.schema.Len() {
			names = append(names, m.schema.At(i).Name)
		} else {
			names = append(names, "c"+strconv.Itoa(i+1))
		}
	}
	return names
}

// columns finds what the columns of a file are.
func (m *importer) columns(s *source, head []string) error {
	if head == nil {
		head = m.unnamed(s)
	}
	cats := map[string]int{}
	for c := range m.schema.Categories() {
		set, begin := m.schema.SetAt(c)
		in := m.schema.Sets()[set]
		label := ""
		if c-begin < len(in.Labels) {
			label = in.Labels[c-begin]
		}
		cats[categoryColumn(in.Name, label, c-begin)] = c
		cats[categoryColumn(in.Name, "", c-begin)] = c
	}
	seen := map[string]bool{}
	for i, name := range head {
		name = strings.TrimSpace(name)
		col := column{dim: m.schema.Index(name), cat: -1}
		if c, ok := cats[name]; ok {
			col.cat = c
		}
		if slices.Contains(ownColumns, name) {
			col.own = name
		}
		switch {
		case seen[name]:
			return s.wrong(1, i, "column %q stands twice", name)
		case col.own == "" && col.dim < 0 && col.cat < 0 && m.o.Schema == nil:
			return s.wrong(1, i, "column %q is not in %s", name, m.files[0].name)
		case col.own == "" && col.dim < 0 && col.cat < 0:
			return s.wrong(1, i, "column %q is not in the schema", name)
		}
		seen[name] = true
		s.cols = append(s.cols, col)
	}
	return nil
}

// name gives the members their IDs: those that the files are named after, else by their order.
func (m *importer) name() {
	ids := make([]ft.InstanceID, len(m.files))
	pool, fits := m.o.Pool, true
	for i, s := range m.files {
		base := filepath.Base(s.name)
		ids[i] = ft.InstanceID(strings.TrimSuffix(base, filepath.Ext(base)))
		if pool == "" {
			pool = ids[i].Pool()
		}
		fits = fits && ids[i].Serial() > 0 && ids[i] == ft.NewInstanceID(pool, ids[i].Serial()) && !slices.Contains(ids[:i], ids[i])
	}
	probe := ft.Pool{Name: pool, Image: ft.Image{Command: []string{"x"}}, Serve: ft.None}
	probe.Defaults()
	if !fits || len(probe.Validate()) > 0 {
		pool = cmp.Or(m.o.Pool, "imported")
		for i := range ids {
			ids[i] = ft.NewInstanceID(pool, uint32(i+1))
		}
	}
	m.done.Pool = pool
	for i, s := range m.files {
		s.ref = ft.Ref{ID: ids[i], Generation: 1}
		m.done.Members = append(m.done.Members, fmt.Sprintf("%s is %s", s.name, ids[i]))
	}
}

// old is how long before its first row a member is taken to have begun, where the files do not tell.
const old = 24 * time.Hour

// header makes the pool, with all members in service.
func (m *importer) header() (*Header, error) {
	p := ft.Pool{Name: m.done.Pool, Serve: ft.None, Image: ft.Image{Command: []string{"imported"}}}
	p.Size = ft.Sizing{Min: len(m.files), Max: len(m.files) + 1}
	p.Detect.Interval = ft.Duration(m.o.Every)
	p.Defaults()
	if errs := p.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("import: %w: %w", errs[0], ft.ErrInvalid)
	}
	s := plan.New(p)
	at := m.first.Add(-time.Hour)
	for _, f := range m.files {
		in := ft.Instance{Ref: f.ref, Digest: "imported", Born: m.first.Add(-old)}
		if err := s.Apply(&ft.Found{Stamp: ft.Stamp{At: at}, Instance: in}); err != nil {
			return nil, fmt.Errorf("import: %w", err)
		}
	}
	if err := admitAll(s, at); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	state, err := s.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	b := &engine.Base{Pool: p, State: state}
	for i := range m.files {
		b.Slots = append(b.Slots, ft.Slot(i))
	}
	h, err := newHeader(b, m.schema, m.first, Options{Fettle: m.o.Fettle})
	if err != nil {
		return nil, err
	}
	h.Imported = true
	d := &p.Detect
	h.Judge = &Judge{Interval: d.Interval, Learn: d.Learn, FalseAlarms: d.FalseAlarms, Persist: d.Persist, Seed: 1}
	return h, nil
}

// admitAll lets the planner take all members into service.
func admitAll(s *plan.State, at time.Time) error {
	for range mostRounds {
		es, _ := s.Next(nil, at)
		if len(es) == 0 {
			return nil
		}
		for _, e := range es {
			if err := s.Apply(e); err != nil {
				return err
			}
			if i, is := e.(*ft.Intended); is {
				if err := s.Apply(&ft.Finished{Stamp: ft.Stamp{At: at}, Action: i.Action}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// run merges the files by time: rows that are less than half an interval apart are one frame.
func (m *importer) run(out func([]byte) error) error {
	e := &encoder{pool: m.done.Pool}
	f := &ft.Frame{Schema: m.schema}
	var buf []byte
	for {
		at := time.Time{}
		for _, s := range m.files {
			if s.waits && (at.IsZero() || s.at.Before(at)) {
				at = s.at
			}
		}
		if at.IsZero() {
			return nil
		}
		step := &Step{At: at, Frame: f}
		taken, err := m.frame(step)
		if err != nil {
			return err
		}
		steps := []*Step{step}
		if len(step.Events) > 0 { // a new life must be known before its rows come
			steps = []*Step{{At: at, Events: step.Events}, {At: at, Frame: f}}
		}
		for _, s := range steps {
			if buf, err = e.step(buf[:0], s); err != nil {
				return err
			}
			if err := out(buf); err != nil {
				return err
			}
		}
		m.last = at
		m.done.Frames++
		m.done.Rows += taken
	}
}

// frame takes the rows that belong to the step.
func (m *importer) frame(step *Step) (rows int, err error) {
	f, end := step.Frame, step.At.Add(m.o.Every/2)
	f.At, f.Rows = step.At, f.Rows[:0]
	var from []*source
	for i, s := range m.files {
		if !s.waits || !s.at.Before(end) {
			continue
		}
		if s.gen != s.ref.Generation {
			s.ref.Generation = s.gen
			step.Events = append(step.Events, &ft.Found{
				Stamp:    ft.Stamp{At: step.At},
				Instance: ft.Instance{Ref: s.ref, Digest: "imported", Born: step.At.Add(-time.Duration(float64(s.row.Age) * 1e9))},
			})
		}
		s.row.Slot, s.row.Life = ft.Slot(i), s.ref.Life()
		f.Rows = append(f.Rows, s.row)
		from = append(from, s)
	}
	f.Reset(len(f.Rows))
	d, c := m.schema.Len(), m.schema.Categories()
	for r, s := range from {
		copy(f.X[r*d:], s.x)
		copy(f.Counts[r*c:], s.counts)
		f.Have[r], f.Span[r] = s.have, s.span
		if err := m.advance(s); err != nil {
			return 0, err
		}
	}
	return len(from), nil
}

// advance reads the next row of a file.
func (m *importer) advance(s *source) error {
	s.waits = false
	line := s.pending
	if s.pending = nil; line == nil {
		var err error
		if line, err = s.csv.Read(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return s.broken(err)
		}
	}
	if len(line) != len(s.cols) {
		at, _ := s.csv.FieldPos(0)
		return s.wrong(at, -1, "%d cells, %d columns", len(line), len(s.cols))
	}
	before := s.at
	s.at = m.o.Start.Add(time.Duration(s.n) * m.o.Every)
	s.gen, s.have, s.span = s.ref.Generation, 0, float32(m.o.Every.Seconds())
	s.row = ft.Row{Serving: true, Age: float32((old + time.Duration(s.n)*m.o.Every).Seconds())}
	for i := range s.x {
		s.x[i] = math.NaN()
	}
	clear(s.counts)
	for i, cell := range line {
		if err := m.cell(s, &s.cols[i], strings.TrimSpace(cell)); err != nil {
			at, _ := s.csv.FieldPos(i)
			return s.wrong(at, i, "%s", err)
		}
	}
	if s.started && !s.at.After(before) {
		at, _ := s.csv.FieldPos(0)
		return s.wrong(at, -1, "time %s does not come after that of the row before, %s", s.at.Format(time.RFC3339Nano), before.Format(time.RFC3339Nano))
	}
	s.n++
	s.waits, s.started = true, true
	return nil
}

// cell reads one cell.
func (m *importer) cell(s *source, c *column, text string) error {
	if c.own != "" {
		return s.own(c.own, text)
	}
	if c.cat >= 0 {
		if missing(text) {
			return nil
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return fmt.Errorf("%.40q is no count", text)
		}
		s.counts[c.cat] = uint32(n)
		return nil
	}
	if text == unmeasurable {
		return nil
	}
	s.have = s.have.With(c.dim)
	if missing(text) {
		return nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) {
		return fmt.Errorf("%.40q is no number; leave a cell empty where a value is missing", text)
	}
	s.x[c.dim] = v
	return nil
}

// own reads a cell of a column that is no measurement.
func (s *source) own(name, text string) error {
	if name == colTime {
		t, err := parseTime(text)
		s.at = t
		return err
	}
	if missing(text) {
		return nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v >= 0) || v > math.MaxUint32 {
		return fmt.Errorf("%s: %.40q is no number that it can be", name, text)
	}
	switch name {
	case colGeneration:
		s.gen = uint32(v)
	case colAge:
		s.row.Age = float32(v)
	case colSpan:
		s.span = float32(v)
	case colServing:
		s.row.Serving = v != 0
	case colHeld:
		s.row.Held = v != 0
	case colSettings:
		s.row.Settings = uint32(v)
	}
	return nil
}

// parseTime takes RFC 3339, with a blank instead of the T too, and seconds since 1970.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), inRange(t)
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.Abs(v) > 1e10 || math.IsNaN(v) {
		return time.Time{}, fmt.Errorf("%.40q is no time: write 2006-01-02T15:04:05Z, or seconds since 1970", s)
	}
	whole := math.Floor(v)
	t := time.Unix(int64(whole), int64(math.Round((v-whole)*1e9))).UTC()
	return t, inRange(t)
}

// inRange refuses times whose nanoseconds since 1970 do not fit.
func inRange(t time.Time) error {
	if t.Year() < 1900 || t.Year() > 2200 {
		return fmt.Errorf("the year %d is out of range", t.Year())
	}
	return nil
}

// wrong is the error about a cell, or about a line where i is negative.
func (s *source) wrong(line, i int, format string, a ...any) error {
	where := fmt.Sprintf("%s:%d", s.name, line)
	if i >= 0 {
		where += ":" + strconv.Itoa(i+1)
	}
	return fmt.Errorf("%s: %s: %w", where, fmt.Sprintf(format, a...), ft.ErrInvalid)
}

// broken is the error of a file that is no CSV.
func (s *source) broken(err error) error {
	if p, ok := errors.AsType[*csv.ParseError](err); ok {
		return fmt.Errorf("%s:%d:%d: %w: %w", s.name, p.Line, p.Column, p.Err, ft.ErrInvalid)
	}
	return fmt.Errorf("%s: %w", s.name, err)
}
