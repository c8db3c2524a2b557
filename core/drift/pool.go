package drift

import (
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/stat"
)

// poolTrack is the state of the pool's verdict.
type poolTrack struct {
	members int
	callers int          // members that make calls
	outside int          // members whose load is out of its learnt range
	along   [aspects]int // members that drift alike
	frozen  bool
	episode
	verdict, told ft.Verdict
	toldAgo       int
}

// judgePool compares the median of the members with its own past: the medians of their deviations are taken column by
// column, nearest to 0 where the middle two differ.
func (j *Judge) judgePool(dst []ft.Verdict, f *ft.Frame) []ft.Verdict {
	q, s, d := &j.pool, &j.scratch, len(j.cols)
	if q.members == 0 {
		return dst
	}
	load, resp := 0.0, 0.0
	stride := q.members/enoughPeers + 1
	for c := j.firstLoad; c < d; c++ {
		s.col = s.col[:0]
		for r := 0; r < len(s.index); r += stride {
			if s.judged(r) && s.peer[r] {
				s.col = append(s.col, s.w[r*d+c])
			}
		}
		v := stat.Calm(s.col)
		s.dev[c] = v
		if c < j.work {
			load += v * v
		} else {
			resp += v * v
		}
	}
	score := [aspects]float64{
		ofLoad:     math.Sqrt(load) / j.ladders[partLoad].low,
		ofRoutes:   j.calm(ofRoutes),
		ofResponse: math.Sqrt(max(0, resp-float64(d-j.work)/4)) / j.ladders[partSelf].low,
		ofMix:      j.calm(ofMix),
		ofCalls:    j.calm(ofCalls),
		ofStreams:  j.calm(ofStreams),
	}
	for k := range score {
		switch a := aspect(k); {
		case q.members == 1 && (a == ofResponse || a == ofMix || a == ofStreams): // one instance's response is its own
			score[a] = 0
		case q.members > 1 && a != ofCalls && !common(q.along[a], q.members):
			score[a] = min(score[a], release*0.99)
		}
	}
	return j.tellPool(dst, f, &score)
}

// calm is the middle of the members' scores of an aspect; of those that make calls where that is what they tell of.
func (j *Judge) calm(a aspect) float64 {
	s := &j.scratch
	s.col = s.col[:0]
	for r := range s.index {
		if s.judged(r) && s.peer[r] && (a != ofCalls || j.tracks[s.index[r]].called > 0) {
			s.col = append(s.col, j.tracks[s.index[r]].of(a))
		}
	}
	return stat.Calm(s.col)
}

func (j *Judge) tellPool(dst []ft.Verdict, f *ft.Frame, score *[aspects]float64) []ft.Verdict {
	q := &j.pool
	now := ft.InstantOf(f.At)
	calls := score[ofCalls] >= explains && j.poolDepends(score)
	if calls && q.members == 1 {
		score[ofResponse] = score[ofCalls]
	}
	soon := max(score[ofLoad], score[ofRoutes], score[ofResponse], score[ofMix])
	total := max(soon, score[ofStreams])
	level := max(j.ladders[partLoad].of(score[ofLoad]), j.ladders[partSelf].of(score[ofResponse]), j.ladders[partStreams].of(score[ofStreams]))
	for k := range j.sets {
		of := ofMix
		if j.sets[k].load {
			of = ofRoutes
		}
		level = max(level, j.ladders[partSets+part(k)].of(score[of]))
	}
	level = q.follow(now, total, level, j.recover)
	v := &q.verdict
	*v = ft.Verdict{
		Pool: true, Level: level, Channel: ft.PoolWide, Score: float32(total), SelfLoad: float32(score[ofLoad]),
		SelfResp: float32(max(score[ofResponse], score[ofMix], score[ofStreams])), Categories: float32(score[ofRoutes]), Progress: 1,
		Members: uint16(min(q.members, math.MaxUint16)),
	}
	q.frozen = q.on && !held(score[ofStreams], soon) || soon >= 1
	if q.on {
		switch {
		case calls:
			q.cause = ft.DependencyChanged
		case max(score[ofLoad], score[ofRoutes]) >= explains || common(q.outside, q.members), score[ofStreams] > soon && j.longWorked():
			q.cause = ft.WorkloadChanged
		}
		v.Cause, v.Extent, v.Since = q.cause, ft.WholePool, q.rise
		if q.cause == ft.CauseUnknown && q.members > 1 && j.poolAtWork(score) {
			v.Cause = ft.InstanceChanged
		}
		v.Shared = float32(max(q.along[ofLoad], q.along[ofRoutes], q.along[ofResponse], q.along[ofMix], q.along[ofStreams])) / float32(q.members)
		if score[ofStreams] > soon {
			j.poolLongWhy(v)
		} else {
			j.poolWhy(v)
		}
	}
	q.toldAgo++
	if worthTelling(v, &q.told, q.toldAgo) {
		q.told, q.toldAgo = *v, 0
		dst = append(dst, *v)
	}
	return dst
}

// poolAtWork tells whether the work of the pool and what it calls are known, and as usual.
func (j *Judge) poolAtWork(score *[aspects]float64) bool {
	q := &j.pool
	return j.knowsWork() && score[ofLoad] < release && score[ofRoutes] < stirs && score[ofCalls] < explains && !common(q.outside, q.members)
}
