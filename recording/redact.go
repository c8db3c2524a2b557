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

// redact takes the secrets out of a copy of a pool, and names what it took.
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
	hook := func(path string, h *ft.Hook) *ft.Hook {
		if h == nil || h.HTTP == nil || h.HTTP.Body == "" {
			return h
		}
		c, r := *h, *h.HTTP
		r.Body, c.HTTP = hidden, &r
		took = append(took, path+".http.body")
		return &c
	}
	hooks := func(path string, h ft.Hooks) ft.Hooks {
		return ft.Hooks{
			Reload: hook(path+".hooks.reload", h.Reload), SoftReset: hook(path+".hooks.softReset", h.SoftReset),
			Verify: hook(path+".hooks.verify", h.Verify),
		}
	}
	out.Image.Env = env("image", p.Image.Env)
	out.Image.Hooks = hooks("image", p.Image.Hooks)
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
