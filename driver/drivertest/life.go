package drivertest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

const grace = 5 * time.Second

func start(t *testing.T, h *Harness) {
	before := time.Now()
	in := h.start(t, 1)
	h.wantRunning(t, in, true)
	if in.Ref != h.ref(1, 1) {
		t.Errorf("the instance is %s, want %s", in.Ref, h.ref(1, 1))
	}
	if in.Exit != nil {
		t.Errorf("a started instance has ended: %v", in.Exit)
	}
	if in.Work != h.Pool.InitialWork() {
		t.Errorf("its work is %v, want %v", in.Work, h.Pool.InitialWork())
	}
	if in.Born.Before(before.Add(-time.Second)) || in.Born.After(time.Now().Add(time.Second)) {
		t.Errorf("born %v, but it was started at %v", in.Born, before)
	}
	if h.Pool.Serve == ft.HTTP && in.Endpoint.Network == "" {
		t.Error("an instance that serves has no endpoint")
	}
	if h.Data != nil && h.Data(t, in) != Initial {
		t.Errorf("its data is %q, want %q", h.Data(t, in), Initial)
	}
}

func startTwice(t *testing.T, h *Harness) {
	first := h.start(t, 1)
	if h.SetState != nil {
		h.SetState(t, first, "kept")
	}
	second := h.start(t, 1)
	if second.Endpoint != first.Endpoint || second.Scope.PID != first.Scope.PID || !second.Born.Equal(first.Born) {
		t.Errorf("the second start gave another life: %+v, first %+v", second, first)
	}
	if h.State != nil && h.State(t, second) != "kept" {
		t.Error("the second start lost the application's state")
	}
	h.wantList(t, first.Ref)
}

func startFails(t *testing.T, h *Harness) {
	_, err := h.Driver.Start(t.Context(), &h.Broken, h.ref(1, 1), h.Broken.InitialWork())
	if !errors.Is(err, ft.ErrStart) {
		t.Fatalf("start of what cannot start: %v, want ErrStart", err)
	}
	var why *ft.StartError
	if !errors.As(err, &why) || why.Why == "" || why.Ref != h.ref(1, 1) {
		t.Errorf("no StartError with reason and ref: %#v", why)
	}
	h.wantList(t)
	h.start(t, 1)
}

func startGivenUp(t *testing.T, h *Harness) {
	need(t, h.Slow != nil, "pool that is slow to start")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := h.Driver.Start(ctx, h.Slow, h.ref(1, 1), h.Slow.InitialWork())
	if !errors.Is(err, ft.ErrStart) {
		t.Fatalf("start that was given up: %v, want ErrStart", err)
	}
	h.wantList(t)
}

func startOther(t *testing.T, h *Harness) {
	in := h.start(t, 1)
	if _, err := h.Driver.Start(t.Context(), &h.Pool, h.ref(1, 2), h.Pool.InitialWork()); err == nil {
		t.Error("the next generation was started beside the present one")
	}
	h.wantList(t, in.Ref)
	h.wantRunning(t, in, true)
}

func stop(t *testing.T, h *Harness) {
	if err := h.Driver.Stop(t.Context(), h.ref(9, 1), grace); err != nil {
		t.Errorf("stop of what never was: %v, want success", err)
	}
	in := h.start(t, 1)
	for range 2 {
		if err := h.Driver.Stop(t.Context(), in.Ref, grace); err != nil {
			t.Fatalf("stop: %v", err)
		}
		h.wantRunning(t, in, false)
		h.wantList(t)
	}
	h.start(t, 2)
}

func list(t *testing.T, h *Harness) {
	h.wantList(t)
	var refs []ft.Ref
	for _, serial := range []uint32{1, 2, 10} {
		refs = append(refs, h.start(t, serial).Ref)
	}
	h.wantList(t, refs...)
	other, err := h.Driver.List(t.Context(), h.Pool.Name+"x")
	if err != nil || len(other) != 0 {
		t.Errorf("list of another pool: %v, %v", other, err)
	}
}

func many(t *testing.T, h *Harness) {
	const n = 5
	var wg sync.WaitGroup
	each := func(f func(serial uint32) error) {
		for i := range uint32(n) {
			wg.Go(func() {
				if err := f(i + 1); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	each(func(serial uint32) error {
		_, err := h.Driver.Start(t.Context(), &h.Pool, h.ref(serial, 1), h.Pool.InitialWork())
		return err
	})
	ins := h.list(t)
	if len(ins) != n {
		t.Fatalf("%d instances, want %d", len(ins), n)
	}
	ends := map[string]bool{}
	for _, in := range ins {
		h.wantRunning(t, in, true)
		if in.Endpoint.Network != "" && ends[in.Endpoint.String()] {
			t.Errorf("two instances serve at %s", in.Endpoint)
		}
		ends[in.Endpoint.String()] = true
	}
	each(func(serial uint32) error { return h.Driver.Stop(t.Context(), h.ref(serial, 1), grace) })
	h.wantList(t)
}

func reopened(t *testing.T, h *Harness) {
	need(t, h.Reopen != nil, "life beyond its instances")
	a, b := h.start(t, 1), h.start(t, 2)
	if h.SetState != nil {
		h.SetState(t, a, "kept")
	}
	h.Driver = h.Reopen(t)
	ins := h.wantList(t, a.Ref, b.Ref)
	if ins[0].Scope.PID != a.Scope.PID || ins[0].Endpoint != a.Endpoint || ins[0].Digest != a.Digest || !ins[0].Born.Equal(a.Born) {
		t.Errorf("adopted as %+v, was %+v", ins[0], a)
	}
	if h.State != nil && h.State(t, ins[0]) != "kept" {
		t.Error("the adopted instance lost its state")
	}
	told := watch(t, h)
	h.Kill(t, b)
	told.wait(t, b.Ref)
	if err := h.Driver.Stop(t.Context(), a.Ref, grace); err != nil {
		t.Fatalf("stop of an adopted instance: %v", err)
	}
	h.wantRunning(t, a, false)
	if err := h.Driver.Stop(t.Context(), b.Ref, grace); err != nil {
		t.Fatalf("stop of an adopted instance that has ended: %v", err)
	}
	h.wantList(t)
}
