package drift

import (
	"math"

	"github.com/fettle-dev/fettle/core/stat"
)

// rate divides the row's deviations by their thresholds.
func (j *Judge) rate(r int) {
	i := j.scratch.index[r]
	p, t := j.bank.At(i), &j.tracks[i]
	g := j.bank.Group(p.Group)
	t.slopes, t.slopeCol, t.slopeScale = j.slope(&p, &g)
	dev := [parts]float64{t.load, t.routes, t.self, t.peers, t.slopes}
	for k := range dev {
		t.score[k] = 0
		if p.Rows >= p.Need {
			t.score[k] = dev[k] / j.ladders[k].low
		}
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
	return max(t.score[partLoad], t.score[partRoutes], t.score[partSelf])
}

// raise is what the threshold of a part is multiplied by for what the pool shares. The peers channel is never raised,
// and a slope is beyond that of the peers anyway.
func (t *track) raise(k part) float64 {
	if !t.common[k] {
		return 1
	}
	return 1 + raiseShare*t.alike[k]
}

// cohere finds, for load, routes and response each, which instances drift in the direction of the others, and how
// much their load and routes differ from those of the others.
func (j *Judge) cohere() {
	s := &j.scratch
	j.pool.members, j.pool.outside = 0, 0
	for r := range s.index {
		if !s.judged(r) {
			continue
		}
		t := &j.tracks[s.index[r]]
		t.alike, t.common = [parts]float64{}, [parts]bool{}
		if s.peer[r] {
			j.pool.members++
			if t.outside {
				j.pool.outside++
			}
		}
	}
	j.coherePart(partLoad, j.firstLoad, j.work)
	j.coherePart(partRoutes, 0, 0)
	j.coherePart(partSelf, j.work, len(j.cols))
	j.relative()
}

// coherePart does so for one part: by the columns from a to b of the drift vectors, by the scores alone where there
// are none.
func (j *Judge) coherePart(k part, a, b int) {
	s, d := &j.scratch, len(j.cols)
	sum := s.sum[a:b]
	clear(sum)
	stirs := func(r int) bool { return s.judged(r) && s.peer[r] && j.tracks[s.index[r]].score[k] >= stirred }
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
	j.apart(func(r int) float64 { return j.tracks[s.index[r]].score[partRoutes] }, 1)
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
