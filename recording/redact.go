package recording

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	ft "github.com/fettle-dev/fettle"
)

// hidden stands for a value that was taken out.
const hidden = "(redacted)"

// redact takes out of a copy of a pool what may be a secret, and names what it took: values of environment variables,
// arguments of commands, bodies of requests. No decision rests on them.
func redact(p *ft.Pool) (ft.Pool, []string) {
	out := *p
	var took []string
	env := func(path string, m map[string]string) map[string]string {
		if m == nil {
			return nil
		}
		c := make(map[string]string, len(m))
		for _, k := range slices.Sorted(maps.Keys(m)) {
			c[k] = hidden
			took = append(took, path+".env."+k)
		}
		return c
	}
	command := func(path string, argv []string) []string {
		if len(argv) < 2 {
			return argv
		}
		c := []string{argv[0]}
		for i := range argv[1:] {
			c = append(c, hidden)
			took = append(took, fmt.Sprintf("%s.command[%d]", path, i+1))
		}
		return c
	}
	hook := func(path string, h *ft.Hook) *ft.Hook {
		if h == nil {
			return nil
		}
		c := *h
		c.Command = command(path, h.Command)
		if h.HTTP != nil && h.HTTP.Body != "" {
			r := *h.HTTP
			r.Body, c.HTTP = hidden, &r
			took = append(took, path+".http.body")
		}
		return &c
	}
	hooks := func(path string, h ft.Hooks) ft.Hooks {
		return ft.Hooks{
			Reload: hook(path+".hooks.reload", h.Reload), SoftReset: hook(path+".hooks.softReset", h.SoftReset),
			Verify: hook(path+".hooks.verify", h.Verify),
		}
	}
	probe := func(path string, p *ft.Probe) *ft.Probe {
		if p == nil {
			return nil
		}
		c := *p
		c.Command = command(path, p.Command)
		return &c
	}
	out.Image.Command = command("image", p.Image.Command)
	out.Image.Env = env("image", p.Image.Env)
	out.Image.Hooks = hooks("image", p.Image.Hooks)
	out.Probes = ft.Probes{
		Startup: probe("probes.startup", p.Probes.Startup), Readiness: probe("probes.readiness", p.Probes.Readiness),
		Liveness: probe("probes.liveness", p.Probes.Liveness),
	}
	out.Specializations = slices.Clone(p.Specializations)
	for i := range out.Specializations {
		s, path := &out.Specializations[i], fmt.Sprintf("specializations[%d]", i)
		s.Env, s.Hooks = env(path, s.Env), hooks(path, s.Hooks)
	}
	return out, took
}

// redactState does so with the pool in a state's snapshot.
func redactState(b []byte) ([]byte, error) {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return nil, fmt.Errorf("snapshot of the state: %w", err)
	}
	var p ft.Pool
	if err := json.Unmarshal(parts["pool"], &p); err != nil {
		return nil, fmt.Errorf("snapshot of the state: pool: %w", err)
	}
	p, took := redact(&p)
	if len(took) == 0 {
		return b, nil
	}
	var err error
	if parts["pool"], err = json.Marshal(p); err != nil {
		return nil, fmt.Errorf("snapshot of the state: pool: %w", err)
	}
	return json.Marshal(parts)
}

// redactEvent does so with the pool in an event; others are given back as they are.
func redactEvent(e ft.Event) ft.Event {
	c, is := e.(*ft.Configured)
	if !is {
		return e
	}
	p, took := redact(&c.Pool)
	if len(took) == 0 {
		return e
	}
	return &ft.Configured{Stamp: c.Stamp, Pool: p}
}
