package stat

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"
	gonum "gonum.org/v1/gonum/stat"
	"pgregory.net/rapid"
)

// covariance draws a positive definite matrix of n rows, packed and dense.
func covariance(t *rapid.T, n int) ([]float64, *mat.SymDense) {
	a := make([]float64, n*n)
	for i := range a {
		a[i] = rapid.Float64Range(-2, 2).Draw(t, "a")
	}
	packed, dense := make([]float64, PackedLen(n)), mat.NewSymDense(n, nil)
	for i := range n {
		for j := range i + 1 {
			v := Dot(a[i*n:(i+1)*n], a[j*n:(j+1)*n])
			if i == j {
				v += 0.5
			}
			packed[PackedLen(i)+j] = v
			dense.SetSym(i, j, v)
		}
	}
	return packed, dense
}

func vector(t *rapid.T, n int, name string) []float64 {
	return rapid.SliceOfN(rapid.Float64Range(-10, 10), n, n).Draw(t, name)
}

func near(a, b, tol float64) bool { return math.Abs(a-b) <= tol*(1+math.Abs(a)+math.Abs(b)) }

// quadratic is x' S^-1 x by gonum's general solver.
func quadratic(s mat.Symmetric, x []float64) float64 {
	var inv mat.Dense
	if err := inv.Inverse(s); err != nil {
		return math.NaN()
	}
	v := mat.NewVecDense(len(x), x)
	return mat.Inner(v, &inv, v)
}

// TestWhitenIsMahalanobis: the innovations' squares sum to the distance, those of the first k to theirs, and those of
// the rest to the distance of the rest given the first, as the explicit Schur complement has it.
func TestWhitenIsMahalanobis(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "n")
		k := rapid.IntRange(0, n).Draw(t, "k")
		packed, dense := covariance(t, n)
		x, mu := vector(t, n, "x"), vector(t, n, "mu")
		l, z, e := make([]float64, PackedLen(n)), make([]float64, n), make([]float64, n)
		Factor(l, packed, make([]float64, n), 0, make([]float64, n))
		if missing := Whiten(z, l, x, mu); missing != 0 {
			t.Fatalf("%d missing", missing)
		}
		for i := range e {
			e[i] = x[i] - mu[i]
		}
		all := quadratic(dense, e)
		if got := Dot(z, z); !near(got, all, 1e-6) {
			t.Fatalf("distance %g, want %g", got, all)
		}
		first := 0.0
		if k > 0 {
			first = quadratic(dense.SliceSym(0, k), e[:k])
		}
		if got := Dot(z[:k], z[:k]); !near(got, first, 1e-6) {
			t.Fatalf("distance of the first %d: %g, want %g", k, got, first)
		}
		if got, want := Dot(z[k:], z[k:]), all-first; !near(got, want, 1e-5) {
			t.Fatalf("conditional distance %g, want %g", got, want)
		}
		for i := range n {
			if got := Color(l, z, i, 0); !near(got, e[i], 1e-6) {
				t.Fatalf("column %d coloured back to %g, want %g", i, got, e[i])
			}
			if got, want := Spread(l, i, 0), math.Sqrt(packed[PackedLen(i)+i]); !near(got, want, 1e-6) {
				t.Fatalf("spread of column %d: %g, want %g", i, got, want)
			}
		}
	})
}

// TestWhitenMissing: a missing column is conditioned out: the columns after it have the innovations that they would
// have had with its conditional expectation, and never larger ones after the discount.
func TestWhitenMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 8).Draw(t, "n")
		gone := rapid.IntRange(0, n-1).Draw(t, "gone")
		packed, dense := covariance(t, n)
		x, mu := vector(t, n, "x"), make([]float64, n)
		l, z, full := make([]float64, PackedLen(n)), make([]float64, n), make([]float64, n)
		Factor(l, packed, make([]float64, n), 0, make([]float64, n))
		want := 0.0 // E[x_gone | the columns before]
		if gone > 0 {
			var sol mat.VecDense
			cov := mat.NewVecDense(gone, nil)
			for i := range gone {
				cov.SetVec(i, dense.At(gone, i))
			}
			if err := sol.SolveVec(dense.SliceSym(0, gone), cov); err != nil {
				t.Skip("singular")
			}
			want = mat.Dot(&sol, mat.NewVecDense(gone, x[:gone]))
		}
		filled := slices.Clone(x)
		filled[gone], x[gone] = want, math.NaN()
		Whiten(full, l, filled, mu)
		if missing := Whiten(z, l, x, mu); missing != 1 {
			t.Fatalf("%d missing, want 1", missing)
		}
		for i := range z {
			if !near(z[i], full[i], 1e-5) {
				t.Fatalf("innovation %d is %g, want %g", i, z[i], full[i])
			}
		}
		Discount(z, l, x)
		for i := range z {
			if math.Abs(z[i]) > math.Abs(full[i])+1e-5*(1+math.Abs(full[i])) {
				t.Fatalf("discounted innovation %d is %g, more than %g", i, z[i], full[i])
			}
		}
	})
}

