package score

import (
	ft "github.com/fettle-dev/fettle"
)

// Roles say what the columns of the files are.
type Roles struct {
	// File is where they stand, for errors.
	File    string
	Every   ft.Duration // between rows, 0 where it is not said
	Columns []Role
}

// Role says what one column is. All but Column may be missing.
type Role struct {
	Column    string // its name, or its number from 1
	Role      ft.Role
	Unit      string
	Transform *ft.Transform
	Unbounded bool
	Ignore    bool // it is not judged
	line, col int
}

// said is what is known of one column.
type said struct {
	role              ft.Role
	unit              string
	transform         *ft.Transform
	unbounded, ignore bool
}

// of gives what is said of each of the columns.
func (r *Roles) of(names []string) ([]said, error) {
	out := make([]said, len(names))
	for i := range out {
		out[i].role = ft.Response
	}
	return out, nil
}
