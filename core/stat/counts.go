package stat

import "math"

// GTest compares the counts w with the shares p of a reference: 2 N times the Kullback-Leibler divergence of the
// window from the reference, which is chi-square with used-1 degrees of freedom for independent counts (Wilks, 1938).
// n is the sum of w, used the number of categories that either has. A category with a share of 0 must have count 0.
func GTest(w, p []float64) (g, n float64, used int) {
	for _, v := range w {
		n += v
	}
	for i, v := range w {
		if v > 0 || p[i] > 0 {
			used++
		}
		if v > 0 && p[i] > 0 {
			g += v * math.Log(v/(n*p[i]))
		}
	}
	return max(0, 2*g), n, used
}

// Overdispersion is the factor by which counts of total n that are correlated with rho, compared with a reference
// drawn from ref counts, exceed their chi-square: 1 + (n-1) rho, as in the design effect of cluster samples
// (Rao and Scott, 1981), plus n/ref.
func Overdispersion(n, rho, ref float64) float64 {
	return 1 + max(0, n-1)*rho + n/max(ref, 1)
}
