package drift

import (
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/stat"
)

// poolTrack is the state of the pool's verdict.
type poolTrack struct {
	members int
	outside int        // members whose load is out of its learnt range
	along   [parts]int // members that drift alike, by part
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
	for c := j.firstLoad; c < d; c++ {
		s.col = s.col[:0]
		for r := range s.index {
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
	s.col = s.col[:0]
	for r := range s.index {
		if s.judged(r) && s.peer[r] {
			s.col = append(s.col, j.tracks[s.index[r]].score[partRoutes])
		}
	}
	score := [3]float64{
		math.Sqrt(load) / j.ladders[partLoad].low,
		stat.Calm(s.col),
		math.Sqrt(max(0, resp-float64(d-j.work)/4)) / j.ladders[partSelf].low,
	}
	if q.members == 1 {
		score[2] = 0 // one instance's response is its own
	}
	for k, p := range [3]part{partLoad, partRoutes, partSelf} {
		if q.members > 1 && !common(q.along[p], q.members) {
			score[k] = min(score[k], release*0.99)
		}
	}
	return j.tellPool(dst, f, score)
}

func (j *Judge) tellPool(dst []ft.Verdict, f *ft.Frame, score [3]float64) []ft.Verdict {
	q := &j.pool
	now := ft.InstantOf(f.At)
	total := max(score[0], score[1], score[2])
	level := max(j.ladders[partLoad].of(score[0]), j.ladders[partRoutes].of(score[1]), j.ladders[partSelf].of(score[2]))
	level = q.follow(now, total, level)
	v := &q.verdict
	*v = ft.Verdict{
		Pool: true, Level: level, Channel: ft.PoolWide, Score: float32(total), SelfLoad: float32(score[0]),
		SelfResp: float32(score[2]), Categories: float32(score[1]), Progress: 1, Members: uint16(min(q.members, math.MaxUint16)),
	}
	q.frozen = q.on || total >= 1
	if q.on {
		if max(score[0], score[1]) >= explains || common(q.outside, q.members) {
			q.cause = ft.WorkloadChanged
		}
		v.Cause, v.Extent, v.Since = q.cause, ft.WholePool, q.rise
		v.Shared = float32(max(q.along[partLoad], q.along[partRoutes], q.along[partSelf])) / float32(q.members)
		j.poolWhy(v)
	}
	q.toldAgo++
	if worthTelling(v, &q.told, q.toldAgo) {
		q.told, q.toldAgo = *v, 0
		dst = append(dst, *v)
	}
	return dst
}