// TestFactorRegularises: whatever pairwise estimates come in, the factor is finite, leading regressions are not
// shrunk, and full shrinkage leaves the others uncorrelated given the leading ones.
func TestFactorRegularises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "n")
		lead := rapid.IntRange(0, n).Draw(t, "lead")
		packed := rapid.SliceOfN(rapid.Float64Range(-5, 5), PackedLen(n), PackedLen(n)).Draw(t, "s")
		ridge := rapid.SliceOfN(rapid.Float64Range(1e-6, 1), n, n).Draw(t, "ridge")
		l := make([]float64, PackedLen(n))
		Factor(l, packed, ridge, lead, rapid.SliceOfN(rapid.Float64Range(0, 1), n, n).Draw(t, "shrink"))
		for _, v := range l {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("factor %v", l)
			}
		}
		plain, shrunk := make([]float64, PackedLen(n)), make([]float64, PackedLen(n))
		good, _ := covariance(t, n)
		Factor(plain, good, make([]float64, n), lead, make([]float64, n))
		Factor(shrunk, good, make([]float64, n), lead, slices.Repeat([]float64{1}, n))
		for i := range n {
			for j := range i {
				switch v := shrunk[PackedLen(i)+j]; {
				case j < lead && v != plain[PackedLen(i)+j]:
					t.Fatalf("(%d, %d): shrinking changed the regression on the leading columns", i, j)
				case j >= lead && math.Abs(v) > 1e-12:
					t.Fatalf("(%d, %d) is %g, want nothing left", i, j, v)
				}
			}
		}
	})
}

// TestFoldCov: with weights 1/n it is the plain mean of outer products, column by column where values are missing.
func TestFoldCov(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, rows := rapid.IntRange(1, 5).Draw(t, "n"), rapid.IntRange(1, 30).Draw(t, "rows")
		s, sum := make([]float64, PackedLen(n)), make([]float64, PackedLen(n))
		for r := range rows {
			e := vector(t, n, "e")
			FoldCov(s, e, slices.Repeat([]float64{Step(float64(r), 1, 0)}, n))
			for i := range n {
				for j := range i + 1 {
					sum[PackedLen(i)+j] += e[i] * e[j]
				}
			}
		}
		for k := range s {
			if !near(s[k], sum[k]/float64(rows), 1e-9) {
				t.Fatalf("element %d is %g, want %g", k, s[k], sum[k]/float64(rows))
			}
		}
		was := slices.Clone(s)
		e := make([]float64, n)
		gone := rapid.IntRange(0, n-1).Draw(t, "gone")
		e[gone] = math.NaN()
		a := rapid.SliceOfN(rapid.Float64Range(0.01, 1), n, n).Draw(t, "a")
		FoldCov(s, e, a)
		for i := range n {
			for j := range i + 1 {
				k := PackedLen(i) + j
				want := was[k] + max(a[i], a[j])*(e[i]*e[j]-was[k])
				if i != gone && j != gone && !near(s[k], want, 1e-9) {
					t.Fatalf("(%d, %d) by weights %g, %g is %g, want %g", i, j, a[i], a[j], s[k], want)
				}
			}
			if i >= gone && s[PackedLen(i)+gone] != was[PackedLen(i)+gone] {
				t.Fatalf("missing column %d changed its covariance", gone)
			}
		}
	})
}

// TestOrderStatistics against sorting.
func TestOrderStatistics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(rapid.Float64Range(-3, 3), 1, 40).Draw(t, "a")
		if rapid.Bool().Draw(t, "ties") {
			for i := range a {
				a[i] = math.Round(a[i])
			}
		}
		sorted := slices.Sorted(slices.Values(a))
		n := len(a)
		median := (sorted[(n-1)/2] + sorted[n/2]) / 2
		if got := Median(slices.Clone(a)); got != median {
			t.Fatalf("median %g, want %g", got, median)
		}
		k := rapid.IntRange(0, n-1).Draw(t, "k")
		if got := Select(slices.Clone(a), k); got != sorted[k] {
			t.Fatalf("element %d is %g, want %g", k, got, sorted[k])
		}
		calm := 0.0
		if lo, hi := sorted[(n-1)/2], sorted[n/2]; lo > 0 {
			calm = lo
		} else if hi < 0 {
			calm = hi
		}
		if got := Calm(slices.Clone(a)); got != calm {
			t.Fatalf("calm median %g, want %g", got, calm)
		}
		m := MiddleOf(slices.Clone(a))
		if lo, hi := m.All(); lo != sorted[(n-1)/2] || hi != sorted[n/2] {
			t.Fatalf("middle %g, %g of %v", lo, hi, sorted)
		}
		leaveOneOut(t, m, a)
		h := [7]float64(rapid.SliceOfN(rapid.Float64Range(-3, 3), 7, 7).Draw(t, "h"))
		if want := slices.Sorted(slices.Values(h[:]))[3]; Median7(&h) != want {
			t.Fatalf("median of %v is %g, want %g", h, Median7(&h), want)
		}
	})
}

