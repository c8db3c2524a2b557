package drift

import (
	"fmt"
	"os"
	"testing"
)

func TestDbg(t *testing.T) {
	if os.Getenv("EXPLORE") == "" {
		t.Skip("x")
	}
	for _, seed := range []uint64{0, 2} {
		w := newWorld(4, 100+seed)
		f := fault{at: 300 + int(seed)*200, victim: -1, load: 1}
		w.faults = []fault{f}
		j, _ := New(w.schema, Config{})
		for w.t < f.at+150 {
			fr := w.next()
			j.Observe(nil, fr)
			if w.t > f.at-3 && w.t%4 == 0 {
				p := j.bank.At(0)
				g := j.bank.Group(0)
				d := len(j.cols)
				c := j.firstLoad
				fmt.Printf("%d off %.0f m %.2f fast %.2f mu %.2f env %.2f w %.2f score %.2f pool %.2f along %d/%d\n", w.t-f.at, fr.X[0], p.Self[d+c], p.Fast[c], p.Mu[c], g.Var[d+c], g.Var[2*d+c], j.scratch.w[c], j.tracks[0].score, j.pool.verdict.SelfLoad, j.pool.along, j.pool.members)
			}
		}
		fmt.Println(w.period)
	}
}
