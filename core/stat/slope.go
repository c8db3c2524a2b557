package stat

// MaxSlopePoints is the most points that [TheilSen] takes: their pairs are held on the stack.
const MaxSlopePoints = 16

// TheilSen is the median of the slopes between all pairs of the equally spaced points y (Sen, 1968), in units of a
// step, and the concordance of the pairs: Kendall's tau, 1 for a series that only rises, -1 for one that only falls.
// Points beyond the last [MaxSlopePoints] are left out; fewer than two give 0, 0.
func TheilSen(y []float64) (slope, concordance float64) {
	if len(y) > MaxSlopePoints {
		y = y[len(y)-MaxSlopePoints:]
	}
	var pairs [MaxSlopePoints * (MaxSlopePoints - 1) / 2]float64
	n, sign := 0, 0
	for i := range y {
		for j := range i {
			d := y[i] - y[j]
			switch {
			case d > 0:
				sign++
			case d < 0:
				sign--
			}
			pairs[n] = d / float64(i-j)
			n++
		}
	}
	if n == 0 {
		return 0, 0
	}
	return Median(pairs[:n]), float64(sign) / float64(n)
}
