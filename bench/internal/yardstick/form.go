package yardstick

import "math"

const (
	// formRidge is added to the variances of scaled columns, fewRidge divided by the rows learnt too.
	formRidge, fewRidge = 1e-3, 1e-2
	// refresh is how many rows are learnt between factorisations, a quarter of it while there are few.
	refresh, fewRows = 32, 400
	// winsor bounds what one column teaches, in its standard deviations.
	winsor, winsorRows = 6, 100
	// strangeAt is the mean square of whitened deviations from which on a row teaches in inverse proportion to it.
	strangeAt, strangeRows = 2, 200
)

// form is the exponentially weighted mean and covariance of a stream, with the factor of its ridged correlation by which a
// deviation is whitened: z = L⁻¹ (x - mean)/scale.
type form struct {
	d           int
	rows        float64 // learnt, by their weight
	forget      float64 // least weight of a new row
	mean, scale []float64
	cov, factor []float64 // lower triangles, d to a row
	since       int       // rows since it was factored
	known       bool      // it was
	dev, white  []float64 // of the last row
	square      float64   // mean square of white
}

func newForm(d int, forget float64) *form {
	return &form{
		d: d, forget: forget, mean: make([]float64, d), scale: make([]float64, d), cov: make([]float64, d*d),
		factor: make([]float64, d*d), dev: make([]float64, d), white: make([]float64, d),
	}
}

// distance is Σ min(z², most)/d, 0 while nothing is known. What is missing is as usual.
func (f *form) distance(row []float64, most float64) float64 {
	for c, v := range row {
		if f.dev[c] = v - f.mean[c]; math.IsNaN(v) {
			f.dev[c] = 0
		}
	}
	if !f.known {
		return 0
	}
	sum, square := 0.0, 0.0
	for i := range f.d {
		v := f.dev[i] / f.scale[i]
		factor := f.factor[i*f.d:]
		for k, z := range f.white[:i] {
			v -= factor[k] * z
		}
		v /= factor[i]
		f.white[i] = v
		square += v * v
		sum += min(v*v, most)
	}
	f.square = square / float64(f.d)
	return sum / float64(f.d)
}

// learn takes the row whose distance was asked for last. least is the least scale of each column. With guard strange rows
// teach less (the weights of Maronna, Robust M-Estimators of Multivariate Location and Scatter, Annals of Statistics 4(1),
// 1976): the shift of one column by a standard deviation is little in that column, and much across columns that follow
// each other.
func (f *form) learn(least []float64, guard bool) {
	weight := 1.0
	if guard && f.known && f.rows > strangeRows {
		weight = min(1, strangeAt/f.square)
	}
	a := max(weight/(f.rows+weight), weight*f.forget)
	for c, v := range f.dev {
		if f.known && f.rows > winsorRows {
			v = max(-winsor*f.scale[c], min(v, winsor*f.scale[c]))
		}
		f.dev[c] = v
		f.mean[c] += a * v
	}
	f.rows += weight
	for i, v := range f.dev {
		row := f.cov[i*f.d : i*f.d+i+1]
		for k := range row {
			row[k] = (1 - a) * (row[k] + a*v*f.dev[k])
		}
	}
	if f.since++; f.since >= refresh || f.rows < fewRows && f.since >= refresh/4 {
		f.refactor(least)
	}
}

// refactor is Cholesky's.
func (f *form) refactor(least []float64) {
	d := f.d
	for c := range d {
		if f.scale[c] = max(math.Sqrt(f.cov[c*d+c]), least[c]); f.scale[c] == 0 {
			f.scale[c] = 1
		}
	}
	for i := range d {
		for k := 0; k <= i; k++ {
			v := f.cov[i*d+k] / (f.scale[i] * f.scale[k])
			if i == k {
				v = max(v, 1) + formRidge + fewRidge/f.rows
			}
			for j := range k {
				v -= f.factor[i*d+j] * f.factor[k*d+j]
			}
			if i == k {
				f.factor[i*d+i] = math.Sqrt(max(v, formRidge*formRidge))
			} else {
				f.factor[i*d+k] = v / f.factor[k*d+k]
			}
		}
	}
	f.since, f.known = 0, true
}
