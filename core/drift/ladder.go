package drift

import (
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
	"github.com/fettle-dev/fettle/core/stat"
)

// part is a part of a verdict with a threshold of its own.
type part int

const (
	partLoad part = iota
	partSelf
	partPeers
	partSlope
	partStreams
	partSets // the first category set; the others follow
	parts    = partSets + profile.MaxSets
)

// parts is the number of parts that there are with this schema.
func (j *Judge) parts() part { return partSets + part(len(j.sets)) }

// shipped are the tails before anything is calibrated: the deviation that healthy time is taken to exceed once in
// five instance-days, and by how much it must rise for e times fewer runs. They were set on synthetic pools (see
// pool_test.go) and on live ones, on the safe side.
var shipped = [partSets + 1]struct{ threshold, scale float64 }{
	partLoad:    {3.4, 0.25},
	partSelf:    {7, 1},
	partPeers:   {5, 1},
	partSlope:   {4, 0.7},
	partStreams: {4, 1},
	partSets:    {4.5, 0.9},
}

const (
	shippedRate   = 1. / 5
	shippedDays   = 1 // of data are worth as much as the shipped tail
	streamOctaves = 4
	// What was learnt from is not free of anomalies, and these use up the runs of a threshold that allows the stated rate: twice
	// as many are allowed there, which is the bound that time without them has to keep.
	streamRuns = 2
	clipAlarm  = 1.05 // times the threshold: runs are not counted beyond, alarms are no healthy time
)

func (j *Judge) shippedTails() []stat.Runs {
	tails := make([]stat.Runs, j.parts())
	for k := range tails {
		s := shipped[min(k, int(partSets))]
		tails[k] = stat.Runs{Threshold: s.threshold, Scale: s.scale, Rate: shippedRate, Prior: shippedDays}
	}
	tails[partStreams].Octaves = streamOctaves
	return tails
}

// ladder is where the levels of a part begin: at the deviation that healthy time exceeds at the tolerated rate, a
// third, a tenth and a hundredth of it.
type ladder struct {
	low   float64
	level [ft.Critical + 1]float64 // in units of low
}

func (j *Judge) setLadders() {
	for k := range j.parts() {
		rate := j.config.FalseAlarms / float64(j.parts()-1)
		if k == partStreams {
			rate = streamRuns * j.config.FalseAlarms / float64(j.sharers())
		}
		tail := &j.bank.Tails[k]
		u, scale := tail.Quantile(rate)
		l := ladder{low: u}
		rise := func(fewer float64) float64 { return 1 + scale/u*math.Log(fewer) }
		if k == partStreams {
			ratio := tail.Ratio(rate)
			rise = func(fewer float64) float64 { return math.Pow(ratio, math.Log10(fewer)) }
		}
		for level, fewer := range rarity {
			l.level[int(ft.Low)+level] = rise(fewer)
		}
		j.ladders[k] = l
	}
}

// sharers is how many parts share the tolerated rate with the streams. The streams have a row a minute where the others have
// sixty, and add one share to theirs; they have all of it where rows are so far apart that they alone are left.
func (j *Judge) sharers() int {
	if !j.coarse {
		return int(j.parts()) - 1
	}
	n := len(j.sets)
	if j.work > j.firstLoad {
		n++
	}
	if len(j.unbounded) > 0 {
		n++
	}
	return max(1, n)
}

// rarity is how many times rarer than Low the levels Low, Medium, High and Critical are in healthy time.
var rarity = [4]float64{1, 3, 10, 100}

// of is the level of a score.
func (l *ladder) of(score float64) ft.Level {
	level := ft.Steady
	for v := ft.Low; v <= ft.Critical; v++ {
		if score >= l.level[v] {
			level = v
		}
	}
	return level
}
