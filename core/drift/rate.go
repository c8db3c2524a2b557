package drift

import (
	"math"

	"github.com/fettle-dev/fettle/core/stat"
)

// rate divides the row's deviations by their thresholds.
func (j *Judge) rate(r int) {
	p, t := &j.scratch.profiles[r], &j.tracks[j.scratch.index[r]]
	t.dev[partSlope], t.slopeCol, t.slopeScale = j.slope(p, &j.scratch.groups[p.Group])
	t.routes, t.mix = 0, 0
	for k := range j.parts() {
		t.score[k] = 0
		if p.Rows >= p.Need {
			t.score[k] = t.dev[k] / j.ladders[k].low
		}
		switch {
		case k < partSets:
		case j.sets[k-partSets].load:
			t.routes = max(t.routes, t.score[k])
		default:
			t.mix = max(t.mix, t.score[k])
		}
	}
	age(&t.stirred, t.routes, stirs)
	age(&t.roused, max(t.score[partSelf], t.score[partPeers], t.mix), release)
}

// age counts the rows since a score rose to a bound, until it falls below half of it.
func age(rows *int, score, bound float64) {
	switch {
	case score >= bound, *rows > 0 && score >= bound/2:
		*rows++
	default:
		*rows = 0
	}
}

// together is the most rows between the first stir of the routes and that of a response which comes of it.
const together = 30

// rerouted tells whether the routes explain a response: they changed, or they stir and the response began to with them.
func (t *track) rerouted() bool {
	return t.routes >= explains ||
		t.stirred > 0 && t.roused > 0 && t.stirred <= t.roused+together && t.roused <= t.stirred+together
}

// aspect is what may be alike among the members of a pool.
type aspect int

const (
	ofLoad     aspect = iota
	ofRoutes          // the sets that are asked for
	ofResponse        // the columns
	ofMix             // the sets that are answered
	ofCalls           // the columns of dependencies
	aspects
)

// of is the score of an aspect.
func (t *track) of(a aspect) float64 {
	switch a {
	case ofLoad:
		return t.score[partLoad]
	case ofRoutes:
		return t.routes
	case ofMix:
		return t.mix
	case ofCalls:
		return t.calls
	default:
		return t.score[partSelf]
	}
}

// Coherence.
const (
	alike      = 0.5 // cosine of two drift vectors that point the same way
	stirred    = 0.5 // score from which on an instance's drift counts for its peers
	raiseShare = 2.0 // the self thresholds rise by so much times the share that drifts alike
)

// raw is the greatest of a track's scores against its own past, whatever the pool does.
func (t *track) raw() float64 {
	return max(t.score[partLoad], t.score[partSelf], t.routes, t.mix)
}

// raise is what the threshold of a part is multiplied by for what the pool shares. The peers channel is never raised,
// and a slope is beyond that of the peers anyway.
func (j *Judge) raise(t *track, k part) float64 {
	a := ofLoad
	switch {
	case k == partPeers || k == partSlope:
		return 1
	case k == partSelf:
		a = ofResponse
	case k >= partSets && j.sets[k-partSets].load:
		a = ofRoutes
	case k >= partSets:
		a = ofMix
	}
	if !t.common[a] {
		return 1
	}
	return 1 + raiseShare*t.alike[a]
}

// cohere finds, for each aspect, which instances drift in the direction of the others, and how
// much their load and routes differ from those of the others.
func (j *Judge) cohere() {
	s := &j.scratch
	j.pool.members, j.pool.outside = 0, 0
	for r := range s.index {
		if !s.judged(r) {
			continue
		}
		t := &j.tracks[s.index[r]]
		t.alike, t.common = [aspects]float64{}, [aspects]bool{}
		if s.peer[r] {
			j.pool.members++
			if t.outside {
				j.pool.outside++
			}
		}
	}
	j.cohereAspect(ofLoad, j.firstLoad, j.work)
	j.cohereAspect(ofRoutes, 0, 0)
	j.cohereAspect(ofResponse, j.work, len(j.cols))
	j.cohereAspect(ofMix, 0, 0)
	j.cohereCalls()
	j.relative()
	j.mixPeers()
}

// cohereAspect does so for one aspect: by the columns from a to b of the drift vectors, by the scores alone where there
// are none.
func (j *Judge) cohereAspect(k aspect, a, b int) {
	s, d := &j.scratch, len(j.cols)
	sum := s.sum[a:b]
	clear(sum)
	stirs := func(r int) bool { return s.judged(r) && s.peer[r] && j.tracks[s.index[r]].of(k) >= stirred }
	for r := range s.index {
		if stirs(r) {
			addUnit(sum, s.w[r*d+a:r*d+b])
		}
	}
	along := 0
	for r := range s.index {
		if stirs(r) && (a == b || cosine(s.w[r*d+a:r*d+b], sum) >= alike) {
			along++
			j.tracks[s.index[r]].alike[k] = 1
		}
	}
	j.pool.along[k] = along
	for r := range s.index {
		if stirs(r) && j.tracks[s.index[r]].alike[k] > 0 {
			t := &j.tracks[s.index[r]]
			t.alike[k], t.common[k] = float64(along)/float64(j.pool.members), common(along, j.pool.members)
		}
	}
}

// common tells whether n of so many members are enough to speak of a common cause: at least three and at least half,
// or both of two.
func common(n, members int) bool {
	switch members {
	case 0, 1:
		return false
	case 2:
		return n == 2
	default:
		return n >= 3 && 2*n >= members
	}
}

func addUnit(sum, v []float64) {
	n := math.Sqrt(stat.Dot(v, v))
	if n == 0 {
		return
	}
	for c := range sum {
		sum[c] += v[c] / n
	}
}

// cosine of the angle between v and the sum of unit vectors without v's own.
func cosine(v, sum []float64) float64 {
	vv := stat.Dot(v, v)
	if vv == 0 {
		return 0
	}
	n := math.Sqrt(vv)
	dot := stat.Dot(v, sum)/n - 1
	rest := stat.Dot(sum, sum) - 2*stat.Dot(v, sum)/n + 1
	if rest <= 1e-12 {
		return 0
	}
	return dot / math.Sqrt(rest)
}

// relative fills the load and routes of each row relative to its peers'.
func (j *Judge) relative() {
	s, d := &j.scratch, len(j.cols)
	for r := range s.index {
		if s.judged(r) {
			j.tracks[s.index[r]].apart = 0
		}
	}
	for c := j.firstLoad; c < j.work; c++ {
		j.apart(func(r int) float64 { return s.w[r*d+c] }, j.ladders[partLoad].low)
	}
	j.apart(func(r int) float64 { return j.tracks[s.index[r]].routes }, 1)
}

// apart raises each row's apart to what its value leaves the middle of the others' by, in units of low.
func (j *Judge) apart(value func(r int) float64, low float64) {
	s := &j.scratch
	s.col = s.col[:0]
	for r := range s.index {
		if s.judged(r) && s.peer[r] {
			s.col = append(s.col, value(r))
		}
	}
	m := stat.MiddleOf(s.col)
	for r := range s.index {
		if !s.judged(r) {
			continue
		}
		v := value(r)
		lo, hi := m.All()
		if s.peer[r] {
			lo, hi = m.Without(v)
		}
		if b := math.Abs(beyond(v, lo, hi)) / low; b == b {
			t := &j.tracks[s.index[r]]
			t.apart = max(t.apart, b)
		}
	}
}
