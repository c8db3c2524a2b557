package drift

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"
	gonum "gonum.org/v1/gonum/stat"

	ft "github.com/fettle-dev/fettle"
)

// wide is a schema of d columns: two loads, two intakes, the others responses, two of them unbounded.
func wide(tb testing.TB, d, cats int) *ft.Schema {
	tb.Helper()
	dims := make([]ft.Dimension, d)
	for i := range dims {
		dims[i] = ft.Dimension{Name: "c" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Role: ft.Response, Transform: ft.Log1p}
		switch {
		case i < 2:
			dims[i].Role = ft.Load
		case i < 4:
			dims[i].Role = ft.Intake
		case i < 6:
			dims[i].Unbounded = true
		}
	}
	s, err := ft.NewSchema(dims, routes(cats)...)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// frames are a few frames of n instances with correlated noise, to be cycled through.
func frames(s *ft.Schema, n, count int) []ft.Frame {
	rnd := rand.New(rand.NewPCG(1, 2))
	fs := make([]ft.Frame, count)
	for k := range fs {
		f := &fs[k]
		f.Schema = s
		for i := range n {
			f.Rows = append(f.Rows, ft.Row{Slot: ft.Slot(i), Life: ft.Life(i + 1), Group: 1, Serving: true, Age: 1000})
		}
		f.Reset(n)
		for i := range n {
			load := rnd.NormFloat64()
			for c := range s.Len() {
				f.X[i*s.Len()+c] = 100 + 10*load + 10*rnd.NormFloat64()
			}
			for c := range min(8, s.Categories()) {
				f.Counts[i*s.Categories()+c] = uint32(5 + rnd.IntN(10))
			}
		}
	}
	return fs
}

// BenchmarkObserve is the judge's share of a step for one instance: transform, both channels, categories, slopes, pool,
// verdict and learning, with 1,000 instances. Beside it, in the same run, gonum's Mahalanobis distance alone at d = 32, and what
// it takes to touch all of their states.
func BenchmarkObserve(b *testing.B) {
	for _, d := range []int{25, 32, 40, 56} {
		b.Run(fmt.Sprintf("d=%d", d), func(b *testing.B) { observe(b, d) })
	}
}

func observe(b *testing.B, d int) {
	const n = 1000
	s := wide(b, d, 32)
	fs := frames(s, n, 16)
	j, err := New(s, Config{})
	if err != nil {
		b.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var out []ft.Verdict
	step := func(k int) {
		f := &fs[k%len(fs)]
		at = at.Add(time.Second)
		f.At = at
		out = j.Observe(out[:0], f)
	}
	for k := range 200 {
		step(k)
	}
	k := 0
	b.ReportAllocs()
	for b.Loop() {
		step(k)
		k++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/instance")
	b.ReportMetric(float64(j.bank.StateBytes()), "B/instance")
}

// BenchmarkGonumMahalanobis is the peer: one distance for each instance.
func BenchmarkGonumMahalanobis(b *testing.B) {
	const n, d = 1000, 32
	rnd := rand.New(rand.NewPCG(1, 2))
	cov := mat.NewSymDense(d, nil)
	for i := range d {
		cov.SetSym(i, i, 2)
		if i > 0 {
			cov.SetSym(i, i-1, 0.5)
		}
	}
	var chol mat.Cholesky
	if !chol.Factorize(cov) {
		b.Fatal("not positive definite")
	}
	x, mu := mat.NewVecDense(d, nil), mat.NewVecDense(d, nil)
	for i := range d {
		x.SetVec(i, rnd.NormFloat64())
	}
	b.ReportAllocs()
	sum := 0.0
	for b.Loop() {
		for range n {
			sum += gonum.Mahalanobis(x, mu, &chol)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/instance")
	if sum == 0 {
		b.Fatal("no distance")
	}
}

// BenchmarkMemory is the bound that memory sets: all numbers of the instances' states read and written once, in order.
func BenchmarkMemory(b *testing.B) {
	const n = 1000
	j, err := New(wide(b, 32, 32), Config{})
	if err != nil {
		b.Fatal(err)
	}
	slab := make([]float64, n*j.bank.StateBytes()/8)
	b.ReportAllocs()
	for b.Loop() {
		for i := range slab {
			slab[i]++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/instance")
}
