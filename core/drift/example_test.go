package drift_test

import (
	"fmt"
	"math"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/core/drift"
)

// Three workers take the same work; after four minutes one of them begins to hold memory.
func Example() {
	schema, err := ft.NewSchema([]ft.Dimension{
		{Name: ft.DimOffered, Unit: "1/s", Role: ft.Load, Transform: ft.Log1p},
		{Name: ft.DimCPU, Unit: "cores", Role: ft.Response, Transform: ft.Log1p},
		{Name: ft.DimAnon, Unit: "B", Role: ft.Response, Transform: ft.Log1p, Unbounded: true},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	judge, err := drift.New(schema, drift.Config{Interval: time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	const mib = 1 << 20
	f := &ft.Frame{Schema: schema}
	for i := range ft.Slot(3) {
		f.Rows = append(f.Rows, ft.Row{Slot: i, Life: ft.Life(i + 1), Group: 1, Serving: true, Age: 600})
	}
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for t := range 300 {
		f.At = start.Add(time.Duration(t) * time.Second)
		f.Reset(3)
		for i := range 3 {
			load := 50 + 10*math.Sin(float64(t)/7)
			memory := 80*mib + 4*mib*math.Sin(float64(t+5*i))
			if i == 1 && t >= 240 {
				memory += float64(t-240) * 4 * mib
			}
			copy(f.X[3*i:], []float64{load, 0.004 * load, memory})
		}
		for _, v := range judge.Observe(nil, f) {
			if v.Level >= ft.High && !v.Pool {
				text, _, _ := drift.Explain(schema, nil, fmt.Sprintf("web-%d", v.Slot), &v)
				fmt.Println(text)
				return
			}
		}
	}
	// Output:
	// web-1 drifts (high, 1.7): instance changed: memory_anon 120 MiB, usually 81 MiB, since 12:04:07; its 2 peers do not
}
