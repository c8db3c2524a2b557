package drift

import (
	"math"
	"slices"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/stat"
)

const (
	release  = stat.Release
	explains = 0.6 // of its threshold: from here on a change of routes explains a response
	distant  = 3.0 // thresholds: of a load so far off, nothing learnt tells what responses to expect
	agrees   = 0.6 // of its threshold: from here on peers confirm what self sees
	lingers  = 2.0 // times Learn: a response may outlast the change of work that brought it about
	retell   = 3   // rows between two tellings for the score or the explanation alone
)

// settle decides the verdict of row r and tells it where it changed.
func (j *Judge) settle(dst []ft.Verdict, f *ft.Frame, r int) []ft.Verdict {
	p, t := &j.scratch.profiles[r], &j.tracks[j.scratch.index[r]]
	v := &t.verdict
	v.Slot, v.Life = f.Rows[r].Slot, p.Life
	switch {
	case p.Rows < p.Need || !f.Rows[r].Serving && v.Level == ft.Learning:
		*v = ft.Verdict{Slot: v.Slot, Life: v.Life, Progress: float32(min(1, p.Rows/p.Need))}
		t.frozen = false
	case !j.scratch.judged(r):
		return dst // out of service: the last verdict stands
	default:
		j.decide(f, r)
	}
	t.toldAgo++
	if worthTelling(v, &t.told, t.toldAgo) {
		t.told, t.toldAgo = *v, 0
		dst = append(dst, *v)
	}
	return dst
}

// worthTelling compares a verdict with the one that was told last.
func worthTelling(v, told *ft.Verdict, ago int) bool {
	if v.Level != told.Level || v.Cause != told.Cause || v.Extent != told.Extent {
		return true
	}
	if v.Level < ft.Low || v.Score < release || ago < retell {
		return false
	}
	a, b := v.Why[0], told.Why[0]
	return math.Abs(float64(v.Score-told.Score)) > 0.25*float64(told.Score) || a.Dim != b.Dim || a.N != b.N
}

// decide fills the verdict of a judged row.
func (j *Judge) decide(f *ft.Frame, r int) {
	p, t := &j.scratch.profiles[r], &j.tracks[j.scratch.index[r]]
	var s [parts]float64
	level, lead := ft.Steady, partLoad
	mix, soon := 0.0, 0.0 // soon is of all parts but the streams
	for k := range j.parts() {
		s[k] = t.score[k] / j.raise(t, k)
		if s[k] > s[lead] {
			lead = k
		}
		if k != partStreams {
			soon = max(soon, s[k])
		}
		if k >= partSets && !j.sets[k-partSets].load {
			mix = max(mix, s[k])
		}
		level = max(level, j.ladders[k].of(s[k]))
	}
	apart := max(s[partPeers], t.mixPeers, t.longApart)
	if j.pool.members > 2 && j.raise(t, partSelf) == 1 && j.raise(t, partStreams) == 1 && max(s[partLoad], t.routes, s[partSlope]) < 1 && apart < agrees {
		level = min(level, ft.Low) // it alone is not coherent, nor do its peers stand apart from it: a blip
	}
	now := ft.InstantOf(f.At)
	level = t.follow(now, s[lead], level, j.recover)
	t.frozen = t.on && !held(s[partStreams], soon) || t.raw() >= 1 || soon >= 1 || j.pool.frozen
	v := &t.verdict
	*v = ft.Verdict{
		Slot: v.Slot, Life: v.Life, Level: level, Score: float32(s[lead]), SelfLoad: float32(s[partLoad]),
		SelfResp: float32(max(s[partSelf], s[partSlope], s[partStreams], mix)), PeersLoad: float32(t.apart), PeersResp: float32(apart),
		Categories: float32(t.routes), Progress: 1, Members: uint16(min(j.pool.members, math.MaxUint16)),
		Shared: float32(max(t.alike[ofLoad], t.alike[ofRoutes], t.alike[ofResponse], t.alike[ofMix], t.alike[ofStreams])),
	}
	if lead == partPeers {
		v.Channel = ft.Peers
	}
	if t.worked > 0 {
		t.worked--
	}
	if !t.on {
		return
	}
	v.Since = t.rise
	if v.Score < release && t.told.Level >= ft.Low {
		v.Cause, v.Extent, v.Why, v.Forecast = t.cause, t.told.Extent, t.told.Why, t.told.Forecast
		if v.Extent == ft.WholePool && v.Cause == ft.CauseUnknown {
			v.Cause = t.told.Cause
		}
		return // on its way out: what it was stays said
	}
	long := s[partStreams] > soon && soon < 1
	var usual bool // the work and the dependencies, and they are known
	if long {
		v.Cause, v.Extent = j.longCause(t, p)
		usual = j.knowsWork()
	} else {
		v.Cause, v.Extent = j.cause(t, &s)
		usual = j.atWork(t)
		j.linger(t, v.Cause)
	}
	t.cause = v.Cause
	if v.Extent == ft.WholePool && v.Cause == ft.CauseUnknown && usual {
		v.Cause = ft.InstanceChanged // all of them; nothing that one of them is treated for follows from it
	}
	if long {
		j.longWhy(v, r, p)
	} else {
		j.why(f, r, p, s[partSlope])
	}
}

