// Package yardstick has the plain methods that Fettle's detector is measured beside: what a statistician would try first,
// and what dashboards ship. Each is trained on train rows only, and scores a row by itself, so that it is causal. Missing
// values count as usual ones. A [Model] is safe for concurrent use. Beside them is [Streams], which reads rows in their
// order: what Fettle's detector is to become, in few lines.
package yardstick

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
)

// Method is a way to score rows.
type Method struct {
	Name string
	// Release is the part of its threshold below which an alarm ends.
	Release float64
	// Fit learns what is usual from train rows of one width, NaN where a value is missing. It is nil for
	// [Streams], which learn in the order of rows: see [NewStreams].
	Fit func(train [][]float64) (Model, error)
	// Runs is how many alarm runs its threshold allows in train for each one that is stated, 1 where it is 0.
	Runs float64
	// Without is what [Streams] does without, where there is no Fit.
	Without Part
}

// Model scores rows.
type Model interface {
	// Score is a distance from what is usual, 0 or more.
	Score(row []float64) float64
}

// Methods are all of them. z bands have no hysteresis, the others have that of Fettle's alarms.
func Methods() []Method {
	return []Method{
		{Name: "ridge Mahalanobis", Release: release, Fit: mahalanobis},
		{Name: "PCA residual", Release: release, Fit: residual},
		{Name: "z bands", Release: 1, Fit: bands},
		StreamsWithout(Whole),
	}
}

// streamRuns is the bound that test is to keep: train is not free of anomalies, which use up the runs of a threshold that
// allows no more than the stated ones.
const streamRuns = 2

// StreamsWithout is the method of [Streams] without one of their parts.
func StreamsWithout(p Part) Method {
	return Method{Name: "streams", Release: release, Runs: streamRuns, Without: p}
}

const (
	release = 0.6
	// ridge is added to the variances of standardised columns: the power of ten that bench/detect finds best for the sum of
	// VUS-PR over its sets.
	ridge = 1e-4
	// explained is the share of the variance that the principal components are to explain, one of the usual choices.
	explained = 0.9
	// leastSpread is the least scale of a column, as a part of the greatest magnitude that it had in train: a change of the
	// last digit of a column that never varied is no drift.
	leastSpread = 1e-2
)

// scale brings columns to mean 0 and standard deviation 1 over train.
type scale struct{ mean, deviation []float64 }

func newScale(train [][]float64) (*scale, error) {
	if len(train) < 2 {
		return nil, fmt.Errorf("yardstick: %d train rows", len(train))
	}
	d := len(train[0])
	s := &scale{make([]float64, d), make([]float64, d)}
	column := make([]float64, 0, len(train))
	for i := range d {
		column = column[:0]
		greatest := 0.0
		for _, row := range train {
			if v := row[i]; !math.IsNaN(v) {
				column = append(column, v)
				greatest = max(greatest, math.Abs(v))
			}
		}
		mean, deviation := 0.0, 0.0
		if len(column) > 1 {
			mean, deviation = stat.MeanStdDev(column, nil)
		}
		if deviation = max(deviation, leastSpread*greatest); deviation == 0 {
			deviation = 1
		}
		s.mean[i], s.deviation[i] = mean, deviation
	}
	return s, nil
}

func (s *scale) standard(row []float64) []float64 {
	z := make([]float64, len(row))
	for i, v := range row {
		if !math.IsNaN(v) {
			z[i] = (v - s.mean[i]) / s.deviation[i]
		}
	}
	return z
}

// covariance is that of standardised train rows.
func (s *scale) covariance(train [][]float64) *mat.SymDense {
	d := len(s.mean)
	x := mat.NewDense(len(train), d, nil)
	for i, row := range train {
		x.SetRow(i, s.standard(row))
	}
	c := mat.NewSymDense(d, nil)
	stat.CovarianceMatrix(c, x, nil)
	return c
}

// distance is Mahalanobis' (On the Generalised Distance in Statistics, 1936), its covariance with a ridge.
type distance struct {
	*scale
	factor mat.Cholesky
	origin *mat.VecDense
}

func mahalanobis(train [][]float64) (Model, error) {
	s, err := newScale(train)
	if err != nil {
		return nil, err
	}
	c := s.covariance(train)
	for i := range s.mean {
		c.SetSym(i, i, max(c.At(i, i), 1)+ridge) // less than 1 where the least scale stands for the deviation
	}
	m := &distance{scale: s, origin: mat.NewVecDense(len(s.mean), nil)}
	if !m.factor.Factorize(c) {
		return nil, fmt.Errorf("yardstick: the covariance is not positive definite")
	}
	return m, nil
}

func (m *distance) Score(row []float64) float64 {
	return stat.Mahalanobis(mat.NewVecDense(len(row), m.standard(row)), m.origin, &m.factor)
}

// remainder is the length of what a row has outside of the principal components (the Q statistic of Jackson and
// Mudholkar, Control Procedures for Residuals Associated With Principal Component Analysis, Technometrics 21(3), 1979).
type remainder struct {
	*scale
	components *mat.Dense // a column each
}

func residual(train [][]float64) (Model, error) {
	s, err := newScale(train)
	if err != nil {
		return nil, err
	}
	var e mat.EigenSym
	if !e.Factorize(s.covariance(train), true) {
		return nil, fmt.Errorf("yardstick: the covariance has no eigenvectors")
	}
	values := e.Values(nil) // ascending
	total, sum := 0.0, 0.0
	for _, v := range values {
		total += v
	}
	from := len(values)
	for from > 0 && sum < explained*total {
		from--
		sum += values[from]
	}
	var vectors mat.Dense
	e.VectorsTo(&vectors)
	m := &remainder{scale: s}
	if d := len(values); from < d {
		m.components = mat.DenseCopyOf(vectors.Slice(0, d, from, d))
	}
	return m, nil
}

func (m *remainder) Score(row []float64) float64 {
	z := mat.NewVecDense(len(row), m.standard(row))
	if m.components != nil {
		var along, within mat.VecDense
		along.MulVec(m.components.T(), z)
		within.MulVec(m.components, &along)
		z.SubVec(z, &within)
	}
	return mat.Norm(z, 2)
}

// band is the widest of the columns' own distances from their means, in standard deviations: an alarm on each metric.
type band struct{ *scale }

func bands(train [][]float64) (Model, error) {
	s, err := newScale(train)
	return band{s}, err
}

func (m band) Score(row []float64) float64 {
	widest := 0.0
	for _, v := range m.standard(row) {
		widest = max(widest, math.Abs(v))
	}
	return widest
}
