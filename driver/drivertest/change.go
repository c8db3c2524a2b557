package drivertest

import (
	"context"
	"errors"
	"sync"
	"testing"

	ft "github.com/fettle-dev/fettle"
)

// told collects what Watch reports.
type told struct {
	mu    sync.Mutex
	exits map[ft.Ref][]ft.Exit
}

func watch(t *testing.T, h *Harness) *told {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &told{exits: map[ft.Ref][]ft.Exit{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := h.Driver.Watch(ctx, func(r ft.Ref, e ft.Exit) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.exits[r] = append(w.exits[r], e)
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("watch: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func (w *told) of(ref ft.Ref) []ft.Exit {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.exits[ref]
}

func (w *told) wait(t *testing.T, ref ft.Ref) ft.Exit {
	t.Helper()
	eventually(t, "the exit of "+ref.String()+" is told", func() bool { return len(w.of(ref)) > 0 })
	return w.of(ref)[0]
}

func exits(t *testing.T, h *Harness) {
	w := watch(t, h)
	a, b := h.start(t, 1), h.start(t, 2)
	h.Kill(t, a)
	e := w.wait(t, a.Ref)
	if e.At.IsZero() {
		t.Error("the exit has no time")
	}
	ins := h.wantList(t, a.Ref, b.Ref)
	if ins[0].Exit == nil || ins[1].Exit != nil {
		t.Errorf("exits in the list: %v and %v, want one and none", ins[0].Exit, ins[1].Exit)
	}
	if err := h.Driver.Stop(t.Context(), a.Ref, grace); err != nil {
		t.Errorf("stop of what has ended: %v, want success", err)
	}
	h.wantList(t, b.Ref)
	h.Kill(t, b)
	w.wait(t, b.Ref)
	if n := len(w.of(a.Ref)); n != 1 {
		t.Errorf("the exit of %s was told %d times", a.Ref, n)
	}
}

func ownEnds(t *testing.T, h *Harness) {
	c := ft.Resolve(h.Driver)
	w := watch(t, h)
	a, b, last := h.start(t, 1), h.start(t, 2), h.start(t, 3)
	if err := h.Driver.Stop(t.Context(), a.Ref, grace); err != nil {
		t.Fatal(err)
	}
	if c.FullResetter != nil {
		if _, err := c.FullResetter.FullReset(t.Context(), &h.Pool, b.Ref); err != nil {
			t.Fatal(err)
		}
	}
	// What is told is told in order: when this one is, the others would have been.
	h.Kill(t, last)
	w.wait(t, last.Ref)
	for _, in := range []ft.Instance{a, b} {
		if es := w.of(in.Ref); len(es) != 0 {
			t.Errorf("the end of %s, which a verb caused, was told: %v", in.Ref, es)
		}
	}
}

func fullReset(t *testing.T, h *Harness) {
	c := ft.Resolve(h.Driver)
	need(t, c.FullResetter != nil, "full reset")
	if _, err := c.FullResetter.FullReset(t.Context(), &h.Pool, h.ref(9, 1)); !errors.Is(err, ft.ErrNotFound) {
		t.Errorf("full reset of what never was: %v, want ErrNotFound", err)
	}
	old := h.start(t, 1)
	if h.SetState != nil {
		h.SetState(t, old, "dirty")
	}
	if h.SetData != nil {
		h.SetData(t, old, "dirty")
	}
	in, err := c.FullResetter.FullReset(t.Context(), &h.Pool, old.Ref)
	if err != nil {
		t.Fatalf("full reset: %v", err)
	}
	if in.Ref != h.ref(1, 2) {
		t.Errorf("after the full reset it is %s, want %s", in.Ref, h.ref(1, 2))
	}
	if !in.Born.After(old.Born) {
		t.Errorf("the new life was born %v, the old one %v", in.Born, old.Born)
	}
	h.wantRunning(t, in, true)
	h.wantList(t, in.Ref)
	if h.State != nil && h.State(t, in) != "" {
		t.Errorf("state %q survived the full reset", h.State(t, in))
	}
	if h.Data != nil && h.Data(t, in) != Initial {
		t.Errorf("data %q after the full reset, want %q", h.Data(t, in), Initial)
	}
}

func fullResetFails(t *testing.T, h *Harness) {
	c := ft.Resolve(h.Driver)
	need(t, c.FullResetter != nil, "full reset")
	in := h.start(t, 1)
	if _, err := c.FullResetter.FullReset(t.Context(), &h.Broken, in.Ref); !errors.Is(err, ft.ErrStart) {
		t.Fatalf("full reset to what cannot start: %v, want ErrStart", err)
	}
	h.wantRunning(t, in, false)
	h.wantList(t)
}

func stale(t *testing.T, h *Harness) {
	c := ft.Resolve(h.Driver)
	need(t, c.FullResetter != nil, "full reset, hence no older lives")
	old := h.start(t, 1)
	in, err := c.FullResetter.FullReset(t.Context(), &h.Pool, old.Ref)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for name, verb := range map[string]func() error{
		"start":      func() error { _, err := h.Driver.Start(ctx, &h.Pool, old.Ref, old.Work); return err },
		"stop":       func() error { return h.Driver.Stop(ctx, old.Ref, grace) },
		"full reset": func() error { _, err := c.FullResetter.FullReset(ctx, &h.Pool, old.Ref); return err },
		"soft reset": func() error {
			if c.SoftResetter == nil {
				return ft.ErrStale
			}
			return c.SoftResetter.SoftReset(ctx, &h.Pool, old.Ref)
		},
		"specialize": func() error {
			if c.Specializer == nil {
				return ft.ErrStale
			}
			_, err := c.Specializer.Specialize(ctx, &h.Pool, old.Ref, old.Work)
			return err
		},
		"set": func() error {
			if c.Tuner == nil || len(c.Tuner.Knobs(&h.Pool, in)) == 0 {
				return ft.ErrStale
			}
			k := c.Tuner.Knobs(&h.Pool, in)[0]
			_, err := c.Tuner.Set(ctx, &h.Pool, old.Ref, ft.Setting{Knob: k.Name, Value: k.Max})
			return err
		},
	} {
		if err := verb(); !errors.Is(err, ft.ErrStale) {
			t.Errorf("%s of an older life: %v, want ErrStale", name, err)
		}
	}
	h.wantList(t, in.Ref)
	h.wantRunning(t, in, true)
}

func softReset(t *testing.T, h *Harness) {
	c := ft.Resolve(h.Driver)
	need(t, c.SoftResetter != nil, "soft reset")
	w := h.Pool.InitialWork()
	undeclared := h.Pool
	undeclared.Image.Hooks, undeclared.Specializations = ft.Hooks{}, nil
	if err := c.SoftResetter.CanSoftReset(&undeclared, ft.Work{}); !errors.Is(err, ft.ErrUnavailable) {
		t.Errorf("a pool without a soft reset can: %v, want ErrUnavailable", err)
	}
	if err := c.SoftResetter.CanSoftReset(&h.Pool, w); err != nil {
		t.Fatalf("the harness's pool cannot soft reset: %v", err)
	}
	in := h.start(t, 1)
	if h.SetState != nil {
		h.SetState(t, in, "kept")
	}
	if h.SetData != nil {
		h.SetData(t, in, "kept")
	}
	if err := c.SoftResetter.SoftReset(t.Context(), &h.Pool, in.Ref); err != nil {
		t.Fatalf("soft reset: %v", err)
	}
	after := h.wantList(t, in.Ref)[0]
	if after.Scope.PID != in.Scope.PID || !after.Born.Equal(in.Born) {
		t.Error("the soft reset began another life")
	}
	if h.State != nil && h.State(t, after) == "" {
		t.Error("the soft reset lost the application's state")
	}
	if h.Data != nil && h.Data(t, after) != "kept" {
		t.Errorf("the soft reset made the data %q", h.Data(t, after))
	}
}

func knobs(t *testing.T, h *Harness) {
	c := ft.Resolve(h.Driver)
	need(t, c.Tuner != nil, "knobs")
	in := h.start(t, 1)
	ks := c.Tuner.Knobs(&h.Pool, in)
	need(t, len(ks) > 0, "knobs on this machine")
	for _, k := range ks {
		switch {
		case k.Name == "" || !(k.Min <= k.Value && k.Value <= k.Max && k.Min < k.Max):
			t.Errorf("knob without name or order: %+v", k)
		case !k.Additive && k.Step <= 1 || k.Step <= 0:
			t.Errorf("knob that cannot be stepped: %+v", k)
		case k.Rung < ft.Low:
			t.Errorf("knob %s is on no rung", k.Name)
		}
		if got := valueOf(t, h, k.Name); got != k.Value {
			t.Errorf("%s starts at %g, but the instance's setting is %g", k.Name, k.Value, got)
		}
		to := min(k.Value*1.5, k.Max)
		was, err := c.Tuner.Set(t.Context(), &h.Pool, in.Ref, ft.Setting{Knob: k.Name, Value: to})
		if err != nil || was.Value != k.Value || was.Knob != k.Name {
			t.Errorf("set %s to %g: was %v, %v; want %g", k.Name, to, was, err, k.Value)
		}
		if got := valueOf(t, h, k.Name); got != to {
			t.Errorf("%s was set to %g and is %g", k.Name, to, got)
		}
		for _, v := range []float64{k.Max * 2, k.Min - 1} {
			if _, err := c.Tuner.Set(t.Context(), &h.Pool, in.Ref, ft.Setting{Knob: k.Name, Value: v}); !errors.Is(err, ft.ErrInvalid) {
				t.Errorf("set %s to %g, beyond its bounds: %v, want ErrInvalid", k.Name, v, err)
			}
		}
		if got := valueOf(t, h, k.Name); got != to {
			t.Errorf("a refused value changed %s to %g", k.Name, got)
		}
	}
	if _, err := c.Tuner.Set(t.Context(), &h.Pool, in.Ref, ft.Setting{Knob: "no such knob", Value: 1}); !errors.Is(err, ft.ErrUnavailable) {
		t.Errorf("set of an unknown knob: %v, want ErrUnavailable", err)
	}
	h.wantRunning(t, in, true)
}

func valueOf(t *testing.T, h *Harness, knob string) float64 {
	t.Helper()
	for _, s := range h.list(t)[0].Settings {
		if s.Knob == knob {
			return s.Value
		}
	}
	t.Fatalf("the instance has no setting %s", knob)
	return 0
}
