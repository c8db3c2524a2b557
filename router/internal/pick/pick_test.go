package pick

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func candidates(t *rapid.T) []Candidate {
	n := rapid.IntRange(1, 12).Draw(t, "n")
	cs := make([]Candidate, n)
	for i := range cs {
		cs[i] = Candidate{
			Seed:     Hash(fmt.Sprintf("web-%d", i)),
			Weight:   rapid.SampledFrom([]float64{0, 0.1, 0.5, 1, 1, 1}).Draw(t, "weight"),
			InFlight: rapid.IntRange(0, 40).Draw(t, "in flight"),
			Limit:    rapid.SampledFrom([]int{0, 0, 1, 10}).Draw(t, "limit"),
			Out:      rapid.SampledFrom([]bool{false, false, true}).Draw(t, "out"),
		}
	}
	return cs
}

func TestChoiceCanTakeTheRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cs := candidates(t)
		key := rapid.Uint64().Draw(t, "key")
		able := 0
		for i := range cs {
			if cs[i].can() {
				able++
			}
		}
		for name, i := range map[string]int{"ByKey": ByKey(cs, key), "Least": Least(cs, rand.Float64)} {
			if able == 0 && i >= 0 || able > 0 && (i < 0 || !cs[i].can()) {
				t.Fatalf("%s chose %d of %+v", name, i, cs)
			}
		}
	})
}

func TestKeysMoveOnlyFromAMemberThatLeftOrToOneThatCame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cs := candidates(t)
		for i := range cs {
			cs[i].InFlight, cs[i].Limit, cs[i].Weight, cs[i].Out = 0, 0, 1, false
		}
		key := rapid.Uint64().Draw(t, "key")
		before := ByKey(cs, key)
		if First(cs, key) != before {
			t.Fatalf("the first choice is %d, the choice without load %d", First(cs, key), before)
		}
		gone := rapid.IntRange(0, len(cs)-1).Draw(t, "gone")
		cs[gone].Out = true
		after := ByKey(cs, key)
		if before != gone && after != before {
			t.Fatalf("%d left and the key moved from %d to %d", gone, before, after)
		}
		// A weight that rises draws keys, and moves none between others.
		cs[gone].Out, cs[gone].Weight = false, 0.3
		light := ByKey(cs, key)
		if light != before && before != gone {
			t.Fatalf("a lighter %d moved a key from %d to %d", gone, before, light)
		}
	})
}

func TestLoadIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 12).Draw(t, "n")
		cs := make([]Candidate, n)
		for i := range cs {
			cs[i] = Candidate{Seed: Hash(fmt.Sprintf("web-%d", i)), Weight: 1}
		}
		// One hot key and nothing ever ends: the worst that can be.
		key := rapid.Uint64().Draw(t, "key")
		for total := 1; total <= 200; total++ {
			i := ByKey(cs, key)
			cs[i].InFlight++
			if most := max(Floor, math.Ceil(Factor*float64(total)/float64(n))); float64(cs[i].InFlight) > most {
				t.Fatalf("%d of %d in flight at one of %d, at most %g", cs[i].InFlight, total, n, most)
			}
		}
	})
}

func TestLowConcurrencyKeepsKeysTogether(t *testing.T) {
	cs := make([]Candidate, 4)
	for i := range cs {
		cs[i] = Candidate{Seed: Hash(fmt.Sprintf("web-%d", i)), Weight: 1}
	}
	first := ByKey(cs, Hash("key"))
	cs[first].InFlight = Floor - 1
	if got := ByKey(cs, Hash("key")); got != first {
		t.Fatalf("moved from %d to %d", first, got)
	}
}

func TestSharesFollowWeights(t *testing.T) {
	cs := []Candidate{{Seed: Hash("web-1"), Weight: 1}, {Seed: Hash("web-2"), Weight: 0.25}, {Seed: Hash("web-3"), Weight: 0}}
	rnd := rand.New(rand.NewPCG(1, 2))
	const n = 20000
	var byKey, least [3]int
	for i := range n {
		byKey[ByKey(cs, Hash(fmt.Sprint("key ", i)))]++
		least[Least(cs, rnd.Float64)]++
	}
	for name, got := range map[string][3]int{"by key": byKey, "least": least} {
		if share := float64(got[1]) / n; math.Abs(share-0.2) > 0.015 || got[2] != 0 {
			t.Errorf("%s: %v of weights 1, 0.25, 0", name, got)
		}
	}
}

func TestLeastTakesTheLeastLoadedForItsWeight(t *testing.T) {
	cs := []Candidate{{Weight: 1, InFlight: 3}, {Weight: 0.5, InFlight: 1}, {Weight: 1, InFlight: 5}}
	if got := Least(cs, rand.Float64); got != 1 {
		t.Fatalf("got %d", got)
	}
	cs[1].InFlight = 2
	if got := Least(cs, rand.Float64); got != 0 {
		t.Fatalf("got %d", got)
	}
}

func BenchmarkByKey(b *testing.B) {
	cs := make([]Candidate, 16)
	for i := range cs {
		cs[i] = Candidate{Seed: Hash(fmt.Sprintf("web-%d", i)), Weight: 1}
	}
	for b.Loop() {
		ByKey(cs, 12345)
	}
}
