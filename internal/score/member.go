package score

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ft "github.com/fettle-dev/fettle"
)

// Member is one instance's telemetry.
type Member struct {
	Name        string
	Columns     []string    // c1, c2 and so on where the files have no names
	Train, Test [][]float64 // a value a column; NaN is missing
}

// row is that of time t, which is 0 at the first one of test.
func (m *Member) row(t int) []float64 {
	if t < 0 {
		return m.Train[len(m.Train)+t]
	}
	return m.Test[t]
}

// whole tells whether each row has a value for each column.
func (m *Member) whole() error {
	for _, rows := range [...][][]float64{m.Train, m.Test} {
		for i, row := range rows {
			if len(row) != len(m.Columns) {
				return fmt.Errorf("score: %s: row %d has %d values for %d columns: %w", m.Name, i, len(row), len(m.Columns), ft.ErrInvalid)
			}
		}
	}
	return nil
}

// Files are those of a member.
type Files struct{ Name, Train, Test string }

const (
	trainEnd = "_train.csv"
	testEnd  = "_test.csv"
	packed   = ".gz"
)

// Find lists the members of a directory by name: those with a file NAME_train.csv and a file NAME_test.csv, either of which may
// be gzip'd and end in .gz.
func Find(dir string) ([]Files, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("score: %w: %w", err, ft.ErrInvalid)
	}
	byName := map[string]*Files{}
	for _, e := range entries {
		base := strings.TrimSuffix(e.Name(), packed)
		name, train := strings.CutSuffix(base, trainEnd)
		if !train {
			var test bool
			if name, test = strings.CutSuffix(base, testEnd); !test {
				continue
			}
		}
		if name == "" || e.IsDir() {
			continue
		}
		f := byName[name]
		if f == nil {
			f = &Files{Name: name}
			byName[name] = f
		}
		at := &f.Test
		if train {
			at = &f.Train
		}
		if *at != "" {
			return nil, fmt.Errorf("%s: it is there twice, gzip'd and not: %w", filepath.Join(dir, base), ft.ErrInvalid)
		}
		*at = filepath.Join(dir, e.Name())
	}
	var out []Files
	for _, f := range byName {
		if f.Train == "" || f.Test == "" {
			has, lacks := cmp.Or(f.Train, f.Test), trainEnd
			if f.Test == "" {
				lacks = testEnd
			}
			return nil, fmt.Errorf("%s: there is no %s%s beside it: %w", has, f.Name, lacks, ft.ErrInvalid)
		}
		out = append(out, *f)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: it has no NAME%s and NAME%s: %w", dir, trainEnd, testEnd, ft.ErrInvalid)
	}
	slices.SortFunc(out, func(a, b Files) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Read reads a member. Errors name file, line and column.
func (f *Files) Read() (Member, error) {
	m := Member{Name: f.Name}
	train, err := readFile(f.Train)
	if err != nil {
		return m, err
	}
	test, err := readFile(f.Test)
	if err != nil {
		return m, err
	}
	if err := test.fits(train); err != nil {
		return m, err
	}
	m.Columns, m.Train, m.Test = train.names(), train.rows, test.rows
	return m, nil
}

// Load reads the members of a directory, by name; see [Find].
func Load(dir string) ([]Member, error) {
	files, err := Find(dir)
	if err != nil {
		return nil, err
	}
	out := make([]Member, len(files))
	for i := range files {
		if out[i], err = files[i].Read(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// PoolsFile is the name under which a directory says which pools its members are of.
const PoolsFile = "pools.csv"

// Pools reads rows of an instance and its pool; the first line may be "instance,pool".
func Pools(path string) (map[string]string, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("score: %w: %w", err, ft.ErrInvalid)
	}
	defer in.Close()
	out := map[string]string{}
	l := newLines(path, in)
	for {
		cells, err := l.next()
		if err != nil || cells == nil {
			return out, err
		}
		if len(cells) == 1 && cells[0] == "" {
			continue
		}
		if len(cells) != 2 {
			return nil, l.wrong(0, "%d cells where an instance and its pool belong", len(cells))
		}
		if l.line == 1 && cells[0] == "instance" && cells[1] == "pool" {
			continue
		}
		switch _, twice := out[cells[0]]; {
		case cells[0] == "":
			return nil, l.wrong(1, "the instance is missing")
		case twice:
			return nil, l.wrong(1, "%q stands twice", cells[0])
		case len(out) == mostMembers:
			return nil, l.wrong(1, "more than %d instances", mostMembers)
		}
		out[strings.Clone(cells[0])] = strings.Clone(cells[1])
	}
}

// mostMembers bounds the list of pools.
const mostMembers = 1 << 16

// Together gives the members of each pool, of those first that have one. Without pools all are of one; a member that is not in
// pools has none and stands alone.
func Together(files []Files, pools map[string]string) [][]Files {
	if pools == nil {
		return [][]Files{files}
	}
	var out, alone [][]Files
	at := map[string]int{}
	for _, f := range files {
		pool := pools[f.Name]
		if pool == "" {
			alone = append(alone, []Files{f})
			continue
		}
		i, ok := at[pool]
		if !ok {
			i = len(out)
			at[pool] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], f)
	}
	return append(out, alone...)
}
