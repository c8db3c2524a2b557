package score

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	ft "github.com/fettle-dev/fettle"
)

func refused(t *testing.T, err error, want string) {
	t.Helper()
	if !errors.Is(err, ft.ErrInvalid) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

func packed3(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	_ = z.Close()
	return b.String()
}

func TestTable(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		text  string
		names []string
		rows  [][]float64
	}{
		{"1,2\n3,4\n", []string{"c1", "c2"}, [][]float64{{1, 2}, {3, 4}}},
		{"cpu,mem\n3,4", []string{"cpu", "mem"}, [][]float64{{3, 4}}},
		{"\ufeff\"cpu, all\", \"a \"\"b\"\"\" \r\n 3 ,\"4\"\r\n", []string{"cpu, all", `a "b"`}, [][]float64{{3, 4}}},
		{"1,\n,NaN\n-nan,\n", nil, nil},
		{"1,\n,NaN\nnull,NA\n\n\n", []string{"c1", "c2"}, [][]float64{{1, nan}, {nan, nan}, {nan, nan}}},
		{"1\n\n3\n", []string{"c1"}, [][]float64{{1}, {nan}, {3}}},
		{",\n1,1e-300\n", []string{"c1", "c2"}, [][]float64{{nan, nan}, {1, 1e-300}}},
		{"time,x\n2024-01-01T00:00:00Z,1\n7,2\n", []string{"time", "x"}, [][]float64{{nan, 1}, {7, 2}}},
		{packed3("a\n1\n"), []string{"a"}, [][]float64{{1}}},
	} {
		got, err := readTable("f.csv", strings.NewReader(c.text))
		if c.rows == nil {
			refused(t, err, "f.csv:3:1: ")
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		nans := cmp.Comparer(func(a, b float64) bool { return a == b || a != a && b != b })
		if d := cmp.Diff(c.rows, got.rows, nans) + cmp.Diff(c.names, got.names()); d != "" {
			t.Errorf("%q: %s", c.text, d)
		}
	}
}

func TestTableRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "f.csv: it has no rows",
		"a,b\n":                             "f.csv: it has no rows",
		"1,2\n3\n":                          "f.csv:2: 1 cells, but 2 columns",
		"a,b\n1,2\n3,4,5\n":                 "f.csv:3: 3 cells, but 2 columns",
		"1,2\n3,x\n":                        `f.csv:2:2: "x" is no number; leave a cell empty where a value is missing`,
		"1,2\n-Inf,1\n":                     `f.csv:2:1: "-Inf" is no number`,
		"1,2\n1,1e999\n":                    `f.csv:2:2: "1e999" is no number`,
		"1,x\n":                             `f.csv:1:2: "x" is no number, and other cells of the first line are`,
		"a,b,a\n1,2,3\n":                    `f.csv:1:3: column "a" stands twice`,
		"a,,b\n1,2,3\n":                     "f.csv:1:2: the column has no name",
		"1,2\n\n\n3,4\n":                    "f.csv:2: the line is blank",
		"1,\"2\n":                           "f.csv:1:2: the quote does not end on its line",
		"1,\"2\"3\n":                        "f.csv:1:2: a comma is missing after the quoted cell",
		"1\n" + string([]byte{0xff}) + "\n": "f.csv:2:1: ",
		strings.Repeat("1,", mostColumns) + "1\n": "f.csv:1: 1025 columns, at most 1024",
		"a\n" + strings.Repeat("1", mostLine+1):   "f.csv:2: the line has more than 1048576 bytes",
		packed3("1\n2\n")[:20]:                    "f.csv",
		"\x1f\x8bxxxx":                            "f.csv: ",
	} {
		_, err := readTable("f.csv", strings.NewReader(text))
		refused(t, err, want)
	}
}

