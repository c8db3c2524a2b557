package score

import (
	"bufio"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
)

// ScoresEnd ends the names of the files that are written.
const ScoresEnd = "_scores.csv"

// header names what is written of each row.
const header = "row,score,self,peers,pool,alarm,level\n"

// Write writes rows as CSV, numbered from 0. What there is none of is empty. Numbers are read as the same again, bit for bit.
func Write(w io.Writer, rows []Row) error {
	out := bufio.NewWriterSize(w, 64<<10)
	_, _ = out.WriteString(header) // Flush tells
	var b []byte
	for i := range rows {
		r := &rows[i]
		b = strconv.AppendInt(b[:0], int64(i), 10)
		for _, v := range [...]float64{r.Score, r.Self, r.Peers, r.Pool} {
			if b = append(b, ','); !math.IsNaN(v) {
				b = strconv.AppendFloat(b, v, 'g', -1, 64)
			}
		}
		if b = append(b, ",0,"...); r.Alarm {
			b[len(b)-2] = '1'
		}
		b = append(append(b, r.Level.String()...), '\n')
		_, _ = out.Write(b)
	}
	return out.Flush()
}

// WriteFile writes rows into NAME_scores.csv of a directory, which is there whole or not at all, in place of one that is there.
// It returns the file's path.
func WriteFile(dir, name string, rows []Row) (path string, err error) {
	path = filepath.Join(dir, name+ScoresEnd)
	f, err := os.CreateTemp(dir, ".fettle-*.part")
	if err != nil {
		return path, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err = errors.Join(Write(f, rows), f.Chmod(0o644), f.Sync()); err != nil {
		return path, err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return path, err
	}
	_ = f.Close() // synced
	return path, nil
}
