package main

import (
	"testing"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
)

// TestPoolState: "in order" is said of a pool that is complete and judged, and of none that is on its way there.
func TestPoolState(t *testing.T) {
	in := func(generation uint32, phase fettle.Phase, level fettle.Level, progress float64, first time.Duration) api.InstanceStatus {
		s := api.InstanceStatus{Generation: generation, Phase: phase}
		s.Level, s.Progress, s.FirstVerdictIn = level, progress, fettle.Duration(first)
		return s
	}
	steady := in(1, fettle.Ready, fettle.Steady, 1, 0)
	for _, c := range []struct {
		ready     int
		instances []api.InstanceStatus
		want      string
	}{
		{0, nil, "starting: 0 of 2 ready"},
		{0, []api.InstanceStatus{in(1, fettle.Warming, fettle.Learning, 0, 0)}, "starting: 0 of 2 ready"},
		{1, []api.InstanceStatus{steady, in(1, fettle.Warming, fettle.Learning, 0, 0)}, "starting: 1 of 2 ready"},
		{1, []api.InstanceStatus{steady, in(2, fettle.Warming, fettle.Learning, 0, 0)}, "1 of 2 ready"},
		{1, []api.InstanceStatus{steady, in(1, fettle.Resetting, fettle.Steady, 1, 0)}, "1 of 2 ready"},
		{2, []api.InstanceStatus{steady, in(1, fettle.Ready, fettle.Learning, 0.421, 70*time.Second)}, "learning 42 %, first verdict in 1m10s"},
		{2, []api.InstanceStatus{steady, in(1, fettle.Ready, fettle.Learning, 1, 0)}, "learning, first verdict any moment"},
		{2, []api.InstanceStatus{steady, steady}, "in order"},
	} {
		s := api.PoolStatus{Name: "web", Desired: 2, Ready: c.ready, Instances: c.instances}
		if got := poolState(false, &s); got != c.want {
			t.Errorf("%d ready: %q, want %q", c.ready, got, c.want)
		}
	}
	idle := api.PoolStatus{Name: "web"}
	if got := poolState(false, &idle); got != "in order" {
		t.Errorf("scaled to 0: %q", got)
	}
}
