package score

import (
	"fmt"
	"math"
	"slices"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
)

// columns are those that are judged, in the order of the schema.
type columns struct {
	list []column
	who  []int // members of the rows of a frame
}

// column is one of the files' as the judge sees it.
type column struct {
	ft.Dimension
	from  int // in the files
	scale scale
}

// fit finds out what the columns of one pool are, and the scales of those without a unit from the train rows.
func fit(roles *Roles, members []Member) (*columns, error) {
	names := members[0].Columns
	for i := range members {
		m := &members[i]
		if len(m.Columns) != len(names) {
			return nil, fmt.Errorf("score: %s has %d columns, but %s of the same pool has %d: %w",
				m.Name, len(m.Columns), members[0].Name, len(names), ft.ErrInvalid)
		}
		for k, n := range m.Columns {
			if n != names[k] {
				return nil, fmt.Errorf("score: column %d of %s is %q, but %q in %s of the same pool: %w",
					k+1, m.Name, n, names[k], members[0].Name, ft.ErrInvalid)
			}
		}
	}
	for i := range members {
		if err := members[i].whole(); err != nil {
			return nil, err
		}
	}
	said, err := roles.of(names)
	if err != nil {
		return nil, err
	}
	cs := &columns{}
	for i, n := range names {
		r := &said[i]
		if r.Ignore {
			continue
		}
		c := column{Dimension: ft.Dimension{Name: n, Unit: r.Unit, Role: r.Role, Unbounded: r.Unbounded}, from: i, scale: plain}
		switch {
		case r.Unit == "":
			c.Transform, c.scale = scaleOf(r, i, members)
		case r.Transform != nil:
			c.Transform = *r.Transform
		default:
			c.Transform = transformOf(r.Unit)
		}
		if r.Unit == Count {
			c.Unit = "" // which is how the judge is told
		}
		cs.list = append(cs.list, c)
	}
	if len(cs.list) == 0 {
		return nil, fmt.Errorf("score: there are no columns to judge: %w", ft.ErrInvalid)
	}
	slices.SortStableFunc(cs.list, func(a, b column) int { return int(a.Role) - int(b.Role) })
	return cs, nil
}

// schema is that of the judge.
func (cs *columns) schema() (*ft.Schema, error) {
	dims := make([]ft.Dimension, len(cs.list))
	for i := range cs.list {
		dims[i] = cs.list[i].Dimension
	}
	s, err := ft.NewSchema(dims)
	if err != nil {
		return nil, fmt.Errorf("score: %w: %w", err, ft.ErrInvalid)
	}
	return s, nil
}

// scale brings the values of a column to those that the judge is given.
type scale struct {
	shape  ft.Transform // first
	grain  float64      // of Log1p
	factor float64      // then times so much
}

// plain leaves values as they are.
var plain = scale{grain: 1, factor: 1}

func (s *scale) shaped(x float64) float64 {
	switch s.shape {
	case ft.Log1p:
		return math.Log1p(max(0, x) / s.grain)
	case ft.Logit:
		const e = 1. / 50
		x = min(max(x, 0), 1)
		return math.Log((x + e) / (1 - x + e))
	case ft.Identity:
	}
	return x
}

func (s *scale) forward(x float64) float64 { return s.shaped(x) * s.factor }

const (
	// units is how many of the judge's units a column's spread is: a number without a unit matters from 2 of them on, which
	// is then a tenth of the spread.
	units = 10
	// levelUnits is the same of the median of work and of what is unbounded, whose logarithm the judge takes: both are compared
	// with their own level.
	levelUnits = 40
	// leastSpread is the share of a column's middle that its spread is at least: a change of the last digits is none.
	leastSpread = 0.05
	// skewed columns have an upper tail so many times as long as the lower one: the logarithm is taken of them where train is too
	// short for what the judge sees over hours, which ranks better without.
	skewed = 10
)

// scaleOf finds the transform and scale of column i, which has no unit, from the train rows.
func scaleOf(r *Role, i int, members []Member) (ft.Transform, scale) {
	values := make([][]float64, 0, len(members))
	for k := range members {
		values = append(values, sorted(members[k].Train, i))
	}
	middle := typical(values, func(v []float64) float64 { return at(v, 0.5) })
	if (r.Role != ft.Response || r.Unbounded) && (r.Transform == nil || *r.Transform == ft.Log1p) {
		s := plain
		if middle > 0 {
			s.factor = levelUnits / middle
		} else if top := typical(values, func(v []float64) float64 { return v[len(v)-1] }); top > 0 {
			s.factor = levelUnits / top
		}
		return ft.Log1p, s
	}
	s := plain
	switch {
	case r.Transform != nil:
		s.shape = *r.Transform
	case shortest(members) < drift.LongLeast && heavy(values):
		s.shape = ft.Log1p
	}
	if s.shape == ft.Log1p {
		s.grain = middle
		if !(s.grain > 0) {
			s.grain = typical(values, spread)
		}
		if !(s.grain > 0) {
			s.grain = 1
		}
	}
	for _, v := range values {
		for k := range v {
			v[k] = s.shaped(v[k]) // keeps the order
		}
	}
	level := typical(values, func(v []float64) float64 { return at(v, 0.5) })
	wide := typical(values, spread)
	if s.shape != ft.Identity {
		level = 1
	}
	wide = max(wide, leastSpread*math.Abs(level))
	if !(wide > 0) {
		wide = 1
	}
	s.factor = units / wide
	return ft.Identity, s
}

// sorted are the values of a column in ascending order, without the missing ones.
func sorted(rows [][]float64, i int) []float64 {
	out := make([]float64, 0, len(rows))
	for _, r := range rows {
		if v := r[i]; v == v && !math.IsInf(v, 0) {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return out
}

// at is a quantile.
func at(v []float64, q float64) float64 { return v[int(q*float64(len(v)-1)+0.5)] }

// typical is the median over the members that have values, 0 where none has.
func typical(values [][]float64, of func([]float64) float64) float64 {
	var all []float64
	for _, v := range values {
		if len(v) > 0 {
			all = append(all, of(v))
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// heavy tells columns whose upper tail is long: rates, sizes and times.
func heavy(values [][]float64) bool {
	lowest := 0.0
	for _, v := range values {
		if len(v) > 0 {
			lowest = min(lowest, v[0])
		}
	}
	up := typical(values, func(v []float64) float64 { return at(v, 0.99) - at(v, 0.5) })
	down := typical(values, func(v []float64) float64 { return at(v, 0.5) - at(v, 0.01) })
	return lowest >= 0 && up > skewed*down
}

// spread is the standard deviation that the middle half of the values tells; of nine in ten, or of all, where that half does
// not vary.
func spread(v []float64) float64 {
	if s := (at(v, 0.75) - at(v, 0.25)) / 1.349; s > 0 {
		return s
	}
	if s := (at(v, 0.95) - at(v, 0.05)) / 3.29; s > 0 {
		return s
	}
	mean, square := 0.0, 0.0
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		square += (x - mean) * (x - mean) / float64(len(v))
	}
	return math.Sqrt(square)
}
