package drift

import (
	"math"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/profile"
)

const (
	binWeight    = 0.2 // least weight of a day in its half hour
	binWinsor    = 3   // standard deviations that a day can move it by, before its weight
	seasonDays   = 5   // memory of a column's mean, and of how far it goes along with the season
	seasonWinsor = 4   // standard deviations that a value counts for at most
	seasonAfter  = 2   // days that must be known before anything is taken out
	dayNanos     = 24 * 3600e9
)

// season writes row less what the time of day explains to dst, and learns it. What each half hour of the day is like, against
// the day's mean, is the group's: a weighted mean of previous days. How far a column goes along with it is the instance's: its
// slope of regression within 0 and 1, so that it does no harm where there is no season.
func (j *Judge) season(now ft.Instant, p *profile.Profile, g *profile.Group, row, dst []float64) {
	d := len(row)
	at := float64(int64(now)%int64(dayNanos)) / dayNanos * profile.Bins
	if b := math.Floor(at); !g.Long.Begun || b != g.Long.Bin {
		if g.Long.Begun {
			endBin(g, d)
		}
		g.Long.Bin, g.Long.Begun = b, true
	}
	before := math.Floor(at - 0.5) // the half hour whose middle was passed last
	share := at - 0.5 - before
	from := (int(before) + profile.Bins) % profile.Bins
	to := (from + 1) % profile.Bins
	own := 1 / min(p.Long.Rows+1, seasonDays*j.dayRows)
	slow := 1 / (seasonDays * j.dayRows)
	for c, v := range row {
		dst[c] = v
		if v != v {
			continue
		}
		if !p.Long.Had.Has(c) {
			p.Day[c] = v
		}
		dev := v - p.Day[c]
		p.Day[c] += own * dev
		g.BinSum[c] += dev
		square := dev * dev
		vary := &g.Vary[c]
		if p.Long.Rows < seasonDays*j.dayRows {
			*vary += own * (square - *vary)
		} else {
			*vary += slow / max(1, g.Long.Members) * (min(square, seasonWinsor*seasonWinsor**vary) - *vary)
		}
		if g.Long.Known < seasonAfter*profile.Bins {
			continue
		}
		most := seasonWinsor * math.Sqrt(*vary)
		dev = min(max(dev, -most), most)
		y := (1-share)*g.Season[from*d+c] + share*g.Season[to*d+c] - g.Middle[c]
		p.Along[c] += slow * (dev*y - p.Along[c])
		p.Square[c] += slow * (y*y - p.Square[c])
		if p.Square[c] > 0 {
			dst[c] -= min(max(p.Along[c]/p.Square[c], 0), 1) * y
		}
	}
	g.Long.Count++
}

// endBin folds the half hour that ends into the season.
func endBin(g *profile.Group, d int) {
	b := int(g.Long.Bin)
	if b < 0 || b >= profile.Bins || g.Long.Count == 0 {
		return
	}
	usual := g.Season[b*d : (b+1)*d]
	a := max(1/(g.Binned[b]+1), binWeight)
	for c := range usual {
		by := g.BinSum[c]/g.Long.Count - usual[c]
		if g.Binned[b] > 0 {
			most := binWinsor * math.Sqrt(g.Vary[c])
			by = min(max(by, -most), most)
		}
		usual[c] += a * by
		g.Middle[c] += a * by / profile.Bins
		g.BinSum[c] = 0
	}
	g.Binned[b]++
	g.Long.Known++
	g.Long.Count = 0
}
