package yardstick

import "math"

const (
	bins         = 48  // of a day
	binWeight    = 0.2 // least weight of a day in its bin
	binWinsor    = 3   // standard deviations that a day can move its bin by, before its weight
	seasonMemory = 5   // days, of the slopes
	seasonWinsor = 4
	seasonDays   = 2 // before anything is taken out
)

// season is what each column does at each half hour of the day: weighted means of the previous days, and the share of them
// that the column follows, its slope of regression within 0 and 1, so that it does no harm where there is no season.
type season struct {
	day          int // rows
	row, inBin   int
	bin, days    int
	known        [bins]float64 // days
	usual        [bins][]float64
	sum          []float64 // of the bin that goes on
	middle       []float64 // of usual over the day
	level        []float64 // of the last day
	xy, yy, vary []float64
}

func newSeason(d, day int) *season {
	s := &season{day: day}
	for b := range s.usual {
		s.usual[b] = make([]float64, d)
	}
	for _, p := range []*[]float64{&s.sum, &s.middle, &s.level, &s.xy, &s.yy, &s.vary} {
		*p = make([]float64, d)
	}
	return s
}

// without writes a row less what the time of day explains, and learns the row.
func (s *season) without(row, out []float64) {
	time := float64(s.row%s.day) * bins / float64(s.day)
	if b := int(time); b != s.bin {
		s.end(b)
	}
	a, slow := 1/float64(min(s.row+1, s.day)), 1/float64(seasonMemory*s.day)
	before := math.Floor(time - 0.5) // the bin whose middle was passed last
	share := time - 0.5 - before
	from, to := s.usual[(int(before)+bins)%bins], s.usual[(int(before)+1)%bins]
	for c, v := range row {
		out[c] = v
		if math.IsNaN(v) {
			v = s.level[c] + s.usual[s.bin][c] - s.middle[c]
		}
		s.sum[c] += v
		dev := v - s.level[c]
		s.level[c] += a * dev
		if s.row < s.day {
			s.vary[c] += a * (dev*dev - s.vary[c])
		} else {
			s.vary[c] += slow * (min(dev*dev, seasonWinsor*seasonWinsor*s.vary[c]) - s.vary[c])
		}
		if s.days < seasonDays {
			continue
		}
		most := seasonWinsor * math.Sqrt(s.vary[c])
		dev = max(-most, min(dev, most))
		y := (1-share)*from[c] + share*to[c] - s.middle[c]
		s.xy[c] += slow * (dev*y - s.xy[c])
		s.yy[c] += slow * (y*y - s.yy[c])
		if s.yy[c] > 0 {
			out[c] -= max(0, min(s.xy[c]/s.yy[c], 1)) * y
		}
	}
	s.row++
	s.inBin++
}

// end closes the bin and begins another.
func (s *season) end(next int) {
	usual := s.usual[s.bin]
	a := max(1/(s.known[s.bin]+1), binWeight)
	for c := range usual {
		by := s.sum[c]/float64(s.inBin) - usual[c]
		if s.known[s.bin] > 0 {
			most := binWinsor * math.Sqrt(s.vary[c])
			by = max(-most, min(by, most))
		}
		usual[c] += a * by
		s.sum[c] = 0
	}
	s.known[s.bin]++
	s.bin, s.inBin = next, 0
	if next > 0 {
		return
	}
	s.days++
	for c := range s.middle {
		s.middle[c] = 0
		for b := range s.usual {
			s.middle[c] += s.usual[b][c] / bins
		}
	}
}