// FuzzTable: whatever a file holds, it is read as the standard library's reader reads it, or refused with its name.
func FuzzTable(f *testing.F) {
	for _, s := range []string{"", "1,2\n3,4\n", "a,b\n1,\n,NaN\n", "\"a\"\"\",\"b\" \n1,2", "1,2\n\n3,4", "1\n\n\n", packed3("1,2\n")} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readTable("f.csv", bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ft.ErrInvalid) || !strings.HasPrefix(err.Error(), "f.csv:") {
				t.Fatalf("%v", err)
			}
			return
		}
		names := got.names()
		if len(got.rows) == 0 || len(names) != got.width {
			t.Fatalf("%d rows, %d names of %d columns", len(got.rows), len(names), got.width)
		}
		for i, row := range got.rows {
			if len(row) != got.width || slices.ContainsFunc(row, func(v float64) bool { return math.IsInf(v, 0) }) {
				t.Fatalf("row %d: %v", i, row)
			}
		}
		if bytes.HasPrefix(b, []byte{0x1f, 0x8b}) || got.width == 1 || bytes.ContainsRune(b, '\r') {
			return // packed, or lines that mean another thing there
		}
		lib := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(b, []byte("\ufeff"))))
		lib.FieldsPerRecord, lib.TrimLeadingSpace = -1, true
		lines, err := lib.ReadAll()
		if err != nil {
			return // blanks after a quote, which are let pass here
		}
		if got.head != nil {
			lines = lines[1:]
		}
		for i, row := range got.rows {
			for c, v := range row {
				want, err := strconv.ParseFloat(strings.TrimSpace(lines[i][c]), 64)
				if err != nil {
					want = math.NaN()
				}
				if v != want && (v == v || want == want) {
					t.Fatalf("row %d cell %d: %g, want %g", i, c, v, want)
				}
			}
		}
	})
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"b_train.csv": "x,y\n1,2\n", "b_test.csv": "3,4\n5,6\n", "a_train.csv.gz": packed3("7,8\n"), "a_test.csv": "x,y\n9,\n",
		"a_label.csv": "0\n", "pools.csv": "instance,pool\na,P\n\nb, Q\n", "README.md": "x",
	})
	for _, name := range []string{"g", "c", "f", "d", "e"} {
		write(t, dir, map[string]string{name + "_train.csv": "1,2\n", name + "_test.csv": "1,2\n"})
	}
	members, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("they come as they like")
	}
	if len(members) != 7 || members[0].Name != "a" || members[0].Columns[0] != "c1" || members[1].Columns[0] != "x" ||
		members[0].Train[0][1] != 8 || !math.IsNaN(members[0].Test[0][1]) || members[1].Test[1][0] != 5 {
		t.Errorf("%+v", members)
	}
	pools, err := Pools(filepath.Join(dir, PoolsFile))
	if d := cmp.Diff(map[string]string{"a": "P", "b": "Q"}, pools); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
}

func TestLoadRefuses(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"it has no NAME_train.csv and NAME_test.csv":    {"x.csv": "1\n"},
		"a_train.csv: there is no a_test.csv beside it": {"a_train.csv": "1\n"},
		"a_test.csv: there is no a_train.csv beside it": {"a_test.csv": "1\n"},
		"a_train.csv: it is there twice":                {"a_train.csv": "1\n", "a_train.csv.gz": "1\n", "a_test.csv": "1\n"},
		"a_test.csv:1: 1 columns, but ":                 {"a_train.csv": "1,2\n", "a_test.csv": "1\n"},
		`a_test.csv:1:2: column "z", but in `:           {"a_train.csv": "x,y\n1,2\n", "a_test.csv": "x,z\n1,2\n"},
		"a_train.csv:2:1: \"x\" is no number":           {"a_train.csv": "1\nx\n", "a_test.csv": "1\n"},
	} {
		dir := t.TempDir()
		write(t, dir, files)
		_, err := Load(dir)
		refused(t, err, want)
	}
	_, err := Load(filepath.Join(t.TempDir(), "none"))
	refused(t, err, "no such file or directory")
	for want, text := range map[string]string{
		"p.csv:2: 3 cells where an instance and its pool belong": "a,P\nb,Q,R\n",
		`p.csv:2:1: "a" stands twice`:                            "a,P\na,Q\n",
		"p.csv:1:1: the instance is missing":                     ",P\n",
	} {
		path := filepath.Join(t.TempDir(), "p.csv")
		write(t, filepath.Dir(path), map[string]string{"p.csv": text})
		_, err := Pools(path)
		refused(t, err, want)
	}
}

func TestTogether(t *testing.T) {
	files := []Files{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "e"}}
	names := func(groups [][]Files) (out []string) {
		for _, g := range groups {
			s := ""
			for _, f := range g {
				s += f.Name
			}
			out = append(out, s)
		}
		return out
	}
	if d := cmp.Diff([]string{"abcde"}, names(Together(files, nil))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"be", "d", "a", "c"}, names(Together(files, map[string]string{"b": "Q", "e": "Q", "d": "P", "x": "P"}))); d != "" {
		t.Error(d)
	}
}

func TestWrite(t *testing.T) {
	rows := []Row{
		{Score: 0, Self: math.NaN(), Peers: math.NaN(), Pool: math.NaN(), Level: ft.Learning},
		{Score: 1.0000000000000002, Self: 0.1, Peers: 1.0000000000000002, Pool: 0, Alarm: true, Level: ft.Medium},
	}
	want := "row,score,self,peers,pool,alarm,level\n0,0,,,,0,learning\n1,1.0000000000000002,0.1,1.0000000000000002,0,1,medium\n"
	dir := t.TempDir()
	for range 2 { // over what is there
		path, err := WriteFile(dir, "web-1", rows)
		if err != nil || filepath.Base(path) != "web-1_scores.csv" {
			t.Fatal(path, err)
		}
		b, err := os.ReadFile(path)
		if err != nil || string(b) != want {
			t.Errorf("%v %s", err, cmp.Diff(want, string(b)))
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("it left %v", left)
	}
	if err := Write(failing{}, rows); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a full disk: %v", err)
	}
	if _, err := WriteFile(filepath.Join(dir, "none"), "x", rows); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
