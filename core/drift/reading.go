package drift

import (
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
)

const (
	heldSpans  = 2  // a value that stays the same for so many intervals of its column is another reading
	newReads   = 10 // values after which a column counts
	knownReads = 3  // the same of a slow column that the group knows
	lateReads  = 15 // values of the group's members, the prior ones included, after which a late column's scatter will do
)

// transform fills the row of y, and of x with what is new in it and counts; first values of columns are taken for
// their location.
func (j *Judge) transform(f *ft.Frame, r int, p *profile.Profile) {
	d := len(j.cols)
	y, x := j.scratch.y[r*d:(r+1)*d], j.scratch.x[r*d:(r+1)*d]
	in := f.X[r*d : (r+1)*d]
	have := ft.Dims(0)
	if r < len(f.Have) {
		have = f.Have[r]
	}
	read := ft.Dims(0)
	for c := range y {
		col := &j.cols[c]
		v := in[col.index]
		if have != 0 && !have.Has(col.index) || math.IsInf(v, 0) {
			v = math.NaN()
		}
		x[c] = math.NaN()
		fresh := false
		if v == v {
			v = col.forward(v)
			fresh = true
		}
		if c >= j.firstSlow {
			fresh = p.Reading(c-j.firstSlow, v, heldSpans*col.every)
		}
		y[c] = v
		if !fresh {
			continue
		}
		read = read.With(c)
		if !p.Ever.Has(c) {
			p.Ever = p.Ever.With(c)
			p.Mu[c], p.Cand[c], p.Seen[c] = v, v, 0
			if c < j.work {
				p.Fast[c] = v
			}
		}
		if p.Counts.Has(c) {
			x[c] = v
		}
	}
	j.scratch.read[r] = read
}
