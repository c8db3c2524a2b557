// Package truth reads the experts' labels of the data sets that FETTLE_DATA names.
package truth

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fettle-dev/fettle/internal/score"
)

// Of reads the labels of a member's test rows, NAME_label.csv.gz in a set's folder: a 0 or 1 a line, one for each row.
// Errors name the file, and the line where it is one that is wrong.
func Of(dir string, m *score.Member) ([]bool, error) {
	path := filepath.Join(dir, m.Name+"_label.csv.gz")
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("FETTLE_DATA is incomplete: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var out []bool
	lines := bufio.NewScanner(z)
	for lines.Scan() {
		switch text := strings.TrimSpace(lines.Text()); text {
		case "0", "1":
			out = append(out, text == "1")
		default:
			return nil, fmt.Errorf("%s:%d: %q is neither 0 nor 1", path, len(out)+1, text)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(out) != len(m.Test) {
		return nil, fmt.Errorf("%s has %d labels for %d test rows", path, len(out), len(m.Test))
	}
	return out, nil
}
