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
	for c := range g.Mu {
		k := stat.PackedLen(c) + c
		g.Cov[k] = max(0, g.Cov[k])
		if g.Factored && !(g.L[k] > 0 && g.Scale[c] > 0) {
			g.Factored, g.Pending = false, 0
		}
	}
}

// Settle does the same for a profile.
func (p *Profile) Settle() {
	for _, v := range []*float64{&p.Rows, &p.Need, &p.Lived, &p.Candidate} {
		*v = max(0, *v)
	}
	p.Need = max(1, p.Need)
	for _, v := range [...][]float64{
		p.Norm[:], p.PeersNorm[:], p.Seen, p.Ref, p.RefCand, p.Reference, p.Lent, p.Fed, p.Minima, p.Lowest, p.Window, p.Ago, p.Waits,
	} {
		atLeastZero(v)
	}
}

func atLeastZero(v []float64) {
	for i := range v {
		v[i] = max(0, v[i])
	}
}
