package stat

import "math"

// Symmetric matrices and triangular factors are packed by rows: element (i, j) with j <= i stands at i(i+1)/2 + j.
// A factor holds the inverses of its diagonal, so that substitution multiplies where it would divide.

// PackedLen is the length of a packed matrix of n rows.
func PackedLen(n int) int { return n * (n + 1) / 2 }

// tiny keeps a pivot positive where neither data nor ridge do.
const tiny = 1e-12

// Factor writes the packed Cholesky factor of the covariance s, regularised, to l: ridge[i] is added to the diagonal
// as the square of the least scale that matters of column i, and the covariances of the columns from lead on, given
// the first lead columns, are shrunk towards none by the share shrink[i] in row i (Ledoit and Wolf, 2004, towards the
// diagonal; only the part that the leading columns do not explain is shrunk, so that regressions on them stay whole).
// Pairwise estimates need not be positive definite: a pivot never falls below half its ridge, and no element of a row
// exceeds the row's own standard deviation, as none does in the factor of a covariance.
func Factor(l, s, ridge []float64, lead int, shrink []float64) {
	for i := range ridge {
		ri := l[PackedLen(i):PackedLen(i+1)]
		most := (1 + 1e-9) * math.Sqrt(max(s[PackedLen(i)+i], 0)+ridge[i])
		for j := 0; j <= i; j++ {
			rj := l[PackedLen(j):PackedLen(j+1)]
			m := min(j, lead)
			c := s[PackedLen(i)+j] - Dot(ri[:m], rj[:m])
			if i != j {
				if j >= lead {
					c *= 1 - shrink[i]
				}
				ri[j] = min(max((c-Dot(ri[m:j], rj[m:j]))*rj[j], -most), most)
				continue
			}
			c += ridge[i] - Dot(ri[m:j], rj[m:j])
			ri[i] = 1 / math.Sqrt(max(c, ridge[i]/2, tiny))
		}
	}
}

// Dot is the inner product of a and b, which have the same length. Four accumulators hide the latency of addition.
func Dot(a, b []float64) float64 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}

// Whiten writes the innovations z of x - mu for a factor l: z[i] is what column i deviates from its expectation given
// the columns before it, in its conditional standard deviations. The sum of squares of z[:k] is the Mahalanobis
// distance of the first k columns, that of z[k:] the distance of the others given them. A column that is NaN takes
// its conditional expectation, so its innovation is 0; Whiten reports how many there were.
func Whiten(z, l, x, mu []float64) (missing int) {
	for i := range z {
		row := l[PackedLen(i):PackedLen(i+1)]
		v := (x[i] - mu[i] - Dot(row[:i], z[:i])) * row[i]
		if v != v {
			v = 0
			missing++
		}
		z[i] = v
	}
	return missing
}

// Discount divides the innovations of the columns that follow a missing one (NaN in x) by the standard deviation
// that not knowing it adds to them. It leaves out what later columns would tell of the missing one, which errs
// towards calm.
func Discount(z, l, x []float64) {
	for i := range z {
		row := l[PackedLen(i):PackedLen(i+1)]
		v := 0.0
		for j := range i {
			if x[j] != x[j] {
				v += row[j] * row[j]
			}
		}
		if v > 0 {
			z[i] /= math.Sqrt(1 + v*row[i]*row[i])
		}
	}
}

// Color is the deviation of column i that the innovations z[from:i+1] amount to: one row of L z. With from the number
// of leading columns it is the deviation given those columns; with z all innovations and from 0 the whole deviation.
func Color(l, z []float64, i, from int) float64 {
	row := l[PackedLen(i):PackedLen(i+1)]
	if from > i {
		return 0
	}
	return Dot(row[from:i], z[from:i]) + z[i]/row[i]
}

// Spread is the standard deviation of column i given the first from columns.
func Spread(l []float64, i, from int) float64 {
	row := l[PackedLen(i):PackedLen(i+1)]
	from = min(from, i)
	return math.Sqrt(Dot(row[from:i], row[from:i]) + 1/(row[i]*row[i]))
}
