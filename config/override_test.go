package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

func overridden() ft.Pool {
	p := ft.Pool{Name: "web", Mode: ft.Observe, Listen: ":80", Image: ft.Image{Command: []string{"x"}}}
	p.Defaults()
	return p
}

func TestOverride(t *testing.T) {
	p := overridden()
	err := Override(&p, []string{
		"heal.young=10m", "mode=heal", "limits.memory=512MiB", "heal.breaker=0.5", "size.max=7", "probes.liveness.http=/live", "image.command=[a, b]",
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.Heal.Young.D() != 10*time.Minute || p.Mode != ft.HealAutomatic || p.Limits.Memory != 512<<20 || p.Heal.Breaker != 0.5 ||
		p.Size.Max != 7 || p.Probes.Liveness.HTTP != "/live" || len(p.Image.Command) != 2 {
		t.Errorf("%+v", p)
	}
}

// What is wrong is said as for a file: where, and the nearest right name.
func TestOverrideErrors(t *testing.T) {
	for set, want := range map[string]string{
		"heal.yuong=10m":            `--set:1:6: unknown key "yuong"; did you mean heal.young?`,
		"young=10m":                 `--set:1:1: unknown key "young" here; did you mean heal.young?`,
		"heal.young=10":             `--set:1:12: heal.young: "10" is no duration: write a number and a unit, such as 500ms, 30s, 2m or 1h; did you mean 10s?`,
		"mode=heel":                 `--set:1:6: mode: "heel" is no mode: one of observe, tune, heal; did you mean heal?`,
		"size.max=0":                `--set:1:10: size.max: 0 would be taken as the default, 2, here`,
		"size.min=5":                `size.max: 2 is less than size.min, 5`,
		"heal.concurrent=x":         `--set:1:17: heal.concurrent: "x" is no whole number`,
		"heal.young":                `"heal.young" is not PATH=VALUE, such as heal.young=10m`,
		"heal.young=":               `heal.young: the value is missing`,
		"heal.breaker=2":            `--set:1:14: heal.breaker: 2 is not between 0 and 1`,
		"heal.young.x=1":            `heal.young has no keys that could be set one by one`,
		"zzz=1":                     `unknown key "zzz"; known here are name, mode`,
		"specializations[3].name=x": `there is no specializations[3]`,
		"=":                         `is not PATH=VALUE`,
	} {
		p := overridden()
		err := Override(&p, []string{set})
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", set, err, want)
		}
	}
	p := overridden()
	err := Override(&p, []string{"mode=heal", "heal.yuong=1m"})
	if err == nil || !strings.Contains(err.Error(), "--set:2:6") {
		t.Errorf("the second assignment: %v", err)
	}
}

func FuzzOverride(f *testing.F) {
	for _, s := range []string{"heal.young=10m", "size={min: 1}", "specializations[0].name=x", "a.b.c=[", "mode=*x", "=", "image.env.X=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := overridden()
		if err := Override(&p, []string{s}); err == nil {
			if bad := p.Validate(); len(bad) > 0 {
				t.Errorf("%q: accepted, and the pool is wrong: %v", s, bad)
			}
		}
	})
}
