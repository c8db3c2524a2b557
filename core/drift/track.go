package drift

import (
	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
)

// track is the state of a profile's verdict. It has no pointers.
type track struct {
	slot  int32 // -1: no slot holds it
	seen  uint64
	idle  int     // rows without service
	held  bool    // the last row was under an action
	age   float64 // rows
	stale [ft.MaxDimensions]uint8
	place uint8 // of the newest innovations in the history of each fast column

	// Deviations of this row, and those divided by their thresholds.
	dev, score           [parts]float64
	slopeCol, slopeScale int
	grows                uint64 // a bit for each scale and unbounded column: its growth is steady
	widen                float64
	apart                float64                               // load or routes relative to the peers'
	outside              bool                                  // the load is outside of its learnt range: responses are not trusted
	falls                bool                                  // it is less load that drifts
	routes, mix          float64                               // the greatest scores of the sets that are asked for, and of those that are answered
	mixPeers             float64                               // of the latter, what the peers do not show
	rho                  [profile.MaxSets]float64              // correlation of this row's counts, -1 for none
	recent               [profile.MaxSets][lastingRows]float64 // the last deviations of each set
	window               [profile.MaxSets]uint8                // the strangest of each set's windows
	calls, rest          float64                               // score of the dependencies, and of what they do not explain
	called               int                                   // rows for which it still counts as one that makes calls
	alike                [aspects]float64                      // share of the pool that drifts alike
	common               [aspects]bool                         // enough of the pool does
	stirred, roused      int                                   // rows since the routes began to stir, and a response

	longApart float64 // of the streams' score, what those of the peers leave
	ranked    float64 // deviation of the streams to rank by, which does not end by getting used to it

	above  [parts]uint32 // levels of the calibration grid that are on
	frozen bool
	worked float64  // rows for which a past change still explains responses: of the work, or of what it calls
	lasts  ft.Cause // that change
	episode
	verdict ft.Verdict
	told    ft.Verdict
	toldAgo int
}

// episode is one drift from its first sign to its end.
type episode struct {
	on    bool
	rise  ft.Instant // when the score last left the release level upwards, 0 while below
	below int        // rows below the release level
	level ft.Level
	lower int      // rows in which a lower level would do
	most  ft.Level // the highest of those
	cause ft.Cause
}

// follow folds one row's score and level. It returns the level to tell. The episode ends when the score was below the release
// level for so many rows as recover.
func (e *episode) follow(now ft.Instant, score float64, level ft.Level, recover int) ft.Level {
	switch {
	case score < release:
		e.below++
		if e.below >= recover || !e.on {
			*e = episode{level: ft.Steady}
			return ft.Steady
		}
	default:
		e.below = 0
		if e.rise == 0 {
			e.rise = now
		}
	}
	if e.below >= calmRows && e.level > ft.Low {
		e.level, e.lower, e.most = ft.Low, 0, 0
	}
	if level >= ft.Low {
		e.on = true
	}
	if !e.on {
		e.level = ft.Steady
		return ft.Steady
	}
	level = max(level, ft.Low)
	if level >= e.level {
		e.level, e.lower, e.most = level, 0, 0
		return e.level
	}
	e.lower++
	e.most = max(e.most, level)
	if e.lower >= lowerRows {
		e.level, e.lower, e.most = e.most, 0, 0
	}
	return e.level
}

// bind finds or makes the profile of a row, -1 for a slot out of range.
func (j *Judge) bind(row *ft.Row) int32 {
	if row.Slot >= maxSlots {
		return -1
	}
	if int(row.Slot) >= len(j.slots) {
		j.slots = append(j.slots, make([]int32, int(row.Slot)+1-len(j.slots))...)
	}
	i := j.slots[row.Slot] - 1
	if i < 0 {
		i = j.adopt(row)
		j.slots[row.Slot] = i + 1
	}
	p, t := j.bank.At(i), &j.tracks[i]
	if !j.bank.IsGroup(p.Group, row.Group) {
		p.Group, _ = j.bank.GroupOf(row.Group)
		j.begin(i)
	}
	if p.Settings != row.Settings {
		p.Settings = row.Settings
		if !t.on && p.Rows >= p.Need {
			// What was adjusted changes what is measured: the location is learnt anew, the scatter stays. In the
			// middle of a drift that would take the sick state for usual.
			j.relocate(i)
		}
	}
	return i
}

// release takes the slot of a row from another life that had it.
func (j *Judge) release(row *ft.Row) {
	if i := j.indexOf(row.Slot); i >= 0 && j.bank.At(i).Life != row.Life {
		j.tracks[i].slot = -1
		j.slots[row.Slot] = 0
	}
}

// adopt finds the profile of a life that had another slot, or none since a restart, or makes one.
func (j *Judge) adopt(row *ft.Row) int32 {
	if i := j.bank.Find(row.Life); i >= 0 {
		t := &j.tracks[i]
		if t.slot >= 0 {
			j.slots[t.slot] = 0
		}
		t.slot = int32(row.Slot)
		t.verdict.Slot, t.told.Slot = row.Slot, row.Slot
		return i
	}
	g, _ := j.bank.GroupOf(row.Group)
	i := j.bank.Add(row.Life, g)
	if int(i) >= len(j.tracks) {
		j.tracks = append(j.tracks, make([]track, int(i)+1-len(j.tracks))...)
	}
	j.tracks[i] = track{slot: int32(row.Slot)}
	j.bank.At(i).Settings = row.Settings
	j.begin(i)
	return i
}

// begin starts the learning of profile i: from its group's location where that has been learnt, else for the full
// time.
func (j *Judge) begin(i int32) {
	p, t := j.bank.At(i), &j.tracks[i]
	g := j.bank.Group(p.Group)
	j.relocate(i)
	j.beginLong(&p, &g)
	p.Need, p.Anchored, p.Lived = j.learn, false, 0
	if g.Located >= j.learn && g.Factored {
		p.Need, p.Prior, p.Ever = quickRows, true, g.Ever
		copy(p.Mu, g.Mu)
		copy(p.Cand, g.Mu)
		copy(p.Fast, g.Fast)
		for c := range j.firstSlow {
			if g.Ever.Has(c) && settled(&g, c) {
				p.Counts = p.Counts.With(c)
			}
		}
		j.lend(&p, &g)
	}
	for k := range p.Norm {
		p.Norm[k] = float64(j.firstSlow-j.work) / 2
		p.PeersNorm[k] = p.Norm[k] / 2
	}
	t.verdict = ft.Verdict{Slot: ft.Slot(max(t.slot, 0)), Life: p.Life}
	t.told = t.verdict
}

// quiet forgets the streams of the last seconds and what they were rated at.
func (t *track) quiet(p *profile.Profile) {
	p.Quiet()
	t.dev, t.stirred, t.roused = [parts]float64{}, 0, 0
	t.recent = [profile.MaxSets][lastingRows]float64{}
}

// sweep forgets the profiles that have been out of the frames for long.
func (j *Judge) sweep() {
	for i := range j.tracks {
		t, p := &j.tracks[i], j.bank.At(int32(i))
		if p.Group < 0 || j.tick-t.seen < absentRows {
			continue
		}
		if t.slot >= 0 {
			j.slots[t.slot] = 0
		}
		*t = track{slot: -1}
		j.bank.Free(int32(i))
	}
}

// quietAll forgets the streams of all instances after a gap in the frames.
func (j *Judge) quietAll() {
	for i := range j.tracks {
		if p := j.bank.At(int32(i)); p.Group >= 0 {
			j.tracks[i].quiet(&p)
		}
	}
}
