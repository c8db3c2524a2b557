package drift

import (
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// worthLong is the least deviation that explains what the streams see: that of a column may be small where it is the relation
// between columns that broke.
const worthLong = 1.0

// longCause tells a changed workload from a changed instance, and one instance from the pool, where it is the streams that
// drift.
func (j *Judge) longCause(t *track, p *profile.Profile) (ft.Cause, ft.Extent) {
	members := j.pool.members
	worked := p.Long.Work >= strangeWork
	switch {
	case members > 1 && t.longApart >= agrees && !worked:
		return ft.InstanceChanged, ft.ThisInstance
	case t.common[ofStreams] && worked:
		return ft.WorkloadChanged, ft.WholePool
	case t.common[ofStreams]:
		return ft.CauseUnknown, ft.WholePool
	case worked:
		return ft.WorkloadChanged, j.reach(members)
	case members > 1 || !j.knowsWork():
		return ft.CauseUnknown, ft.ExtentUnknown
	default:
		return ft.InstanceChanged, ft.ThisInstance
	}
}

// longWorked tells whether the work of most members is another than it was over longer times.
func (j *Judge) longWorked() bool {
	s, n := &j.scratch, 0
	for r := range s.index {
		if s.judged(r) && s.peer[r] && s.profiles[r].Long.Work >= strangeWork {
			n++
		}
	}
	return common(n, j.pool.members) || j.pool.members == 1 && n == 1
}

// longWhy explains what the streams of row r see: of each column the greater of the smoothed deviations of its level and from
// the last hours, in healthy standard deviations; of a response given the work.
func (j *Judge) longWhy(v *ft.Verdict, r int, p *profile.Profile) {
	s, d := &j.scratch, len(j.cols)
	g := &s.groups[p.Group]
	y := s.y[r*d : (r+1)*d]
	var rank ranking
	for c := j.firstLoad; c < d; c++ {
		if y[c] != y[c] || c < j.work && v.Cause != ft.WorkloadChanged {
			continue
		}
		given := 0
		if c >= j.work {
			given = j.work
		}
		z, dev := 0.0, 0.0
		for k := range profile.Leans {
			_, l := g.ScatterOf(k)
			lean := p.Lean[k*d : (k+1)*d]
			if l[0] == 0 {
				continue
			}
			by := stat.Color(l, lean, c, given)
			if v := by / stat.Spread(l, c, given); math.Abs(v) > math.Abs(z) {
				z, dev = v, by
			}
		}
		if math.Abs(z) < worthLong {
			continue
		}
		key := min(math.Abs(z), strong) * j.cols[c].importance
		if c < j.work {
			key += workFirst
		}
		rank.offer(candidate{key, ft.Contribution{
			Dim: uint8(j.cols[c].index), N: 1, Z: single(z),
			Value: single(j.cols[c].back(y[c])), Usual: single(j.cols[c].back(y[c] - dev)),
		}})
	}
	rank.fill(&v.Why)
}

// poolLongWhy explains the pool's verdict by the member whose streams drift most.
func (j *Judge) poolLongWhy(v *ft.Verdict) {
	s, most := &j.scratch, -1
	for r := range s.index {
		if s.judged(r) && s.peer[r] && (most < 0 || j.tracks[s.index[r]].score[partStreams] > j.tracks[s.index[most]].score[partStreams]) {
			most = r
		}
	}
	if most >= 0 {
		j.longWhy(v, most, &s.profiles[most])
	}
}
