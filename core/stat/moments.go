package stat

import "math"

// FoldCov moves the packed covariance s towards the outer product of the deviations e: one step of an exponentially
// weighted estimate. The weight of a pair is the greater of its columns' weights a, so that a column which came late
// is learnt as fast as the others were. Columns that are NaN keep what they had.
func FoldCov(s, e, a []float64) {
	k := 0
	whole, most := true, 0.0
	for i, ei := range e {
		row := s[k : k+i+1]
		k += i + 1
		switch w := a[i]; {
		case ei != ei:
			whole = false
		case whole && w >= most:
			most = w
			for j, ej := range e[:len(row)] {
				row[j] += w * (ei*ej - row[j])
			}
		default:
			for j := range row {
				if p := ei * e[j]; p == p {
					row[j] += max(w, a[j]) * (p - row[j])
				}
			}
		}
	}
}

// Step is the weight of the next of n+1 observations: forget/(n+forget), which weighs the later ones more the larger
// forget is (1 is the plain mean), and never less than least, from where on the mean forgets exponentially.
func Step(n, forget, least float64) float64 { return max(forget/(n+forget), least) }

// Huber is z up to the bound and grows like a logarithm beyond it, up to twice the bound: what is wild still counts
// for more than what is odd, but cannot outweigh many rows.
func Huber(z, bound float64) float64 {
	switch {
	case z > bound:
		return bound * min(2, 1+math.Log(z/bound)/2)
	case z < -bound:
		return -bound * min(2, 1+math.Log(-z/bound)/2)
	default:
		return z
	}
}
