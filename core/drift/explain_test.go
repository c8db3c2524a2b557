package drift

import (
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

func TestExplain(t *testing.T) {
	s := poolSchema(true)
	since := ft.InstantOf(time.Date(2026, 3, 1, 12, 4, 31, 0, time.UTC))
	dim := func(name string) uint8 { return uint8(s.Index(name)) }
	labels := []string{"GET /a", "POST /b"}
	for _, tt := range []struct {
		name string
		v    ft.Verdict
		want string
	}{
		{"web-1", ft.Verdict{Level: ft.Learning, Progress: 0.35}, "web-1 is being learnt (35 %)"},
		{"web-1", ft.Verdict{Level: ft.Steady}, "web-1 is steady"},
		{
			"web-3",
			ft.Verdict{
				Level: ft.High, Score: 4.2, Cause: ft.InstanceChanged, Extent: ft.ThisInstance, Since: since, Members: 4,
				Why:      [4]ft.Contribution{{Dim: dim(ft.DimAnon), N: 1, Z: 5, Value: 210 * mebi, Usual: 96 * mebi}},
				Forecast: ft.Forecast{Dim: dim(ft.DimAnon), At: since + 600e9, Slope: 1.5 * mebi, Limit: 512 * mebi},
			},
			"web-3 drifts (high, 4.2): instance changed: memory_anon 210 MiB, usually 96 MiB, since 12:04:31; its 3 peers " +
				"do not; at 1.5 MiB/s memory_anon reaches 512 MiB at 12:14:31",
		},
		{
			"web-3",
			ft.Verdict{
				Level: ft.Critical, Score: 2, Cause: ft.InstanceChanged, Extent: ft.ThisInstance, Since: since, Members: 2,
				Why: [4]ft.Contribution{
					{Dim: dim(ft.DimP50), N: 1, Value: 0.0251, Usual: 0.0052},
					{Dim: dim(ft.DimErrors), N: 1, Value: 0.2, Usual: 0},
					{Dim: dim(ft.DimCPU), N: 1, Value: 0.92, Usual: 0.11},
					{Dim: dim(ft.DimFDs), N: 1, Value: 40, Usual: 14},
				},
			},
			"web-3 drifts (critical, 2.0): instance changed: latency_p50 25 ms, usually 5.2 ms, errors 20 %, usually 0 %, " +
				"cpu 0.92 cores, usually 0.11 cores, since 12:04:31; its peer does not",
		},
		{
			"web-2",
			ft.Verdict{
				Level: ft.Low, Score: 1.1, Cause: ft.WorkloadChanged, Extent: ft.ThisInstance, Since: since, Members: 4,
				Why: [4]ft.Contribution{{Dim: 1, N: 2, Value: 0.31, Usual: 0.08}, {Dim: 9, N: 2, Value: 0.1}},
			},
			"web-2 drifts (low, 1.1): workload changed: route POST /b 31 %, usually 8 %, route #9 10 %, usually 0 %, since " +
				"12:04:31; its 3 peers do not",
		},
		{
			"web",
			ft.Verdict{
				Pool: true, Level: ft.Medium, Score: 1.4, Cause: ft.WorkloadChanged, Extent: ft.WholePool, Since: since, Members: 4,
				Shared: 1, Why: [4]ft.Contribution{{Dim: dim(ft.DimOffered), N: 1, Value: 105, Usual: 50}},
			},
			"web drifts (medium, 1.4): workload changed: all 4 instances are offered 2.1 times the usual requests (105/s, " +
				"usually 50/s), since 12:04:31",
		},
		{
			"web",
			ft.Verdict{Pool: true, Level: ft.Low, Score: 1, Cause: ft.InstanceChanged, Extent: ft.WholePool, Since: since, Members: 4, Shared: 0.75},
			"web drifts (low, 1.0): the whole pool changed, its work did not, since 12:04:31",
		},
		{
			"web",
			ft.Verdict{Pool: true, Level: ft.Low, Score: 1, Extent: ft.WholePool, Since: since, Members: 4, Shared: 0.75},
			"web drifts (low, 1.0): the whole pool changed, cause unknown, since 12:04:31",
		},
		{
			"web-1",
			ft.Verdict{Level: ft.Low, Score: 1, Members: 3, Why: [4]ft.Contribution{{Dim: 200, N: 1}}},
			"web-1 drifts (low, 1.0): cause unknown; whether its peers do too is not clear",
		},
	} {
		if got, _, _ := Explain(s, labels, tt.name, &tt.v); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestQuantities(t *testing.T) {
	for _, tt := range []struct {
		x    float64
		unit string
		want string
	}{
		{512, "B", "512 B"},
		{1536, "B", "1.5 KiB"},
		{3 << 30, "B/s", "3 GiB/s"},
		{0.0004, "s", "400 µs"},
		{2, "s", "2 s"},
		{0, "s", "0 s"},
		{0.031, "share", "3.1 %"},
		{0.25, "s/s", "250 ms/s"},
		{12.4, "", "12"},
		{0.5, "cores", "0.5 cores"},
	} {
		if got := quantity(tt.x, tt.unit); got != tt.want {
			t.Errorf("%g %s is %q, want %q", tt.x, tt.unit, got, tt.want)
		}
	}
}

// TestTransforms are undone by their inverses, and their floors are positive everywhere.
func TestTransforms(t *testing.T) {
	for _, unit := range []string{"B", "B/s", "1/s", "s", "cores", "s/s", "share", ""} {
		for _, tr := range []ft.Transform{ft.Identity, ft.Log1p, ft.Logit} {
			c := newColumn(ft.Dimension{Unit: unit, Transform: tr, Role: ft.Response}, 0, time.Second)
			for _, x := range []float64{0, 0.001, 0.2, 0.5, 0.999, 1, 7, 3e4, 1e9} {
				if tr == ft.Logit && x > 1 {
					continue
				}
				if got := c.back(c.forward(x)); got < x*(1-1e-9)-1e-9 || got > x*(1+1e-9)+1e-9 {
					t.Errorf("%s %v: %g comes back as %g", unit, tr, x, got)
				}
				if f := c.floor(c.forward(x)); !(f > 1e-9) {
					t.Errorf("%s %v: the floor at %g is %g", unit, tr, x, f)
				}
			}
		}
	}
}
