package stat_test

import (
	"fmt"

	"github.com/fettle-dev/fettle/core/stat"
)

// One factorisation answers two questions: how strange the first column is, and how strange the second is given it.
func ExampleWhiten() {
	cov := []float64{ // packed by rows: the second column follows the first
		1,
		0.9, 1,
	}
	l := make([]float64, stat.PackedLen(2))
	stat.Factor(l, cov, make([]float64, 2), 0, make([]float64, 2))
	z := make([]float64, 2)
	for _, x := range [][]float64{{3, 2.7}, {0, 2.7}} {
		stat.Whiten(z, l, x, []float64{0, 0})
		fmt.Printf("%v: first %.1f, second given the first %.1f\n", x, z[0], z[1])
	}
	// Output:
	// [3 2.7]: first 3.0, second given the first 0.0
	// [0 2.7]: first 0.0, second given the first 6.2
}

func ExampleTheilSen() {
	slope, concordance := stat.TheilSen([]float64{10, 12, 14, 900, 18, 20})
	fmt.Printf("%.0f a step, concordance %.1f\n", slope, concordance)
	// Output: 2 a step, concordance 0.7
}
