package profile

import "github.com/fettle-dev/fettle/core/stat"

// vast is beyond any number that a judge of finite frames comes to.
const vast = 1e150

// Settle makes numbers that were read from outside fit for use: counts and rows not negative, mean squares too, and
// the diagonals. It changes nothing that a judge wrote. The checksum tells accidents; this keeps what was made on
// purpose from dividing by 0.
func (g *Group) Settle() {
	for _, v := range []*float64{&g.Rows, &g.Located, &g.Streamed, &g.Pending} {
		*v = max(0, *v)
	}
	for _, v := range [...][]float64{
		g.Grew[:], g.Var, g.PVar, g.Growth, g.Seen, g.Tuned, g.Ref, g.Rho, g.RhoRows, g.Spread, g.SpreadRows, g.Inv, g.PInv, g.Scale,
	} {
		atLeastZero(v)
	}
	for i := range g.L {
		g.L[i] = min(max(g.L[i], -vast), vast)
	}
	g.settleLong()
	for c := range g.Mu {
		k := stat.PackedLen(c) + c
		g.Cov[k] = max(0, g.Cov[k])
		if g.Factored && !(g.L[k] > 0 && g.Scale[c] > 0) {
			g.Factored, g.Pending = false, 0
		}
	}
}

// vastLog is beyond the logarithm of any form.
const vastLog = 50

func (g *Group) settleLong() {
	l := &g.Long
	atLeastZero(l.Heavy[:])
	atLeastZero(l.Pending[:])
	for _, v := range []*float64{&l.Members, &l.Known, &l.Bin, &l.Count} {
		*v = max(0, *v)
	}
	within(l.Usual[:], vastLog)
	l.Rank, l.Warn = min(max(l.Rank, -vastLog), vastLog), min(max(l.Warn, -vastLog), vastLog)
	for _, v := range [...][]float64{g.Vary, g.Binned} {
		atLeastZero(v)
	}
	for _, v := range [...][]float64{g.StreamMu, g.StreamCov, g.StreamL, g.Season, g.BinSum, g.Middle} {
		within(v, vast)
	}
	for k := range Streams {
		_, l := g.ScatterOf(k)
		for c := range g.Mu {
			if !(l[stat.PackedLen(c)+c] > 0) {
				l[0] = 0 // no factor
				break
			}
		}
	}
}

// Settle does the same for a profile.
func (p *Profile) Settle() {
	for _, v := range []*float64{&p.Rows, &p.Need, &p.Lived, &p.Candidate} {
		*v = max(0, *v)
	}
	p.Need = max(1, p.Need)
	p.settleLong()
	for _, v := range [...][]float64{
		p.Norm[:], p.PeersNorm[:], p.Seen, p.Ref, p.RefCand, p.Reference, p.Lent, p.Fed, p.Minima, p.Lowest, p.Window, p.Ago, p.Waits,
	} {
		atLeastZero(v)
	}
}

func (p *Profile) settleLong() {
	l := &p.Long
	for _, v := range []*float64{&l.Bucket, &l.Count, &l.Rows, &l.Work, &l.Lasts} {
		*v = max(0, *v)
	}
	for _, v := range [...][]float64{l.Heavy[:], l.Ranks[:], l.Warns[:], p.Sums, p.Peak, p.Square} {
		atLeastZero(v)
	}
	within(l.Usual[:], vastLog)
	for _, v := range []*float64{&l.Rank, &l.Warn, &l.Level, &l.Recent} {
		*v = min(max(*v, -vastLog), vastLog)
	}
	for _, v := range [...][]float64{p.Sum, p.Prev, p.Hours, p.Stream, p.Lean, p.Day, p.Along} {
		within(v, vast)
	}
}

func within(v []float64, most float64) {
	for i := range v {
		v[i] = min(max(v[i], -most), most)
	}
}

func atLeastZero(v []float64) {
	for i := range v {
		v[i] = max(0, v[i])
	}
}
