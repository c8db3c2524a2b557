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
	index   []int32   // profile of each row, -1 for none
	serves  []bool    // the row is in service and its group has a factor: it is compared
	peer    []bool    // it may be a peer: judged already, not held
	y       []float64 // rows x columns, transformed
	x       []float64 // of these, those that are new and count; else NaN
	read    []ft.Dims // columns of each row that are new
	z       []float64 // rows x columns, innovations
	p       []float64 // rows x columns, beyond the peers; NaN without peers
	w       []float64 // rows x columns: the drift vector: load steps and smoothed responses in healthy scales
	group   []int32   // first row of each group, -1 for none
	next    []int32   // next row of the same group
	members []int     // rows of each group
	forms   []float64 // rows x 2 channels x spans: the quadratic forms
	col     []float64 // one column over rows
	sum     []float64 // a column each
	unit    []float64 // sum of unit vectors
	dev     []float64
	off     []float64 // deviations of a stream
	white   []float64 // and their innovations
	streams []float64 // stream x columns
	ridge   []float64
	shrink  []float64
	weight  []float64
	share   []float64 // a category each
	mix     []float64 // rows x categories of one set: how its shares moved
	mass    []float64 // the counts that this rests on
	points  [profile.Minima + 1]float64
	// Views of the rows' profiles and of all groups.
	profiles []profile.Profile
	groups   []profile.Group
}

func (s *scratch) judged(r int) bool { return s.index[r] >= 0 && s.serves[r] }

func resize[T any](v []T, n int) []T { return slices.Grow(v[:0], n)[:n] }

func (s *scratch) size(n, d, c, groups int) {
	s.index, s.serves, s.peer = resize(s.index, n), resize(s.serves, n), resize(s.peer, n)
	s.y, s.x, s.z, s.p, s.w = resize(s.y, n*d), resize(s.x, n*d), resize(s.z, n*d), resize(s.p, n*d), resize(s.w, n*d)
	s.next, s.col, s.read, s.profiles = resize(s.next, n), resize(s.col, n), resize(s.read, n), resize(s.profiles, n)
	s.sum, s.dev, s.ridge, s.share = resize(s.sum, d), resize(s.dev, d), resize(s.ridge, d), resize(s.share, c)
	s.off, s.white, s.streams = resize(s.off, d), resize(s.white, d), resize(s.streams, profile.Streams*d)
	s.shrink, s.weight = resize(s.shrink, d), resize(s.weight, d)
	s.forms, s.members = resize(s.forms, n*2*profile.Spans), resize(s.members, groups)
	clear(s.members)
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
		if r == 0 || f.Rows[r].Group != f.Rows[r-1].Group {
			j.bank.GroupOf(f.Rows[r].Group)
		}
		j.release(&f.Rows[r])
	}
	s := &j.scratch
	s.size(n, d, j.schema.Categories(), j.bank.Groups())
	for r := range f.Rows {
		s.index[r], s.serves[r], s.peer[r] = j.bind(&f.Rows[r]), false, false
	}
	s.groups = s.groups[:0]
	for g := range j.bank.Groups() { // views hold now that no profile is added any more
		s.groups = append(s.groups, j.bank.Group(int32(g)))
	}
	for r := range f.Rows {
		if i := s.index[r]; i >= 0 {
			s.profiles[r] = j.bank.At(i)
			j.enter(f, r)
		}
	}
}

// enter takes the values of row r, whose profile is known.
func (j *Judge) enter(f *ft.Frame, r int) {
	s, row := &j.scratch, &f.Rows[r]
	p, t := &s.profiles[r], &j.tracks[s.index[r]]
	g := &s.groups[p.Group]
	g.Last, t.seen = j.tick, j.tick
	t.age = float64(row.Age) / j.config.Interval.Seconds()
	if !row.Serving {
		t.idle++
		return
	}
	if t.idle >= gapRows || t.held && !row.Held {
		t.quiet(p) // what was before the gap or the action says nothing of what is now: a cure must show at once
	}
	t.idle, t.held = 0, row.Held
	j.transform(f, r, p)
	s.serves[r] = g.Factored
	s.peer[r] = g.Factored && !row.Held && p.Rows >= p.Need
	s.next[r], s.group[p.Group] = s.group[p.Group], int32(r)
	s.members[p.Group]++
	if g.Factored {
		j.whiten(r, p, g, t)
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
	x, z := j.scratch.x[r*d:(r+1)*d], j.scratch.z[r*d:(r+1)*d]
	if missing := stat.Whiten(z, g.L, x, p.Mu); missing > 0 {
		stat.Discount(z, g.L, x)
	}
	work := z[:j.work]
	for c, v := range work {
		work[c] = min(max(v, -vast), vast)
	}
	j.lowest(r, p, g)
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
		if c == j.own { // as far as dependencies are from what is usual, as little is known of what follows
			calls := z[j.work:j.own]
			t.widen = math.Sqrt(v + stat.Dot(calls, calls)/n)
		}
		z[c] = stat.Huber(z[c]/t.widen, huberAt)
		if z[c] < 0 && j.cols[c].slope >= 0 && p.Prior && t.age < growingRows {
			z[c] = 0 // it has yet to grow to what its group usually holds
		}
		if c >= j.firstSlow && x[c] != x[c] {
			z[c] = p.Hist[c*profile.Recent] // of slow columns the first is the newest
		}
	}
}

// enoughPeers is how many peers tell the middle of a group: of larger ones each second, third, ... row is asked.
const enoughPeers = 64

// compare fills p: the part of each response innovation that neither the instance's own usual nor the middle of its
// peers covers. A slow column has its last innovation between readings, since those of peers come at other times.
func (j *Judge) compare() {
	s, d := &j.scratch, len(j.cols)
	for g := range s.group {
		if s.group[g] < 0 || !s.groups[g].Factored {
			continue
		}
		for c := j.work; c < d; c++ {
			s.col = s.col[:0]
			stride := int32(s.members[g]/enoughPeers + 1)
			for r := s.group[g]; r >= 0; r = s.next[r] {
				if s.peer[r] && r%stride == 0 && j.known(int(r), c) {
					s.col = append(s.col, s.z[int(r)*d+c])
				}
			}
			m := stat.MiddleOf(s.col)
			lo, hi := m.All()
			for r := s.group[g]; r >= 0; r = s.next[r] {
				k := int(r)*d + c
				if s.peer[r] && r%stride == 0 && j.known(int(r), c) {
					l, h := m.Without(s.z[k])
					s.p[k] = apart(s.z[k], l, h)
					continue
				}
				s.p[k] = apart(s.z[k], lo, hi)
			}
		}
	}
}

// known tells whether row r has an innovation of column c, new or held.
func (j *Judge) known(r, c int) bool {
	s, k := &j.scratch, r*len(j.cols)+c
	return s.x[k] == s.x[k] || c >= j.firstSlow && s.y[k] == s.y[k] && s.profiles[r].Counts.Has(c)
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