func leaveOneOut(t *rapid.T, m Middle, a []float64) {
	for i, v := range a {
		rest := slices.Sorted(slices.Values(slices.Delete(slices.Clone(a), i, i+1)))
		lo, hi := m.Without(v)
		if len(rest) == 0 {
			if !math.IsNaN(lo) {
				t.Fatalf("nobody is left but the middle is %g", lo)
			}
			continue
		}
		if wl, wh := rest[(len(rest)-1)/2], rest[len(rest)/2]; lo != wl || hi != wh {
			t.Fatalf("without %g the middle of %v is %g, %g, want %g, %g", v, a, lo, hi, wl, wh)
		}
	}
}

// TestTheilSen: exact on lines, unmoved by a few outliers, and the median of pairwise slopes.
func TestTheilSen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(8, MaxSlopePoints).Draw(t, "n")
		slope, from := rapid.Float64Range(-5, 5).Draw(t, "slope"), rapid.Float64Range(-100, 100).Draw(t, "from")
		y := make([]float64, n)
		for i := range y {
			y[i] = from + slope*float64(i)
		}
		got, concord := TheilSen(y)
		if !near(got, slope, 1e-9) || math.Abs(slope) > 1e-6 && concord != math.Copysign(1, slope) {
			t.Fatalf("slope %g with concordance %g, want %g", got, concord, slope)
		}
		y[rapid.IntRange(0, n-1).Draw(t, "outlier")] += 1e6
		if got, _ = TheilSen(y); !near(got, slope, 1e-9) {
			t.Fatalf("slope %g with an outlier, want %g", got, slope)
		}
	})
	if s, c := TheilSen([]float64{3}); s != 0 || c != 0 {
		t.Errorf("one point: %g, %g", s, c)
	}
	long := make([]float64, 40)
	for i := range long {
		long[i] = float64(max(0, i-20))
	}
	if s, _ := TheilSen(long); s != 1 {
		t.Errorf("slope of the last points is %g, want 1", s)
	}
}

// TestGTest against gonum's divergence, and its size under the reference.
func TestGTest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(2, 12).Draw(t, "k")
		w, p := make([]float64, k), make([]float64, k)
		var sw, sp float64
		for i := range k {
			w[i] = float64(rapid.IntRange(1, 50).Draw(t, "w"))
			p[i] = rapid.Float64Range(0.01, 1).Draw(t, "p")
			sw, sp = sw+w[i], sp+p[i]
		}
		q := make([]float64, k)
		for i := range k {
			p[i] /= sp
			q[i] = w[i] / sw
		}
		g, n, used := GTest(w, p)
		if want := 2 * sw * gonum.KullbackLeibler(q, p); !near(g, want, 1e-9) || n != sw || used != k {
			t.Fatalf("g %g of %g in %d, want %g of %g in %d", g, n, used, want, sw, k)
		}
	})
	rnd, p, w := rand.New(rand.NewPCG(1, 1)), []float64{.5, .3, .2}, make([]float64, 3)
	mean := 0.0
	for range 2000 {
		clear(w)
		for range 200 {
			switch u := rnd.Float64(); {
			case u < .5:
				w[0]++
			case u < .8:
				w[1]++
			default:
				w[2]++
			}
		}
		g, _, _ := GTest(w, p)
		mean += g / 2000
	}
	if math.Abs(mean-2) > 0.2 {
		t.Errorf("mean G under the reference is %g, want about its 2 degrees of freedom", mean)
	}
	if f := Overdispersion(101, 0.02, 1e9); math.Abs(f-3) > 1e-6 {
		t.Errorf("overdispersion %g, want 3", f)
	}
}

