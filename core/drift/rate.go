package drift

import (
	"math"

	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// rate divides the row's deviations by their thresholds.
func (j *Judge) rate(r int) {
	p, t := &j.scratch.profiles[r], &j.tracks[j.scratch.index[r]]
	t.dev[partSlope], t.slopeCol, t.slopeScale = j.slope(p, &j.scratch.groups[p.Group])
	t.routes, t.mix = 0, 0
	for k := range j.parts() {
		t.score[k] = 0
		if j.counts(p, k) {
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

// counts tells whether a part of a profile is judged. Rows that are a minute apart or more are too far apart for the parts
// that see what happens within seconds, once the streams see them.
func (j *Judge) counts(p *profile.Profile, k part) bool {
	streams := p.Long.Rows >= j.longLearn
	switch {
	case p.Rows < p.Need:
		return false
	case k == partStreams:
		return streams
	case k == partLoad || k == partSelf || k == partPeers:
		return !j.coarse || !streams
	default:
		return true
	}
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
	ofStreams         // the columns over longer times
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
	case ofStreams:
		return t.score[partStreams]
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
	case k == partStreams:
		a = ofStreams
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
	d := len(j.cols)
	drift := func(from, to int) func(r int) []float64 {
		return func(r int) []float64 { return s.w[r*d+from : r*d+to] }
	}
	j.cohereAspect(ofLoad, drift(j.firstLoad, j.work))
	j.cohereAspect(ofRoutes, nil)
	j.cohereAspect(ofResponse, drift(j.work, d))
	j.cohereAspect(ofMix, nil)
	j.cohereAspect(ofStreams, func(r int) []float64 { return s.profiles[r].Lean })
	j.cohereCalls()
	j.relative()
	j.mixPeers()
}

// cohereAspect does so for one aspect: by the members' drift vectors, by the scores alone where there are none.
func (j *Judge) cohereAspect(k aspect, vector func(r int) []float64) {
	s := &j.scratch
	s.unit = s.unit[:0]
	stirs := func(r int) bool { return s.judged(r) && s.peer[r] && j.tracks[s.index[r]].of(k) >= stirred }
	for r := range s.index {
		if vector != nil && stirs(r) {
			v := vector(r)
			if len(s.unit) == 0 {
				s.unit = resize(s.unit, len(v))
				clear(s.unit)
			}
			addUnit(s.unit, v)
		}
	}
	along := 0
	for r := range s.index {
		if stirs(r) && (vector == nil || cosine(vector(r), s.unit) >= alike) {
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

// relative fills the load, routes and streams of each row relative to its peers'.
func (j *Judge) relative() {
	s, d := &j.scratch, len(j.cols)
	for r := range s.index {
		if s.judged(r) {
			t := &j.tracks[s.index[r]]
			t.apart, t.longApart = 0, 0
		}
	}
	work := func(t *track, b float64) { t.apart = max(t.apart, math.Abs(b)) }
	for c := j.firstLoad; c < j.work; c++ {
		j.apart(func(r int) float64 { return s.w[r*d+c] / j.ladders[partLoad].low }, work)
	}
	j.apart(func(r int) float64 { return j.tracks[s.index[r]].routes }, work)
	// What happens to all is stronger on some than on others, so differences count relative to what the others show.
	j.apart(func(r int) float64 { return j.tracks[s.index[r]].score[partStreams] }, func(t *track, b float64) {
		t.longApart = max(0, b/(1+t.score[partStreams]-b))
	})
}

// apart hands each row what its value leaves the middle of the others' by.
func (j *Judge) apart(value func(r int) float64, take func(t *track, beyond float64)) {
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
		if b := beyond(v, lo, hi); b == b {
			take(&j.tracks[s.index[r]], b)
		}
	}
}
