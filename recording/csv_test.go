package recording

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

func importText(o ImportOptions, files ...string) (*Imported, []byte, error) {
	var in []Input
	for i, f := range files {
		in = append(in, Input{fmt.Sprintf("host-%c.csv", 'a'+i), strings.NewReader(f)})
	}
	var file bytes.Buffer
	w := NewWriter(&file)
	got, err := Import(in, o, w.Line)
	err = errors.Join(err, w.Flush())
	return got, file.Bytes(), err
}

func TestImport(t *testing.T) {
	got, file, err := importText(ImportOptions{Every: time.Minute},
		"time,cpu,memory\n2026-01-01T00:00:00Z,0.5,100\n2026-01-01 00:01:00,,NaN\n1767225720.5,1e3,-\n",
		"time,memory,cpu\n2026-01-01T00:00:10Z,7,8\n2026-01-01T00:02:00Z,9,10\n")
	if err != nil {
		t.Fatal(err)
	}
	if got.Pool != "imported" || got.Frames != 3 || got.Rows != 5 || strings.Join(got.Columns, " ") != "cpu memory" {
		t.Errorf("%+v", got)
	}
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for {
		s, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.Frame.Rows {
			text = append(text, fmt.Sprint(s.At.Format("15:04:05.0"), " ", s.Rows[i], " ", s.Frame.Value(i, 0), " ", s.Frame.Value(i, 1), " ", s.Frame.Have[i], " ", s.Frame.Rows[i].Serving))
		}
	}
	want := `00:00:00.0 imported-1 0.5 100 3 true
00:00:00.0 imported-2 8 7 3 true
00:01:00.0 imported-1 NaN NaN 3 true
00:02:00.0 imported-1 1000 NaN 1 true
00:02:00.0 imported-2 10 9 3 true`
	if got := strings.Join(text, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if end, err := r.End(); err != nil {
		t.Errorf("end %v, %v", end, err)
	}
}

// A file without names: columns are counted, rows stand --every apart.
func TestImportWithoutNames(t *testing.T) {
	got, file, err := importText(ImportOptions{Every: time.Minute, Pool: "shop"}, "1,2\n3,\n")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(got.Columns, " ") != "c1 c2" || got.Pool != "shop" || got.Frames != 2 {
		t.Errorf("%+v", got)
	}
	if r, err := NewReader(bytes.NewReader(file)); err != nil || !r.Header().Imported || r.Header().Judge.Interval.D() != time.Minute {
		t.Errorf("%v", err)
	}
}

// TestImportErrors: each says file, line and column.
func TestImportErrors(t *testing.T) {
	const schema = "every: 1s\ndimensions:\n  - name: cpu\n    role: response\n"
	for name, c := range map[string]struct {
		schema, text, want string
		every              time.Duration
	}{
		"no number":     {"", "cpu\n1\nx\n", `host-a.csv:3:1: "x" is no number`, time.Second},
		"infinite":      {"", "cpu\ninf\n", `host-a.csv:2:1: "inf" is no number`, time.Second},
		"cells":         {"", "a,b\n1\n", `host-a.csv:2: 1 cells, 2 columns`, time.Second},
		"quotes":        {"", "a,b\n1,\"2\n", `host-a.csv:`, time.Second},
		"time":          {"", "time,a\nyesterday,1\n", `host-a.csv:2:1: "yesterday" is no time`, time.Second},
		"year":          {"", "time,a\n9999-01-01T00:00:00Z,1\n", `host-a.csv:2:1: the year 9999 is out of range`, time.Second},
		"order":         {"", "time,a\n2026-01-01T00:00:01Z,1\n2026-01-01T00:00:00Z,1\n", `host-a.csv:3: time 2026-01-01T00:00:00Z does not come after`, time.Second},
		"twice":         {"", "a,a\n1,1\n", `"a"`, time.Second},
		"empty":         {"", "", `host-a.csv: it is empty`, time.Second},
		"no rows":       {"", "a,b\n", `the files have no rows`, time.Second},
		"every":         {"", "a\n1\n", `the time between rows is missing`, 0},
		"not in schema": {schema, "cpu,mem\n1,2\n", `host-a.csv:1:2: column "mem" is not in the schema`, 0},
		"schema key":    {"dimension: []\n", "a\n1\n", `schema: [1:1] unknown field "dimension"`, time.Second},
		"schema role":   {"dimensions:\n  - name: cpu\n    role: loat\n", "cpu\n1\n", `"loat" is no role: one of load, intake, response`, time.Second},
		"count":         {"every: 1s\ndimensions: [{name: cpu}]\nsets: [{name: routes, labels: [a]}]\n", "cpu,routes:a\n1,-2\n", `host-a.csv:2:2: "-2" is no count`, 0},
		"generation":    {"", "fettle.generation,a\nx,1\n", `host-a.csv:2:1: fettle.generation: "x" is no number that it can be`, time.Second},
	} {
		o := ImportOptions{Every: c.every}
		if c.schema != "" {
			o.Schema = []byte(c.schema)
		}
		_, _, err := importText(o, c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ft.ErrInvalid) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
	if _, _, err := importText(ImportOptions{Every: time.Second}, "a\n1\n", "b\n1\n"); err == nil || !strings.Contains(err.Error(), `host-b.csv:1:1: column "b" is not in host-a.csv`) {
		t.Errorf("another column: %v", err)
	}
}

// TestExportKeepsFiles: what is there is overwritten only when asked for.
func TestExportKeepsFiles(t *testing.T) {
	h, e := testHeader(t, nil, false)
	file := write(t, h, e, true, someSteps(t)...)
	open := func() (*Reader, error) { return NewReader(bytes.NewReader(file)) }
	dir := filepath.Join(t.TempDir(), "out")
	x, err := Export(open, dir, false)
	if err != nil || x.Rows != 1 || x.Members != 1 {
		t.Fatalf("%+v, %v", x, err)
	}
	if _, err := Export(open, dir, false); !errors.Is(err, os.ErrExist) {
		t.Errorf("it was written over: %v", err)
	}
	if _, err := Export(open, dir, true); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "web-1.csv"))
	if err != nil || !strings.HasPrefix(string(b), "time,fettle.generation,fettle.age,fettle.span,fettle.serving,fettle.held,fettle.settings,offered,cpu,memory,routes:0,routes:1,routes:2,status:2xx,status:5xx\n2026-01-01T00:00:00.123456789Z,1,0,1,1,0,0,40.5,,,0,0,0,0,0\n") {
		t.Errorf("%s, %v", b, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "web-1.csv")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// TestDocumentedSchema: the one in docs/recording.md is read.
func TestDocumentedSchema(t *testing.T) {
	doc, err := os.ReadFile("../docs/recording.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```yaml\n")
	text, _, ok := strings.Cut(rest, "```")
	s, every, err := readSchema([]byte(text))
	if !ok || err != nil || every != time.Minute || len(s.Dimensions) != 3 || s.Sets[0].Size != 2 {
		t.Errorf("%+v, %s, %v", s, every, err)
	}
	if _, err := s.Make(); err != nil {
		t.Error(err)
	}
}

func FuzzImport(f *testing.F) {
	f.Add("time,a,b\n2026-01-01T00:00:00Z,1,2\n", "")
	f.Add("1,2\n3,4\n", "every: 1s\ndimensions: [{name: a, role: load, transform: log1p}, {name: b}]\nsets: [{name: routes, size: 2, labels: [x]}]\n")
	f.Add("fettle.generation,a\n2,1\n1,1\n", "")
	f.Fuzz(func(t *testing.T, text, schema string) {
		o := ImportOptions{Every: time.Second}
		if schema != "" {
			o.Schema = []byte(schema)
		}
		_, file, err := importText(o, text)
		if err != nil {
			return
		}
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		p, err := PlayChanged(r, false, func(*ft.Pool) error { return nil })
		for err == nil {
			_, err = p.Next()
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	})
}
