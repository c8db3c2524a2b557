package drift

import (
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// candidate is a column or category that may explain a verdict.
type candidate struct {
	key float64 // rank
	ft.Contribution
}

// ranking keeps the strongest four.
type ranking [4]candidate

func (k *ranking) offer(c candidate) {
	for i := range k {
		if c.key > k[i].key {
			c, k[i] = k[i], c
		}
	}
}

func (k *ranking) fill(why *[4]ft.Contribution) {
	for i := range k {
		why[i] = k[i].Contribution
	}
}

// single is x in the precision of verdicts, which are finite.
func single(x float64) float32 {
	if x != x {
		return 0
	}
	return float32(min(max(x, -math.MaxFloat32), math.MaxFloat32))
}

const (
	strong    = 8.0 // deviations beyond rank alike, so that importance decides
	worthWhy  = 2.0 // deviations below explain nothing
	workFirst = 100 // what the work changed by stands before what that led to
)

// why explains the verdict of row r: the smoothed deviation of each column given the work, in its healthy standard
// deviations, strongest first. Where the workload changed, load and routes come first.
func (j *Judge) why(f *ft.Frame, r int, p *profile.Profile, slope float64) {
	s, d := &j.scratch, len(j.cols)
	t := &j.tracks[s.index[r]]
	g := &s.groups[p.Group]
	y := s.y[r*d : (r+1)*d]
	var rank ranking
	for c := j.work; c < d; c++ {
		if y[c] != y[c] || !p.Counts.Has(c) {
			continue
		}
		dev := stat.Color(g.L, p.Self[d:2*d], c, j.work)
		quick := stat.Color(g.L, p.Self[:d], c, j.work)
		if math.Abs(quick) > math.Abs(dev) {
			dev = quick
		}
		least := worthWhy
		if j.cols[c].slope >= 0 { // what grows is at its present height, not at that of some rows ago
			least /= 2
			if last := stat.Color(g.L, s.z[r*d:(r+1)*d], c, j.work); s.x[r*d+c] == s.x[r*d+c] && math.Abs(last) > math.Abs(dev) {
				dev = last
			}
		}
		spread := stat.Spread(g.L, c, j.work)
		z := dev / spread
		if slope >= 1 && c == t.slopeCol {
			z = math.Copysign(max(math.Abs(z), strong), 1)
		}
		if math.Abs(z) < least {
			continue
		}
		usual := j.usual(y, c, p, g)
		if slope >= 1 && c == t.slopeCol && t.slopeScale == dayScale { // what is usual has followed it for days
			usual = p.MinimaOf(dayScale, j.cols[c].slope)[profile.Minima-int(p.Filled[dayScale])]
		}
		key := min(math.Abs(z), strong) * j.cols[c].importance
		if c < j.own && t.verdict.Cause == ft.DependencyChanged {
			key += workFirst
		}
		rank.offer(candidate{
			key,
			ft.Contribution{Dim: uint8(j.cols[c].index), N: 1, Z: single(z), Value: single(j.cols[c].back(y[c])), Usual: single(usual)},
		})
	}
	if t.verdict.Cause == ft.WorkloadChanged {
		j.workWhy(&rank, r, p)
	}
	j.setsWhy(&rank, p, t, t.verdict.Cause)
	rank.fill(&t.verdict.Why)
	j.attachForecast(f, t, p)
}

// usual is what column c is expected to be given the row's work, untransformed.
func (j *Judge) usual(y []float64, c int, p *profile.Profile, g *profile.Group) float64 {
	z := j.scratch.dev[:j.work]
	stat.Whiten(z, g.L, y[:j.work], p.Mu[:j.work])
	row := g.L[stat.PackedLen(c):]
	return j.cols[c].back(p.Mu[c] + stat.Dot(row[:j.work], z))
}

// workWhy offers the load columns.
func (j *Judge) workWhy(rank *ranking, r int, p *profile.Profile) {
	s, d := &j.scratch, len(j.cols)
	for c := j.firstLoad; c < j.work; c++ {
		z := s.w[r*d+c]
		if math.Abs(z) < worthWhy {
			continue
		}
		usual := p.Fast[c]
		if math.Abs(p.Self[d+c]-p.Mu[c]) > math.Abs(p.Self[d+c]-usual) {
			usual = p.Mu[c]
		}
		rank.offer(candidate{workFirst + math.Abs(z), ft.Contribution{
			Dim: uint8(j.cols[c].index), N: 1, Z: single(z),
			Value: single(j.cols[c].back(p.Self[d+c])), Usual: single(j.cols[c].back(usual)),
		}})
	}
}

// mixImportance is that of a category of a response set.
const mixImportance = 1.3

// setsWhy offers the categories of the sets that drift: those that are asked for where they are the cause, and those
// that are answered where they are not.
func (j *Judge) setsWhy(rank *ranking, p *profile.Profile, t *track, cause ft.Cause) {
	for k := range j.sets {
		score := t.score[partSets+part(k)]
		switch worked := cause == ft.WorkloadChanged; {
		case j.sets[k].load && worked && (score >= explains || score >= stirs && t.rerouted()):
			j.setWhy(rank, p, k, func(z float64) float64 { return workFirst + z })
		case !j.sets[k].load && score >= explains:
			j.setWhy(rank, p, k, func(z float64) float64 { return min(z, strong) * mixImportance })
		}
	}
}

// setWhy offers the categories of set k whose share changed: Value and Usual are shares.
func (j *Judge) setWhy(rank *ranking, p *profile.Profile, k int, key func(z float64) float64) {
	s := &j.sets[k]
	win := j.windowOf(p, s, profile.Windows-1)
	total := 0.0
	for _, v := range win {
		total += v
	}
	if total == 0 || p.Reference[k] == 0 {
		return
	}
	for c := range win {
		now, usual := win[c]/total, p.Ref[s.begin+c]/p.Reference[k]
		sd := math.Sqrt(max(0, usual*(1-usual))*(1/total+rhoFloor) + 1e-4)
		z := (now - usual) / sd
		if math.Abs(z) >= worthWhy {
			rank.offer(candidate{key(math.Abs(z)), ft.Contribution{
				Dim: uint8(s.begin + c), N: 2, Z: single(z), Value: single(now), Usual: single(usual),
			}})
		}
	}
}

// attachForecast foresees the limit of the fastest growing memory column, or of one that explains the verdict.
func (j *Judge) attachForecast(f *ft.Frame, t *track, p *profile.Profile) {
	v := &t.verdict
	if v.Cause == ft.WorkloadChanged && t.score[partSlope] < forecastReach {
		return
	}
	now := ft.InstantOf(f.At)
	if t.score[partSlope] >= forecastReach {
		v.Forecast = j.foresee(p, t.slopeCol, t.slopeScale, int(p.Filled[t.slopeScale]), now)
	}
	rows, scale := int(int64(now-t.rise)/int64(j.config.Interval)), 0
	for rows/j.scaleRows(scale) >= profile.Minima && scale < profile.Scales-1 {
		scale++
	}
	since := min(rows/j.scaleRows(scale), profile.Minima-1)
	for k := 0; k < len(v.Why) && v.Forecast.At == 0; k++ {
		if w := v.Why[k]; w.N == 1 && w.Z > 0 {
			v.Forecast = j.foresee(p, j.columnOf(int(w.Dim)), scale, since, now)
		}
	}
}

func (j *Judge) columnOf(index int) int {
	for c := range j.cols {
		if j.cols[c].index == index {
			return c
		}
	}
	return -1
}

// poolWhy explains the pool's verdict by the columns whose median moved most; Value and Usual are those of the member
// in the middle.
func (j *Judge) poolWhy(v *ft.Verdict) {
	s, d := &j.scratch, len(j.cols)
	var rank ranking
	for c := j.firstLoad; c < d; c++ {
		z := s.dev[c]
		if math.Abs(z) < worthWhy {
			continue
		}
		key := min(math.Abs(z), strong) * j.cols[c].importance
		if c < j.work && v.Cause == ft.WorkloadChanged || c >= j.work && c < j.own && v.Cause == ft.DependencyChanged {
			key += workFirst
		}
		value, usual := j.middleOf(c)
		rank.offer(candidate{key, ft.Contribution{
			Dim: uint8(j.cols[c].index), N: 1, Z: single(z), Value: single(value), Usual: single(usual),
		}})
	}
	of := ofMix
	if v.Cause == ft.WorkloadChanged {
		of = ofRoutes
	}
	for r := range s.index {
		if s.judged(r) && s.peer[r] && j.tracks[s.index[r]].of(of) >= explains {
			j.setsWhy(&rank, &s.profiles[r], &j.tracks[s.index[r]], v.Cause)
			break
		}
	}
	rank.fill(&v.Why)
}

// middleOf gives the medians over the members of a column's recent and usual value, untransformed.
func (j *Judge) middleOf(c int) (value, usual float64) {
	s, d := &j.scratch, len(j.cols)
	for k := range 2 {
		s.col = s.col[:0]
		for r := range s.index {
			if !s.judged(r) || !s.peer[r] || s.y[r*d+c] != s.y[r*d+c] {
				continue
			}
			p := &s.profiles[r]
			g := &s.groups[p.Group]
			switch {
			case k == 0 && c < j.work:
				s.col = append(s.col, j.cols[c].back(p.Self[d+c]))
			case k == 0:
				s.col = append(s.col, j.cols[c].back(s.y[r*d+c]))
			case c < j.work:
				u := p.Fast[c]
				if math.Abs(p.Self[d+c]-p.Mu[c]) > math.Abs(p.Self[d+c]-u) {
					u = p.Mu[c]
				}
				s.col = append(s.col, j.cols[c].back(u))
			default:
				z := s.sum[:j.work]
				stat.Whiten(z, g.L, s.y[r*d:r*d+j.work], p.Mu[:j.work])
				s.col = append(s.col, j.cols[c].back(p.Mu[c]+stat.Dot(g.L[stat.PackedLen(c):][:j.work], z)))
			}
		}
		m := stat.Median(s.col)
		if m != m {
			m = 0
		}
		value, usual = usual, m
	}
	return value, usual
}