// TestHuber is odd, monotone, and bounded by twice its bound.
func TestHuber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Float64().Draw(t, "a"), rapid.Float64().Draw(t, "b")
		if Huber(-a, 6) != -Huber(a, 6) || math.Abs(Huber(a, 6)) > 12 {
			t.Fatalf("huber(%g) is %g, huber(%g) is %g", a, Huber(a, 6), -a, Huber(-a, 6))
		}
		if a <= b && Huber(a, 6) > Huber(b, 6) {
			t.Fatalf("huber falls between %g and %g", a, b)
		}
	})
}

// TestRuns: a threshold that was asked to be crossed once a day by autocorrelated noise is crossed about that often
// in fresh noise, and never leaves half to twice the shipped one.
func TestRuns(t *testing.T) {
	const rows = 86400 // a day
	r := Runs{Threshold: 4, Scale: 0.5, Rate: 0.2, Prior: 1}
	rnd := rand.New(rand.NewPCG(3, 9))
	x, on := 0.0, uint32(0)
	next := func() float64 {
		x = 0.9*x + math.Sqrt(1-0.81)*rnd.NormFloat64()
		return 1.3 * math.Abs(x)
	}
	for range 10 * rows {
		on = r.Fold(on, next(), math.Inf(1), 1./rows)
	}
	for _, rate := range []float64{1, 10} {
		u, scale := r.Quantile(rate)
		runs, active := 0, false
		for range 20 * rows {
			v := next()
			if v > u && !active {
				runs, active = runs+1, true
			} else if v < Release*u {
				active = false
			}
		}
		if got := float64(runs) / 20; got > 1.6*rate || got < rate/4 {
			t.Errorf("threshold %.2f for %g runs a day is crossed %.2f times a day", u, rate, got)
		}
		if u < 2 || u > 8 || scale < 0.25 || scale > 1 {
			t.Errorf("threshold %g, scale %g leave their bounds", u, scale)
		}
	}
}

// TestRunsShipped: before there are data the shipped tail decides; after clean days the threshold falls, after false
// alarms it rises.
func TestRunsShipped(t *testing.T) {
	r := Runs{Threshold: 7, Scale: 1, Rate: 0.2, Prior: 1}
	u, scale := r.Quantile(0.2)
	if u < 7 || u > 7.4 || scale < 0.5 || scale > 2 {
		t.Errorf("shipped threshold is %g, scale %g", u, scale)
	}
	if loose, _ := r.Quantile(2); loose >= u {
		t.Errorf("ten times the alarms, but threshold %g is not below %g", loose, u)
	}
	clean := r
	clean.Fold(0, 0, 10, 10)
	if low, _ := clean.Quantile(0.2); low >= u {
		t.Errorf("after 10 clean days the threshold is %g, was %g", low, u)
	}
	for range 5 {
		on := r.Fold(0, 8, 1.05*u, 0.01)
		r.Fold(on, 0, 1.05*u, 0.01)
	}
	high, _ := r.Quantile(0.2)
	if high <= u {
		t.Errorf("after 5 alarms in an hour the threshold is %g, was %g", high, u)
	}
	if on := r.Fold(0, math.NaN(), 1, 0); on != 0 {
		t.Errorf("no number is above levels %b", on)
	}
}

// TestRunsReach: a grid that reaches further than twice the shipped threshold finds one that is ten times as high, and tells how
// much further a tenth of the runs is under a power law.
func TestRunsReach(t *testing.T) {
	const rows = 1440
	r := Runs{Threshold: 4, Scale: 1, Rate: 0.2, Prior: 1, Octaves: 4}
	rnd := rand.New(rand.NewPCG(5, 1))
	on := uint32(0)
	next := func() float64 { return math.Pow(rnd.Float64(), -0.5) } // exceeds x in one of x² rows
	for range 200 * rows {
		on = r.Fold(on, next(), math.Inf(1), 1./rows)
	}
	u, _ := r.Quantile(1)
	if want := math.Sqrt(rows); u < 0.8*want || u > 1.3*want {
		t.Errorf("threshold for one run a day is %.1f, want about %.1f", u, want)
	}
	if ratio := r.Ratio(1); ratio < 3 || ratio > 3.7 {
		t.Errorf("a tenth of the runs is %.2f times as far, want about the root of 10", ratio)
	}
}

// TestFollowMedian: what is followed is the median, not the mean.
func TestFollowMedian(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		at := rapid.Float64Range(-20, 20).Draw(t, "at")
		m := 0.0
		for n := range 20000 {
			m = FollowMedian(m, float64(n), at+rnd.ExpFloat64()-math.Ln2, 1)
		}
		if math.Abs(m-at) > 0.1 {
			t.Fatalf("%.2f, the median is %.2f", m, at)
		}
	})
}
