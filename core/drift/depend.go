package drift

import (
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
)

const (
	calledRows = 30  // an instance makes calls if it made one within so many rows
	carries    = 0.4 // of the deviation of all other responses: from here on the dependencies carry the drift
)

// depends rates what the others that row r calls answer it with: the part of its responses' deviation that stands first
// in their order, and the rest, which is what they do not explain.
func (j *Judge) depends(r int, p *profile.Profile, g *profile.Group, t *track) {
	if j.own == j.work {
		return
	}
	s, d := &j.scratch, len(j.cols)
	t.called = max(0, t.called-1)
	for c := j.work; c < j.own; c++ {
		if s.y[r*d+c] > j.cols[c].forward(0) {
			t.called = calledRows
		}
	}
	calls, rest := 0.0, 0.0
	for k := range profile.Spans {
		q := -float64(j.own - j.work)
		for c := k*d + j.work; c < k*d+j.own; c++ {
			v := p.Self[c] * g.Inv[c]
			q += v * v
		}
		calls = max(calls, q)
		rest = max(rest, s.forms[r*2*profile.Spans+k]-p.Norm[k]-max(q, 0))
	}
	t.calls, t.rest = 0, math.Sqrt(rest)/j.ladders[partSelf].low
	if p.Rows >= p.Need {
		t.calls = math.Sqrt(calls) / j.ladders[partSelf].low
	}
}

// cohereCalls finds how many of those that make calls see the others answer differently.
func (j *Judge) cohereCalls() {
	s := &j.scratch
	j.pool.callers, j.pool.along[ofCalls] = 0, 0
	if j.own == j.work {
		return
	}
	each := func(do func(t *track)) {
		for r := range s.index {
			if s.judged(r) && s.peer[r] && j.tracks[s.index[r]].called > 0 {
				do(&j.tracks[s.index[r]])
			}
		}
	}
	each(func(t *track) {
		j.pool.callers++
		if t.calls >= stirred {
			j.pool.along[ofCalls]++
		}
	})
	n := j.pool.along[ofCalls]
	each(func(t *track) {
		if t.calls >= stirred {
			t.alike[ofCalls] = float64(n) / float64(j.pool.callers)
			t.common[ofCalls] = n > 1 && 2*n >= j.pool.callers
		}
	})
}

// dependent tells whether what it calls explains what an instance shows: it carries the drift more than the work does,
// and the peers that make calls see it too, or there are none.
func (j *Judge) dependent(t *track) bool {
	if t.calls < explains || t.calls < carries*t.rest || t.calls < t.routes || t.calls < t.score[partLoad] && !t.falls {
		return false
	}
	return t.common[ofCalls] || j.pool.callers <= 1 && t.called > 0
}

// reachCalls is who shares a change of what is called: all, where several do or where there is but one instance.
func (j *Judge) reachCalls(t *track) ft.Extent {
	if t.common[ofCalls] {
		return ft.WholePool
	}
	return j.reach(j.pool.members)
}

// poolDepends tells whether what the members call explains the pool's drift.
func (j *Judge) poolDepends(score *[aspects]float64) bool {
	if score[ofCalls] < score[ofRoutes] || score[ofCalls] < carries*score[ofResponse] {
		return false
	}
	n := j.pool.along[ofCalls]
	return j.pool.callers == 1 && n == 1 || n > 1 && 2*n >= j.pool.callers
}
