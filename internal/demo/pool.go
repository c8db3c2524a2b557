package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/fettle-dev/fettle"
)

// pool is the demo's pool: what a user of such an application would write, in mode heal, with the shipped defaults for
// detection and healing.
func (d *demo) pool(image, socket string) fettle.Pool {
	hook := func(path string) *fettle.Hook { return &fettle.Hook{HTTP: &fettle.HTTPHook{Path: path}} }
	p := fettle.Pool{
		Name: poolName,
		Mode: fettle.HealAutomatic,
		Image: fettle.Image{
			Command: []string{d.Exe, "internal-demo-app", "--control", socket},
			Dir:     image,
			Hooks:   fettle.Hooks{Reload: hook("/admin/reload"), SoftReset: hook("/admin/soft-reset")},
		},
		Listen: "127.0.0.1:0",
		Route:  fettle.Route{Key: &fettle.RouteKey{Path: 2}},
		Size:   fettle.Sizing{Min: instances},
		Probes: fettle.Probes{
			Startup:   &fettle.Probe{HTTP: "/healthz"},
			Readiness: &fettle.Probe{HTTP: "/healthz"},
			Liveness:  &fettle.Probe{HTTP: "/healthz"},
		},
		Limits: fettle.Limits{Memory: memory},
	}
	if d.Speed != 1 {
		d.hasten(&p)
	}
	p.Defaults()
	return p
}

// hasten divides the intervals; the spans whose defaults are multiples of detect.interval follow it. No timeout of a
// probe goes below half a second: the machine does not get faster.
func (d *demo) hasten(p *fettle.Pool) {
	def := *p
	def.Probes = fettle.Probes{Startup: clone(p.Probes.Startup), Readiness: clone(p.Probes.Readiness), Liveness: clone(p.Probes.Liveness)}
	def.Defaults()
	short := func(v fettle.Duration) fettle.Duration { return fettle.Duration(d.scaled(v.D())) }
	p.Detect.Interval = short(def.Detect.Interval)
	p.Route.SlowStart = short(def.Route.SlowStart)
	p.Limits.Silence = short(def.Limits.Silence)
	for _, x := range []struct{ to, from *fettle.Probe }{{p.Probes.Readiness, def.Probes.Readiness}, {p.Probes.Liveness, def.Probes.Liveness}} {
		x.to.Every = short(x.from.Every)
		x.to.Timeout = max(short(x.from.Timeout), min(x.from.Timeout, fettle.Duration(500*time.Millisecond)))
	}
}

func clone(p *fettle.Probe) *fettle.Probe {
	c := *p
	return &c
}

// introduce says what will be seen, and every setting that is not the default.
func (d *demo) introduce(p fettle.Pool) {
	s := d.story
	s.say(bold, "demo", "%d processes of a small HTTP application behind one address, kept in fettle: mode heal, the same path as fettle up", instances)
	s.say(plain, "settings", "the defaults, but for:")
	for _, line := range deviations(p) {
		s.say(plain, "", "  %s", line)
	}
	if d.Speed != 1 {
		s.say(yellow, "speed", "%g: intervals, spans and faults are that much shorter than in real use; less is seen in each interval, so verdicts are rougher", d.Speed)
	}
	if len(d.plans) == 0 {
		s.say(plain, "faults", "none will be planted (seed %d): then nothing may be done", d.Seed)
		return
	}
	s.say(plain, "faults", "%d will be planted from outside, unknown to Fettle, one at a time; seed %d decides order, victims, times and sizes", len(d.plans), d.Seed)
}

// deviations lists the settings that a user of the defaults would not have.
func deviations(p fettle.Pool) []string {
	def := fettle.Pool{Size: fettle.Sizing{Min: p.Size.Min}, Listen: p.Listen}
	def.Defaults()
	out := []string{
		fmt.Sprintf("size.min: %d", p.Size.Min),
		"listen: " + p.Listen,
		fmt.Sprintf("image: command fettle %s; dir: %s", strings.Join(p.Image.Command[1:2], " "), p.Image.Dir),
		fmt.Sprintf("image.hooks: reload POST %s, softReset POST %s", p.Image.Hooks.Reload.HTTP.Path, p.Image.Hooks.SoftReset.HTTP.Path),
		fmt.Sprintf("route.key: path %d", p.Route.Key.Path),
		fmt.Sprintf("probes: startup, readiness, liveness by GET %s", p.Probes.Readiness.HTTP),
		fmt.Sprintf("limits.memory: %s", p.Limits.Memory),
	}
	for _, x := range []struct {
		name    string
		is, was fettle.Duration
	}{
		{"detect.interval", p.Detect.Interval, def.Detect.Interval},
		{"detect.learn", p.Detect.Learn, def.Detect.Learn},
		{"detect.persist", p.Detect.Persist, def.Detect.Persist},
		{"heal.watch", p.Heal.Watch, def.Heal.Watch},
		{"heal.holdOff", p.Heal.HoldOff, def.Heal.HoldOff},
		{"route.slowStart", p.Route.SlowStart, def.Route.SlowStart},
		{"limits.silence", p.Limits.Silence, def.Limits.Silence},
		{"probes.readiness.every", p.Probes.Readiness.Every, def.Probes.Readiness.Every},
		{"probes.readiness.timeout", p.Probes.Readiness.Timeout, def.Probes.Readiness.Timeout},
		{"probes.liveness.every", p.Probes.Liveness.Every, fettle.Duration(5 * time.Second)},
		{"probes.liveness.timeout", p.Probes.Liveness.Timeout, fettle.Duration(2 * time.Second)},
	} {
		if x.is != x.was {
			out = append(out, fmt.Sprintf("%s: %s (%s)", x.name, x.is, x.was))
		}
	}
	return out
}
