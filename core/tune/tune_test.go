package tune

import (
	"strings"
	"testing"

	ft "github.com/fettle-dev/fettle"
)

var (
	memory = ft.Knob{Name: "memory", Unit: "B", Min: 64, Max: 1000, Step: 1.25, Value: 100, Relieves: []string{ft.DimRefaults, ft.DimMajor, ft.DimPressMem, ft.DimAnon}, Rung: ft.Low, Draws: ft.Memory}
	cpu    = ft.Knob{Name: "cpu", Min: 10, Max: 400, Step: 2, Value: 100, Relieves: []string{ft.DimRunQueue, ft.DimPressCPU, ft.DimP99}, Rung: ft.Medium, Draws: ft.CPU, Disruption: 1}
	conns  = ft.Knob{Name: "conns", Min: 1, Max: 64, Step: 4, Value: 8, Additive: true, Relieves: []string{ft.DimP99}, Rung: ft.Low}
)

func ev(pairs ...any) []ft.Evidence {
	var out []ft.Evidence
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, ft.Evidence{Dimension: pairs[i].(string), Z: pairs[i+1].(float64)})
	}
	return out
}

func TestChoose(t *testing.T) {
	plenty := Room{Memory: 1000, CPU: 1000}
	for _, c := range []struct {
		name string
		w    Want
		knob string // none if empty
		now  float64
		says string // of a rejection
	}{
		{"memory pressure", Want{Level: ft.Low, Evidence: ev(ft.DimRefaults, 5.0), Room: plenty}, "memory", 125, "cpu waits for level medium"},
		{"a leak is never fed", Want{Level: ft.High, Evidence: ev(ft.DimAnon, 9.0, ft.DimRefaults, 5.0), Room: plenty}, "", 0, "memory would feed a leak"},
		{"nor one that is foreseen", Want{Level: ft.High, Growing: true, Evidence: ev(ft.DimRefaults, 5.0), Room: plenty}, "", 0, "memory would feed a leak"},
		{"growth alone is no pressure", Want{Level: ft.High, Evidence: ev(ft.DimFDs, 9.0, ft.DimAnon, 5.0), Room: plenty}, "", 0, "memory does not relieve what drifts"},
		{"waiting for a CPU", Want{Level: ft.Medium, Evidence: ev(ft.DimRunQueue, 5.0), Room: plenty}, "cpu", 200, "memory does not relieve"},
		{"the least disruptive of two that fit", Want{Level: ft.Medium, Evidence: ev(ft.DimP99, 5.0), Room: plenty}, "conns", 12, "cpu fits no better than conns"},
		{"the other, where that was in vain", Want{Level: ft.Medium, Evidence: ev(ft.DimP99, 5.0), Vain: []string{"conns"}, Room: plenty}, "cpu", 200, "conns was tried lately"},
		{"a person's value stays", Want{Level: ft.Medium, Evidence: ev(ft.DimRunQueue, 5.0), Pinned: []string{"cpu"}, Room: plenty}, "", 0, "cpu was set by a person"},
		{"the pool cannot afford it", Want{Level: ft.Medium, Evidence: ev(ft.DimRunQueue, 5.0), Room: Room{Memory: 1000, CPU: 99}}, "", 0, "cpu does not fit the pool's CPU budget"},
		{"nor memory", Want{Level: ft.Low, Evidence: ev(ft.DimMajor, 5.0), Room: Room{Memory: 24, CPU: 1000}}, "", 0, "memory does not fit the pool's memory budget"},
		{"a fall is nothing to relieve", Want{Level: ft.Medium, Evidence: ev(ft.DimRunQueue, -5.0), Room: plenty}, "", 0, "cpu does not relieve"},
		{"up to the maximum", Want{Level: ft.Medium, Evidence: ev(ft.DimRunQueue, 5.0), Settings: []ft.Setting{{Knob: "cpu", Value: 300}}, Room: plenty}, "cpu", 400, ""},
		{"and no further", Want{Level: ft.Medium, Evidence: ev(ft.DimRunQueue, 5.0), Settings: []ft.Setting{{Knob: "cpu", Value: 400}}, Room: plenty}, "", 0, "cpu is at its maximum, 400"},
		{"no evidence", Want{Level: ft.Critical, Room: plenty}, "", 0, "does not relieve what drifts"},
	} {
		c.w.Knobs = []ft.Knob{memory, cpu, conns}
		got, ok := Choose(&c.w)
		if ok != (c.knob != "") || got.Knob.Name != c.knob || got.Now != c.now && ok {
			t.Errorf("%s: %s %g -> %g, %t, want %s -> %g", c.name, got.Knob.Name, got.Was, got.Now, ok, c.knob, c.now)
		}
		if !strings.Contains(got.String(), c.says) {
			t.Errorf("%s: %q does not say %q", c.name, got.String(), c.says)
		}
		if n := len(got.Rejected); ok && n != 2 || !ok && n != 3 {
			t.Errorf("%s: %d rejections of 3 knobs: %s", c.name, n, got.String())
		}
	}
}

func TestNothingToAdjustIsSaid(t *testing.T) {
	c, ok := Choose(&Want{Level: ft.Critical, Evidence: ev(ft.DimP99, 5.0)})
	if ok || c.String() != "nothing can be adjusted here" {
		t.Fatalf("%t %q", ok, c.String())
	}
}
