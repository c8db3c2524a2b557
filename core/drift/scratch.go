package drift

import (
	"math"
	"slices"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// scratch is what one frame needs; it is kept, so that a steady pool allocates nothing.
type scratch struct {
	index  []int32   // profile of each row, -1 for none
	serves []bool    // the row is in service and its group has a factor: it is compared
	peer   []bool    // it may be a peer: judged already, not held
	y      []float64 // rows x columns, transformed
	z      []float64 // rows x columns, innovations
	p      []float64 // rows x columns, beyond the peers; NaN without peers
	w      []float64 // rows x columns: the drift vector: load steps and smoothed responses in healthy scales
	group  []int32   // first row of each group, -1 for none
	next   []int32   // next row of the same group
	col    []float64 // one column over rows
	who    []int32   // the rows of col
	sum    []float64 // a column each
	dev    []float64
	ridge  []float64
	share  []float64 // a category each
	points [profile.Minima + 1]float64
}

func (s *scratch) judged(r int) bool { return s.index[r] >= 0 && s.serves[r] }

func resize[T any](v []T, n int) []T { return slices.Grow(v[:0], n)[:n] }

func (s *scratch) size(n, d, c, groups int) {
	s.index, s.serves, s.peer = resize(s.index, n), resize(s.serves, n), resize(s.peer, n)
	s.y, s.z, s.p, s.w = resize(s.y, n*d), resize(s.z, n*d), resize(s.p, n*d), resize(s.w, n*d)
	s.next, s.col, s.who = resize(s.next, n), resize(s.col, n), resize(s.who, n)
	s.sum, s.dev, s.ridge, s.share = resize(s.sum, d), resize(s.dev, d), resize(s.ridge, d), resize(s.share, c)
	s.group = resize(s.group, groups)
	for g := range s.group {
		s.group[g] = -1
	}
	clear(s.w)
}

// prepare binds the frame's rows to profiles, and transforms and whitens their values.
func (j *Judge) prepare(f *ft.Frame) {
	n, d := len(f.Rows), len(j.cols)
	for r := range f.Rows {
		j.bank.GroupOf(f.Rows[r].Group)
		j.release(&f.Rows[r])
	}
	s := &j.scratch
	s.size(n, d, j.schema.Categories(), j.bank.Groups())
	for r := range f.Rows {
		row := &f.Rows[r]
		i := j.bind(row)
		s.index[r], s.serves[r], s.peer[r] = i, false, false
		if i < 0 {
			continue
		}
		p, t := j.bank.At(i), &j.tracks[i]
		g := j.bank.Group(p.Group)
		g.Seen, t.seen = j.tick, j.tick
		t.age = float64(row.Age) / j.config.Interval.Seconds()
		if !row.Serving {
			t.idle++
			continue
		}
		if t.idle >= gapRows || t.held && !row.Held {
			p.Quiet() // what was before the gap or the action says nothing of what is now: a cure must show at once
		}
		t.idle, t.held = 0, row.Held
		j.transform(f, r, &p)
		s.serves[r] = g.Factored
		s.peer[r] = g.Factored && !row.Held && p.Rows >= p.Need
		s.next[r], s.group[p.Group] = s.group[p.Group], int32(r)
		if g.Factored {
			j.whiten(r, &p, &g, t)
		}
	}
}

// transform fills the row of y and takes first values of columns as their location.
func (j *Judge) transform(f *ft.Frame, r int, p *profile.Profile) {
	d := len(j.cols)
	y := j.scratch.y[r*d : (r+1)*d]
	x := f.X[r*d : (r+1)*d]
	have := ft.Dims(0)
	if r < len(f.Have) {
		have = f.Have[r]
	}
	for c := range y {
		col := &j.cols[c]
		v := x[col.index]
		if have != 0 && !have.Has(col.index) || math.IsInf(v, 0) {
			v = math.NaN()
		}
		if v == v {
			v = col.forward(v)
			if !p.Ever.Has(c) {
				p.Ever = p.Ever.With(c)
				p.Mu[c], p.Cand[c] = v, v
				if c < j.work {
					p.Fast[c] = v
				}
			}
		}
		y[c] = v
	}
}

// Bounds of innovations.
const (
	huberAt     = 12.0  // innovations beyond grow like a logarithm
	youngVar    = 24.0  // extra variance of a new life, in units of the scatter, at age 0
	sampleVar   = 12.0  // extra variance of a location that rests on one row; autocorrelation makes it more than 1
	rowsPer     = 4.0   // autocorrelated rows that are worth one independent one
	growingRows = 300   // a new life may hold less than its group for so many rows
	priorRows   = 120.0 // rows that the group's location is worth to a new life
)

// whiten fills the row of z: responses given the work and the responses before them, in standard deviations, wider
// outside of the learnt range of work, for the young and for fresh locations.
func (j *Judge) whiten(r int, p *profile.Profile, g *profile.Group, t *track) {
	d := len(j.cols)
	y, z := j.scratch.y[r*d:(r+1)*d], j.scratch.z[r*d:(r+1)*d]
	if missing := stat.Whiten(z, g.L, y, p.Mu); missing > 0 {
		stat.Discount(z, g.L, y)
	}
	j.lowest(r, p, g)
	work := z[:j.work]
	n := max(1, min(g.Rows, 2000)/rowsPer)
	v := 1 + stat.Dot(work, work)/n
	rows := p.Rows
	if p.Prior {
		rows += priorRows
		v *= 1 + youngVar*math.Exp(-t.age/warmRows)
	}
	v *= 1 + sampleVar/max(rows, 1)
	t.widen = math.Sqrt(v)
	for c := j.work; c < d; c++ {
		z[c] = stat.Huber(z[c]/t.widen, huberAt)
		if z[c] < 0 && j.cols[c].slope >= 0 && p.Prior && t.age < growingRows {
			z[c] = 0 // it has yet to grow to what its group usually holds
		}
	}
}

// compare fills p: the part of each response innovation that neither the instance's own usual nor the middle of its
// peers covers.
func (j *Judge) compare() {
	s, d := &j.scratch, len(j.cols)
	for g := range s.group {
		if s.group[g] < 0 || !j.bank.Group(int32(g)).Factored {
			continue
		}
		for c := j.work; c < d; c++ {
			s.col = s.col[:0]
			for r := s.group[g]; r >= 0; r = s.next[r] {
				if s.peer[r] && s.y[int(r)*d+c] == s.y[int(r)*d+c] {
					s.col = append(s.col, s.z[int(r)*d+c])
				}
			}
			m := stat.MiddleOf(s.col)
			for r := s.group[g]; r >= 0; r = s.next[r] {
				k := int(r)*d + c
				lo, hi := m.All()
				if s.peer[r] && s.y[k] == s.y[k] {
					lo, hi = m.Without(s.z[k])
				}
				s.p[k] = apart(s.z[k], lo, hi)
			}
		}
	}
}

// beyond is by how much v leaves the interval that 0, lo and hi span; NaN where there are no lo and hi.
func beyond(v, lo, hi float64) float64 {
	if lo != lo {
		return lo
	}
	return v - min(max(v, min(lo, 0)), max(hi, 0))
}

// unrest is how far peers must be from their usual for differences between them to be twice as large: where all are
// out of the learnt range, so is what sets them apart.
const unrest = 4.0

// apart is beyond in units that grow with the peers' own deviation.
func apart(v, lo, hi float64) float64 {
	b := beyond(v, lo, hi)
	ref := max(lo, -hi, 0)
	return b / (1 + ref/unrest)
}