// atWork tells whether the work and the dependencies of an instance are known, and as usual.
func (j *Judge) atWork(t *track) bool {
	return j.knowsWork() && t.score[partLoad] < release && t.routes < stirs && t.calls < explains && !t.outside && t.worked == 0
}

// held tells whether it is the streams alone that hold a drift: what is usual within seconds is learnt on.
func held(streams, others float64) bool { return streams >= release && others < release }

// linger notes for how long the cause may explain responses that outlast it.
func (j *Judge) linger(t *track, cause ft.Cause) {
	long := t.score[partLoad] >= 1 || t.rerouted()
	switch cause {
	case ft.WorkloadChanged:
	case ft.DependencyChanged:
		long = t.calls >= explains
	case ft.CauseUnknown, ft.InstanceChanged:
		return
	}
	if t.lasts != cause {
		t.worked, t.lasts = 0, cause
	}
	t.worked = max(t.worked, 1)
	switch {
	case long:
		t.worked = lingers * j.learn
	case t.outside: // a passing crest explains what comes with it, and nothing that stays when it is gone
		t.worked = max(t.worked, recoverRows)
	}
}

// cause tells a changed workload from a changed instance, and one instance from the pool. t.score is before, s after
// the self thresholds were raised for what the pool shares.
func (j *Judge) cause(t *track, s *[parts]float64) (ft.Cause, ft.Extent) {
	members := j.pool.members
	routes := t.rerouted() // explain more than what the load does
	calls := j.dependent(t)
	explained := !calls && (routes || t.score[partLoad] >= 1 || t.outside)
	coherent := j.coherent(t, routes, calls, explained)
	apart := max(s[partPeers], t.mixPeers)
	sick := apart >= 1 || s[partSlope] >= 1
	if t.on && t.cause == ft.InstanceChanged { // what was found ill stays so while it is anything
		sick = sick || apart >= release || s[partSlope] >= release
	}
	// Where the load of all drifts, or what they call, it takes more to tell one of them from the others.
	trusted := t.score[partLoad] < distant && t.calls < distant &&
		(t.score[partLoad] < 1 && !calls || t.cause == ft.InstanceChanged || j.ladders[partPeers].of(s[partPeers]) >= ft.High)
	switch {
	case members > 1 && sick && t.apart < explains && (!explained && !calls || coherent && trusted):
		return ft.InstanceChanged, ft.ThisInstance // its peers do the same work and show nothing of it
	case calls:
		return ft.DependencyChanged, j.reachCalls(t)
	case coherent:
		switch {
		case explained || j.pool.cause == ft.WorkloadChanged:
			return ft.WorkloadChanged, ft.WholePool
		case j.pool.cause == ft.DependencyChanged:
			return ft.DependencyChanged, ft.WholePool
		}
		return ft.CauseUnknown, ft.WholePool
	case explained && (t.cause != ft.InstanceChanged || max(t.score[partLoad], t.routes) >= 1):
		return ft.WorkloadChanged, j.reach(members)
	case t.worked > 0 && s[partSlope] < 1:
		return t.lasts, j.reach(members)
	case !j.knowsWork():
		if members > 1 && apart >= agrees {
			return ft.InstanceChanged, ft.ThisInstance
		}
		return ft.CauseUnknown, ft.ExtentUnknown
	case members > 1 && apart < agrees && s[partSlope] < 1:
		return ft.CauseUnknown, ft.ExtentUnknown // the peers show some of it
	default:
		return ft.InstanceChanged, ft.ThisInstance
	}
}

// coherent tells whether the pool drifts alike in what explains the drift, or else in what leads it.
func (j *Judge) coherent(t *track, routes, calls, explained bool) bool {
	switch {
	case calls:
		return t.common[ofCalls]
	case routes:
		return t.common[ofRoutes]
	case explained:
		return t.common[ofLoad] || t.outside && common(j.pool.outside, j.pool.members)
	case t.mix > t.score[partSelf]:
		return t.common[ofMix]
	default:
		return t.common[ofResponse]
	}
}

// reach of a change of work that is not coherent: the work of a pool of one is the pool's.
func (j *Judge) reach(members int) ft.Extent {
	if members <= 1 {
		return ft.WholePool
	}
	return ft.ThisInstance
}

// knowsWork tells whether the schema says anything of the work that is asked for.
func (j *Judge) knowsWork() bool {
	return j.work > j.firstLoad || slices.ContainsFunc(j.sets, func(s set) bool { return s.load })
}
