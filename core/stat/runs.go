package stat

import "math"

// RunLevels is the number of candidate thresholds of [Runs].
const RunLevels = 32

// Release is the part of a threshold below which an alarm run ends.
const Release = 0.6

// Runs calibrates a threshold by alarm runs. Scores are autocorrelated, so quantiles of rows say nothing of how often
// an alarm would begin: Runs counts, for each candidate threshold on a logarithmic grid around the shipped one, by
// default between half of it and twice as much, how many runs began in healthy time (on above the threshold, off below [Release] times it). The
// shipped tail, a rate that falls by e for each Scale, weighs as much as Prior days of data: before there are any it
// decides, and it always bounds.
type Runs struct {
	Threshold float64 // shipped: crossed at Rate
	Scale     float64 // shipped: the rate falls by e in so much
	Rate      float64 // runs per day at Threshold
	Prior     float64 // days of data that the shipped tail is worth
	Octaves   float64 // that the grid reaches below and above Threshold; 0 is 1
	Days      float64 // healthy instance-days seen
	Counts    [RunLevels]float64
}

// Level is candidate threshold i.
func (r *Runs) Level(i int) float64 {
	return r.Threshold * math.Exp2(r.octaves()*(2*float64(i)/(RunLevels-1)-1))
}

func (r *Runs) octaves() float64 {
	if r.Octaves == 0 {
		return 1
	}
	return r.Octaves
}

// Fold counts the runs that begin with score for the stream whose state is on (a bit for each level), and returns its
// next state. Levels above limit are not counted: alarms are clipped, since what is far above is no healthy time.
func (r *Runs) Fold(on uint32, score, limit, days float64) uint32 {
	r.Days += days
	if score < r.Level(0)*Release {
		return 0
	}
	above, held := r.mask(score), r.mask(score/Release)
	begun := above &^ on
	for i := 0; begun>>i != 0; i++ {
		if begun>>i&1 != 0 && r.Level(i) <= limit {
			r.Counts[i]++
		}
	}
	return above | on&held
}

// mask has a bit for each level at or below score.
func (r *Runs) mask(score float64) uint32 {
	k := int(math.Floor((math.Log2(score/r.Threshold)/r.octaves()+1)*(RunLevels-1)/2)) + 1
	return uint32(1<<uint(min(max(k, 0), RunLevels)) - 1)
}

// Quantile gives the smallest candidate u such that each candidate from u on is crossed at most rate times a day, and
// the scale of the tail there: by how much a threshold must rise for e times fewer runs.
func (r *Runs) Quantile(rate float64) (u, scale float64) {
	u, dense := r.crossing(rate), r.crossing(10*rate)
	scale = min(max((u-dense)/math.Ln10, r.Scale/2), 2*r.Scale)
	return u, scale
}

// The least and the most that a threshold must rise for a tenth of the runs, where the tail is a power law.
const (
	leastRatio = 3
	mostRatio  = 6
)

// Ratio is the factor by which a threshold must rise for a tenth of the runs if the tail falls by a power law, as that of sums of
// squares of what is heavy-tailed does: what it rises by from ten times the rate to the rate, within bounds.
func (r *Runs) Ratio(rate float64) float64 {
	return min(max(r.crossing(rate)/r.crossing(10*rate), leastRatio), mostRatio)
}

func (r *Runs) crossing(rate float64) float64 {
	for i := RunLevels - 1; i >= 0; i-- {
		if r.posterior(i) > rate {
			return r.Level(min(i+1, RunLevels-1))
		}
	}
	return r.Level(0)
}

func (r *Runs) posterior(i int) float64 {
	shipped := r.Rate * math.Exp((r.Threshold-r.Level(i))/r.Scale)
	return (r.Counts[i] + r.Prior*shipped) / (r.Days + r.Prior)
}
