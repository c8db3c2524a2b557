package profile

import "github.com/fettle-dev/fettle/core/stat"

// Settle makes numbers that were read from outside fit for use: counts and rows not negative, mean squares too, and
// the covariance's diagonal. The checksum tells accidents; this keeps what was made on purpose from dividing by 0.
func (g *Group) Settle() {
	for _, v := range []*float64{&g.Rows, &g.Located, &g.Streamed, &g.Rho, &g.RhoRows} {
		*v = max(0, *v)
	}
	atLeastZero(g.Grew[:])
	atLeastZero(g.Var)
	atLeastZero(g.PVar)
	atLeastZero(g.Growth)
	for c := range g.Mu {
		k := stat.PackedLen(c) + c
		g.Cov[k] = max(0, g.Cov[k])
	}
}

// Settle does the same for a profile.
func (p *Profile) Settle() {
	for _, v := range []*float64{&p.Rows, &p.Need, &p.Lived, &p.Candidate, &p.Reference} {
		*v = max(0, *v)
	}
	p.Need = max(1, p.Need)
	for _, v := range [][]float64{p.Norm[:], p.PeersNorm[:], p.Ref, p.RefCand, p.Minima, p.Lowest} {
		atLeastZero(v)
	}
}

func atLeastZero(v []float64) {
	for i := range v {
		v[i] = max(0, v[i])
	}
}
